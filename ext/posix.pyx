"""System calls that Python 3.11 lacks, and exact transfers without the GIL: see posix.pyi for the contract."""
import os

from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint64_t, uintptr_t

from bufview cimport Py_buffer, PyBuffer_Release, check_span, open_readable, open_writable

cdef extern from "Python.h":
    object PyErr_SetFromErrnoWithFilenameObjects(object, object, object)

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "posix_impl.h" nogil:
    int AT_FDCWD
    int c_FALLOC_FL_KEEP_SIZE "FALLOC_FL_KEEP_SIZE"
    int c_FALLOC_FL_PUNCH_HOLE "FALLOC_FL_PUNCH_HOLE"
    int c_FALLOC_FL_ZERO_RANGE "FALLOC_FL_ZERO_RANGE"
    int c_SYNC_FILE_RANGE_WAIT_BEFORE "SYNC_FILE_RANGE_WAIT_BEFORE"
    int c_SYNC_FILE_RANGE_WRITE "SYNC_FILE_RANGE_WRITE"
    int c_SYNC_FILE_RANGE_WAIT_AFTER "SYNC_FILE_RANGE_WAIT_AFTER"
    int c_fallocate "fallocate"(int, int, int64_t, int64_t)
    int c_sync_file_range "sync_file_range"(int, int64_t, int64_t, unsigned)
    int c_mlock "mlock"(const void *, size_t)
    int c_munlock "munlock"(const void *, size_t)
    long c_sysconf "sysconf"(int)
    int c_SC_PAGESIZE "_SC_PAGESIZE"
    int rs3d_openat2(int, const char *, uint64_t, uint64_t, uint64_t)
    int rs3d_renameat2(int, const char *, int, const char *, unsigned)
    int rs3d_set_parent_death_signal(int)
    int rs3d_set_dumpable(int)
    int rs3d_get_dumpable()
    int rs3d_clone_file(int, int)
    int rs3d_clone_range(int, int64_t, int, int64_t, int64_t)
    ssize_t rs3d_pread_all(int, char *, size_t, int64_t, int *)
    ssize_t rs3d_pwritev_all(int, iovec **, int *, int64_t, int *)
    ssize_t rs3d_sendfile_all(int, int, int64_t, size_t, int *)
    ssize_t rs3d_copy_range_all(int, int64_t, int, int64_t, size_t, int *)
    void rs3d_wipe(void *, size_t)
    ssize_t rs3d_resident_pages(void *, size_t, size_t)
    void rs3d_store_release(void *, uint64_t)
    uint64_t rs3d_load_acquire(const void *)
    uint64_t rs3d_add(void *, uint64_t)

FALLOC_FL_KEEP_SIZE = c_FALLOC_FL_KEEP_SIZE
FALLOC_FL_PUNCH_HOLE = c_FALLOC_FL_PUNCH_HOLE
FALLOC_FL_ZERO_RANGE = c_FALLOC_FL_ZERO_RANGE
SYNC_FILE_RANGE_WAIT_BEFORE = c_SYNC_FILE_RANGE_WAIT_BEFORE
SYNC_FILE_RANGE_WRITE = c_SYNC_FILE_RANGE_WRITE
SYNC_FILE_RANGE_WAIT_AFTER = c_SYNC_FILE_RANGE_WAIT_AFTER
# linux/openat2.h and linux/fs.h, by value: kernel interfaces that never change, missing from older headers.
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

# What the kernel moves in one call at most (MAX_RW_COUNT is 2 GiB less a page): keeps size_t and ssize_t apart.
cdef enum:
    VECTORS_MAX = 65536

cdef size_t page_bytes = <size_t>c_sysconf(c_SC_PAGESIZE)


cdef int fail(object path=None, object path2=None) except -1:
    """Raise the OSError that errno stands for, with the paths where there are any."""
    if path is None:
        PyErr_SetFromErrno(OSError)
    else:
        PyErr_SetFromErrnoWithFilenameObjects(OSError, path, path2)
    return -1


cdef int again(object path=None, object path2=None) except -1:
    """After a failed call: return to try it again (EINTR, once Python's handlers have run), or raise."""
    if errno == EINTR:
        PyErr_CheckSignals()  # declared `except -1`: a handler's exception propagates
        return 0
    return fail(path, path2)


cdef int check_range(int64_t offset, int64_t length) except -1:
    if offset < 0 or length < 0 or length > 0x7FFFFFFFFFFFFFFF - offset:
        raise ValueError(f"{length} bytes at {offset}: not a range of a file")
    return 0


# ------------------------------------------------------------------------------------------------ names and files

def openat2(int dir_fd, path, uint64_t flags, *, uint64_t mode=0, uint64_t resolve=0):
    cdef bytes encoded = os.fsencode(path)
    cdef const char *name = encoded
    cdef int fd
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    flags |= os.O_CLOEXEC
    while True:
        with nogil:
            fd = rs3d_openat2(dir_fd, name, flags, mode, resolve)
        if fd >= 0:
            return fd
        again(path)


def renameat2(int old_dir_fd, old_path, int new_dir_fd, new_path, unsigned flags=0):
    cdef bytes old_encoded = os.fsencode(old_path), new_encoded = os.fsencode(new_path)
    cdef const char *old_name = old_encoded
    cdef const char *new_name = new_encoded
    cdef int answer
    if b"\0" in old_encoded or b"\0" in new_encoded:
        raise ValueError("embedded null byte")
    while True:
        with nogil:
            answer = rs3d_renameat2(old_dir_fd, old_name, new_dir_fd, new_name, flags)
        if answer == 0:
            return
        again(old_path, new_path)


def sync_file_range(int fd, int64_t offset, int64_t length, unsigned flags):
    cdef int answer
    check_range(offset, length)
    with nogil:
        answer = c_sync_file_range(fd, offset, length, flags)
    if answer != 0:
        fail()


def fallocate(int fd, int mode, int64_t offset, int64_t length):
    cdef int answer
    check_range(offset, length)
    while True:
        with nogil:
            answer = c_fallocate(fd, mode, offset, length)
        if answer == 0:
            return
        again()


def clone_file(int destination_fd, int source_fd):
    cdef int answer
    with nogil:
        answer = rs3d_clone_file(destination_fd, source_fd)
    if answer != 0:
        fail()


def clone_range(int destination_fd, int64_t destination_offset, int source_fd, int64_t source_offset, int64_t length):
    cdef int answer
    check_range(destination_offset, length)
    check_range(source_offset, length)
    with nogil:
        answer = rs3d_clone_range(destination_fd, destination_offset, source_fd, source_offset, length)
    if answer != 0:
        fail()


# ------------------------------------------------------------------------------------------------------ transfers

def pread_into(int fd, buffer, int64_t offset):
    cdef Py_buffer view
    cdef ssize_t got, done = 0
    cdef int failed
    open_writable(buffer, &view)
    try:
        check_range(offset, view.len)
        while True:
            with nogil:
                got = rs3d_pread_all(fd, <char *>view.buf + done, view.len - done, offset + done, &failed)
            done += got
            if not failed:
                return done
            again()
    finally:
        PyBuffer_Release(&view)


def pwrite_all(int fd, buffer, int64_t offset):
    cdef Py_buffer view
    cdef iovec vector
    cdef iovec *at = &vector
    cdef int failed, count
    cdef int64_t done = 0
    cdef ssize_t put
    open_readable(buffer, &view)
    try:
        check_range(offset, view.len)
        vector.iov_base, vector.iov_len = view.buf, view.len
        count = 1 if view.len else 0
        while True:
            with nogil:
                put = rs3d_pwritev_all(fd, &at, &count, offset + done, &failed)
            done += put
            if not failed:
                return done
            again()
    finally:
        PyBuffer_Release(&view)


def pwritev_all(int fd, buffers, int64_t offset):
    cdef list owners = list(buffers)
    cdef Py_ssize_t wanted = len(owners), opened = 0
    cdef Py_buffer *views = NULL
    cdef iovec *vectors = NULL
    cdef iovec *at
    cdef int failed, count
    cdef int64_t done = 0, total = 0
    cdef ssize_t put
    if wanted > VECTORS_MAX:
        raise ValueError(f"{wanted} buffers in one call: at most {VECTORS_MAX}")
    if wanted == 0:
        return 0
    try:
        views = <Py_buffer *>PyMem_Malloc(wanted * sizeof(Py_buffer))
        vectors = <iovec *>PyMem_Malloc(wanted * sizeof(iovec))
        if views == NULL or vectors == NULL:
            raise MemoryError
        while opened < wanted:
            open_readable(owners[opened], &views[opened])
            vectors[opened].iov_base, vectors[opened].iov_len = views[opened].buf, views[opened].len
            total += views[opened].len
            opened += 1
        check_range(offset, total)
        at, count = vectors, <int>wanted
        while True:
            with nogil:
                put = rs3d_pwritev_all(fd, &at, &count, offset + done, &failed)
            done += put
            if not failed:
                return done
            again()
    finally:
        while opened:
            opened -= 1
            PyBuffer_Release(&views[opened])
        PyMem_Free(views)
        PyMem_Free(vectors)


def sendfile(int out_fd, int in_fd, int64_t offset, int64_t length):
    cdef ssize_t sent
    cdef int64_t done = 0
    cdef int failed
    check_range(offset, length)
    while True:
        with nogil:
            sent = rs3d_sendfile_all(out_fd, in_fd, offset + done, <size_t>(length - done), &failed)
        done += sent
        if not failed:
            return done
        if done and errno != EINTR:
            return done  # what was sent counts; the error, if it lasts, meets the next call
        again()


def copy_file_range(int in_fd, int64_t in_offset, int out_fd, int64_t out_offset, int64_t length):
    cdef ssize_t copied
    cdef int64_t done = 0
    cdef int failed
    check_range(in_offset, length)
    check_range(out_offset, length)
    while True:
        with nogil:
            copied = rs3d_copy_range_all(in_fd, in_offset + done, out_fd, out_offset + done, <size_t>(length - done),
                                         &failed)
        done += copied
        if not failed:
            return done
        again()


# --------------------------------------------------------------------------------------------------------- memory

def mlock(buffer):
    cdef Py_buffer view
    cdef int answer
    open_readable(buffer, &view)
    try:
        answer = c_mlock(view.buf, view.len)
        if answer != 0:
            fail()
    finally:
        PyBuffer_Release(&view)


def munlock(buffer):
    cdef Py_buffer view
    cdef int answer
    open_readable(buffer, &view)
    try:
        answer = c_munlock(view.buf, view.len)
        if answer != 0:
            fail()
    finally:
        PyBuffer_Release(&view)


def wipe(buffer):
    cdef Py_buffer view
    open_writable(buffer, &view)
    try:
        rs3d_wipe(view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def resident_pages(buffer):
    cdef Py_buffer view
    cdef ssize_t pages
    open_readable(buffer, &view)
    try:
        pages = rs3d_resident_pages(view.buf, view.len, page_bytes)
        if pages < 0:
            fail()
        return pages
    finally:
        PyBuffer_Release(&view)


cdef int check_word(const Py_buffer *view, Py_ssize_t offset) except -1:
    check_span("word of 8", view.len, offset, 8)
    if (<uintptr_t>view.buf + <uintptr_t>offset) & 7:
        raise ValueError(f"offset {offset}: an atomic word must lie on a multiple of 8 bytes")
    return 0


def store_u64_release(buffer, Py_ssize_t offset, uint64_t value):
    cdef Py_buffer view
    open_writable(buffer, &view)
    try:
        check_word(&view, offset)
        rs3d_store_release(<char *>view.buf + offset, value)
    finally:
        PyBuffer_Release(&view)


def load_u64_acquire(buffer, Py_ssize_t offset):
    cdef Py_buffer view
    open_readable(buffer, &view)
    try:
        check_word(&view, offset)
        return rs3d_load_acquire(<const char *>view.buf + offset)
    finally:
        PyBuffer_Release(&view)


def add_u64(buffer, Py_ssize_t offset, uint64_t value):
    cdef Py_buffer view
    open_writable(buffer, &view)
    try:
        check_word(&view, offset)
        return rs3d_add(<char *>view.buf + offset, value)
    finally:
        PyBuffer_Release(&view)


# -------------------------------------------------------------------------------------------------------- process

def set_parent_death_signal(int signal_number):
    if rs3d_set_parent_death_signal(signal_number) != 0:
        fail()


def forbid_dumps():
    if rs3d_set_dumpable(0) != 0:
        fail()


def allows_dumps():
    cdef int value = rs3d_get_dumpable()
    if value < 0:
        fail()
    return value == 1


def selftest():
    cdef bytearray page = bytearray(64)
    cdef Py_ssize_t aligned = (8 - <Py_ssize_t>(<uintptr_t><char *>page & 7)) & 7
    store_u64_release(page, aligned, 0xFFFFFFFFFFFFFFFE)
    if load_u64_acquire(page, aligned) != 0xFFFFFFFFFFFFFFFE:
        raise RuntimeError("kernel posix: an atomic word does not come back")
    if add_u64(page, aligned, 3) != 1:
        raise RuntimeError("kernel posix: an atomic addition is wrong")
    wipe(page)
    if page != bytearray(64):
        raise RuntimeError("kernel posix: wiped memory is not zero")
    fd = os.memfd_create("rs3d-selftest")
    try:
        back = bytearray(12)
        if pwritev_all(fd, (b"left ", b"", b"right"), 2) != 10 or pread_into(fd, back, 0) != 12:
            raise RuntimeError("kernel posix: a vectored write came back short")
        if back != b"\0\0left right":
            raise RuntimeError("kernel posix: a vectored write came back wrong")
    finally:
        os.close(fd)
    return 5
