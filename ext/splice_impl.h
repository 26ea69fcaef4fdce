/* Moves inside the kernel, one system call each; -1 with errno, or a count. No descriptor's position is touched. */
#ifndef RS3D_SPLICE_IMPL_H
#define RS3D_SPLICE_IMPL_H

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "socketwait.h"

/* What a method answers where the file systems cannot do it, as opposed to failing at it. ENOTTY: no such ioctl. */
static inline int rs3d_splice_unsupported(int error)
{
    return error == EXDEV || error == EOPNOTSUPP || error == ENOSYS || error == EINVAL || error == ENOTTY;
}

/* Bytes of a regular file from `offset` on, at most `length`. */
static inline int64_t rs3d_splice_available(int fd, int64_t offset, int64_t length)
{
    struct stat status;

    if (fstat(fd, &status) != 0)
        return -1;
    if (!S_ISREG(status.st_mode) || status.st_size <= offset)
        return 0;
    return status.st_size - offset < length ? status.st_size - offset : length;
}

/* Share `length` bytes, all of which exist in the source. All or nothing. */
static inline int64_t rs3d_splice_clone(int in_fd, int64_t in_offset, int out_fd, int64_t out_offset, int64_t length)
{
    struct file_clone_range range = {.src_fd = in_fd,
                                     .src_offset = (uint64_t)in_offset,
                                     .src_length = (uint64_t)length,
                                     .dest_offset = (uint64_t)out_offset};
    return ioctl(out_fd, FICLONERANGE, &range) == 0 ? length : -1;
}

static inline ssize_t rs3d_splice_copy_range(int in_fd, int64_t in_offset, int out_fd, int64_t out_offset,
                                             size_t length)
{
    loff_t from = in_offset, to = out_offset;

    return copy_file_range(in_fd, &from, out_fd, &to, length, 0);
}

/* From a stream or, with an offset of 0 or more, a file, into a pipe. */
static inline ssize_t rs3d_splice_fill(int in_fd, int64_t offset, int pipe_fd, size_t length)
{
    loff_t from = offset;

    return splice(in_fd, offset < 0 ? NULL : &from, pipe_fd, NULL, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

/* From a pipe that holds something into a file. */
static inline ssize_t rs3d_splice_drain(int pipe_fd, int out_fd, int64_t offset, size_t length)
{
    loff_t to = offset;

    return splice(pipe_fd, NULL, out_fd, &to, length, SPLICE_F_MOVE);
}

static inline ssize_t rs3d_splice_buffered(int in_fd, int64_t in_offset, int out_fd, int64_t out_offset, char *buffer,
                                           size_t length)
{
    ssize_t found = pread(in_fd, buffer, length, in_offset), written = 0;

    while (written < found) {
        ssize_t now = pwrite(out_fd, buffer + written, (size_t)(found - written), out_offset + written);
        if (now < 0)
            return written ? written : -1; /* the error comes back on the next call, if it lasts */
        written += now;
    }
    return found;
}

/* Why a sending ended; an error of the socket or the file is -1 with errno. */
enum { RS3D_SEND_DONE, RS3D_SEND_END, RS3D_SEND_SLOW, RS3D_SEND_STOPPED };

/* One sending: what it is to do, and, up to date whenever the function below returns, how far it came. */
struct rs3d_sending {
    int socket_fd, file_fd, stop_fd;
    int64_t offset, length;   /* of the file, in bytes */
    int64_t patience_ns;      /* what all waits may take together */
    int64_t sent, waited_ns;
    const int *stop;          /* set by another thread: rs3d_set_stop */
};

/* Send, `step` bytes in a call at most, so that a stop is seen in between. */
static inline int rs3d_send(struct rs3d_sending *it, int64_t step)
{
    while (it->sent < it->length) {
        off_t from = it->offset + it->sent;
        int64_t left = it->length - it->sent;
        ssize_t moved;

        if (__atomic_load_n(it->stop, __ATOMIC_ACQUIRE))
            return RS3D_SEND_STOPPED;
        moved = sendfile(it->socket_fd, it->file_fd, &from, (size_t)(left < step ? left : step));
        if (moved > 0) {
            it->sent += moved;
        } else if (moved == 0) {
            return RS3D_SEND_END;
        } else if (errno == EAGAIN) {
            int answer = rs3d_wait_for_socket(it->socket_fd, POLLOUT, it->stop_fd, it->patience_ns, &it->waited_ns);
            if (answer != 0)
                return answer < 0 ? -1 : RS3D_SEND_SLOW;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return RS3D_SEND_DONE;
}

#endif
