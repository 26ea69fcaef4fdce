"""CRC32, CRC32C and CRC64NVME: see crc.pyi for the contract and crc_impl.h for the algebra."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from bufview cimport GIL_FREE_BYTES, Py_buffer, PyBuffer_Release, open_readable
from crcvariants cimport crc_variants
from variant cimport initial_variant, runnable_variants, variant_index

cdef extern from "crc_impl.h":
    ctypedef struct crc_poly:
        unsigned width
    crc_poly crc_poly_32, crc_poly_32c, crc_poly_64
    enum:
        CRC_SCALAR, CRC_SSE42, CRC_PCLMUL, CRC_VPCLMUL, CRC_AVX512
    void crc_setup() nogil
    uint64_t crc_update(const crc_poly *, int, uint64_t, const unsigned char *, size_t) nogil
    uint64_t crc_combine(const crc_poly *, uint64_t, uint64_t, uint64_t) nogil
    void crc32c_table(int, const unsigned char *, size_t, size_t, unsigned char *) nogil
    Py_ssize_t crc32c_first_bad(int, const unsigned char *, size_t, size_t, const unsigned char *) nogil

cdef tuple VARIANTS = crc_variants()
cdef int active

crc_setup()
active = CRC_AVX512 - initial_variant("crc", VARIANTS)


def variant():
    return VARIANTS[CRC_AVX512 - active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = CRC_AVX512 - variant_index("crc", VARIANTS, name)


cdef uint64_t update(const crc_poly *poly, object data, uint64_t crc) except? 0:
    cdef Py_buffer view
    open_readable(data, &view)
    try:
        if view.len < GIL_FREE_BYTES:
            return crc_update(poly, active, crc, <const unsigned char *>view.buf, view.len)
        with nogil:
            crc = crc_update(poly, active, crc, <const unsigned char *>view.buf, view.len)
        return crc
    finally:
        PyBuffer_Release(&view)


def crc32(data, uint32_t crc=0):
    return update(&crc_poly_32, data, crc)


def crc32c(data, uint32_t crc=0):
    return update(&crc_poly_32c, data, crc)


def is_sound(bytes sealed not None, bytes key not None, uint32_t crc):
    cdef const unsigned char *value = <const unsigned char *>PyBytes_AS_STRING(sealed)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(sealed) - 4
    if length < 0:
        return False
    crc = <uint32_t>crc_update(&crc_poly_32c, active, crc, <const unsigned char *>PyBytes_AS_STRING(key),
                               PyBytes_GET_SIZE(key))
    crc = <uint32_t>crc_update(&crc_poly_32c, active, crc, value, length)
    value += length
    return crc == (<uint32_t>value[0] << 24 | <uint32_t>value[1] << 16 | <uint32_t>value[2] << 8 | value[3])


def crc64nvme(data, uint64_t crc=0):
    return update(&crc_poly_64, data, crc)


def crc32_combine(uint32_t crc1, uint32_t crc2, uint64_t length2):
    return crc_combine(&crc_poly_32, crc1, crc2, length2)


def crc32c_combine(uint32_t crc1, uint32_t crc2, uint64_t length2):
    return crc_combine(&crc_poly_32c, crc1, crc2, length2)


def crc64nvme_combine(uint64_t crc1, uint64_t crc2, uint64_t length2):
    return crc_combine(&crc_poly_64, crc1, crc2, length2)


cdef int check_block(Py_ssize_t block_bytes) except -1:
    if block_bytes <= 0:
        raise ValueError(f"block_bytes = {block_bytes}: must be positive")
    return 0


def crc32c_blocks(data, Py_ssize_t block_bytes):
    cdef Py_buffer view
    cdef Py_ssize_t blocks
    cdef unsigned char *out
    check_block(block_bytes)
    open_readable(data, &view)
    try:
        blocks = view.len // block_bytes + (1 if view.len % block_bytes else 0)
        table = PyBytes_FromStringAndSize(NULL, 4 * blocks)
        out = <unsigned char *>PyBytes_AS_STRING(table)
        if view.len < GIL_FREE_BYTES:
            crc32c_table(active, <const unsigned char *>view.buf, view.len, block_bytes, out)
        else:
            with nogil:
                crc32c_table(active, <const unsigned char *>view.buf, view.len, block_bytes, out)
        return table
    finally:
        PyBuffer_Release(&view)


def crc32c_check_blocks(data, Py_ssize_t block_bytes, expected_crcs):
    cdef Py_buffer view, wanted
    cdef Py_ssize_t blocks, found
    check_block(block_bytes)
    open_readable(data, &view)
    try:
        open_readable(expected_crcs, &wanted)
        try:
            blocks = view.len // block_bytes + (1 if view.len % block_bytes else 0)
            if wanted.len != 4 * blocks:
                raise ValueError(f"expected_crcs: {wanted.len} bytes for {blocks} blocks of 4")
            if view.len < GIL_FREE_BYTES:
                return crc32c_first_bad(active, <const unsigned char *>view.buf, view.len, block_bytes,
                                        <const unsigned char *>wanted.buf)
            with nogil:
                found = crc32c_first_bad(active, <const unsigned char *>view.buf, view.len, block_bytes,
                                         <const unsigned char *>wanted.buf)
            return found
        finally:
            PyBuffer_Release(&wanted)
    finally:
        PyBuffer_Release(&view)


def selftest():
    # The check values of the CRC catalogue over "123456789", then each runnable variant against the tables over enough
    # bytes to reach the widest fold, its tail and an unaligned start.
    cdef int checks = 0, kind, index
    cdef const crc_poly *poly
    cdef bytes sample = bytes([(i * 167 + (i >> 8) * 13) & 0xff for i in range(2500)])
    cdef const unsigned char *at = sample
    cdef Py_ssize_t length
    known = ((crc32, 0xCBF43926), (crc32c, 0xE3069283), (crc64nvme, 0xAE8B14860A799888))
    for function, answer in known:
        if function(b"123456789") != answer:
            raise RuntimeError(f"kernel crc: {function.__name__} gives a wrong check value")
        checks += 1
    for kind in range(3):
        poly = &crc_poly_32 if kind == 0 else &crc_poly_32c if kind == 1 else &crc_poly_64
        for name in runnable_variants(VARIANTS):
            index = CRC_AVX512 - variant_index("crc", VARIANTS, name)
            for length in (0, 1, 15, 64, 255, 256, 511, 777, 1024, 2499):
                if (crc_update(poly, index, 0x12345678, at + 1, length)
                        != crc_update(poly, CRC_SCALAR, 0x12345678, at + 1, length)):
                    raise RuntimeError(f"kernel crc: variant {name} differs from the tables at {length} bytes")
                checks += 1
    # Long enough for the two divided pieces of CRC32C, with a rest.
    sample *= 28
    at = sample
    if crc_update(&crc_poly_32c, active, 7, at + 1, 69_999) != crc_update(&crc_poly_32c, CRC_SCALAR, 7, at + 1, 69_999):
        raise RuntimeError("kernel crc: the variant in use differs from the tables over 69,999 bytes")
    return checks + 1
