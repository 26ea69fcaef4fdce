# cython: auto_pickle=False
"""MD5 of one stream, as hashlib's, and of many streams at once, each with its own state and length.

ETags are MD5 by S3's custom, and MD5 bounds PUT (DESIGN.md 8): one stream runs at 0.7 GB/s on any machine, sixteen
side by side at 5 to 10. The lanes are in md5_impl.c; here are the states. Nothing that has to be secure rests on MD5.
"""
cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from bufview cimport GIL_FREE_BYTES, Py_buffer, PyBuffer_Release, open_readable
from variant cimport RS3D_CPU_AVX2, RS3D_CPU_AVX512, initial_variant, runnable_variants, variant_index

cdef extern from "md5_impl.h":
    enum:
        RS3D_MD5_AVX512
        RS3D_MD5_AVX2
        RS3D_MD5_SCALAR
    ctypedef struct rs3d_md5:
        uint64_t bytes
    ctypedef struct rs3d_md5_job:
        rs3d_md5 *stream
        const unsigned char *data
        size_t bytes
    void rs3d_md5_start(rs3d_md5 *s) nogil
    void rs3d_md5_update(rs3d_md5 *s, const unsigned char *data, size_t bytes) nogil
    void rs3d_md5_digest(const rs3d_md5 *s, unsigned char *out) nogil
    void rs3d_md5_update_many(int variant, rs3d_md5_job *jobs, size_t count) nogil

DIGEST_BYTES = 16
LANES = 16

cdef enum:
    DIGEST = 16

# In the order of the numbers above.
cdef tuple VARIANTS = (("avx512", RS3D_CPU_AVX512 | RS3D_CPU_AVX2), ("avx2", RS3D_CPU_AVX2), ("scalar", 0))
cdef int active = initial_variant("md5", VARIANTS)


def variant():
    return VARIANTS[active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = variant_index("md5", VARIANTS, name)


@cython.final
cdef class Md5:
    cdef rs3d_md5 stream
    cdef bint busy  # a call is inside, perhaps without the GIL

    def __cinit__(self, data=b""):
        rs3d_md5_start(&self.stream)

    def __init__(self, data=b""):
        self.update(data)

    @property
    def length_bytes(self):
        return self.stream.bytes

    cdef int enter(self) except -1:
        if self.busy:
            raise RuntimeError("another thread is updating this stream")
        self.busy = True
        return 0

    def update(self, data):
        cdef Py_buffer view
        open_readable(data, &view)
        try:
            self.enter()
            if view.len >= GIL_FREE_BYTES:
                with nogil:
                    rs3d_md5_update(&self.stream, <const unsigned char *>view.buf, view.len)
            else:
                rs3d_md5_update(&self.stream, <const unsigned char *>view.buf, view.len)
            self.busy = False
        finally:
            PyBuffer_Release(&view)

    def digest(self):
        cdef unsigned char out[DIGEST]
        self.enter()
        rs3d_md5_digest(&self.stream, out)
        self.busy = False
        return out[:DIGEST]

    def hexdigest(self):
        return self.digest().hex()

    def copy(self):
        cdef Md5 other = Md5()
        self.enter()
        other.stream = self.stream
        self.busy = False
        return other


def update_many(pairs):
    cdef list work = list(pairs)
    cdef size_t count = len(work), opened = 0, entered = 0, i
    cdef Py_ssize_t total = 0
    cdef int how = active
    cdef Md5 stream
    cdef rs3d_md5_job *jobs = <rs3d_md5_job *>malloc((count + 1) * sizeof(rs3d_md5_job))
    cdef Py_buffer *views = <Py_buffer *>malloc((count + 1) * sizeof(Py_buffer))
    cdef list streams = []
    try:
        if jobs == NULL or views == NULL:
            raise MemoryError()
        for state, data in work:
            stream = <Md5?>state
            open_readable(data, &views[opened])
            opened += 1
            if stream.busy:
                raise ValueError("a stream is named twice, or another thread is updating it")
            stream.enter()
            streams.append(stream)
            i = opened - 1
            jobs[i].stream = &stream.stream
            jobs[i].data = <const unsigned char *>views[i].buf
            jobs[i].bytes = views[i].len
            total += views[i].len
        if total >= GIL_FREE_BYTES:
            with nogil:
                rs3d_md5_update_many(how, jobs, count)
        else:
            rs3d_md5_update_many(how, jobs, count)
    finally:
        for stream in streams:
            stream.busy = False
        for i in range(opened):
            PyBuffer_Release(&views[i])
        free(views)
        free(jobs)


def hash_many(buffers):
    cdef list owners = list(buffers)
    cdef list streams = [Md5() for _ in owners]
    update_many(zip(streams, owners))
    return b"".join([stream.digest() for stream in streams])


# RFC 1321, A.5
cdef tuple KNOWN = (
    (b"", "d41d8cd98f00b204e9800998ecf8427e"),
    (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
    (b"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
     "57edf4a22be3c955ac49da2e2107b67a"),
)


def selftest():
    global active
    cdef int before = active
    cdef int checks = 0
    body = bytes(range(256)) * 2
    try:
        for name in variants():
            use_variant(name)
            for message, known in KNOWN:
                if hash_many([message] * 9).hex() != known * 9:
                    raise RuntimeError(f"kernel md5 ({name}): a wrong MD5 of a known message")
                checks += 1
            # Whole blocks in every lane against one stream at a time, with lengths that end in different steps.
            pieces = [body[:512 - 13 * i] for i in range(17)]
            if hash_many(pieces) != b"".join([Md5(piece).digest() for piece in pieces]):
                raise RuntimeError(f"kernel md5 ({name}): lanes disagree with single streams")
            checks += 1
    finally:
        active = before
    return checks
