# cython: auto_pickle=False
"""Bytes between descriptors without passing through Python: file to file by the cheapest way, socket to file by a pipe,
file to socket for as long as the socket takes.

See splice.pyi for the contract. `posix.sendfile`, `posix.copy_file_range` and `posix.clone_range` are the single calls;
here are the ways that combine several, with what each has moved accounted for exactly: every count is of bytes that are
in the destination.
"""
cimport cython
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

import enum
import fcntl
import os
from typing import NamedTuple

from variant cimport getenv

cdef extern from "socketwait.h" nogil:
    void rs3d_set_stop(int *stop)

cdef extern from "splice_impl.h" nogil:
    int close(int)
    int rs3d_splice_unsupported(int error)
    int64_t rs3d_splice_available(int fd, int64_t offset, int64_t length)
    int64_t rs3d_splice_clone(int in_fd, int64_t in_offset, int out_fd, int64_t out_offset, int64_t length)
    ssize_t rs3d_splice_copy_range(int in_fd, int64_t in_offset, int out_fd, int64_t out_offset, size_t length)
    ssize_t rs3d_splice_fill(int in_fd, int64_t offset, int pipe_fd, size_t length)
    ssize_t rs3d_splice_drain(int pipe_fd, int out_fd, int64_t offset, size_t length)
    cdef struct rs3d_sending:
        int socket_fd, file_fd, stop_fd
        int64_t offset, length, patience_ns, sent, waited_ns
        const int *stop
    int RS3D_SEND_DONE, RS3D_SEND_END, RS3D_SEND_SLOW, RS3D_SEND_STOPPED
    int rs3d_send(rs3d_sending *it, int64_t step)
    ssize_t rs3d_splice_buffered(int in_fd, int64_t in_offset, int out_fd, int64_t out_offset, char *buffer,
                                 size_t length)

cdef enum:
    # One call's worth: a signal or a cancelled thread waits for no more than this.
    STEP_BYTES = 64 << 20
    BUFFER_BYTES = 1 << 20
    SEND_BYTES = 4 << 20  # a stop waits for no more than this: a millisecond, if the socket takes so much
    PIPE_BYTES = 1 << 20  # /proc/sys/fs/pipe-max-size, unless an operator changed it


class Method(enum.Enum):
    CLONE = "clone"
    COPY_FILE_RANGE = "copy_file_range"
    SPLICE = "splice"
    BUFFER = "buffer"


class Copied(NamedTuple):
    copied_bytes: int
    method: Method


class Stop(enum.Enum):
    DONE = "done"
    END = "end"
    WAIT = "wait"


class Received(NamedTuple):
    received_bytes: int
    stop: Stop


cdef tuple ALL = tuple(Method)
cdef tuple NAMES = ("auto", *[method.value for method in ALL])


cdef str _demanded(str wanted):
    if wanted not in NAMES:
        raise ValueError(f"kernel splice has no variant {wanted!r}; it has {', '.join(NAMES)}")
    return wanted


cdef str _first():
    cdef const char *demanded = getenv(b"RS3D_KERNEL_SPLICE")
    if demanded != NULL and demanded[0] != 0:
        return _demanded((<bytes>demanded).decode("utf-8", "replace"))
    return "auto"


cdef str active = _first()


def variant():
    return active


def variants():
    return NAMES


def use_variant(str name not None):
    global active
    active = _demanded(name)


cdef int _check_range(int64_t offset, int64_t length) except -1:
    if offset < 0 or length < 0 or length > 0x7FFFFFFFFFFFFFFF - offset:
        raise ValueError(f"{length} bytes at {offset}: not a range of a file")
    return 0


# ------------------------------------------------------------------------------------------------ file to file


@cython.final
cdef class _Copy:
    """One copy under way; `done` bytes are in the destination."""
    cdef int in_fd
    cdef int out_fd
    cdef int64_t in_offset
    cdef int64_t out_offset
    cdef int64_t length
    cdef int64_t done

    cdef bint failed(self, bint last) except -1:
        """After a failed call: True to give the method up, False to repeat it; raises what is a real error."""
        if errno == EINTR:
            PyErr_CheckSignals()
            return False
        if not last and rs3d_splice_unsupported(errno):
            return True
        PyErr_SetFromErrno(OSError)

    cdef bint clone(self, bint last) except -1:
        """Like each method: whether it got to the end, of the range or (as far as it can know) of the source."""
        cdef int64_t there, answer
        while True:
            with nogil:
                there = rs3d_splice_available(self.in_fd, self.in_offset, self.length)
                answer = there
                if there > 0:
                    answer = rs3d_splice_clone(self.in_fd, self.in_offset, self.out_fd, self.out_offset, there)
            if answer > 0:
                self.done = answer
                return True
            if answer == 0:
                return last  # empty as fstat says, which is not true of every file
            if self.failed(last):
                return False

    cdef bint copy_range(self, bint last) except -1:
        cdef ssize_t moved
        while self.done < self.length:
            with nogil:
                moved = rs3d_splice_copy_range(self.in_fd, self.in_offset + self.done, self.out_fd,
                                               self.out_offset + self.done, min(self.length - self.done, STEP_BYTES))
            if moved > 0:
                self.done += moved
            elif moved == 0:
                return last  # some file systems answer 0 for what they cannot copy: let the next method look
            elif self.failed(last):
                return False
        return True

    cdef bint splice(self, bint last) except -1:
        cdef SplicePipe pipe = SplicePipe()
        cdef ssize_t moved
        try:
            while self.done < self.length:
                with nogil:
                    moved = rs3d_splice_fill(self.in_fd, self.in_offset + self.done, pipe.write_fd,
                                             min(self.length - self.done, PIPE_BYTES))
                if moved > 0:
                    try:
                        pipe.drain(self.out_fd, self.out_offset + self.done, moved)
                    except OSError as error:
                        # What stays in the pipe is still in the source: the next method reads it again.
                        self.done += moved - pipe.held_bytes
                        if last or not rs3d_splice_unsupported(error.errno):
                            raise
                        return False
                    self.done += moved
                elif moved == 0:
                    return last
                elif self.failed(last):
                    return False
            return True
        finally:
            pipe.close()

    cdef bint buffer(self) except -1:
        cdef ssize_t moved
        cdef char *buffer = <char *>malloc(BUFFER_BYTES)
        if buffer == NULL:
            raise MemoryError()
        try:
            while self.done < self.length:
                with nogil:
                    moved = rs3d_splice_buffered(self.in_fd, self.in_offset + self.done, self.out_fd,
                                                 self.out_offset + self.done, buffer,
                                                 min(self.length - self.done, BUFFER_BYTES))
                if moved == 0:
                    break
                if moved > 0:
                    self.done += moved
                else:
                    self.failed(True)
            return True
        finally:
            free(buffer)


def copy_range(int in_fd, int64_t in_offset, int out_fd, int64_t out_offset, int64_t length):
    cdef _Copy copy = _Copy()
    cdef bint ended = False, last
    _check_range(in_offset, length)
    _check_range(out_offset, length)
    copy.in_fd, copy.out_fd = in_fd, out_fd
    copy.in_offset, copy.out_offset, copy.length = in_offset, out_offset, length
    methods = ALL if active == "auto" else (Method(active),)
    for method in methods:
        last = method is methods[len(methods) - 1]
        before = copy.done
        if method is Method.CLONE:
            ended = copy.clone(last)
        elif method is Method.COPY_FILE_RANGE:
            ended = copy.copy_range(last)
        elif method is Method.SPLICE:
            ended = copy.splice(last)
        else:
            ended = copy.buffer()
        if copy.done > before or ended:
            used = method
        if ended:
            break
    return Copied(copy.done, used)


# ------------------------------------------------------------------------------------------------ socket to file


@cython.final
cdef class SplicePipe:
    cdef int read_fd
    cdef int write_fd
    cdef readonly int64_t held_bytes
    cdef readonly Py_ssize_t capacity_bytes
    cdef bint busy

    def __cinit__(self):
        self.read_fd = self.write_fd = -1
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self.capacity_bytes = fcntl.fcntl(self.write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except PermissionError:  # an operator's lower limit: the size that the pipe has will do
            self.capacity_bytes = fcntl.fcntl(self.write_fd, fcntl.F_GETPIPE_SZ)

    def __dealloc__(self):
        if self.read_fd >= 0:
            close(self.read_fd)
        if self.write_fd >= 0:
            close(self.write_fd)

    def close(self):
        if self.busy:
            raise RuntimeError("a transfer is under way")
        if self.read_fd >= 0:
            close(self.read_fd)
            close(self.write_fd)
        self.read_fd = self.write_fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    cdef int64_t drain(self, int out_fd, int64_t offset, int64_t length) except -1:
        """Everything that was put in, to the file; it stays in the pipe when this raises."""
        cdef int64_t done = 0
        cdef ssize_t moved
        self.held_bytes += length
        while done < length:
            with nogil:
                moved = rs3d_splice_drain(self.read_fd, out_fd, offset + done, length - done)
            if moved > 0:
                done += moved
                self.held_bytes -= moved
            elif moved < 0 and errno != EINTR:
                PyErr_SetFromErrno(OSError)
            else:
                PyErr_CheckSignals()
        return done

    def receive(self, int in_fd, int out_fd, int64_t offset, int64_t length):
        cdef int64_t done = 0
        cdef ssize_t moved
        _check_range(offset, length)
        if self.read_fd < 0:
            raise ValueError("this pipe was closed")
        if self.held_bytes:
            raise ValueError(f"{self.held_bytes} bytes of a transfer that failed are still in this pipe")
        if self.busy:
            raise RuntimeError("another thread is using this pipe")
        self.busy = True
        try:
            while done < length:
                with nogil:
                    moved = rs3d_splice_fill(in_fd, -1, self.write_fd, min(length - done, self.capacity_bytes))
                if moved > 0:
                    done += self.drain(out_fd, offset + done, moved)
                elif moved == 0:
                    return Received(done, Stop.END)
                elif errno == EAGAIN:  # the pipe is empty here, so it is the source that has nothing
                    return Received(done, Stop.WAIT)
                elif errno != EINTR:
                    PyErr_SetFromErrno(OSError)
                else:
                    PyErr_CheckSignals()
            return Received(done, Stop.DONE)
        finally:
            self.busy = False


# ------------------------------------------------------------------------------------------------ file to socket


class Pause(enum.Enum):
    DONE = "done"
    END = "end"
    SLOW = "slow"
    STOPPED = "stopped"
    FAILED = "failed"


class Sent(NamedTuple):
    sent_bytes: int
    waited_ns: int
    pause: Pause


@cython.final
cdef class FileSender:
    cdef int stop_fd
    cdef int stopped
    cdef bint busy

    def __cinit__(self):
        self.stop_fd = -1
        self.stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __dealloc__(self):
        if self.stop_fd >= 0:
            close(self.stop_fd)

    def stop(self):
        if not self.stopped:
            rs3d_set_stop(&self.stopped)
            os.eventfd_write(self.stop_fd, 1)

    def rearm(self):
        if self.busy:
            raise RuntimeError("a sending is under way")
        if self.stopped:
            os.eventfd_read(self.stop_fd)
            self.stopped = False

    def send(self, int socket_fd, int file_fd, int64_t offset, int64_t length, int64_t patience_ns):
        cdef rs3d_sending it
        cdef int answer
        _check_range(offset, length)
        if patience_ns < 0:
            raise ValueError(f"{patience_ns} ns: not a time to wait")
        if self.busy:
            raise RuntimeError("another thread is sending")
        it.socket_fd, it.file_fd, it.stop_fd = socket_fd, file_fd, self.stop_fd
        it.offset, it.length, it.patience_ns = offset, length, patience_ns
        it.sent = it.waited_ns = 0
        it.stop = &self.stopped
        self.busy = True
        with nogil:
            answer = rs3d_send(&it, SEND_BYTES)
        self.busy = False
        if answer < 0 and it.sent == 0:
            PyErr_SetFromErrno(OSError)
        return Sent(it.sent, it.waited_ns, _pause(answer))


cdef object _pause(int answer):
    if answer == RS3D_SEND_DONE:
        return Pause.DONE
    if answer == RS3D_SEND_END:
        return Pause.END
    if answer == RS3D_SEND_SLOW:
        return Pause.SLOW
    return Pause.STOPPED if answer == RS3D_SEND_STOPPED else Pause.FAILED


def selftest():
    global active
    cdef int checks = 0
    before = active
    source = os.memfd_create("rs3d-splice-selftest")
    target = os.memfd_create("rs3d-splice-selftest")
    try:
        os.pwrite(source, b"0123456789", 0)
        for name in ("auto", "splice", "buffer"):
            use_variant(name)
            copied = copy_range(source, 2, target, 3, 100)
            if copied.copied_bytes != 8 or os.pread(target, 20, 0) != b"\0\0\x0023456789":
                raise RuntimeError(f"kernel splice ({name}): a known copy is wrong")
            os.ftruncate(target, 0)
            checks += 1
    finally:
        active = before
        os.close(source)
        os.close(target)
    return checks
