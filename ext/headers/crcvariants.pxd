"""The variants of crc_impl.c, for every kernel that carries a copy of it. Textual, like variant.pxd.

Widest first. The C side numbers them from the narrowest, so a row's number is CRC_AVX512 - index.
"""
from variant cimport (
    RS3D_CPU_AVX2, RS3D_CPU_AVX512, RS3D_CPU_PCLMUL, RS3D_CPU_SSE41, RS3D_CPU_SSE42, RS3D_CPU_VPCLMUL,
)


cdef inline tuple crc_variants():
    """The table for `variant.pxd`: name, features needed."""
    return (
        ("avx512", RS3D_CPU_AVX512 | RS3D_CPU_AVX2 | RS3D_CPU_VPCLMUL | RS3D_CPU_PCLMUL | RS3D_CPU_SSE41),
        ("vpclmul", RS3D_CPU_AVX2 | RS3D_CPU_VPCLMUL | RS3D_CPU_PCLMUL | RS3D_CPU_SSE42 | RS3D_CPU_SSE41),
        ("pclmul", RS3D_CPU_PCLMUL | RS3D_CPU_SSE41),
        ("sse42", RS3D_CPU_SSE42),
        ("scalar", 0),
    )
