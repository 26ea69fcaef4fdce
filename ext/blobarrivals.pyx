# cython: auto_pickle=False
"""Whole blobs from sockets by threads without Python: see blobarrivals.pyi for the contract, blobarrivals_impl.h for
what such a thread does."""
cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.ref cimport Py_INCREF, Py_DECREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close

import enum
import os
import socket

from bufview cimport Py_buffer, PyBuffer_Release, open_writable
from crcvariants cimport crc_variants
from variant cimport (
    RS3D_CPU_AVX2, RS3D_CPU_AVX512, RS3D_CPU_SHA, RS3D_CPU_SSE41, RS3D_CPU_SSSE3,
    initial_variant, runnable_variants, variant_index,
)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass

cdef extern from "crc_impl.h":
    enum:
        CRC_AVX512
        CRC_SCALAR

cdef extern from "bodyhash_impl.h" nogil:
    enum:
        RS3D_BODY_SCALAR
    void rs3d_body_setup()

cdef extern from "bodygang_impl.h" nogil:
    enum:
        RS3D_GANG_ROUNDS
    ctypedef struct rs3d_gang:
        uint64_t rounds, pieces

cdef extern from "socketwait.h" nogil:
    void rs3d_set_stop(int *stop)

cdef extern from "receive_impl.h" nogil:
    enum:
        RS3D_RECEIVE_SLOW
    cdef struct rs3d_receiving:
        int socket_fd, stop_fd
        int64_t patience_ns, waited_ns
        const int *stop

cdef extern from "blobarrivals_impl.h" nogil:
    enum:
        RS3D_ARRIVAL_BODY_BYTES, RS3D_ARRIVAL_PACKET_BYTES
        RS3D_ARRIVAL_STORED, RS3D_ARRIVAL_CUT, RS3D_ARRIVAL_OTHER, RS3D_ARRIVAL_FAILED
        RS3D_LEAF_BYTES
    cdef struct rs3d_arrival:
        rs3d_receiving source "from"
        char *data
        const char *given
        int64_t length, filled
        int top
        const char *segment_name
        uint64_t segment
        uint32_t number
        size_t align
        int wants_md5, is_declared
        unsigned char declared[32]
        unsigned char sidecar_body[1]
        size_t sidecar_body_bytes, root_at, md5_at
        unsigned char packet[1]
        size_t packet_bytes, packet_root_at, packet_etag_at
        int packet_to
        int state, ending, error, is_sent, is_ahead
        unsigned char md5[16]
        unsigned char sha256[32]
        unsigned char root[32]
        rs3d_arrival *next
        void *owner
    ctypedef struct rs3d_arrivals:
        int ended_fd, bell, bell_to, steps_behind, most_rounds, variant, crc_variant
        int64_t company_ns
        rs3d_gang gang
    int rs3d_arrivals_open(rs3d_arrivals *pool)
    void rs3d_arrivals_close(rs3d_arrivals *pool)
    void rs3d_begin_arrival(rs3d_arrivals *pool, rs3d_arrival *it)
    void rs3d_begin_ahead(rs3d_arrivals *pool, rs3d_arrival *it, const char *body, int64_t length)
    void rs3d_forsake(rs3d_arrivals *pool, rs3d_arrival *it)
    void rs3d_withhold_packet(rs3d_arrivals *pool, rs3d_arrival *it)
    rs3d_arrival *rs3d_take_ended(rs3d_arrivals *pool)
    void *rs3d_arrivals_thread(void *pool)
    void *rs3d_hasher_thread(void *pool)
    int rs3d_arrivals_add_thread(rs3d_arrivals *pool, void *(*run)(void *), pthread_t *made)
    void rs3d_arrivals_end_threads(rs3d_arrivals *pool, const pthread_t *threads, int count, const pthread_t *hasher)

LEAF_BYTES = RS3D_LEAF_BYTES
MOST_BODY_BYTES = RS3D_ARRIVAL_BODY_BYTES
COMPANY_NS = 2_000_000
MOST_COMPANY_NS = 60_000_000_000
ROUNDS = 2

cdef enum:
    MOST_THREADS = 64

# In the order of the numbers of bodyhash_impl.h, and of merkle_impl.h.
cdef tuple VARIANTS = (
    ("avx512", RS3D_CPU_AVX512 | RS3D_CPU_AVX2 | RS3D_CPU_SHA | RS3D_CPU_SSE41 | RS3D_CPU_SSSE3),
    ("shani", RS3D_CPU_AVX2 | RS3D_CPU_SHA | RS3D_CPU_SSE41 | RS3D_CPU_SSSE3),
    ("avx2", RS3D_CPU_AVX2),
    ("scalar", 0),
)
cdef tuple CRC_VARIANTS = crc_variants()
cdef int active = initial_variant("blobarrivals", VARIANTS)
cdef int widest_crc = CRC_AVX512 - variant_index("crc", CRC_VARIANTS, runnable_variants(CRC_VARIANTS)[0])

rs3d_body_setup()


def variant():
    return VARIANTS[active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = variant_index("blobarrivals", VARIANTS, name)


class State(enum.Enum):
    STORED = "stored"
    CUT = "cut"
    OTHER = "other"
    FAILED = "failed"


cdef tuple STATES = (State.STORED, State.CUT, State.OTHER, State.FAILED)


@cython.final
@cython.no_gc_clear
cdef class Arrival:
    """Its buffer is let go by __dealloc__, and by no end of a cycle before, which would only forget whose it is."""
    cdef rs3d_arrival *it
    cdef int stopped
    cdef bint busy          # a pool has it, and a reference to it
    cdef readonly bint is_ahead  # the pool hashes it, and has a reference to it, but it was neither begun nor forsaken
    cdef bint aimed
    cdef bytes segment_name
    cdef Py_buffer view     # held while it is busy
    cdef bytes given        # the body, where it lies elsewhere
    cdef public object owner

    def __cinit__(self):
        self.it = NULL
        self.it = <rs3d_arrival *>malloc(sizeof(rs3d_arrival))
        if self.it == NULL:
            raise MemoryError()
        memset(self.it, 0, sizeof(rs3d_arrival))
        self.it.source.stop_fd = -1
        self.it.source.stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.it.source.stop = &self.stopped
        self.it.state = RS3D_ARRIVAL_CUT
        self.it.owner = <void *>self

    def __dealloc__(self):
        PyBuffer_Release(&self.view)
        if self.it != NULL:
            if self.it.source.stop_fd >= 0:
                close(self.it.source.stop_fd)
            free(self.it)

    def aim(self, int socket_fd, buffer, int64_t length, int64_t filled, int64_t patience_ns):
        if patience_ns < 0:
            raise ValueError(f"{patience_ns} ns: not a time to wait")
        if self.is_ahead:
            raise RuntimeError("an arrival that is hashed already")
        self.hold(buffer, length, filled)
        self.given, self.it.given = None, NULL
        self.it.source.socket_fd, self.it.source.patience_ns = socket_fd, patience_ns

    def give(self, bytes body not None, buffer):
        if self.is_ahead and body is not self.given:
            raise ValueError("another body than the one that is hashed")
        self.hold(buffer, len(body), 0)
        self.given, self.it.given = body, <const char *>body

    cdef int hold(self, buffer, int64_t length, int64_t filled) except -1:
        cdef Py_buffer view
        if self.busy:
            raise RuntimeError("an arrival is under way")
        if not 0 < length <= RS3D_LEAF_BYTES or not 0 <= filled <= length:
            raise ValueError(f"{filled} of {length} bytes: no body of one leaf")
        open_writable(buffer, &view)
        if view.len < length:
            PyBuffer_Release(&view)
            raise ValueError(f"{length} bytes do not fit a buffer of {view.len}")
        PyBuffer_Release(&self.view)
        self.view = view
        self.aimed = True
        self.it.data = <char *>view.buf
        self.it.length, self.it.filled = length, filled
        return 0

    def place(self, int top, str segment_name not None, uint64_t segment, uint32_t number, size_t align_bytes):
        cdef bytes name = segment_name.encode("ascii")
        if self.busy:
            raise RuntimeError("an arrival is under way")
        if align_bytes & (align_bytes - 1):
            raise ValueError(f"{align_bytes} is no power of two")
        if b"/" in name or b"\0" in name or not name:
            raise ValueError(f"{segment_name!r} is no name in a directory")
        self.segment_name = name
        self.it.segment_name = name
        self.it.top, self.it.segment, self.it.number, self.it.align = top, segment, number, align_bytes

    def describe(self, bytes body not None, size_t root_at, md5_at, bytes sha256):
        cdef size_t where
        if self.busy:
            raise RuntimeError("an arrival is under way")
        if len(body) > RS3D_ARRIVAL_BODY_BYTES or root_at > <size_t>len(body) or len(body) - root_at < 32:
            raise ValueError(f"a sidecar's body of {len(body)} bytes has no place for a root at {root_at}")
        self.it.wants_md5 = md5_at is not None
        if md5_at is not None:
            where = md5_at
            if where > <size_t>len(body) or len(body) - where < 16:
                raise ValueError(f"a sidecar's body of {len(body)} bytes has no place for an MD5 at {where}")
            self.it.md5_at = where
        self.it.is_declared = sha256 is not None
        if sha256 is not None:
            if len(sha256) != 32:
                raise ValueError(f"{len(sha256)} bytes are no SHA-256")
            memcpy(self.it.declared, <const char *>sha256, 32)
        memcpy(self.it.sidecar_body, <const char *>body, len(body))
        self.it.sidecar_body_bytes, self.it.root_at = len(body), root_at

    def commit_by(self, int socket_fd, bytes packet not None, size_t etag_at, size_t root_at):
        cdef size_t length = len(packet)
        if self.busy:
            raise RuntimeError("an arrival is under way")
        if length > RS3D_ARRIVAL_PACKET_BYTES or etag_at > length or length - etag_at < 32:
            raise ValueError(f"a packet of {length} bytes has no place for an ETag at {etag_at}")
        if root_at > length or length - root_at < 32:
            raise ValueError(f"a packet of {length} bytes has no place for a root at {root_at}")
        memcpy(self.it.packet, <const char *>packet, length)
        self.it.packet_bytes, self.it.packet_to = length, socket_fd
        self.it.packet_etag_at, self.it.packet_root_at = etag_at, root_at

    def stop(self):
        if not self.stopped:
            rs3d_set_stop(&self.stopped)
            os.eventfd_write(self.it.source.stop_fd, 1)

    def let_go(self):
        if self.busy or self.is_ahead:
            raise RuntimeError("an arrival is under way")
        self.aimed = False
        self.given, self.it.given = None, NULL
        self.it.packet_bytes = 0
        PyBuffer_Release(&self.view)

    @property
    def state(self):
        return STATES[self.it.state]

    @property
    def is_sent(self):
        return self.it.state == RS3D_ARRIVAL_STORED and self.it.is_sent != 0

    @property
    def filled_bytes(self):
        return self.it.filled

    @property
    def is_slow(self):
        return self.it.state == RS3D_ARRIVAL_CUT and self.it.ending == RS3D_RECEIVE_SLOW

    @property
    def error(self):
        return self.it.error

    @property
    def md5(self):
        return self.it.md5[:16] if self.it.wants_md5 else b""

    @property
    def sha256(self):
        return self.it.sha256[:32]

    @property
    def merkle_root(self):
        return self.it.root[:32]


@cython.final
cdef class Arrivals:
    cdef rs3d_arrivals pool
    cdef bint is_open
    cdef pthread_t threads[MOST_THREADS]
    cdef pthread_t hasher
    cdef readonly int most_threads, outstanding
    cdef int made
    cdef bint has_hasher

    def __cinit__(self, int threads, *, int steps_behind=0, int64_t company_ns=COMPANY_NS, int rounds=ROUNDS):
        if not 0 < threads <= MOST_THREADS:
            raise ValueError(f"{threads} threads; 1 to {MOST_THREADS} are possible")
        if steps_behind < 0:
            raise ValueError(f"{steps_behind} steps behind")
        if not 0 <= company_ns <= MOST_COMPANY_NS:
            raise ValueError(f"{company_ns} ns: not a time to wait for company")
        if not 0 < rounds <= RS3D_GANG_ROUNDS:
            raise ValueError(f"{rounds} rounds at once; 1 to {RS3D_GANG_ROUNDS} are possible")
        self.pool.company_ns = company_ns
        self.pool.most_rounds = rounds
        self.most_threads = threads
        self.pool.steps_behind = steps_behind
        self.pool.variant = active
        self.pool.crc_variant = widest_crc if active != RS3D_BODY_SCALAR else CRC_SCALAR
        self.pool.ended_fd = self.pool.bell = self.pool.bell_to = -1
        self.pool.ended_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.pool.bell, self.pool.bell_to = os.pipe2(os.O_CLOEXEC)
        if rs3d_arrivals_open(&self.pool) != 0:
            raise MemoryError()
        self.is_open = True

    def __init__(self, threads, *, steps_behind=0, company_ns=COMPANY_NS, rounds=ROUNDS):
        pass

    def __dealloc__(self):
        if self.is_open:
            self.end()
            rs3d_arrivals_close(&self.pool)
        for descriptor in (self.pool.ended_fd, self.pool.bell, self.pool.bell_to):
            if descriptor >= 0:
                close(descriptor)

    cdef void end(self) noexcept:
        with nogil:
            rs3d_arrivals_end_threads(&self.pool, self.threads, self.made, &self.hasher if self.has_hasher else NULL)
        self.made = self.has_hasher = 0
        self.take(None)

    cdef int take(self, list found) except -1:
        """All that have ended: no thread has them any more."""
        cdef rs3d_arrival *it = rs3d_take_ended(&self.pool)
        cdef rs3d_arrival *following
        cdef Arrival arrival
        while it != NULL:
            following = it.next
            arrival = <Arrival><object>it.owner
            arrival.busy, it.is_ahead = False, 0
            self.outstanding -= 1
            if found is not None:
                found.append(arrival)
            Py_DECREF(arrival)
            it = following
        return 0

    def fileno(self):
        return self.pool.ended_fd

    @property
    def is_full(self):
        return self.outstanding >= self.most_threads

    @property
    def rounds(self):
        return self.pool.gang.rounds

    @property
    def pieces(self):
        return self.pool.gang.pieces

    cdef int enter(self, Arrival arrival) except -1:
        """One more, with a reference to it, and a thread for it; and another, for a body that is alone."""
        cdef int answer
        if self.outstanding >= self.most_threads:
            raise RuntimeError("all threads are busy")
        while self.made < MOST_THREADS and self.made < self.outstanding + 2:
            answer = rs3d_arrivals_add_thread(&self.pool, rs3d_arrivals_thread, &self.threads[self.made])
            if answer != 0:
                if self.made == 0:
                    raise OSError(answer, os.strerror(answer))
                break
            self.made += 1
        Py_INCREF(arrival)
        self.outstanding += 1
        return 0

    def begin_hashing(self, Arrival arrival not None, bytes body not None):
        cdef int answer
        if self.most_threads == 0:
            raise RuntimeError("the pool is closed")
        if arrival.busy or arrival.is_ahead:
            raise RuntimeError("an arrival is under way")
        if not 0 < len(body) <= RS3D_LEAF_BYTES:
            raise ValueError(f"{len(body)} bytes: no body of one leaf")
        if not self.has_hasher:
            answer = rs3d_arrivals_add_thread(&self.pool, rs3d_hasher_thread, &self.hasher)
            if answer != 0:
                raise OSError(answer, os.strerror(answer))
            self.has_hasher = True
        self.enter(arrival)
        arrival.given, arrival.is_ahead = body, True
        rs3d_begin_ahead(&self.pool, arrival.it, <const char *>body, len(body))

    def forsake(self, Arrival arrival not None):
        if arrival.is_ahead:
            arrival.busy, arrival.is_ahead = True, False
            rs3d_forsake(&self.pool, arrival.it)

    def start(self, Arrival arrival not None):
        if self.most_threads == 0:
            raise RuntimeError("the pool is closed")
        if arrival.busy:
            raise RuntimeError("an arrival is under way")
        if not arrival.aimed or arrival.segment_name is None or not arrival.it.sidecar_body_bytes:
            raise ValueError("nobody has said where it comes from, where it goes, or what it is")
        if not arrival.is_ahead:
            self.enter(arrival)
        if arrival.stopped:
            os.eventfd_read(arrival.it.source.stop_fd)
            arrival.stopped = False
        arrival.busy, arrival.is_ahead = True, False
        rs3d_begin_arrival(&self.pool, arrival.it)

    def withhold(self, Arrival arrival not None):
        rs3d_withhold_packet(&self.pool, arrival.it)

    def ended(self):
        cdef list found = []
        self.take(found)
        return found

    def close(self):
        if self.most_threads:
            self.most_threads = 0
            self.end()


def selftest():
    # Without a place on a disk: files of a disk are the tests' business.
    near, far = socket.socketpair()
    pool, arrival, nowhere = Arrivals(1), Arrival(), os.memfd_create("rs3d-blobarrivals-selftest")
    buffer = bytearray(8)
    try:
        near.setblocking(False)
        far.sendall(b"234567")
        for length, state in ((8, State.FAILED), (8, State.CUT)):
            buffer[:] = b"01" + bytes(6)
            arrival.aim(near.fileno(), buffer, length, 2, 1_000_000_000)
            arrival.place(nowhere, "segment", 1, 1, 0)
            arrival.describe(bytes(48), 0, 32, None)
            pool.start(arrival)
            far.shutdown(socket.SHUT_WR)
            while not pool.ended():
                os.sched_yield()
            if arrival.state is not state or (state is State.FAILED and buffer != b"01234567"):
                raise RuntimeError("kernel blobarrivals: what was sent was not received, or a failure not told")
            arrival.let_go()
        return 2
    finally:
        pool.close()
        near.close()
        far.close()
        os.close(nowhere)
