"""CRC32C of rows and records, in kernels that carry a copy of crc_impl.c: too short for variants wider than SSE4.2 to
pay; the scalar one is for processors without that. Textual, like variant.pxd. Who uses it calls crc_setup() once.
"""
from libc.stdint cimport uint64_t

from variant cimport RS3D_CPU_SSE42, rs3d_cpu_features

cdef extern from "crc_impl.h" nogil:
    enum:
        CRC_SCALAR, CRC_SSE42
    ctypedef struct crc_poly:
        pass
    crc_poly crc_poly_32c
    void crc_setup()
    uint64_t crc_update(const crc_poly *, int, uint64_t, const unsigned char *, size_t)


cdef inline int small_crc_variant():
    return CRC_SSE42 if rs3d_cpu_features() & RS3D_CPU_SSE42 else CRC_SCALAR
