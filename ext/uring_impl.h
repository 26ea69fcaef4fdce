/* One io_uring by raw system calls: two rings of memory shared with the kernel, and the calls that move them on. */
#ifndef RS3D_URING_IMPL_H
#define RS3D_URING_IMPL_H

#include <stddef.h>
#include <stdint.h>

enum { RS3D_URING_READ = 0, RS3D_URING_WRITE = 1, RS3D_URING_FSYNC = 2, RS3D_URING_FDATASYNC = 3 };

typedef struct {
    int fd;       /* -1: closed */
    int event_fd; /* readable when completions have arrived since it was read */
    unsigned entries;
    /* submission ring: we own the tail, the kernel the head */
    unsigned *sq_head, *sq_tail, *sq_array, sq_mask;
    void *sqes;
    unsigned queued; /* prepared, not yet taken by the kernel */
    /* completion ring: the kernel owns the tail, we the head */
    unsigned *cq_head, *cq_tail, cq_mask;
    void *cqes;
    void *sq_memory, *cq_memory;
    size_t sq_bytes, cq_bytes, sqe_bytes;
} rs3d_uring;

/* 0, or -1 with errno and nothing left open: ENOSYS; EPERM where it is forbidden; EOPNOTSUPP before Linux 5.6. */
int rs3d_uring_open(rs3d_uring *r, unsigned entries);
void rs3d_uring_close(rs3d_uring *r);

/* Put a request into the submission ring; there must be room (fewer than `entries` in flight). `in_worker`: not in the
 * submitting thread, even if the data is at hand. */
void rs3d_uring_prepare(rs3d_uring *r, int operation, int fd, void *memory, uint32_t bytes, uint64_t offset,
                        int in_worker, uint64_t slot);

/* Ask the kernel to give up a request. Takes a place in the ring as any request; completes as slot UINT64_MAX. */
void rs3d_uring_cancel(rs3d_uring *r, uint64_t slot);

/* Hand over what was prepared, and wait until `wanted` completions are there. Returns how many requests were taken, or
 * -1 with errno. */
int rs3d_uring_enter(rs3d_uring *r, unsigned wanted);

/* Take the next completion. Returns 1, or 0 when there is none. */
int rs3d_uring_next(rs3d_uring *r, uint64_t *slot, int32_t *result);

#endif
