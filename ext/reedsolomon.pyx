# cython: auto_pickle=False
"""Reed-Solomon erasure code over GF(256): k data shards, m parity shards, any k of all k + m restore the rest.

The code is systematic (data shards are the data itself) and its parity rows are a Cauchy matrix,
    parity[i] = sum over j of data[j] / ((k + i) ^ j)           modulo 0x11d
of which every square part can be inverted, so that any m losses can be borne, for every k + m up to 256. It is the code
that ISA-L makes with gf_gen_cauchy1_matrix. Shards are byte columns: byte n of each shard belongs to one code word.

The code repairs erasures: which shards are bad has to be known, here from their checksums. The arithmetic is in
reedsolomon_impl.c.
"""
cimport cython
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from bufview cimport GIL_FREE_BYTES, Py_buffer, PyBuffer_Release, open_readable, open_writable
from variant cimport (
    RS3D_CPU_AVX2,
    RS3D_CPU_AVX512,
    RS3D_CPU_GFNI,
    initial_variant,
    runnable_variants,
    variant_index,
)

cdef extern from "reedsolomon_impl.h":
    enum:
        RS3D_RS_GFNI
        RS3D_RS_AVX2
        RS3D_RS_SCALAR
    void rs3d_rs_start()
    unsigned char rs3d_rs_multiply(unsigned char a, unsigned char b) nogil
    unsigned char rs3d_rs_invert(unsigned char a) nogil
    int rs3d_rs_invert_matrix(unsigned char *matrix, unsigned char *work, size_t n) nogil
    void rs3d_rs_apply(int variant, const unsigned char *matrix, size_t rows, size_t columns,
                       const unsigned char *const *given, unsigned char *const *out, size_t bytes) nogil

SHARD_LIMIT = 256

# In the order of the numbers above.
cdef tuple VARIANTS = (
    ("gfni", RS3D_CPU_GFNI | RS3D_CPU_AVX512),
    ("avx2", RS3D_CPU_AVX2),
    ("scalar", 0),
)
cdef int active = initial_variant("reedsolomon", VARIANTS)
rs3d_rs_start()


def variant():
    return VARIANTS[active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = variant_index("reedsolomon", VARIANTS, name)


@cython.final
cdef class _Shards:
    """Exported buffers of equal length, and their addresses for C; released with this object."""
    cdef Py_buffer *views
    cdef unsigned char **at
    cdef size_t count
    cdef Py_ssize_t bytes

    def __cinit__(self, list owners, bint writable):
        cdef size_t wanted = len(owners)
        self.views = <Py_buffer *>malloc((wanted + 1) * sizeof(Py_buffer))
        self.at = <unsigned char **>malloc((wanted + 1) * sizeof(unsigned char *))
        if self.views == NULL or self.at == NULL:
            raise MemoryError()
        for owner in owners:
            if writable:
                open_writable(owner, &self.views[self.count])
            else:
                open_readable(owner, &self.views[self.count])
            self.count += 1
            self.at[self.count - 1] = <unsigned char *>self.views[self.count - 1].buf
            if self.count == 1:
                self.bytes = self.views[0].len
            elif self.views[self.count - 1].len != self.bytes:
                raise ValueError(f"shards of {self.bytes} and {self.views[self.count - 1].len} bytes")

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.count):
            PyBuffer_Release(&self.views[i])
        free(self.views)
        free(self.at)


cdef int _apply(const unsigned char *matrix, _Shards given, _Shards made) except -1:
    cdef size_t i, j
    cdef int how = active
    if made.count == 0:
        return 0
    if given.bytes != made.bytes:
        raise ValueError(f"shards of {given.bytes} and {made.bytes} bytes")
    for i in range(made.count):
        for j in range(given.count):
            if made.at[i] < given.at[j] + given.bytes and given.at[j] < made.at[i] + made.bytes:
                raise ValueError("an output shard overlaps an input shard")
        for j in range(i):
            if made.at[i] < made.at[j] + made.bytes and made.at[j] < made.at[i] + made.bytes:
                raise ValueError("two output shards overlap")
    cdef const unsigned char *const *sources = <const unsigned char *const *>given.at
    if given.bytes * <Py_ssize_t>given.count >= GIL_FREE_BYTES:
        with nogil:
            rs3d_rs_apply(how, matrix, made.count, given.count, sources, made.at, given.bytes)
    else:
        rs3d_rs_apply(how, matrix, made.count, given.count, sources, made.at, given.bytes)
    return 0


@cython.final
cdef class ReedSolomon:
    cdef readonly int data_shards
    cdef readonly int parity_shards
    cdef bytes rows  # the parity matrix, parity_shards x data_shards

    def __cinit__(self, int data_shards, int parity_shards):
        cdef int i, j
        if data_shards < 1 or parity_shards < 1 or data_shards > SHARD_LIMIT - parity_shards:
            raise ValueError(f"{data_shards} + {parity_shards} shards: one of each at least, {SHARD_LIMIT} at most")
        self.data_shards = data_shards
        self.parity_shards = parity_shards
        self.rows = bytes([
            rs3d_rs_invert((data_shards + i) ^ j) for i in range(parity_shards) for j in range(data_shards)])

    def __init__(self, data_shards, parity_shards):
        pass

    def encode(self, data, parity):
        cdef _Shards given = _Shards(list(data), False)
        cdef _Shards made = _Shards(list(parity), True)
        if given.count != <size_t>self.data_shards or made.count != <size_t>self.parity_shards:
            raise ValueError(f"{given.count} + {made.count} shards, not {self.data_shards} + {self.parity_shards}")
        _apply(self.rows, given, made)

    def reconstruct(self, present, missing):
        cdef int total = self.data_shards + self.parity_shards
        cdef int k = self.data_shards
        cdef dict have = dict(present), want = dict(missing)
        for index in (*have, *want):
            if not 0 <= index < total:
                raise ValueError(f"there is no shard {index} among {total}")
        if have.keys() & want.keys():
            raise ValueError(f"shards {sorted(have.keys() & want.keys())} are both present and missing")
        if len(have) < k:
            raise ValueError(f"{len(have)} shards are present, {k} are needed")
        cdef list used = sorted(have)[:k]  # data shards first: their rows are already solved
        cdef list wanted = sorted(want)
        cdef bytes matrix = self.restoring_rows(used, wanted)
        cdef _Shards given = _Shards([have[index] for index in used], False)
        _apply(matrix, given, _Shards([want[index] for index in wanted], True))

    cdef bytes restoring_rows(self, list used, list wanted):
        """The matrix that makes the wanted shards from the used ones."""
        cdef size_t k = self.data_shards, row, i, j
        cdef unsigned char x
        cdef const unsigned char *parity = self.rows
        cdef bytearray square = bytearray(k * k), work = bytearray(k * k), made = bytearray(k * len(wanted))
        cdef unsigned char *inverse = square
        cdef unsigned char *out = made
        for row in range(k):
            if used[row] < k:
                inverse[row * k + <size_t>used[row]] = 1
            else:
                memcpy(inverse + row * k, parity + (<size_t>used[row] - k) * k, k)
        if rs3d_rs_invert_matrix(inverse, work, k) != 0:
            raise RuntimeError("a part of a Cauchy matrix has no inverse")
        for row in range(<size_t>len(wanted)):
            if wanted[row] < k:
                memcpy(out + row * k, inverse + <size_t>wanted[row] * k, k)
                continue
            for i in range(k):
                x = parity[(<size_t>wanted[row] - k) * k + i]
                for j in range(k):
                    out[row * k + j] ^= rs3d_rs_multiply(x, inverse[i * k + j])
        return bytes(made)


# ------------------------------------------------------------------------------------------------ self test

# Parity of 4 + 2 over the shards 00 01 .. 47, 48 .. 8f, 90 .. d7, d8 .. 1f, by tests/oracles/reedsolomon.py: first 8
# bytes.
cdef tuple KNOWN = ("f3d3b39373533313", "0626466686a6c6e6")


def selftest():
    global active
    cdef int before = active
    cdef int checks = 0
    cdef int length = 72  # one step of 64 bytes and a tail
    code = ReedSolomon(4, 2)
    data = [bytes([(length * shard + i) & 0xff for i in range(length)]) for shard in range(4)]
    try:
        for name in variants():
            use_variant(name)
            parity = [bytearray(length) for _ in range(2)]
            code.encode(data, parity)
            if [shard[:8].hex() for shard in parity] != list(KNOWN):
                raise RuntimeError(f"kernel reedsolomon ({name}): wrong parity of known shards")
            shards = dict(enumerate([*data, *parity]))
            for a in range(6):
                for b in range(a):
                    lost = {a: bytearray(length), b: bytearray(length)}
                    code.reconstruct({i: shard for i, shard in shards.items() if i not in lost}, lost)
                    if lost[a] != shards[a] or lost[b] != shards[b]:
                        raise RuntimeError(f"kernel reedsolomon ({name}): shards {a} and {b} were restored wrongly")
                    checks += 1
            checks += 1
    finally:
        active = before
    return checks
