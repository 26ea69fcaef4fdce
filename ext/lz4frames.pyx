# cython: auto_pickle=False
"""Frames of lz4 streams decoded straight from the page cache to where they belong: see lz4frames.pyi for the contract,
lz4frames_impl.c for the loop.

The decompressor is that of the package `lz4` (which is in every installation): the C function inside it is bound at run
time, because the package itself only gives new bytes objects, and copying these costs as much as half the decoding.
"""
import enum

import lz4.block

from bufview cimport Py_buffer, PyBuffer_Release, open_readable, open_writable
from crcvariants cimport crc_variants
from variant cimport initial_variant, runnable_variants, variant_index

cdef extern from "dlfcn.h":
    int RTLD_NOW
    int RTLD_LOCAL
    void *dlopen(const char *path, int flags)
    void *dlsym(void *library, const char *name)

cdef extern from "crc_impl.h" nogil:
    enum:
        CRC_AVX512
    void crc_setup()

cdef extern from "lz4frames_impl.h" nogil:
    enum:
        LZ4FRAMES_ROW_BYTES
        LZ4FRAMES_NO_MEMORY
    ctypedef int (*lz4_decompress)(const char *source, char *to, int from_bytes, int to_bytes) noexcept
    ctypedef struct lz4frames_source:
        const unsigned char *memory
        size_t memory_bytes
        int fd
        unsigned long long begin
    int lz4frames_decode(lz4_decompress, int, const lz4frames_source *, const unsigned char *, unsigned long long,
                         unsigned char *, size_t, size_t)

ROW_BYTES = LZ4FRAMES_ROW_BYTES
FRAME_BYTES_LIMIT = 4 << 20

cdef tuple VARIANTS = crc_variants()
cdef int active
cdef lz4_decompress decompress = NULL

crc_setup()
active = CRC_AVX512 - initial_variant("lz4frames", VARIANTS)


class Outcome(enum.Enum):
    DECODED = 0
    NOT_RESIDENT = 1
    OTHER_CODEC = 2
    BROKEN = 3


cdef tuple OUTCOMES = tuple(Outcome)


cdef int _bind() except -1:
    global decompress
    cdef void *library = dlopen(lz4.block._block.__file__.encode(), RTLD_NOW | RTLD_LOCAL)
    cdef void *found = dlsym(library, b"LZ4_decompress_safe") if library != NULL else NULL
    if found == NULL:
        raise ImportError("kernel lz4frames: the package lz4 has no LZ4_decompress_safe")
    decompress = <lz4_decompress>found
    return 0


_bind()


def variant():
    return VARIANTS[CRC_AVX512 - active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = CRC_AVX512 - variant_index("lz4frames", VARIANTS, name)


cdef object _decode(lz4frames_source *source, rows, long long first_frame, long long begin, out,
                    Py_ssize_t frame_bytes):
    cdef Py_buffer table, plain
    cdef Py_ssize_t frames
    cdef int status, crc_variant = active
    if not 0 < frame_bytes <= FRAME_BYTES_LIMIT or first_frame < 0 or begin < 0:
        raise ValueError(f"no frames of {frame_bytes} bytes from number {first_frame} at {begin}")
    source.begin = begin
    open_readable(rows, &table)
    try:
        open_writable(out, &plain)
        try:
            frames = (plain.len + frame_bytes - 1) // frame_bytes
            if table.len < frames * LZ4FRAMES_ROW_BYTES:
                raise ValueError(f"{table.len} bytes of rows are not {frames} rows")
            with nogil:
                status = lz4frames_decode(decompress, crc_variant, source, <const unsigned char *>table.buf,
                                          first_frame, <unsigned char *>plain.buf, plain.len, frame_bytes)
            if status == LZ4FRAMES_NO_MEMORY:
                raise MemoryError
            return OUTCOMES[status]
        finally:
            PyBuffer_Release(&plain)
    finally:
        PyBuffer_Release(&table)


def decode(stored, rows, long long first_frame, long long begin, out, Py_ssize_t frame_bytes):
    cdef lz4frames_source source
    cdef Py_buffer memory
    open_readable(stored, &memory)
    try:
        source.memory, source.memory_bytes, source.fd = <const unsigned char *>memory.buf, memory.len, -1
        if memory.len == 0:
            return Outcome.NOT_RESIDENT
        return _decode(&source, rows, first_frame, begin, out, frame_bytes)
    finally:
        PyBuffer_Release(&memory)


def decode_resident(int fd, rows, long long first_frame, long long begin, out, Py_ssize_t frame_bytes):
    cdef lz4frames_source source
    source.memory, source.memory_bytes, source.fd = NULL, 0, fd
    return _decode(&source, rows, first_frame, begin, out, frame_bytes)


# One frame: 64 letters `a` as an lz4 block, and its row (made by the package, see tests/oracles/lz4frames.py).
cdef bytes KNOWN_BLOCK = bytes.fromhex("1f61010027506161616161")
cdef bytes KNOWN_ROW = bytes.fromhex("020000000000000b825c04ba")


def selftest():
    found = bytearray(64)
    if decode(KNOWN_BLOCK, KNOWN_ROW, 0, 0, found, 4096) is not Outcome.DECODED or found != b"a" * 64:
        raise RuntimeError("kernel lz4frames: a known frame is decoded wrongly")
    if decode(KNOWN_BLOCK, KNOWN_ROW, 1, 0, found, 4096) is not Outcome.BROKEN:
        raise RuntimeError("kernel lz4frames: a frame passes under another number")
    return 2
