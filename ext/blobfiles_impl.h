/* The system calls that end a blob, one after the other without anything between them. */
#ifndef RS3D_BLOBFILES_IMPL_H
#define RS3D_BLOBFILES_IMPL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* All of `bytes` at `offset`. Returns 0, or -1 with errno; a write of nothing counts as ENOSPC. */
static inline int rs3d_write_all(int fd, const char *data, size_t bytes, int64_t offset)
{
    while (bytes) {
        ssize_t written = pwrite(fd, data, bytes, offset);
        if (written < 0 && errno == EINTR)
            continue; /* nothing was written: Python's handlers run when the caller has the lock again */
        if (written < 0)
            return -1;
        if (!written) {
            errno = ENOSPC;
            return -1;
        }
        data += written;
        bytes -= (size_t)written;
        offset += written;
    }
    return 0;
}

/* Both files' dirty pages are sent to the disk before any is waited for; a sync is never tried again. */
static inline int rs3d_write_out_and_sync(int data, int64_t dirty_from, int meta, int directory)
{
    if (sync_file_range(data, dirty_from, 0, SYNC_FILE_RANGE_WRITE) != 0)
        return -1;
    if (sync_file_range(meta, 0, 0, SYNC_FILE_RANGE_WRITE) != 0)
        return -1;
    if (fdatasync(data) != 0 || fdatasync(meta) != 0)
        return -1;
    return fsync(directory);
}

/* See blobfiles.pyi, `finish`. Returns 0, or -1 with errno. */
static inline int rs3d_finish_blob(int data, int64_t cut_to, int64_t dirty_from, int directory, const char *name,
                                   const char *sidecar, size_t sidecar_bytes)
{
    int meta, answer, error;

    if (cut_to >= 0 && ftruncate(data, cut_to) != 0)
        return -1;
    do
        meta = openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    while (meta < 0 && errno == EINTR);
    if (meta < 0)
        return -1;
    answer = rs3d_write_all(meta, sidecar, sidecar_bytes, 0);
    if (answer == 0)
        answer = rs3d_write_out_and_sync(data, dirty_from, meta, directory);
    error = errno;
    /* Linux gives the descriptor free whatever close says; what it could say was said by the syncs. */
    close(meta);
    errno = error;
    return answer;
}

#endif
