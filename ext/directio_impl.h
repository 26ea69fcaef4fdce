/* O_DIRECT transfers: which part of a request may go past the page cache, and the calls themselves. */
#ifndef RS3D_DIRECTIO_IMPL_H
#define RS3D_DIRECTIO_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef struct {
    int cached_fd;
    int direct_fd;         /* -1: the file system refused, everything goes through the page cache */
    size_t memory_align;   /* of addresses; powers of two */
    size_t offset_align;   /* of offsets and lengths */
    int writes;
    uint64_t direct_bytes; /* moved past the page cache so far */
} rs3d_direct;

enum { RS3D_DIRECT_VECTORS = 64 }; /* gathered into one call */

/* Move bytes between buffers and a file at `offset`, in one system call. `skip` bytes of vectors[0] are done already.
 * Takes the longest aligned run through the direct descriptor, else the bytes up to the next chance of one through
 * the page cache. Returns what the call returned: a count, 0 at the end of the file, or -1 with errno. When the file
 * system refuses a direct transfer (EINVAL), gives direct I/O up for this file and goes on through the page cache. */
ssize_t rs3d_direct_move(rs3d_direct *d, const struct iovec *vectors, size_t count, size_t skip, int64_t offset);

/* A second descriptor of the same file with O_DIRECT, or -1 with errno (EINVAL where the file system refuses). */
int rs3d_direct_reopen(int fd, int writes);

/* What statx says about direct I/O: 1 and both alignments (0: not on this file), 0 where it is mute, -1 with errno. */
int rs3d_direct_alignment(int fd, uint32_t *memory_align, uint32_t *offset_align);

/* One pwrite, past the page cache where the offset is a multiple of `align` (a power of two): the longest whole part,
 * O_DIRECT being set on the description for this call alone. From an address that is none, a MiB at most, by way of
 * memory that is. Anything else, and a refusal (EINVAL), is written through the cache. Returns what the call returned:
 * fewer bytes than given where the rest is odd, or was not moved. */
ssize_t rs3d_write_past_cache(int fd, const void *data, size_t bytes, int64_t offset, size_t align);

/* preadv2 with RWF_NOWAIT: what the page cache has, or -1 with EAGAIN. */
ssize_t rs3d_read_nowait(int fd, void *to, size_t bytes, int64_t offset);

#endif
