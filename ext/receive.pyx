# cython: auto_pickle=False
"""Bodies from sockets in threads: see receive.pyi for the contract, receive_impl.h for the loop without the GIL."""
cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport int64_t
from posix.unistd cimport close

import enum
import os
import socket
from typing import NamedTuple

from bufview cimport Py_buffer, PyBuffer_Release, open_writable

cdef extern from "socketwait.h" nogil:
    void rs3d_set_stop(int *stop)

cdef extern from "receive_impl.h" nogil:
    enum:
        RS3D_RECEIVE_DONE, RS3D_RECEIVE_END, RS3D_RECEIVE_SLOW, RS3D_RECEIVE_STOPPED
    cdef struct rs3d_receiving:
        int socket_fd, stop_fd
        char *data
        int64_t length, patience_ns, received, waited_ns
        const int *stop
    int rs3d_receive(rs3d_receiving *)


class Ending(enum.Enum):
    DONE = "done"
    END = "end"
    SLOW = "slow"
    STOPPED = "stopped"
    FAILED = "failed"


class Received(NamedTuple):
    received_bytes: int
    waited_ns: int
    ending: Ending


@cython.final
cdef class BodyReceiver:
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
            raise RuntimeError("a receiving is under way")
        if self.stopped:
            os.eventfd_read(self.stop_fd)
            self.stopped = False

    def receive(self, int socket_fd, buffer, int64_t patience_ns):
        cdef rs3d_receiving it
        cdef Py_buffer view
        cdef int answer
        if patience_ns < 0:
            raise ValueError(f"{patience_ns} ns: not a time to wait")
        if self.busy:
            raise RuntimeError("another thread is receiving")
        open_writable(buffer, &view)
        it.socket_fd, it.stop_fd, it.patience_ns = socket_fd, self.stop_fd, patience_ns
        it.data, it.length = <char *>view.buf, view.len
        it.received = it.waited_ns = 0
        it.stop = &self.stopped
        self.busy = True
        try:
            with nogil:
                answer = rs3d_receive(&it)
            if answer < 0 and it.received == 0:
                PyErr_SetFromErrno(OSError)
        finally:
            self.busy = False
            PyBuffer_Release(&view)
        return Received(it.received, it.waited_ns, ending_of(answer))


cdef object ending_of(int answer):
    if answer == RS3D_RECEIVE_DONE:
        return Ending.DONE
    if answer == RS3D_RECEIVE_END:
        return Ending.END
    if answer == RS3D_RECEIVE_SLOW:
        return Ending.SLOW
    return Ending.STOPPED if answer == RS3D_RECEIVE_STOPPED else Ending.FAILED


def selftest():
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.sendall(b"0123456789")
        found, receiver = bytearray(8), BodyReceiver()
        whole = receiver.receive(near.fileno(), memoryview(found)[2:], 0)
        if (whole.received_bytes, whole.ending, found) != (6, Ending.DONE, b"\0\x00012345"):
            raise RuntimeError("kernel receive: what was sent was not received")
        far.shutdown(socket.SHUT_WR)
        rest = receiver.receive(near.fileno(), found, 0)
        if (rest.received_bytes, rest.ending, found[:4]) != (4, Ending.END, b"6789"):
            raise RuntimeError("kernel receive: an end was not told with what came before it")
    return 2
