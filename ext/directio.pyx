# cython: auto_pickle=False
"""O_DIRECT for large bodies: aligned buffers, transfers whose odd bytes take the page cache, and a probe of the cache.

Why: a large body written through the page cache evicts what is worth keeping there, and is copied once more. See
directio.pyi for the contract, directio_impl.c for how a request is split.
"""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, EINVAL, EOPNOTSUPP, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import enum
import os

from bufview cimport Py_buffer, PyBuffer_Release, open_readable, open_writable
from variant cimport getenv

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **out, size_t alignment, size_t size)

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "unistd.h" nogil:
    int close(int)

cdef extern from "directio_impl.h" nogil:
    ctypedef struct rs3d_direct:
        int cached_fd
        int direct_fd
        size_t memory_align
        size_t offset_align
        int writes
        uint64_t direct_bytes
    ssize_t rs3d_direct_move(rs3d_direct *d, const iovec *vectors, size_t count, size_t skip, int64_t offset)
    int rs3d_direct_reopen(int fd, int writes)
    int rs3d_direct_alignment(int fd, uint32_t *memory_align, uint32_t *offset_align)
    ssize_t rs3d_read_nowait(int fd, void *to, size_t bytes, int64_t offset)
    ssize_t rs3d_write_past_cache(int fd, const void *data, size_t bytes, int64_t offset, size_t align)

# Where the kernel does not tell: a page suits every disk with 512- or 4,096-byte sectors.
DEFAULT_ALIGN_BYTES = 4096
VECTORS_MAX = 65536

cdef tuple NAMES = ("auto", "direct", "buffered")


class Access(enum.Enum):
    READ = "read"
    WRITE = "write"


cdef str _demanded(str wanted):
    if wanted not in NAMES:
        raise ValueError(f"kernel directio has no variant {wanted!r}; it has {', '.join(NAMES)}")
    return wanted


cdef str _first():
    cdef const char *demanded = getenv(b"RS3D_KERNEL_DIRECTIO")
    if demanded != NULL and demanded[0] != 0:
        return _demanded((<bytes>demanded).decode("utf-8", "replace"))
    return "auto"


cdef str active = _first()


def variant():
    return active


def variants():
    return NAMES


def use_variant(str name not None):
    global active
    active = _demanded(name)


cdef bint _is_alignment(Py_ssize_t bytes_) noexcept:
    return 512 <= bytes_ <= 65536 and bytes_ & (bytes_ - 1) == 0


@cython.final
cdef class AlignedBuffer:
    cdef void *memory
    cdef readonly Py_ssize_t size_bytes
    cdef readonly Py_ssize_t align_bytes

    def __cinit__(self, Py_ssize_t size_bytes, Py_ssize_t align_bytes=DEFAULT_ALIGN_BYTES):
        if size_bytes < 1:
            raise ValueError(f"a buffer of {size_bytes} bytes")
        if not _is_alignment(align_bytes):
            raise ValueError(f"an alignment of {align_bytes} bytes is not a power of two from 512 to 65,536")
        if posix_memalign(&self.memory, align_bytes, size_bytes) != 0:
            self.memory = NULL
            raise MemoryError()
        memset(self.memory, 0, size_bytes)  # else it would show what this process freed before
        self.size_bytes = size_bytes
        self.align_bytes = align_bytes

    def __init__(self, size_bytes, align_bytes=DEFAULT_ALIGN_BYTES):
        pass

    def __dealloc__(self):
        free(self.memory)

    def __len__(self):
        return self.size_bytes

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.memory, self.size_bytes, 0, flags)


cdef int _again() except -1:
    """After a failed call: return to try it again (EINTR, once Python's handlers have run), or raise."""
    if errno != EINTR:
        PyErr_SetFromErrno(OSError)
    PyErr_CheckSignals()
    return 0


cdef int _check_offset(int64_t offset, int64_t length) except -1:
    if offset < 0 or length > 0x7FFFFFFFFFFFFFFF - offset:
        raise ValueError(f"{length} bytes at {offset}: not a range of a file")
    return 0


def direct_alignment(int fd):
    cdef uint32_t memory_align = 0, offset_align = 0
    cdef int told = rs3d_direct_alignment(fd, &memory_align, &offset_align)
    if told < 0:
        PyErr_SetFromErrno(OSError)
    return (memory_align, offset_align) if told else None


def write_past_cache(int fd, data, int64_t offset):
    cdef Py_buffer view
    cdef ssize_t written
    cdef size_t align = DEFAULT_ALIGN_BYTES if active != "buffered" else <size_t>1 << 62
    if offset < 0:
        raise ValueError(f"offset {offset} is negative")
    open_readable(data, &view)
    try:
        while True:
            with nogil:
                written = rs3d_write_past_cache(fd, view.buf, view.len, offset, align)
            if written >= 0:
                return written
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
            PyErr_CheckSignals()
    finally:
        PyBuffer_Release(&view)


def read_nowait(int fd, buffer, int64_t offset):
    cdef Py_buffer view
    cdef ssize_t moved
    open_writable(buffer, &view)
    try:
        _check_offset(offset, view.len)
        while True:
            with nogil:
                moved = rs3d_read_nowait(fd, view.buf, view.len, offset)
            if moved >= 0:
                return moved
            _again()
    finally:
        PyBuffer_Release(&view)


def pread_resident(int fd, Py_ssize_t length, int64_t offset):
    cdef bytes found
    cdef ssize_t moved
    cdef Py_ssize_t have = 0
    if length < 0:
        raise ValueError(f"a length of {length} bytes")
    _check_offset(offset, length)
    found = PyBytes_FromStringAndSize(NULL, length)
    # The lock of the interpreter is kept: nothing here waits, and small copies cost less than giving it up.
    while have < length:
        moved = rs3d_read_nowait(fd, PyBytes_AS_STRING(found) + have, length - have, offset + have)
        if moved > 0:
            have += moved
        elif moved == 0:  # the file ends
            return found[:have]
        elif errno == EAGAIN:
            return None
        else:
            _again()
    return found


@cython.final
cdef class DirectFile:
    cdef rs3d_direct file
    cdef bint busy
    cdef bint closed

    def __cinit__(self, int fd, access):
        cdef uint32_t memory_align = 0, offset_align = 0
        cdef int told
        self.file.cached_fd = fd
        self.file.direct_fd = -1
        self.file.writes = Access(access) is Access.WRITE
        self.file.memory_align = self.file.offset_align = DEFAULT_ALIGN_BYTES
        if active == "buffered":
            return
        self.file.direct_fd = rs3d_direct_reopen(fd, self.file.writes)
        if self.file.direct_fd < 0:
            if errno not in (EINVAL, EOPNOTSUPP) or active == "direct":
                PyErr_SetFromErrno(OSError)
            return
        told = rs3d_direct_alignment(fd, &memory_align, &offset_align)
        if told > 0 and _is_alignment(offset_align):
            self.file.offset_align = offset_align
            # statx may allow 4-byte addresses; below a sector they are of no use to us and split nothing better.
            self.file.memory_align = max(memory_align, 512)

    def __init__(self, fd, access):
        pass

    def __dealloc__(self):
        if self.file.direct_fd >= 0:
            close(self.file.direct_fd)

    def close(self):
        if self.busy:
            raise RuntimeError("a transfer is under way")
        self.closed = True
        if self.file.direct_fd >= 0:
            close(self.file.direct_fd)
            self.file.direct_fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    @property
    def is_direct(self):
        return self.file.direct_fd >= 0

    @property
    def align_bytes(self):
        return max(self.file.memory_align, self.file.offset_align)

    @property
    def direct_bytes(self):
        return self.file.direct_bytes

    def read_into(self, buffers, int64_t offset):
        if self.file.writes:
            raise ValueError("this file was opened for writing")
        return self.transfer(buffers, offset)

    def write_all(self, buffers, int64_t offset):
        if not self.file.writes:
            raise ValueError("this file was opened for reading")
        return self.transfer(buffers, offset)

    cdef object transfer(self, buffers, int64_t offset):
        cdef list owners = list(buffers)
        cdef size_t count = len(owners), opened = 0
        cdef Py_buffer *views
        cdef iovec *vectors
        cdef int64_t total = 0
        if count > <size_t>VECTORS_MAX:
            raise ValueError(f"{count} buffers are more than {VECTORS_MAX}")
        if self.closed:
            raise ValueError("this file was closed")
        if self.busy:
            raise RuntimeError("another thread is using this file")
        views = <Py_buffer *>malloc((count + 1) * sizeof(Py_buffer))
        vectors = <iovec *>malloc((count + 1) * sizeof(iovec))
        try:
            if views == NULL or vectors == NULL:
                raise MemoryError()
            for owner in owners:
                if self.file.writes:
                    open_readable(owner, &views[opened])
                else:
                    open_writable(owner, &views[opened])
                vectors[opened].iov_base = views[opened].buf
                vectors[opened].iov_len = views[opened].len
                total += views[opened].len
                opened += 1
            _check_offset(offset, total)
            self.busy = True
            try:
                return self.move_all(vectors, count, offset, total)
            finally:
                self.busy = False
        finally:
            while opened:
                opened -= 1
                PyBuffer_Release(&views[opened])
            free(views)
            free(vectors)

    cdef int64_t move_all(self, const iovec *vectors, size_t count, int64_t offset, int64_t total) except -1:
        """Go on until everything is moved or, when reading, the file ends."""
        cdef size_t first = 0, skip = 0, left
        cdef int64_t done = 0
        cdef ssize_t moved
        cdef bint was_direct = self.file.direct_fd >= 0
        while done < total:
            with nogil:
                moved = rs3d_direct_move(&self.file, vectors + first, count - first, skip, offset + done)
            if was_direct and self.file.direct_fd < 0 and active == "direct":
                raise OSError(EINVAL, "the file system refused a direct transfer")
            if moved < 0:
                _again()
                continue
            if moved == 0:
                if self.file.writes:
                    raise OSError(EINVAL, "a write moved nothing")
                break
            done += moved
            skip += moved
            while first < count and skip >= vectors[first].iov_len:
                skip -= vectors[first].iov_len
                first += 1
        return done


def selftest():
    cdef uintptr_t address
    cdef int checks = 0
    for align in (512, 4096):
        buffer = AlignedBuffer(1000, align)
        address = <uintptr_t>(<AlignedBuffer>buffer).memory
        if address % align or len(memoryview(buffer)) != 1000 or any(memoryview(buffer)):
            raise RuntimeError(f"kernel directio: a buffer aligned to {align} bytes is not")
        checks += 1
    fd = os.memfd_create("rs3d-directio-selftest")
    try:
        with DirectFile(fd, Access.WRITE) as file:
            file.write_all([b"ab", memoryview(buffer)[:512], b"cd"], 1)
        with DirectFile(fd, Access.READ) as file:
            found = bytearray(600)
            if file.read_into([found], 0) != 517 or found[:3] != b"\0ab" or found[515:517] != b"cd":
                raise RuntimeError("kernel directio: what was written was not read")
        checks += 1
    finally:
        os.close(fd)
    return checks
