"""Verified reads through file mappings that survive SIGBUS: see mapped.pyi for the contract, mapped_impl.h for how."""
import os

cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport EIO, ENFILE
from libc.stdint cimport int64_t

from bufview cimport Py_buffer, PyBuffer_Release, check_span, open_readable, open_writable
from crcvariants cimport crc_variants
from variant cimport initial_variant, runnable_variants, variant_index

cdef extern from "crc_impl.h" nogil:
    enum:
        CRC_AVX512
    void crc_setup()

cdef extern from "sys/stat.h" nogil:
    ctypedef struct file_status "struct stat":
        int64_t st_size
    int fstat(int, file_status *)

cdef extern from "mapped_impl.h" nogil:
    int READ_BELOW
    Py_ssize_t MAPPED_GOOD, MAPPED_FAULT, MAPPED_ERROR
    int mapped_guard()
    Py_ssize_t mapped_check(int, const unsigned char *, size_t, size_t, const unsigned char *, size_t *)
    Py_ssize_t mapped_check_file(int, int, int64_t, size_t, size_t, const unsigned char *, size_t *)
    Py_ssize_t mapped_copy(const unsigned char *, size_t, unsigned char *, size_t *)
    Py_ssize_t mapped_copy_checked(int, const unsigned char *, size_t, unsigned char *, size_t, const unsigned char *,
                                   size_t *)
    const unsigned char *mapped_open(int, int64_t, size_t)
    void mapped_close(const unsigned char *, size_t)
    int64_t mapped_resident(int, int64_t, int64_t)
    int mapped_hold(const unsigned char *, size_t)
    void mapped_let_go(int)
    int mapped_is_whole(int, const unsigned char *, size_t)

cdef tuple VARIANTS = crc_variants()
cdef int active

crc_setup()
active = CRC_AVX512 - initial_variant("mapped", VARIANTS)


def variant():
    return VARIANTS[CRC_AVX512 - active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = CRC_AVX512 - variant_index("mapped", VARIANTS, name)


class MappingFault(OSError):
    def __init__(self, kind, offset):
        super().__init__(EIO, f"{kind} at byte {offset}")
        self.kind = kind
        self.offset = offset

    def __reduce__(self):
        return type(self), (self.kind, self.offset)


cdef int guard() except -1:
    if mapped_guard() != 0:
        PyErr_SetFromErrno(OSError)
    return 0


cdef int check_range(int64_t offset, int64_t length) except -1:
    if offset < 0 or length < 0 or length > 0x7FFFFFFFFFFFFFFF - offset:
        raise ValueError(f"{length} bytes at {offset}: not a range of a file")
    return 0


cdef int check_file(int fd, int64_t offset, int64_t length) except -1:
    """Before mapping: refuse a range that the file does not have now (it may still shrink: then the guard)."""
    size = os.fstat(fd).st_size
    if size < offset + length:
        raise MappingFault("truncated", size if size > offset else offset)
    return 0


cdef object fault_in_file(int fd, int64_t offset, int64_t fault):
    """What became of the page at `fault` in the range from `offset` on: cut off, or unreadable."""
    size = os.fstat(fd).st_size
    if size <= offset + fault:
        return MappingFault("truncated", max(size, offset))
    return MappingFault("unreadable", offset + fault)


cdef int check_table(Py_ssize_t block_bytes, Py_ssize_t length, const Py_buffer *crcs) except -1:
    if block_bytes <= 0:
        raise ValueError(f"block_bytes = {block_bytes}: must be positive")
    blocks = length // block_bytes + (1 if length % block_bytes else 0)
    if crcs.len != 4 * blocks:
        raise ValueError(f"expected_crcs: {crcs.len} bytes for {blocks} blocks of 4")
    return 0


def first_bad_block(int fd, int64_t offset, int64_t length, Py_ssize_t block_bytes, expected_crcs):
    cdef Py_buffer crcs
    cdef Py_ssize_t answer
    cdef size_t fault = 0
    open_readable(expected_crcs, &crcs)
    try:
        check_range(offset, length)
        check_table(block_bytes, length, &crcs)
        if length >= READ_BELOW:
            check_file(fd, offset, length)
            guard()
        with nogil:
            answer = mapped_check_file(active, fd, offset, length, block_bytes, <const unsigned char *>crcs.buf, &fault)
        if answer == MAPPED_ERROR:
            PyErr_SetFromErrno(OSError)
        if answer == MAPPED_FAULT:
            raise fault_in_file(fd, offset, <int64_t>fault)
        return answer
    finally:
        PyBuffer_Release(&crcs)


def first_bad_block_of(mapping, Py_ssize_t block_bytes, expected_crcs):
    cdef Py_buffer view, crcs
    cdef Py_ssize_t answer
    cdef size_t fault = 0
    open_readable(mapping, &view)
    try:
        open_readable(expected_crcs, &crcs)
        try:
            check_table(block_bytes, view.len, &crcs)
            guard()
            with nogil:
                answer = mapped_check(active, <const unsigned char *>view.buf, view.len, block_bytes,
                                      <const unsigned char *>crcs.buf, &fault)
            if answer == MAPPED_FAULT:
                raise MappingFault("unreadable", <int64_t>fault)
            return answer
        finally:
            PyBuffer_Release(&crcs)
    finally:
        PyBuffer_Release(&view)


def copy_from_mapping(int fd, int64_t offset, dest):
    cdef Py_buffer view
    cdef const unsigned char *at
    cdef Py_ssize_t answer = MAPPED_ERROR
    cdef size_t fault = 0
    open_writable(dest, &view)
    try:
        check_range(offset, view.len)
        check_file(fd, offset, view.len)
        if view.len == 0:
            return
        guard()
        with nogil:
            at = mapped_open(fd, offset, view.len)
            if at != NULL:
                answer = mapped_copy(at, view.len, <unsigned char *>view.buf, &fault)
                mapped_close(at, view.len)
        if answer == MAPPED_ERROR:
            PyErr_SetFromErrno(OSError)
        if answer == MAPPED_FAULT:
            raise fault_in_file(fd, offset, <int64_t>fault)
    finally:
        PyBuffer_Release(&view)


def copy_from(mapping, Py_ssize_t offset, dest):
    cdef Py_buffer source, view
    cdef Py_ssize_t answer
    cdef size_t fault = 0
    open_readable(mapping, &source)
    try:
        open_writable(dest, &view)
        try:
            check_span("mapping", source.len, offset, view.len)
            guard()
            with nogil:
                answer = mapped_copy(<const unsigned char *>source.buf + offset, view.len,
                                     <unsigned char *>view.buf, &fault)
            if answer == MAPPED_FAULT:
                raise MappingFault("unreadable", offset + <int64_t>fault)
        finally:
            PyBuffer_Release(&view)
    finally:
        PyBuffer_Release(&source)


def copy_checked(mapping, Py_ssize_t offset, dest, Py_ssize_t block_bytes, expected_crcs):
    cdef Py_buffer source, view, crcs
    cdef Py_ssize_t answer
    cdef size_t fault = 0
    open_readable(mapping, &source)
    try:
        open_writable(dest, &view)
        try:
            open_readable(expected_crcs, &crcs)
            try:
                check_span("mapping", source.len, offset, view.len)
                check_table(block_bytes, view.len, &crcs)
                guard()
                with nogil:
                    answer = mapped_copy_checked(active, <const unsigned char *>source.buf + offset, view.len,
                                                 <unsigned char *>view.buf, block_bytes,
                                                 <const unsigned char *>crcs.buf, &fault)
                if answer == MAPPED_FAULT:
                    raise MappingFault("unreadable", offset + <int64_t>fault)
                return answer
            finally:
                PyBuffer_Release(&crcs)
        finally:
            PyBuffer_Release(&view)
    finally:
        PyBuffer_Release(&source)


def resident_bytes(int fd, int64_t offset, int64_t length):
    cdef int64_t answer
    cdef file_status found
    check_range(offset, length)
    if fstat(fd, &found) != 0:
        PyErr_SetFromErrno(OSError)
    length = min(length, max(<int64_t>found.st_size - offset, 0))
    with nogil:
        answer = mapped_resident(fd, offset, length)
    if answer < 0:
        PyErr_SetFromErrno(OSError)
    return answer


@cython.final
cdef class HeldMapping:
    cdef const unsigned char *at
    cdef Py_ssize_t length
    cdef Py_ssize_t exports
    cdef int slot

    def __cinit__(self, int fd, int64_t offset, int64_t length):
        self.at = NULL
        check_range(offset, length)
        if length == 0:
            raise ValueError("no bytes to map")
        check_file(fd, offset, length)
        guard()
        self.at = mapped_open(fd, offset, length)
        if self.at == NULL:
            PyErr_SetFromErrno(OSError)
        self.length = length
        self.slot = mapped_hold(self.at, length)
        if self.slot < 0:
            mapped_close(self.at, length)
            self.at = NULL
            raise OSError(ENFILE, "too many mappings are held")

    def __dealloc__(self):
        self.drop()

    cdef void drop(self) noexcept:
        if self.at != NULL:
            mapped_let_go(self.slot)
            mapped_close(self.at, self.length)
            self.at = NULL

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.at == NULL:
            raise ValueError("the mapping is closed")
        PyBuffer_FillInfo(view, self, <void *>self.at, self.length, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1

    def is_whole(self):
        if self.at == NULL:
            raise ValueError("the mapping is closed")
        guard()
        return mapped_is_whole(self.slot, self.at, self.length) != 0

    def close(self):
        if self.exports:
            raise BufferError(f"{self.exports} views of the mapping are in use")
        self.drop()


def selftest():
    import mmap
    cdef bytes crcs = bytes.fromhex("1646c087")  # CRC32C of b"rs3d" * 1024, little-endian
    checks = 0
    fd = os.memfd_create("rs3d-selftest")
    try:
        os.pwrite(fd, b"rs3d" * 1024, 0)
        if first_bad_block(fd, 0, 4096, 4096, crcs) != -1 or first_bad_block(fd, 0, 4096, 4096, b"\0\0\0\0") != 0:
            raise RuntimeError("kernel mapped: a block is judged wrongly")
        checks += 2
        with mmap.mmap(fd, 4096, prot=mmap.PROT_READ) as mapping:
            os.ftruncate(fd, 0)
            try:
                first_bad_block_of(mapping, 4096, crcs)
            except MappingFault:
                checks += 1
            else:
                raise RuntimeError("kernel mapped: a truncated mapping does not fault")
        os.pwrite(fd, b"rs3d" * 1024, 0)
        mapping = HeldMapping(fd, 0, 4096)
        with memoryview(mapping) as view:
            if not mapping.is_whole() or view[:4] != b"rs3d":
                raise RuntimeError("kernel mapped: a mapping that is held is not the file")
            os.ftruncate(fd, 0)
            if any(view) or mapping.is_whole():
                raise RuntimeError("kernel mapped: a truncated mapping that is held is not zeros")
        mapping.close()
        checks += 2
    finally:
        os.close(fd)
    return checks
