/* The system calls that begin and end a blob, one after the other without anything between them. */
#ifndef RS3D_BLOBFILES_IMPL_H
#define RS3D_BLOBFILES_IMPL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "directio_impl.h"

#ifndef SYS_openat2
#define SYS_openat2 437 /* the same number on every architecture: added after they were unified */
#endif

struct rs3d_begun_how { /* struct open_how of linux/openat2.h, which older headers lack */
    uint64_t flags, mode, resolve;
};

/* A directory beneath another, reached by no link. */
static inline int rs3d_open_beneath(int top, const char *path)
{
    enum { NO_MAGICLINKS = 2, NO_SYMLINKS = 4, BENEATH = 8 };
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    struct rs3d_begun_how how = {.flags = flags, .resolve = BENEATH | NO_SYMLINKS | NO_MAGICLINKS};
    int found;

    do
        found = (int)syscall(SYS_openat2, top, path, &how, sizeof how);
    while (found < 0 && errno == EINTR);
    /* A sandbox that does not know openat2: only the last name is confined. */
    return found < 0 && errno == ENOSYS ? openat(top, path, flags) : found;
}

/* A new file. */
static inline int rs3d_create_new(int directory, const char *name)
{
    int made;

    do
        made = openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    while (made < 0 && errno == EINTR);
    return made;
}

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

/* The same, past the page cache as far as can be: see rs3d_write_past_cache for `align`; through it where that is 0. */
static inline int rs3d_write_new(int fd, const char *data, size_t bytes, int64_t offset, size_t align)
{
    while (align && bytes) {
        ssize_t written = rs3d_write_past_cache(fd, data, bytes, offset, align);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -1;
        if (!written)
            break; /* the plain way says why */
        data += written;
        bytes -= (size_t)written;
        offset += written;
    }
    return rs3d_write_all(fd, data, bytes, offset);
}

/* See blobfiles.pyi, `begin`. Whatever was opened is in *directory and *file, else -1. Returns 0, or -1 with errno. */
static inline int rs3d_begin_blob(int top, const char *segment, const char *name, const char *data, size_t bytes,
                                  size_t align, int *directory, int *file)
{
    *file = -1;
    *directory = rs3d_open_beneath(top, segment);
    if (*directory < 0)
        return -1;
    *file = rs3d_create_new(*directory, name);
    if (*file < 0)
        return -1;
    return rs3d_write_new(*file, data, bytes, 0, align);
}

/* `dirty_from` below 0: the data has no dirty pages. Else both files' are sent to the disk before any are waited for; a
 * sync is never tried again.
 *
 * Data without dirty pages leaves the sidecar's page alone, and its sync goes first: it waits for that page, then commits
 * what the file system has to say of both files and their names. Sent out beforehand, the page would be noted in the
 * journal behind the data's sync, for a second commit. */
static inline int rs3d_write_out_and_sync(int data, int64_t dirty_from, int meta, int directory)
{
    if (dirty_from < 0)
        return fdatasync(meta) != 0 || fdatasync(data) != 0 ? -1 : fsync(directory);
    if (sync_file_range(data, dirty_from, 0, SYNC_FILE_RANGE_WRITE) != 0)
        return -1;
    if (sync_file_range(meta, 0, 0, SYNC_FILE_RANGE_WRITE) != 0)
        return -1;
    if (fdatasync(data) != 0 || fdatasync(meta) != 0)
        return -1;
    return fsync(directory);
}

/* See blobfiles.pyi, `finish`. Returns 0, or -1 with errno: the two descriptors are open then. */
static inline int rs3d_finish_blob(int data, int64_t cut_to, int64_t dirty_from, int directory, const char *name,
                                   const char *sidecar, size_t sidecar_bytes)
{
    int meta, answer, error;

    if (cut_to >= 0 && ftruncate(data, cut_to) != 0)
        return -1;
    meta = rs3d_create_new(directory, name);
    if (meta < 0)
        return -1;
    answer = rs3d_write_all(meta, sidecar, sidecar_bytes, 0);
    if (answer == 0)
        answer = rs3d_write_out_and_sync(data, dirty_from, meta, directory);
    error = errno;
    /* Linux gives the descriptor free whatever close says; what it could say was said by the syncs. */
    close(meta);
    if (answer == 0) {
        close(data);
        close(directory);
    }
    errno = error;
    return answer;
}

#endif
