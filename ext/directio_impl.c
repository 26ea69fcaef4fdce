/* See directio_impl.h for the contract.
 *
 * A direct transfer needs the file's offset, each buffer's address and each length on a boundary. Bodies are not so
 * kind: a part may begin anywhere, and the last bytes are never a whole block. The odd bytes go through the page cache
 * by the other descriptor. Linux keeps the two coherent where it can (a direct write drops the cached pages of its
 * range, a direct read writes dirty ones out first), and a blob is written front to back by one writer, so the two
 * never race for one page.
 */
#define _GNU_SOURCE
#include "directio_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static ssize_t move(const rs3d_direct *d, int fd, const struct iovec *vectors, int count, int64_t offset)
{
    return d->writes ? pwritev(fd, vectors, count, offset) : preadv(fd, vectors, count, offset);
}

/* Gather the aligned run at the front; returns how many vectors it has. */
static int aligned_run(const rs3d_direct *d, const struct iovec *vectors, size_t count, size_t skip, int64_t offset,
                       struct iovec *run)
{
    int gathered = 0;

    if (d->direct_fd < 0 || (uint64_t)offset & (d->offset_align - 1))
        return 0;
    for (size_t i = 0; i < count && gathered < RS3D_DIRECT_VECTORS; i++, skip = 0) {
        char *base = (char *)vectors[i].iov_base + skip;
        size_t left = vectors[i].iov_len - skip, whole = left & ~(d->offset_align - 1);
        if (!left)
            continue;
        if ((uintptr_t)base & (d->memory_align - 1) || !whole)
            break;
        run[gathered].iov_base = base;
        run[gathered++].iov_len = whole;
        if (whole != left)
            break;
    }
    return gathered;
}

ssize_t rs3d_direct_move(rs3d_direct *d, const struct iovec *vectors, size_t count, size_t skip, int64_t offset)
{
    struct iovec run[RS3D_DIRECT_VECTORS];
    int gathered = aligned_run(d, vectors, count, skip, offset, run);
    size_t odd;

    if (gathered) {
        ssize_t moved = move(d, d->direct_fd, run, gathered, offset);
        if (moved > 0)
            d->direct_bytes += (uint64_t)moved;
        if (moved >= 0 || errno != EINVAL)
            return moved;
        close(d->direct_fd);
        d->direct_fd = -1;
    }
    while (count && vectors[0].iov_len == skip) {
        vectors++;
        count--;
        skip = 0;
    }
    if (!count)
        return 0;
    run[0].iov_base = (char *)vectors[0].iov_base + skip;
    run[0].iov_len = vectors[0].iov_len - skip;
    /* Up to the next boundary only, if the rest of this buffer could then go directly. */
    odd = d->direct_fd < 0 ? 0 : (size_t)(-(uint64_t)offset & (d->offset_align - 1));
    if (odd && odd < run[0].iov_len && !(((uintptr_t)run[0].iov_base + odd) & (d->memory_align - 1)))
        run[0].iov_len = odd;
    return move(d, d->cached_fd, run, 1, offset);
}

int rs3d_direct_reopen(int fd, int writes)
{
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, (writes ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
}

int rs3d_direct_alignment(int fd, uint32_t *memory_align, uint32_t *offset_align)
{
    /* struct statx by offset: headers older than Linux 6.1's lack the two fields. */
    enum { STATX_DIOALIGN_BIT = 0x2000, MASK_AT = 0, MEMORY_AT = 0x98, OFFSET_AT = 0x9c };
    unsigned char answer[256] = {0};
    uint32_t mask;

    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN_BIT, answer) != 0)
        return -1;
    memcpy(&mask, answer + MASK_AT, sizeof mask);
    memcpy(memory_align, answer + MEMORY_AT, sizeof *memory_align);
    memcpy(offset_align, answer + OFFSET_AT, sizeof *offset_align);
    return mask & STATX_DIOALIGN_BIT ? 1 : 0;
}

ssize_t rs3d_read_nowait(int fd, void *to, size_t bytes, int64_t offset)
{
    struct iovec vector = {.iov_base = to, .iov_len = bytes};

    return preadv2(fd, &vector, 1, offset, RWF_NOWAIT);
}

/* Bytes at an odd address are moved to an even one first: 70 us a MiB, where the page cache takes 300 to 2,500 (new pages,
 * and their write-out later). The memory they are moved to is kept for the next: fresh pages cost 600 to 900 us a MiB,
 * more than the copy and the write together. */
enum { MOVED_BYTES = 1 << 20, MOVED_ALIGN = 4096, KEPT_BUFFERS = 4 };

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER; /* over the two that follow */
static void *kept[KEPT_BUFFERS];
static int kept_count;

/* MOVED_BYTES at a multiple of `align`, or NULL; to be given back by `give_back_moved` with the same `align`. */
static void *take_moved(size_t align)
{
    void *found = NULL;

    if (align <= MOVED_ALIGN) {
        pthread_mutex_lock(&kept_lock);
        if (kept_count)
            found = kept[--kept_count];
        pthread_mutex_unlock(&kept_lock);
        align = MOVED_ALIGN;
    }
    if (!found && posix_memalign(&found, align, MOVED_BYTES) != 0)
        return NULL;
    return found;
}

static void give_back_moved(void *moved, size_t align)
{
    if (align <= MOVED_ALIGN) {
        pthread_mutex_lock(&kept_lock);
        if (kept_count < KEPT_BUFFERS) {
            kept[kept_count++] = moved;
            moved = NULL;
        }
        pthread_mutex_unlock(&kept_lock);
    }
    free(moved);
}

/* One direct write of `whole` bytes. -1 with errno, which is EINVAL where the file system refuses. */
static ssize_t write_direct(int fd, const void *data, size_t whole, int64_t offset, size_t align)
{
    void *moved = NULL;
    ssize_t written;

    if ((uintptr_t)data & (align - 1)) {
        whole = whole < MOVED_BYTES ? whole : MOVED_BYTES;
        moved = take_moved(align);
        if (!moved) {
            errno = EINVAL;
            return -1;
        }
        memcpy(moved, data, whole);
    }
    written = pwrite(fd, moved ? moved : data, whole, offset);
    if (moved) {
        int error = errno;
        give_back_moved(moved, align);
        errno = error;
    }
    return written;
}

ssize_t rs3d_write_past_cache(int fd, const void *data, size_t bytes, int64_t offset, size_t align)
{
    size_t whole = bytes & ~(align - 1);
    int flags, error;
    ssize_t written;

    if (!whole || (uint64_t)offset & (align - 1))
        return pwrite(fd, data, bytes, offset);
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_DIRECT) != 0)
        return pwrite(fd, data, bytes, offset);
    written = write_direct(fd, data, whole, offset, align);
    error = errno;
    if (fcntl(fd, F_SETFL, flags & ~O_DIRECT) != 0)
        return -1;
    if (written < 0 && error == EINVAL)
        return pwrite(fd, data, bytes, offset);
    errno = error;
    return written;
}
