/* See uring_impl.h for the contract, io_uring(7) for the rings.
 *
 * Each ring has a head and a tail that only grow; the entry of position p is at p & mask. One side writes an entry and
 * then moves the tail with a release store; the other loads the tail with acquire before it reads the entry, and gives
 * the place back by moving the head. No polling thread is asked for (SQPOLL), so the kernel looks at the submission
 * ring only inside io_uring_enter.
 */
#define _GNU_SOURCE
#include "uring_impl.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same numbers on every architecture: added after they were unified. */
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#define SYS_io_uring_register 427
#endif

enum { PROBED_OPERATIONS = 64 };

static int knows_operations(int fd)
{
    static const unsigned char needed[] = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC, IORING_OP_ASYNC_CANCEL};
    struct {
        struct io_uring_probe head;
        struct io_uring_probe_op operations[PROBED_OPERATIONS];
    } probe;

    memset(&probe, 0, sizeof probe);
    if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_PROBE, &probe, PROBED_OPERATIONS) < 0)
        return 0;
    for (size_t i = 0; i < sizeof needed; i++)
        if (needed[i] > probe.head.last_op || !(probe.operations[needed[i]].flags & IO_URING_OP_SUPPORTED))
            return 0;
    return 1;
}

static void *map(int fd, size_t bytes, uint64_t which)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)which);

    return memory == MAP_FAILED ? NULL : memory;
}

int rs3d_uring_open(rs3d_uring *r, unsigned entries)
{
    struct io_uring_params p;
    char *sq, *cq;

    memset(r, 0, sizeof *r);
    memset(&p, 0, sizeof p);
    r->event_fd = -1;
    r->fd = (int)syscall(SYS_io_uring_setup, entries, &p);
    if (r->fd < 0)
        return -1;
    if (!knows_operations(r->fd)) {
        errno = EOPNOTSUPP;
        goto failed;
    }
    r->entries = p.sq_entries;
    r->sq_bytes = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    r->cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    r->sqe_bytes = p.sq_entries * sizeof(struct io_uring_sqe);
    r->sq_memory = map(r->fd, r->sq_bytes, IORING_OFF_SQ_RING);
    r->cq_memory = map(r->fd, r->cq_bytes, IORING_OFF_CQ_RING);
    r->sqes = map(r->fd, r->sqe_bytes, IORING_OFF_SQES);
    if (!r->sq_memory || !r->cq_memory || !r->sqes)
        goto failed;
    sq = r->sq_memory;
    cq = r->cq_memory;
    r->sq_head = (unsigned *)(sq + p.sq_off.head);
    r->sq_tail = (unsigned *)(sq + p.sq_off.tail);
    r->sq_mask = *(unsigned *)(sq + p.sq_off.ring_mask);
    r->sq_array = (unsigned *)(sq + p.sq_off.array);
    r->cq_head = (unsigned *)(cq + p.cq_off.head);
    r->cq_tail = (unsigned *)(cq + p.cq_off.tail);
    r->cq_mask = *(unsigned *)(cq + p.cq_off.ring_mask);
    r->cqes = cq + p.cq_off.cqes;
    r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->event_fd < 0 || syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_EVENTFD, &r->event_fd, 1) < 0)
        goto failed;
    return 0;
failed: {
    int reason = errno;
    rs3d_uring_close(r);
    errno = reason;
    return -1;
}
}

void rs3d_uring_close(rs3d_uring *r)
{
    if (r->fd < 0)
        return;
    if (r->sq_memory)
        munmap(r->sq_memory, r->sq_bytes);
    if (r->cq_memory)
        munmap(r->cq_memory, r->cq_bytes);
    if (r->sqes)
        munmap(r->sqes, r->sqe_bytes);
    if (r->event_fd >= 0)
        close(r->event_fd);
    close(r->fd);
    r->fd = r->event_fd = -1;
}

static struct io_uring_sqe *next_entry(rs3d_uring *r)
{
    unsigned index = (*r->sq_tail + r->queued) & r->sq_mask;
    struct io_uring_sqe *entry = (struct io_uring_sqe *)r->sqes + index;

    r->sq_array[index] = index;
    r->queued++;
    memset(entry, 0, sizeof *entry);
    return entry;
}

void rs3d_uring_prepare(rs3d_uring *r, int operation, int fd, void *memory, uint32_t bytes, uint64_t offset,
                        int in_worker, uint64_t slot)
{
    struct io_uring_sqe *entry = next_entry(r);

    entry->fd = fd;
    entry->user_data = slot;
    entry->flags = in_worker ? IOSQE_ASYNC : 0;
    if (operation == RS3D_URING_READ || operation == RS3D_URING_WRITE) {
        entry->opcode = operation == RS3D_URING_READ ? IORING_OP_READ : IORING_OP_WRITE;
        entry->addr = (uint64_t)(uintptr_t)memory;
        entry->len = bytes;
        entry->off = offset;
    } else {
        entry->opcode = IORING_OP_FSYNC;
        entry->fsync_flags = operation == RS3D_URING_FDATASYNC ? IORING_FSYNC_DATASYNC : 0;
    }
}

void rs3d_uring_cancel(rs3d_uring *r, uint64_t slot)
{
    struct io_uring_sqe *entry = next_entry(r);

    entry->opcode = IORING_OP_ASYNC_CANCEL;
    entry->fd = -1;
    entry->addr = slot;
    entry->user_data = UINT64_MAX;
}

int rs3d_uring_enter(rs3d_uring *r, unsigned wanted)
{
    unsigned tail = *r->sq_tail, published = tail + r->queued, offered, taken;
    long answer;

    /* Entries that an earlier call offered and the kernel did not take are between its head and our tail still. */
    __atomic_store_n(r->sq_tail, published, __ATOMIC_RELEASE);
    r->queued = 0;
    offered = published - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
    if (!offered && !wanted)
        return 0;
    answer = syscall(SYS_io_uring_enter, r->fd, offered, wanted, wanted ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
    taken = (unsigned)answer;
    return answer < 0 ? -1 : (int)taken;
}

int rs3d_uring_next(rs3d_uring *r, uint64_t *slot, int32_t *result)
{
    unsigned head = *r->cq_head;
    const struct io_uring_cqe *entry;

    if (head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE))
        return 0;
    entry = (const struct io_uring_cqe *)r->cqes + (head & r->cq_mask);
    *slot = entry->user_data;
    *result = entry->res;
    __atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
    return 1;
}
