# cython: auto_pickle=False
"""What is computed of a body on its way to a blob, in one call for all that arrived: see bodyhash.pyi for the contract,
bodyhash_impl.c for how the hashes share a core.
"""
cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset
from posix.unistd cimport close

import enum
import os

from bufview cimport GIL_FREE_BYTES, Py_buffer, PyBuffer_Release, open_readable, open_writable
from crcvariants cimport crc_variants
from variant cimport (
    RS3D_CPU_AVX2, RS3D_CPU_AVX512, RS3D_CPU_SHA, RS3D_CPU_SSE41, RS3D_CPU_SSSE3,
    initial_variant, runnable_variants, variant_index,
)

cdef extern from "crc_impl.h":
    enum:
        CRC_AVX512
        CRC_SCALAR
    ctypedef struct crc_poly:
        pass
    crc_poly crc_poly_32, crc_poly_32c, crc_poly_64

cdef extern from "bodyhash_impl.h" nogil:
    enum:
        RS3D_BODY_SCALAR, RS3D_BODY_SHANI
    ctypedef struct rs3d_md5:
        uint64_t bytes
    ctypedef struct rs3d_md5_job:
        pass
    ctypedef struct rs3d_sha256:
        uint64_t bytes
    enum:
        RS3D_CHUNK_ROWS
    ctypedef struct rs3d_chunks:
        size_t count, hashed
        uint64_t ends[RS3D_CHUNK_ROWS]
        unsigned char digests[RS3D_CHUNK_ROWS][32]
        unsigned char signatures[RS3D_CHUNK_ROWS][64]
    ctypedef struct rs3d_body:
        int wants_md5, wants_tables, wants_sha256
        rs3d_md5 md5
        uint64_t leaf_bytes, block_bytes, bytes
        rs3d_sha256 leaf, whole
        rs3d_chunks *chunks
        uint32_t crc
        unsigned char *leaf_rows
        unsigned char *block_rows
    ctypedef struct rs3d_body_job:
        rs3d_body *body
        const unsigned char *data
        size_t bytes
    void rs3d_md5_start(rs3d_md5 *s)
    void rs3d_md5_digest(const rs3d_md5 *s, unsigned char *out)
    void rs3d_sha256_start(rs3d_sha256 *s)
    void rs3d_sha256_update(int variant, rs3d_sha256 *s, const unsigned char *data, size_t bytes)
    void rs3d_sha256_end(int variant, rs3d_sha256 *s, unsigned char *out)
    void rs3d_body_update_many(int variant, int crc_variant, rs3d_body_job *jobs, size_t count, rs3d_md5_job *scratch)
    void rs3d_body_open_leaf(int variant, const rs3d_body *b, unsigned char *out)
    void rs3d_body_setup()


cdef inline int widest_crc_of(int variant) noexcept nogil:
    return widest_crc if variant != RS3D_BODY_SCALAR else CRC_SCALAR

cdef extern from "bodygang_impl.h" nogil:
    enum:
        RS3D_GANG_ROUNDS
    ctypedef struct rs3d_gang:
        pass
    ctypedef struct rs3d_gang_counts:
        int coming
        uint64_t rounds, pieces
    rs3d_gang_counts rs3d_gang_count(rs3d_gang *g)
    ctypedef struct rs3d_piece:
        rs3d_body_job job
        int goes_on
    int rs3d_gang_open(rs3d_gang *g, int most_rounds, int enough, int64_t company_ns)
    void rs3d_gang_close(rs3d_gang *g)
    int rs3d_gang_is_idle(rs3d_gang *g)
    void rs3d_gang_pause(rs3d_gang *g)
    void rs3d_gang_resume(rs3d_gang *g)
    void rs3d_gang_announce(rs3d_gang *g, rs3d_piece *piece, int came)
    int rs3d_gang_has_hashed(const rs3d_piece *piece)
    void rs3d_gang_hash(rs3d_gang *g, rs3d_piece *piece, int variant, int crc_variant)

cdef extern from "socketwait.h" nogil:
    void rs3d_set_stop(int *stop)

cdef extern from "receive_impl.h" nogil:
    enum:
        RS3D_RECEIVE_DONE, RS3D_RECEIVE_END, RS3D_RECEIVE_SLOW, RS3D_RECEIVE_STOPPED
    cdef struct rs3d_receiving:
        int socket_fd, stop_fd
        int64_t patience_ns, waited_ns
        const int *stop

cdef extern from "bodyintake_impl.h" nogil:
    enum:
        RS3D_INTAKE_CRCS, RS3D_INTAKE_BROKEN, RS3D_INTAKE_FULL, RS3D_INTAKE_HALVES_FROM
    ctypedef struct aws_scanner:
        pass
    ctypedef struct rs3d_whole_crc:
        const crc_poly *poly
        uint64_t value
    void rs3d_whole_crc_update(int crc_variant, rs3d_whole_crc *w, const unsigned char *data, size_t bytes)
    cdef struct rs3d_intake:
        rs3d_receiving source "from"
        char *buffer
        int64_t buffer_bytes, filled, framed, to_come
        aws_scanner *framing
        int to_end, file_fd
        int64_t offset
        size_t align
        rs3d_gang *gang
        rs3d_body *body
        rs3d_whole_crc *crcs[RS3D_INTAKE_CRCS]
        int crc_count
        int variant, crc_variant, is_coming
        int64_t waited_ns
    int rs3d_take_in(rs3d_intake *it)

LANES = 16
LEAF_BYTES = 1 << 20
BLOCK_BYTES = 1 << 16
MOST_CRCS = RS3D_INTAKE_CRCS
MOST_CHUNKS = RS3D_CHUNK_ROWS
HALVES_FROM = RS3D_INTAKE_HALVES_FROM
ROUNDS = 2
MOST_ROUNDS = RS3D_GANG_ROUNDS
COMPANY_NS = 3_000_000
MOST_COMPANY_NS = 60_000_000_000

cdef enum:
    MD5 = 16
    SHA256 = 32
    CRC = 4
    SIGNATURE = 64
    ENOUGH = 4     # pieces of a round: as many as go in columns (bodyhash_impl.c), the cheapest of few
    TOGETHER = 16  # bodies of `wholes` that are hashed at once: as many as there are lanes

# In the order of the numbers of bodyhash_impl.h, and of merkle_impl.h.
cdef tuple VARIANTS = (
    ("avx512", RS3D_CPU_AVX512 | RS3D_CPU_AVX2 | RS3D_CPU_SHA | RS3D_CPU_SSE41 | RS3D_CPU_SSSE3),
    ("shani", RS3D_CPU_AVX2 | RS3D_CPU_SHA | RS3D_CPU_SSE41 | RS3D_CPU_SSSE3),
    ("avx2", RS3D_CPU_AVX2),
    ("scalar", 0),
)
cdef tuple CRC_VARIANTS = crc_variants()
cdef int active = initial_variant("bodyhash", VARIANTS)
cdef int widest_crc = CRC_AVX512 - variant_index("crc", CRC_VARIANTS, runnable_variants(CRC_VARIANTS)[0])

rs3d_body_setup()


def variant():
    return VARIANTS[active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = variant_index("bodyhash", VARIANTS, name)


@cython.final
cdef class Chunks:
    cdef rs3d_chunks *rows

    def __cinit__(self):
        self.rows = <rs3d_chunks *>malloc(sizeof(rs3d_chunks))
        if self.rows == NULL:
            raise MemoryError()
        self.rows.count = self.rows.hashed = 0

    def __dealloc__(self):
        free(self.rows)

    def take(self):
        cdef rs3d_chunks *c = self.rows
        cdef size_t i, hashed = c.hashed
        cdef list found = []
        for i in range(hashed):
            found.append((c.digests[i][:SHA256], c.signatures[i][:SIGNATURE]))
        c.count -= hashed
        c.hashed = 0
        memmove(c.ends, c.ends + hashed, c.count * sizeof(c.ends[0]))
        memmove(c.signatures, c.signatures + hashed, c.count * sizeof(c.signatures[0]))
        return found


@cython.final
cdef class BodyHash:
    cdef rs3d_body body
    cdef Chunks chunks
    cdef uint64_t leaf_room, block_room  # rows that the tables have room for
    cdef bint busy                       # a call is inside, perhaps without the GIL

    def __cinit__(self, *, bint md5=True, bint tables=True, bint sha256=False, Chunks chunks=None,
                  uint64_t leaf_bytes=LEAF_BYTES, uint64_t block_bytes=BLOCK_BYTES):
        if not leaf_bytes or leaf_bytes & 63 or not block_bytes or block_bytes & 63:
            raise ValueError(f"leaves of {leaf_bytes} and blocks of {block_bytes} bytes are not multiples of 64")
        if sha256 and not tables:
            raise ValueError("the SHA-256 of the whole is made beside tables only")
        if chunks is not None and (sha256 or not tables):
            raise ValueError("the SHA-256 of chunks is made in the place of that of the whole, beside tables only")
        memset(&self.body, 0, sizeof(rs3d_body))
        self.body.wants_md5 = md5
        self.body.wants_tables = tables
        self.body.wants_sha256 = sha256 or chunks is not None
        if chunks is not None:
            self.chunks, self.body.chunks = chunks, chunks.rows
        self.body.leaf_bytes = leaf_bytes
        self.body.block_bytes = block_bytes
        rs3d_md5_start(&self.body.md5)
        rs3d_sha256_start(&self.body.leaf)
        rs3d_sha256_start(&self.body.whole)

    def __init__(self, *, md5=True, tables=True, sha256=False, chunks=None, leaf_bytes=LEAF_BYTES,
                 block_bytes=BLOCK_BYTES):
        pass

    def __dealloc__(self):
        free(self.body.leaf_rows)
        free(self.body.block_rows)

    @property
    def length_bytes(self):
        return self.body.bytes if self.body.wants_tables else self.body.md5.bytes

    @property
    def has_tables(self):
        return bool(self.body.wants_tables)

    @property
    def has_sha256(self):
        return self.body.wants_sha256 and self.chunks is None

    cdef int enter(self) except -1:
        if self.busy:
            raise RuntimeError("another thread is updating this body")
        self.busy = True
        return 0

    cdef int make_room(self, uint64_t more) except -1:
        """Room for the rows that `more` bytes may fill."""
        cdef uint64_t leaves, blocks
        cdef unsigned char *grown
        if not self.body.wants_tables:
            return 0
        leaves = (self.body.bytes + more) // self.body.leaf_bytes
        blocks = (self.body.bytes + more) // self.body.block_bytes
        if leaves > self.leaf_room:
            leaves += leaves // 2
            grown = <unsigned char *>realloc(self.body.leaf_rows, leaves * SHA256)
            if grown == NULL:
                raise MemoryError()
            self.body.leaf_rows = grown
            self.leaf_room = leaves
        if blocks > self.block_room:
            blocks += blocks // 2
            grown = <unsigned char *>realloc(self.body.block_rows, blocks * CRC)
            if grown == NULL:
                raise MemoryError()
            self.body.block_rows = grown
            self.block_room = blocks
        return 0

    def update(self, data):
        update_many([(self, data)])

    def digest(self):
        cdef unsigned char out[MD5]
        if not self.body.wants_md5:
            raise ValueError("the MD5 of this body was not asked for")
        self.enter()
        rs3d_md5_digest(&self.body.md5, out)
        self.busy = False
        return out[:MD5]

    def sha256(self):
        cdef rs3d_sha256 ended
        cdef unsigned char out[SHA256]
        if not self.has_sha256:
            raise ValueError("the SHA-256 of this body was not asked for")
        self.enter()
        ended = self.body.whole
        rs3d_sha256_end(active, &ended, out)
        self.busy = False
        return out[:SHA256]

    cdef int enter_tables(self) except -1:
        if not self.body.wants_tables:
            raise ValueError("the tables of this body were not asked for")
        return self.enter()

    def leaves(self):
        cdef unsigned char last[SHA256]
        cdef bytes rows
        self.enter_tables()
        try:
            rows = self.body.leaf_rows[:self.body.bytes // self.body.leaf_bytes * SHA256] if self.leaf_room else b""
            if self.body.bytes % self.body.leaf_bytes or not self.body.bytes:
                rs3d_body_open_leaf(active, &self.body, last)
                rows += last[:SHA256]
            return rows
        finally:
            self.busy = False

    def blocks(self):
        cdef bytes rows
        self.enter_tables()
        try:
            rows = self.body.block_rows[:self.body.bytes // self.body.block_bytes * CRC] if self.block_room else b""
            if self.body.bytes % self.body.block_bytes:
                rows += self.body.crc.to_bytes(CRC, "little")
            return rows
        finally:
            self.busy = False


def update_many(pairs):
    cdef list work = list(pairs)
    cdef size_t count = len(work), opened = 0, i
    cdef Py_ssize_t total = 0
    cdef int how = active, crc_how = widest_crc_of(active)
    cdef BodyHash body
    cdef rs3d_body_job *jobs = <rs3d_body_job *>malloc((count + 1) * sizeof(rs3d_body_job))
    cdef rs3d_md5_job *scratch = <rs3d_md5_job *>malloc((count + 1) * sizeof(rs3d_md5_job))
    cdef Py_buffer *views = <Py_buffer *>malloc((count + 1) * sizeof(Py_buffer))
    cdef list bodies = []
    try:
        if jobs == NULL or scratch == NULL or views == NULL:
            raise MemoryError()
        for state, data in work:
            body = <BodyHash?>state
            open_readable(data, &views[opened])
            opened += 1
            if body.busy:
                raise ValueError("a body is named twice, or another thread is updating it")
            body.enter()
            bodies.append(body)
            i = opened - 1
            body.make_room(views[i].len)
            jobs[i].body = &body.body
            jobs[i].data = <const unsigned char *>views[i].buf
            jobs[i].bytes = views[i].len
            total += views[i].len
        if total >= GIL_FREE_BYTES:
            with nogil:
                rs3d_body_update_many(how, crc_how, jobs, count, scratch)
        else:
            rs3d_body_update_many(how, crc_how, jobs, count, scratch)
    finally:
        for body in bodies:
            body.busy = False
        for i in range(opened):
            PyBuffer_Release(&views[i])
        free(views)
        free(scratch)
        free(jobs)


@cython.final
cdef class Gang:
    cdef rs3d_gang gang
    cdef bint is_open

    def __cinit__(self, *, int rounds=ROUNDS, int64_t company_ns=COMPANY_NS):
        if not 0 < rounds <= RS3D_GANG_ROUNDS:
            raise ValueError(f"{rounds} rounds at once; 1 to {RS3D_GANG_ROUNDS} are possible")
        if not 0 <= company_ns <= MOST_COMPANY_NS:
            raise ValueError(f"{company_ns} ns: not a time to wait for company")
        if rs3d_gang_open(&self.gang, rounds, ENOUGH, company_ns) != 0:
            raise MemoryError()
        self.is_open = True

    def __init__(self, *, rounds=ROUNDS, company_ns=COMPANY_NS):
        pass

    def __dealloc__(self):
        if self.is_open:
            rs3d_gang_close(&self.gang)

    def announce(self, BodyHash stream not None, data):
        cdef Piece piece = Piece.__new__(Piece)
        stream.enter()
        try:
            open_readable(data, &piece.view)
            try:
                stream.make_room(piece.view.len)
            except BaseException:
                PyBuffer_Release(&piece.view)
                raise
        except BaseException:
            stream.busy = False
            raise
        piece.gang, piece.stream = self, stream
        piece.piece.job.body = &stream.body
        piece.piece.job.data = <const unsigned char *>piece.view.buf
        piece.piece.job.bytes = piece.view.len
        piece.piece.goes_on = 0
        rs3d_gang_announce(&self.gang, &piece.piece, 0)
        return piece

    def pause(self):
        with nogil:
            rs3d_gang_pause(&self.gang)

    def resume(self):
        rs3d_gang_resume(&self.gang)

    @property
    def is_idle(self):
        return bool(rs3d_gang_is_idle(&self.gang))

    @property
    def coming(self):
        return rs3d_gang_count(&self.gang).coming

    @property
    def rounds(self):
        return rs3d_gang_count(&self.gang).rounds

    @property
    def pieces(self):
        return rs3d_gang_count(&self.gang).pieces


@cython.final
@cython.no_gc
cdef class Piece:
    """Its memory is in the gang's list until it has ended, so it stays until then. Nothing it holds can hold it, so it
    is never part of a cycle, whose end would clear its members before __dealloc__ comes to wait."""
    cdef rs3d_piece piece
    cdef Py_buffer view
    cdef Gang gang
    cdef BodyHash stream    # None: it has ended, and nothing is held any more

    def __init__(self):
        raise TypeError("pieces are made by Gang.announce")

    cdef int end(self) except -1:
        if self.stream is not None:
            with nogil:
                rs3d_gang_hash(&self.gang.gang, &self.piece, active, widest_crc_of(active))
        if self.stream is not None:  # another thread may have waited, too
            self.stream.busy = False
            self.stream = None
            PyBuffer_Release(&self.view)
        return 0

    def wait(self):
        self.end()

    @property
    def ended(self):
        return self.stream is None or bool(rs3d_gang_has_hashed(&self.piece))

    def __dealloc__(self):
        if self.stream is not None:
            self.end()


class Ending(enum.Enum):
    DONE = "done"
    END = "end"
    SLOW = "slow"
    STOPPED = "stopped"
    FAILED = "failed"
    BROKEN = "broken"
    FULL = "full"


@cython.final
cdef class WholeCrc:
    cdef rs3d_whole_crc whole
    cdef readonly str algorithm
    cdef int digest_bytes
    cdef bint busy  # a call is inside, perhaps without the GIL

    def __cinit__(self, str algorithm not None):
        if algorithm == "CRC32":
            self.whole.poly = &crc_poly_32
            self.digest_bytes = 4
        elif algorithm == "CRC32C":
            self.whole.poly = &crc_poly_32c
            self.digest_bytes = 4
        elif algorithm == "CRC64NVME":
            self.whole.poly = &crc_poly_64
            self.digest_bytes = 8
        else:
            raise ValueError(f"{algorithm}: CRC32, CRC32C and CRC64NVME are made here")
        self.algorithm = algorithm

    def __init__(self, algorithm):
        pass

    cdef int enter(self) except -1:
        if self.busy:
            raise RuntimeError(f"another thread is updating this {self.algorithm}")
        self.busy = True
        return 0

    def update(self, data):
        cdef Py_buffer view
        cdef int crc_how = widest_crc_of(active)
        open_readable(data, &view)
        try:
            self.enter()
            if view.len >= GIL_FREE_BYTES:
                with nogil:
                    rs3d_whole_crc_update(crc_how, &self.whole, <const unsigned char *>view.buf, view.len)
            else:
                rs3d_whole_crc_update(crc_how, &self.whole, <const unsigned char *>view.buf, view.len)
            self.busy = False
        finally:
            PyBuffer_Release(&view)

    def digest(self):
        if self.busy:
            raise RuntimeError(f"another thread is updating this {self.algorithm}")
        return self.whole.value.to_bytes(self.digest_bytes, "big")


@cython.final
cdef class Intake:
    cdef int stop_fd
    cdef int stopped
    cdef bint busy
    cdef readonly int64_t received_bytes, written_bytes, waited_ns, filled_bytes, framed_bytes

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

    def take(self, Gang gang not None, BodyHash stream not None, buffer, *, int64_t filled_bytes, int socket_fd,
             int64_t length, int64_t patience_ns, int file_fd, int64_t offset, uint32_t align_bytes,
             tuple crcs not None=(), bint to_end=False, object framing=None, int64_t framed_bytes=0):
        cdef rs3d_intake it
        cdef Py_buffer view
        cdef int answer
        cdef WholeCrc whole
        cdef list entered = []
        if len(crcs) > RS3D_INTAKE_CRCS:
            raise ValueError(f"{len(crcs)} CRCs of the whole; at most {RS3D_INTAKE_CRCS}")
        if patience_ns < 0 or length < 0 or offset < 0:
            raise ValueError(f"{patience_ns} ns, {length} bytes at {offset}: one of them is negative")
        if align_bytes & (align_bytes - 1):
            raise ValueError(f"{align_bytes} is no power of two")
        if self.busy:
            raise RuntimeError("an intake is under way")
        open_writable(buffer, &view)
        try:
            if not 0 <= filled_bytes <= view.len or not 0 <= framed_bytes <= view.len - filled_bytes or not view.len:
                raise ValueError(f"{filled_bytes} and {framed_bytes} bytes in a buffer of {view.len}")
            it.framed, it.framing = framed_bytes, NULL
            if framing is not None:
                it.framing = <aws_scanner *>PyCapsule_GetPointer(framing, b"rs3d.aws_scanner")
            elif framed_bytes or stream.chunks is not None:
                raise ValueError("framed bytes, or chunks, without a framing")
            stream.enter()
            try:
                for whole in crcs:
                    whole.enter()
                    entered.append(whole)
                    it.crcs[len(entered) - 1] = &whole.whole
                it.crc_count = <int>len(entered)
                stream.make_room(filled_bytes + framed_bytes + length)
                it.source.socket_fd, it.source.stop_fd, it.source.stop = socket_fd, self.stop_fd, &self.stopped
                it.source.patience_ns, it.source.waited_ns = patience_ns, 0
                it.buffer, it.buffer_bytes, it.filled, it.to_come = <char *>view.buf, view.len, filled_bytes, length
                it.to_end, it.file_fd, it.offset, it.align = to_end, file_fd, offset, align_bytes
                it.gang, it.body = &gang.gang, &stream.body
                it.variant, it.crc_variant = active, widest_crc_of(active)
                it.is_coming, it.waited_ns = 0, 0
                self.busy = True
                with nogil:
                    answer = rs3d_take_in(&it)
                self.busy = False
                self.received_bytes += length - it.to_come
                self.written_bytes += it.offset - offset
                self.waited_ns += it.source.waited_ns
                self.filled_bytes, self.framed_bytes = it.filled, it.framed
                if answer == -2:
                    PyErr_SetFromErrno(OSError)
            finally:
                stream.busy = False
                for whole in entered:
                    whole.busy = False
        finally:
            PyBuffer_Release(&view)
        return ending_of(answer)


cdef object ending_of(int answer):
    if answer == RS3D_RECEIVE_DONE:
        return Ending.DONE
    if answer == RS3D_RECEIVE_END:
        return Ending.END
    if answer == RS3D_RECEIVE_SLOW:
        return Ending.SLOW
    if answer == RS3D_INTAKE_BROKEN:
        return Ending.BROKEN
    if answer == RS3D_INTAKE_FULL:
        return Ending.FULL
    return Ending.STOPPED if answer == RS3D_RECEIVE_STOPPED else Ending.FAILED


cdef void begin_whole(rs3d_body *body) noexcept nogil:
    memset(body, 0, sizeof(rs3d_body))
    body.wants_md5 = body.wants_tables = 1
    body.leaf_bytes = body.block_bytes = <uint64_t>1 << 62  # none is ever full, so there are no rows
    rs3d_md5_start(&body.md5)
    rs3d_sha256_start(&body.leaf)


cdef void end_whole(const rs3d_body *body, unsigned char *out) noexcept nogil:
    """Its hashes in a row."""
    cdef int i
    rs3d_md5_digest(&body.md5, out)
    rs3d_body_open_leaf(active, body, out + MD5)
    for i in range(CRC):
        out[MD5 + SHA256 + i] = <unsigned char>(body.crc >> (24 - 8 * i))


cdef void root_of_leaf(const unsigned char *leaf, uint64_t length_bytes, unsigned char *out) noexcept nogil:
    """The root over one leaf, as merkle.pyx has it."""
    cdef unsigned char message[1 + 2 * 8 + SHA256]
    cdef rs3d_sha256 hash
    cdef int i
    memset(message, 0, 9)
    message[0], message[8] = 2, 1
    for i in range(8):
        message[9 + i] = <unsigned char>(length_bytes >> (56 - 8 * i))
    memcpy(message + 17, leaf, SHA256)
    rs3d_sha256_start(&hash)
    rs3d_sha256_update(active, &hash, message, sizeof(message))
    rs3d_sha256_end(active, &hash, out)


def wholes(list bodies not None):
    cdef rs3d_body body[TOGETHER]
    cdef rs3d_body_job job[TOGETHER]
    cdef rs3d_md5_job scratch[TOGETHER]
    cdef Py_buffer view[TOGETHER]
    cdef unsigned char out[MD5 + SHA256 + CRC + SHA256]
    cdef int i, opened = 0, crc_how = widest_crc_of(active)
    cdef Py_ssize_t total, at = 0
    cdef list found = []
    while at < len(bodies):
        total = 0
        try:
            while opened < TOGETHER and at + opened < len(bodies):
                open_readable(bodies[at + opened], &view[opened])
                begin_whole(&body[opened])
                job[opened].body, job[opened].bytes = &body[opened], view[opened].len
                job[opened].data = <const unsigned char *>view[opened].buf
                total += view[opened].len
                opened += 1
            if total >= GIL_FREE_BYTES:
                with nogil:
                    rs3d_body_update_many(active, crc_how, job, opened, scratch)
            else:
                rs3d_body_update_many(active, crc_how, job, opened, scratch)
            for i in range(opened):
                end_whole(&body[i], out)
                root_of_leaf(out + MD5, view[i].len, out + MD5 + SHA256 + CRC)
                found.append(out[:MD5 + SHA256 + CRC + SHA256])
            at += opened
        finally:
            while opened:
                opened -= 1
                PyBuffer_Release(&view[opened])
    return found


def whole(data):
    cdef rs3d_body body
    cdef rs3d_body_job job
    cdef rs3d_md5_job scratch
    cdef Py_buffer view
    cdef unsigned char out[MD5 + SHA256 + CRC]
    cdef int crc_how = widest_crc_of(active)
    begin_whole(&body)
    open_readable(data, &view)
    job.body, job.data, job.bytes = &body, <const unsigned char *>view.buf, view.len
    if view.len >= GIL_FREE_BYTES:
        with nogil:
            rs3d_body_update_many(active, crc_how, &job, 1, &scratch)
    else:
        rs3d_body_update_many(active, crc_how, &job, 1, &scratch)
    PyBuffer_Release(&view)
    end_whole(&body, out)
    return out[:MD5 + SHA256 + CRC]


# RFC 1321 A.5, FIPS 180-4 and the CRC catalogue: MD5, SHA-256 and CRC32C of "abc".
cdef tuple ABC = (
    "900150983cd24fb0d6963f7d28e17f72",
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    (0x364B3FB7).to_bytes(4, "little").hex(),
)


# Of the digits 1 to 9, the message by which catalogues of CRCs tell one from another.
cdef tuple WHOLE_CHECKS = (
    ("CRC32", "cbf43926"),
    ("CRC32C", "e3069283"),
    ("CRC64NVME", "ae8b14860a799888"),
)


def _all_of(body, sha256):
    return body.digest() + body.leaves() + body.blocks() + (body.sha256() if sha256 else b"")


def selftest():
    global active
    cdef int before = active
    cdef int checks = 0
    data = bytes([(i * 167 + (i >> 8) * 13) & 0xff for i in range(1500)])
    try:
        use_variant("scalar")
        pieces = [data[17 * i:1500 - 31 * i] for i in range(18)]
        known = []
        for piece in pieces:
            body = BodyHash(sha256=True, leaf_bytes=512, block_bytes=192)
            body.update(piece)
            known.append(_all_of(body, True))
        for name in variants():
            use_variant(name)
            body = BodyHash(sha256=True)
            body.update(b"abc")
            if body.sha256().hex() != ABC[1] or (body.digest().hex(), body.leaves().hex(), body.blocks().hex()) != ABC:
                raise RuntimeError(f"kernel bodyhash ({name}): a wrong digest of a known message")
            if whole(b"abc").hex() != ABC[0] + ABC[1] + "364b3fb7":
                raise RuntimeError(f"kernel bodyhash ({name}): a wrong digest of a known message taken whole")
            for i, digests in enumerate(wholes(pieces)):
                if not digests.startswith(whole(pieces[i])):
                    raise RuntimeError(f"kernel bodyhash ({name}): messages taken whole together differ from each")
            for algorithm, check in WHOLE_CHECKS:
                digest = WholeCrc(algorithm)
                digest.update(b"12345")
                digest.update(b"6789")
                if digest.digest().hex() != check:
                    raise RuntimeError(f"kernel bodyhash ({name}): a wrong {algorithm} of a known message")
                checks += 1
            checks += 2
            # One, a pair, columns and lanes, each over ends of leaves and blocks, against the plain code.
            for count in (1, 2, 3, 4, 5, 18):
                for wanted in (0, 1, 2, 3):  # the SHA-256 of the whole of none, all, every other, every third
                    sha256s = [bool(wanted and i % wanted == 0) for i in range(count)]
                    bodies = [BodyHash(sha256=sha256, leaf_bytes=512, block_bytes=192) for sha256 in sha256s]
                    update_many(zip(bodies, pieces))
                    for i in range(count):
                        if not known[i].startswith(_all_of(bodies[i], sha256s[i])):
                            raise RuntimeError(f"kernel bodyhash ({name}): {count} bodies together differ from each")
                    checks += 1
    finally:
        active = before
    return checks
