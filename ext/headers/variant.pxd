"""Choosing among a kernel's variants at run time. Textual: nothing is imported, each kernel compiles its own copy.

A kernel has a table of (name, features needed), widest first and ending in ("scalar", 0):

    cdef tuple VARIANTS = (("vpclmul", RS3D_CPU_VPCLMUL | RS3D_CPU_AVX2), ("scalar", 0))
    cdef int active = initial_variant("crc", VARIANTS)

`RS3D_KERNEL_CRC=scalar` in the environment forces one. That is a demand: if the machine cannot run it, the import
raises, because falling back silently would make a benchmark or a test measure something else.
"""
from libc.stdlib cimport getenv

cdef extern from "cpufeatures.h":
    enum:
        RS3D_CPU_SSSE3
        RS3D_CPU_SSE41
        RS3D_CPU_SSE42
        RS3D_CPU_PCLMUL
        RS3D_CPU_AVX2
        RS3D_CPU_BMI2
        RS3D_CPU_SHA
        RS3D_CPU_VPCLMUL
        RS3D_CPU_GFNI
        RS3D_CPU_VAES
        RS3D_CPU_AVX512
        RS3D_CPU_AVX512VBMI
    unsigned rs3d_cpu_features() nogil


cdef inline tuple runnable_variants(tuple table):
    """Names of the table's variants that this machine can run, widest first."""
    cdef unsigned have = rs3d_cpu_features()
    return tuple([name for name, needs in table if (<unsigned>needs & have) == <unsigned>needs])


cdef inline int variant_index(str kernel, tuple table, str wanted) except -1:
    """The table's row called `wanted`.

    Raises ValueError for a name that the kernel does not know, RuntimeError where the machine lacks the instructions.
    """
    cdef int index
    names = [row[0] for row in table]
    if wanted not in names:
        raise ValueError(f"kernel {kernel} has no variant {wanted!r}; it has {', '.join(names)}")
    runnable = runnable_variants(table)
    if wanted not in runnable:
        raise RuntimeError(f"kernel {kernel}: this machine cannot run {wanted}; it can run {', '.join(runnable)}")
    index = names.index(wanted)
    return index


cdef inline int initial_variant(str kernel, tuple table) except -1:
    """The row demanded by `RS3D_KERNEL_<KERNEL>`, else the first row (the widest) that this machine can run."""
    cdef bytes variable = b"RS3D_KERNEL_" + kernel.upper().encode("ascii")
    cdef const char *demanded = getenv(variable)
    if demanded != NULL and demanded[0] != 0:
        return variant_index(kernel, table, (<bytes>demanded).decode("utf-8", "replace"))
    return variant_index(kernel, table, runnable_variants(table)[0])
