# cython: auto_pickle=False
"""io_uring without liburing: reads, writes and syncs that complete in the background and wake a loop by an eventfd.

See uring.pyi for the contract, uring_impl.c for the rings. What this file is about is lifetime: while a request is in
flight the kernel reads from or writes into its buffer, whatever becomes of the Python objects. So each request has a
slot that holds the buffer's export, released by its completion alone; closing cancels, then waits for every completion;
and if even that fails, the exports are leaked on purpose rather than handed back to the allocator under the kernel's
pen.
"""
cimport cython
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EBUSY, EINTR, errno
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

import enum
import os
from typing import NamedTuple

from bufview cimport Py_buffer, PyBuffer_Release, open_readable, open_writable

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int microseconds)

cdef extern from "uring_impl.h" nogil:
    enum:
        RS3D_URING_READ
        RS3D_URING_WRITE
        RS3D_URING_FSYNC
        RS3D_URING_FDATASYNC
    ctypedef struct rs3d_uring:
        int fd
        int event_fd
        unsigned entries
        unsigned queued
    int rs3d_uring_open(rs3d_uring *r, unsigned entries)
    void rs3d_uring_close(rs3d_uring *r)
    void rs3d_uring_prepare(rs3d_uring *r, int operation, int fd, void *memory, uint32_t bytes, uint64_t offset,
                            int in_worker, uint64_t slot)
    void rs3d_uring_cancel(rs3d_uring *r, uint64_t slot)
    int rs3d_uring_enter(rs3d_uring *r, unsigned wanted)
    int rs3d_uring_next(rs3d_uring *r, uint64_t *slot, int32_t *result)

ENTRIES_LIMIT = 4096
REQUEST_LIMIT_BYTES = 1 << 30  # the kernel's own is 2 GiB less a page, and a completion's result has 31 bits

cdef enum:
    CANCELLATION = -1  # the slot number of a cancelling request's own completion


class Start(enum.Enum):
    INLINE = "inline"
    WORKER = "worker"


class Sync(enum.Enum):
    DATA = "data"
    ALL = "all"


class Completion(NamedTuple):
    token: int
    result: int


class Probe(NamedTuple):
    works: bool
    reason: str


def probe():
    cdef rs3d_uring ring
    if rs3d_uring_open(&ring, 2) != 0:
        return Probe(False, os.strerror(errno))
    rs3d_uring_close(&ring)
    return Probe(True, "")


cdef struct Slot:
    bint taken
    bint exported  # whether `view` holds a buffer
    Py_buffer view
    int64_t token


@cython.final
cdef class Ring:
    cdef rs3d_uring ring
    cdef Slot *slots
    cdef list free_slots
    cdef readonly int in_flight
    cdef bint in_worker
    cdef bint busy    # a call is inside the kernel without the GIL

    def __cinit__(self, int entries=64, start=Start.WORKER):
        self.ring.fd = -1
        if not 1 <= entries <= ENTRIES_LIMIT:
            raise ValueError(f"a ring of {entries} entries is not one of 1 to {ENTRIES_LIMIT}")
        self.in_worker = Start(start) is Start.WORKER
        if rs3d_uring_open(&self.ring, entries) != 0:
            PyErr_SetFromErrno(OSError)
        self.slots = <Slot *>calloc(self.ring.entries, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError()
        self.free_slots = list(range(self.ring.entries))

    def __init__(self, entries=64, start=Start.WORKER):
        pass

    def __dealloc__(self):
        if self.ring.fd >= 0 and self.slots != NULL:
            if not self.settle():
                return  # see the module's docstring: leak what the kernel may still use
        rs3d_uring_close(&self.ring)
        free(self.slots)

    @property
    def event_fd(self):
        self.check_open()
        return self.ring.event_fd

    @property
    def entries(self):
        return self.ring.entries

    @property
    def queued(self):
        return self.ring.queued

    @property
    def closed(self):
        return self.ring.fd < 0

    cdef int check_open(self) except -1:
        if self.ring.fd < 0:
            raise ValueError("this ring was closed")
        if self.busy:
            raise RuntimeError("another thread is using this ring")
        return 0

    cdef int64_t take_slot(self) except -1:
        self.check_open()
        if not self.free_slots:
            raise BlockingIOError(EAGAIN, f"{self.in_flight} requests are in flight, which is the limit")
        return self.free_slots.pop()

    cdef int start_transfer(self, int operation, int fd, buffer, int64_t offset, int64_t token) except -1:
        cdef int64_t number
        cdef Slot *slot
        if offset < 0:
            raise ValueError(f"offset {offset}: not a place in a file")
        number = self.take_slot()
        slot = &self.slots[number]
        try:
            if operation == RS3D_URING_READ:
                open_writable(buffer, &slot.view)
            else:
                open_readable(buffer, &slot.view)
            if slot.view.len > REQUEST_LIMIT_BYTES:
                PyBuffer_Release(&slot.view)
                raise ValueError(f"a request of more than {REQUEST_LIMIT_BYTES} bytes")
        except BaseException:
            self.free_slots.append(number)
            raise
        slot.exported = True
        self.start(operation, fd, slot, offset, token, number)
        return 0

    cdef void start(self, int operation, int fd, Slot *slot, int64_t offset, int64_t token, int64_t number) noexcept:
        slot.taken = True
        slot.token = token
        self.in_flight += 1
        rs3d_uring_prepare(&self.ring, operation, fd, slot.view.buf if slot.exported else NULL,
                           <uint32_t>slot.view.len if slot.exported else 0, offset, self.in_worker, number)

    def read(self, int fd, buffer, int64_t offset, int64_t token):
        self.start_transfer(RS3D_URING_READ, fd, buffer, offset, token)

    def write(self, int fd, buffer, int64_t offset, int64_t token):
        self.start_transfer(RS3D_URING_WRITE, fd, buffer, offset, token)

    def fsync(self, int fd, sync, int64_t token):
        cdef int operation = RS3D_URING_FDATASYNC if Sync(sync) is Sync.DATA else RS3D_URING_FSYNC
        cdef int64_t number = self.take_slot()
        self.slots[number].exported = False
        self.start(operation, fd, &self.slots[number], 0, token, number)

    cdef int enter(self, unsigned wanted) except -1:
        cdef int taken
        while True:
            self.busy = True
            with nogil:
                taken = rs3d_uring_enter(&self.ring, wanted)
            self.busy = False
            if taken >= 0:
                return taken
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
            PyErr_CheckSignals()

    def submit(self):
        self.check_open()
        return self.enter(0)

    cdef list take_completions(self):
        cdef uint64_t number = 0
        cdef int32_t result = 0
        found = []
        while rs3d_uring_next(&self.ring, &number, &result):
            if <int64_t>number == CANCELLATION:
                continue
            token = self.slots[number].token
            self.release(number)
            self.free_slots.append(number)
            found.append(Completion(token, result))
        return found

    cdef void release(self, uint64_t number) noexcept:
        cdef Slot *slot = &self.slots[number]
        if slot.exported:
            PyBuffer_Release(&slot.view)
        slot.exported = slot.taken = False
        self.in_flight -= 1

    def reap(self):
        self.check_open()
        try:
            os.eventfd_read(self.ring.event_fd)  # before looking: what arrives later makes it readable again
        except BlockingIOError:
            pass
        return self.take_completions()

    def wait(self, int wanted=1):
        self.check_open()
        self.enter(0)
        found = self.reap()
        while len(found) < wanted and self.in_flight:
            self.enter(1)
            found += self.reap()
        return found

    cdef bint settle(self) noexcept:
        """Cancel what is in flight and wait for all of it; False if the kernel does not let us.

        A request that a thread of the kernel is working at just now is not cancelled (EALREADY), and may wait for ever
        afterwards: what is left is cancelled again, until nothing is. Each cancellation completes, so no wait is for
        the requests alone.
        """
        cdef uint64_t number, done = 0
        cdef int32_t result = 0
        cdef int taken
        cdef int tries = 0
        with nogil:
            while self.in_flight > 0:
                for number in range(self.ring.entries):
                    if not self.slots[number].taken:
                        continue
                    # Hand over what waits first: the submission ring must have room for the cancellation.
                    taken = rs3d_uring_enter(&self.ring, 0)
                    if taken >= 0:
                        rs3d_uring_cancel(&self.ring, number)
                        taken = rs3d_uring_enter(&self.ring, 1)
                    if taken < 0 and errno != EINTR and errno != EAGAIN and errno != EBUSY:
                        return False
                    tries = tries + 1 if taken < 0 else 0
                    if tries > 1000:
                        return False
                    while rs3d_uring_next(&self.ring, &done, &result):
                        if <int64_t>done != CANCELLATION:
                            with gil:
                                self.release(done)
                if self.in_flight > 0:
                    usleep(1000)
        return True

    def close(self):
        if self.busy:
            raise RuntimeError("another thread is using this ring")
        if self.ring.fd < 0:
            return
        self.busy = True
        settled = self.settle()
        self.busy = False
        if not settled:
            raise OSError(errno, "requests are still in flight and cannot be waited for")
        rs3d_uring_close(&self.ring)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def selftest():
    found = probe()
    if not found.works:
        try:
            Ring(2)
        except OSError:
            return 1
        raise RuntimeError("kernel uring: the probe failed, a ring was made")
    fd = os.memfd_create("rs3d-uring-selftest")
    try:
        with Ring(4) as ring:
            buffer = bytearray(8)
            ring.write(fd, b"rs3d", 2, 1)
            ring.submit()
            if ring.wait() != [(1, 4)]:
                raise RuntimeError("kernel uring: a known write went wrong")
            ring.read(fd, buffer, 0, 2)
            ring.submit()
            if ring.wait() != [(2, 6)] or buffer != b"\0\0rs3d\0\0":
                raise RuntimeError("kernel uring: a known read went wrong")
    finally:
        os.close(fd)
    return 2
