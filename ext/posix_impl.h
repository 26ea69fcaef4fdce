/* System calls that glibc may lack a wrapper for, and loops over short transfers, as C that runs without the GIL.
 *
 * Loops stop at EINTR and tell how far they came: Python's signal handlers run with the GIL, so the caller takes it,
 * runs them, and comes back. Every function returns -1 with errno set, or a count.
 */
#ifndef RS3D_POSIX_IMPL_H
#define RS3D_POSIX_IMPL_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SYS_openat2
#define SYS_openat2 437 /* the same number on every architecture: added after they were unified */
#endif

struct rs3d_open_how { /* struct open_how of linux/openat2.h, which older headers lack */
    uint64_t flags, mode, resolve;
};

static inline int rs3d_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct rs3d_open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

static inline int rs3d_renameat2(int old_directory, const char *old_path, int new_directory, const char *new_path,
                                 unsigned flags)
{
    return (int)syscall(SYS_renameat2, old_directory, old_path, new_directory, new_path, flags);
}

static inline int rs3d_set_parent_death_signal(int number) { return prctl(PR_SET_PDEATHSIG, (unsigned long)number); }
static inline int rs3d_set_dumpable(int value) { return prctl(PR_SET_DUMPABLE, (unsigned long)value); }
static inline int rs3d_get_dumpable(void) { return prctl(PR_GET_DUMPABLE); }
static inline int rs3d_clone_file(int destination, int source) { return ioctl(destination, FICLONE, source); }

static inline int rs3d_clone_range(int destination, int64_t destination_offset, int source, int64_t source_offset,
                                   int64_t length)
{
    struct file_clone_range range = {.src_fd = source,
                                     .src_offset = (uint64_t)source_offset,
                                     .src_length = (uint64_t)length,
                                     .dest_offset = (uint64_t)destination_offset};
    return ioctl(destination, FICLONERANGE, &range);
}

/* Read until `length` bytes or the end of file. Returns the bytes read; with -1 in *failed: stopped by errno. */
static inline ssize_t rs3d_pread_all(int fd, char *to, size_t length, int64_t offset, int *failed)
{
    size_t done = 0;
    *failed = 0;
    while (done < length) {
        ssize_t got = pread(fd, to + done, length - done, offset + (int64_t)done);
        if (got < 0) {
            *failed = -1;
            break;
        }
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* Write all the vectors, which are consumed in place (so that a call after EINTR goes on where this one stopped). */
static inline ssize_t rs3d_pwritev_all(int fd, struct iovec **vectors, int *count, int64_t offset, int *failed)
{
    ssize_t done = 0;
    *failed = 0;
    while (*count) {
        ssize_t put = pwritev(fd, *vectors, *count < IOV_MAX ? *count : IOV_MAX, offset + done);
        if (put < 0) {
            *failed = -1;
            break;
        }
        done += put;
        size_t rest = (size_t)put;
        while (*count && rest >= (*vectors)->iov_len) {
            rest -= (*vectors)->iov_len;
            (*vectors)++, (*count)--;
        }
        if (*count) {
            if (put == 0) { /* no progress and no error: a device that takes nothing */
                errno = EIO;
                *failed = -1;
                break;
            }
            (*vectors)->iov_base = (char *)(*vectors)->iov_base + rest;
            (*vectors)->iov_len -= rest;
        }
    }
    return done;
}

/* Send until `length` bytes, the end of the file, or an error (EAGAIN: the socket is full). */
static inline ssize_t rs3d_sendfile_all(int to, int from, int64_t offset, size_t length, int *failed)
{
    size_t done = 0;
    off_t at = offset;
    *failed = 0;
    while (done < length) {
        ssize_t sent = sendfile(to, from, &at, length - done);
        if (sent < 0) {
            *failed = -1;
            break;
        }
        if (sent == 0)
            break;
        done += (size_t)sent;
    }
    return (ssize_t)done;
}

static inline ssize_t rs3d_copy_range_all(int from, int64_t from_offset, int to, int64_t to_offset, size_t length,
                                          int *failed)
{
    size_t done = 0;
    loff_t in = from_offset, out = to_offset;
    *failed = 0;
    while (done < length) {
        ssize_t copied = copy_file_range(from, &in, to, &out, length - done, 0);
        if (copied < 0) {
            *failed = -1;
            break;
        }
        if (copied == 0)
            break;
        done += (size_t)copied;
    }
    return (ssize_t)done;
}

/* Overwrite in a way that the compiler may not drop although nobody reads it afterwards. */
static inline void rs3d_wipe(void *at, size_t length) { explicit_bzero(at, length); }

/* Pages of [at, at + length) that are in memory; the caller's range is widened to whole pages. */
static inline ssize_t rs3d_resident_pages(void *at, size_t length, size_t page)
{
    unsigned char seen[512];
    uintptr_t start = (uintptr_t)at & ~(uintptr_t)(page - 1), end = (uintptr_t)at + length;
    ssize_t resident = 0;
    while (start < end) {
        size_t span = end - start;
        if (span > sizeof seen * page)
            span = sizeof seen * page;
        if (mincore((void *)start, span, seen) != 0)
            return -1;
        for (size_t i = 0; i < (span + page - 1) / page; i++)
            resident += seen[i] & 1;
        start += span;
    }
    return resident;
}

static inline void rs3d_store_release(void *at, uint64_t value)
{
    __atomic_store_n((uint64_t *)at, value, __ATOMIC_RELEASE);
}
static inline uint64_t rs3d_load_acquire(const void *at)
{
    return __atomic_load_n((const uint64_t *)at, __ATOMIC_ACQUIRE);
}
static inline uint64_t rs3d_add(void *at, uint64_t value)
{
    return __atomic_add_fetch((uint64_t *)at, value, __ATOMIC_ACQ_REL);
}

#endif
