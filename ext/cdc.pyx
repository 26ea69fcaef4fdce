# cython: auto_pickle=False
"""Cutting a stream into chunks: content-defined (a gear hash, normalised as in FastCDC), and of fixed size.

The hash and its algebra stand in cdc_impl.c. Cut points are a format (tests/golden/cut_points.json): a chunk of n bytes
ends where
    n >= min, and the hash of its last 32 bytes has its top log2(average) + 2 bits zero, while n < average
                                                    or its top log2(average) - 2 bits zero, once n >= average
    or n = max
The tables were chosen so that a run of one repeated byte, such as zeros, never looks like a cut at any average size:
such runs become chunks of `max` bytes, all alike. A chunker keeps 32 bytes of what it has seen; cuts do not depend on
how the stream was split into buffers.
"""
cimport cython
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from bufview cimport GIL_FREE_BYTES, Py_buffer, PyBuffer_Release, open_readable
from variant cimport RS3D_CPU_AVX2, RS3D_CPU_AVX512, initial_variant, runnable_variants, variant_index

cdef extern from "cdc_impl.h":
    enum:
        RS3D_CDC_AVX512
        RS3D_CDC_AVX2
        RS3D_CDC_SCALAR
        RS3D_CDC_WINDOW
    ctypedef struct rs3d_cdc:
        int64_t min_bytes
        int64_t average_bytes
        int64_t max_bytes
        int64_t begun
    void rs3d_cdc_start()
    size_t rs3d_cdc_scan(int variant, rs3d_cdc *c, const unsigned char *data, size_t bytes, int64_t *ends) nogil

# In the order of the numbers above.
cdef tuple VARIANTS = (("avx512", RS3D_CPU_AVX512), ("avx2", RS3D_CPU_AVX2), ("scalar", 0))
cdef int active = initial_variant("cdc", VARIANTS)
rs3d_cdc_start()

# Below 64 bytes a chunk would be shorter than two windows. Averages: below 1 KiB the loose threshold would test fewer
# than the 8 bits that the tables keep runs away from; above 1 MiB the strict one would reach bits that have seen fewer
# than ten bytes.
MIN_BYTES_FLOOR = 64
AVERAGE_BYTES_FLOOR = 1 << 10
AVERAGE_BYTES_CEILING = 1 << 20
MAX_BYTES_CEILING = 1 << 24


def variant():
    return VARIANTS[active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = variant_index("cdc", VARIANTS, name)


@cython.final
cdef class Chunker:
    cdef rs3d_cdc state
    cdef readonly int64_t length_bytes
    cdef readonly bint ended
    cdef bint busy  # a call is inside, perhaps without the GIL

    def __cinit__(self, int64_t min_bytes, int64_t average_bytes, int64_t max_bytes):
        if not AVERAGE_BYTES_FLOOR <= average_bytes <= AVERAGE_BYTES_CEILING or average_bytes & (average_bytes - 1):
            raise ValueError(f"an average of {average_bytes} bytes is not a power of two from 1 KiB to 1 MiB")
        if not MIN_BYTES_FLOOR <= min_bytes <= average_bytes <= max_bytes <= MAX_BYTES_CEILING:
            raise ValueError(f"{min_bytes} to {max_bytes} bytes are not {MIN_BYTES_FLOOR} <= minimum <= average "
                             f"({average_bytes}) <= maximum <= {MAX_BYTES_CEILING}")
        self.state.min_bytes = min_bytes
        self.state.average_bytes = average_bytes
        self.state.max_bytes = max_bytes

    def __init__(self, min_bytes, average_bytes, max_bytes):
        pass

    @property
    def min_bytes(self):
        return self.state.min_bytes

    @property
    def average_bytes(self):
        return self.state.average_bytes

    @property
    def max_bytes(self):
        return self.state.max_bytes

    @property
    def begun_bytes(self):
        return self.state.begun

    def update(self, data):
        cdef Py_buffer view
        cdef int64_t *ends
        cdef int64_t before = self.length_bytes
        cdef size_t count, i
        cdef int how = active
        open_readable(data, &view)
        try:
            self.check_usable()
            ends = <int64_t *>malloc((view.len // self.state.min_bytes + 2) * sizeof(int64_t))
            if ends == NULL:
                raise MemoryError()
            self.busy = True
            if view.len >= GIL_FREE_BYTES:
                with nogil:
                    count = rs3d_cdc_scan(how, &self.state, <const unsigned char *>view.buf, view.len, ends)
            else:
                count = rs3d_cdc_scan(how, &self.state, <const unsigned char *>view.buf, view.len, ends)
            self.length_bytes = before + view.len
            self.busy = False
            try:
                return [before + ends[i] for i in range(count)]
            finally:
                free(ends)
        finally:
            PyBuffer_Release(&view)

    def end(self):
        self.check_usable()
        self.ended = True
        return [self.length_bytes] if self.state.begun else []

    cdef int check_usable(self) except -1:
        if self.busy:
            raise RuntimeError("another thread is using this chunker")
        if self.ended:
            raise ValueError("this stream has ended")
        return 0


@cython.final
cdef class FixedChunker:
    cdef readonly int64_t chunk_bytes
    cdef readonly int64_t length_bytes
    cdef readonly bint ended

    def __cinit__(self, int64_t chunk_bytes):
        if not 1 <= chunk_bytes <= MAX_BYTES_CEILING:
            raise ValueError(f"chunks of {chunk_bytes} bytes are not of 1 to {MAX_BYTES_CEILING}")
        self.chunk_bytes = chunk_bytes

    def __init__(self, chunk_bytes):
        pass

    @property
    def begun_bytes(self):
        return self.length_bytes % self.chunk_bytes

    def update(self, data):
        cdef Py_buffer view
        cdef int64_t before = self.length_bytes
        if self.ended:
            raise ValueError("this stream has ended")
        open_readable(data, &view)
        self.length_bytes += view.len
        PyBuffer_Release(&view)
        first = (before // self.chunk_bytes + 1) * self.chunk_bytes
        return list(range(first, self.length_bytes + 1, self.chunk_bytes))

    def end(self):
        if self.ended:
            raise ValueError("this stream has ended")
        self.ended = True
        return [self.length_bytes] if self.begun_bytes else []


def cuts(data, min_bytes, average_bytes, max_bytes):
    chunker = Chunker(min_bytes, average_bytes, max_bytes)
    return chunker.update(data) + chunker.end()


# ------------------------------------------------------------------------------------------------ self test


cdef bytes _noise(size_t length):
    """Bytes that need no library: an xorshift of 64 bits (Marsaglia 2003)."""
    cdef unsigned long long x = 88172645463325252
    cdef size_t i
    made = bytearray(length)
    cdef unsigned char[::1] out = made
    for i in range(length):
        x ^= x << 13
        x ^= x >> 7
        x ^= x << 17
        out[i] = x & 0xff
    return bytes(made)


# Cuts of the first 96 KiB of that noise at 1, 4 and 8 KiB, by tests/oracles/cdc.py.
cdef list KNOWN = [
    4403, 8955, 10075, 15460, 21565, 25759, 30248, 35278, 41005, 45636, 50277, 54832, 57868, 60389, 61733,
    67631, 74313, 79038, 83518, 88322, 93615, 98304,
]


def selftest():
    global active
    cdef int before = active
    cdef int checks = 0
    noise = _noise(96 << 10)
    try:
        for name in variants():
            use_variant(name)
            whole = cuts(noise, 1 << 10, 1 << 12, 1 << 13)
            chunker = Chunker(1 << 10, 1 << 12, 1 << 13)
            pieces = chunker.update(noise[:20]) + chunker.update(noise[20:50001]) + chunker.update(noise[50001:])
            if whole != KNOWN or pieces + chunker.end() != KNOWN:
                raise RuntimeError(f"kernel cdc ({name}): wrong cuts of known bytes")
            checks += 2
    finally:
        active = before
    return checks
