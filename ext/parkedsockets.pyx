# cython: auto_pickle=False
"""Sockets that wait for their next request, and files on their way out through them. See parkedsockets.pyi for the
contract."""
cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport int64_t, uint32_t

import os
import socket
from typing import NamedTuple

from bufview cimport Py_buffer, PyBuffer_Release, open_readable

cdef extern from "parkedsockets_impl.h" nogil:
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        RS3D_PARKED_EVENTS
        RS3D_SENT
        RS3D_WAIT_FOUND
    cdef struct rs3d_sending_file:
        int state, error, next_sent
        int64_t begun_ns, ended_ns
    cdef struct rs3d_parked:
        int epoll_fd, nudge_fd, sending, first_sent
        int64_t linger_ns
        rs3d_sending_file *files
    cdef struct rs3d_parked_turn:
        int most, found
        int64_t budget
        int *sockets
    int rs3d_parked_open(rs3d_parked *q)
    void rs3d_parked_close(rs3d_parked *q)
    int rs3d_parked_control(rs3d_parked *q, int operation, int fd, uint32_t events)
    void rs3d_parked_nudge(rs3d_parked *q)
    rs3d_sending_file *rs3d_parked_file(rs3d_parked *q, int fd)
    void rs3d_parked_unlist(rs3d_parked *q, int fd)
    int64_t rs3d_parked_begin(rs3d_parked *q, int fd, const char *head, size_t head_bytes, int file_fd, int64_t offset,
                              int64_t length)
    void rs3d_parked_forget(rs3d_parked *q, int fd)
    int rs3d_parked_next_moved(rs3d_parked *q, int fd, int64_t *moved)
    int rs3d_parked_do_turn "rs3d_parked_turn"(rs3d_parked *q, rs3d_parked_turn *turn)
    int rs3d_parked_wait(rs3d_parked *q, rs3d_parked_turn *turn, int loop_fd, int64_t patience_ns, int *slept)

cdef enum:
    TURN_BYTES = 4 << 20  # sent before anything else has its turn: about a millisecond, if the sockets take so much


class Sent(NamedTuple):
    error: int
    took_ns: int


@cython.final
cdef class ParkedSockets:
    cdef rs3d_parked parked
    cdef readonly bint has_slept

    def __cinit__(self, int64_t linger_ns):
        self.parked.epoll_fd = self.parked.nudge_fd = -1
        if linger_ns < 0:
            raise ValueError(f"{linger_ns} ns: not a time to wait")
        self.parked.linger_ns = linger_ns
        if rs3d_parked_open(&self.parked) != 0:
            PyErr_SetFromErrno(OSError)

    def __init__(self, linger_ns):
        pass

    def __dealloc__(self):
        rs3d_parked_close(&self.parked)

    def close(self):
        rs3d_parked_close(&self.parked)

    @property
    def closed(self):
        return self.parked.epoll_fd < 0

    def fileno(self):
        return self.parked.epoll_fd

    @property
    def sending(self):
        return self.parked.sending > 0 or self.parked.first_sent >= 0

    cdef int control(self, int operation, int socket_fd, uint32_t events) except -1:
        if rs3d_parked_control(&self.parked, operation, socket_fd, events) != 0:
            PyErr_SetFromErrno(OSError)
        return 0

    def watch(self, int socket_fd):
        self.control(EPOLL_CTL_ADD, socket_fd, EPOLLIN)

    def watch_for_room(self, int socket_fd):
        self.control(EPOLL_CTL_MOD, socket_fd, EPOLLOUT)

    def watch_again(self, int socket_fd):
        self.control(EPOLL_CTL_MOD, socket_fd, EPOLLIN)

    def look_away(self, int socket_fd):
        self.control(EPOLL_CTL_DEL, socket_fd, 0)

    def nudge(self):
        rs3d_parked_nudge(&self.parked)

    def begin(self, int socket_fd, head, int file_fd, int64_t offset, int64_t length):
        cdef Py_buffer view
        cdef int64_t answer
        if offset < 0 or length < 0 or length > 0x7FFFFFFFFFFFFFFF - offset:
            raise ValueError(f"{length} bytes at {offset}: not a range of a file")
        if socket_fd < 0:
            raise ValueError(f"{socket_fd}: not a descriptor")
        if rs3d_parked_file(&self.parked, socket_fd) != NULL:
            raise ValueError("a file is on its way to this socket")
        open_readable(head, &view)
        with nogil:
            answer = rs3d_parked_begin(&self.parked, socket_fd, <const char *>view.buf, view.len, file_fd, offset,
                                       length)
        PyBuffer_Release(&view)
        if answer < 0:
            PyErr_SetFromErrno(OSError)
        return answer

    cdef list told(self, rs3d_parked_turn *turn):
        cdef list found = []
        cdef int fd = self.parked.first_sent, index
        while fd >= 0:
            found.append(fd)
            fd = self.parked.files[fd].next_sent
        for index in range(turn.found):
            found.append(turn.sockets[index])
        return found

    def turn(self):
        cdef rs3d_parked_turn turn
        cdef int answer
        turn.most, turn.found, turn.budget = RS3D_PARKED_EVENTS, 0, TURN_BYTES
        if self.parked.sending:
            with nogil:
                answer = rs3d_parked_do_turn(&self.parked, &turn)
        else:
            answer = rs3d_parked_do_turn(&self.parked, &turn)
        if answer != 0:
            PyErr_SetFromErrno(OSError)
        return self.told(&turn)

    def wait(self, int loop_fd, int64_t patience_ns):
        cdef rs3d_parked_turn turn
        cdef int answer, slept = 0
        turn.most, turn.found, turn.budget = RS3D_PARKED_EVENTS, 0, TURN_BYTES
        with nogil:
            answer = rs3d_parked_wait(&self.parked, &turn, loop_fd, patience_ns, &slept)
        self.has_slept = slept
        if answer < 0:
            PyErr_SetFromErrno(OSError)
        return self.told(&turn) if answer == RS3D_WAIT_FOUND else None

    def sent(self, int socket_fd):
        cdef rs3d_sending_file *it = rs3d_parked_file(&self.parked, socket_fd) if socket_fd >= 0 else NULL
        if it == NULL or it.state != RS3D_SENT:
            return None
        rs3d_parked_unlist(&self.parked, socket_fd)
        return Sent(it.error, it.ended_ns - it.begun_ns)

    def moved(self):
        cdef list found = []
        cdef int fd = 0
        cdef int64_t moved = 0
        while True:
            fd = rs3d_parked_next_moved(&self.parked, fd, &moved)
            if fd < 0:
                return found
            found.append((fd, moved))
            fd += 1

    def forget(self, int socket_fd):
        if socket_fd >= 0:
            rs3d_parked_forget(&self.parked, socket_fd)


def selftest():
    near, far = socket.socketpair()
    source = os.memfd_create("rs3d-parkedsockets-selftest")
    try:
        near.setblocking(False)
        os.ftruncate(source, 1 << 20)
        parked = ParkedSockets(0)
        parked.watch(near.fileno())
        sent = parked.begin(near.fileno(), b"head", source, 0, 1 << 20)
        if not 4 < sent < 4 + (1 << 20) or not parked.sending or parked.turn() != []:
            raise RuntimeError("kernel parkedsockets: a sending was begun otherwise than asked")
        told = []
        while not told:
            far.recv(1 << 20)
            told = parked.turn()
        if told != [near.fileno()] or parked.sent(near.fileno()).error or parked.sent(near.fileno()) is not None:
            raise RuntimeError("kernel parkedsockets: the end of a sending was told otherwise than it came")
        return 2
    finally:
        os.close(source)
        near.close()
        far.close()
