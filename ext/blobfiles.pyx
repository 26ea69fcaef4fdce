# cython: auto_pickle=False
"""The beginning of a blob, and its end, each in one call without the GIL: see blobfiles.pyi for the contract and why."""
from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport int64_t, uint32_t
from posix.unistd cimport close

import os

from bufview cimport Py_buffer, PyBuffer_Release, open_readable

cdef extern from "blobfiles_impl.h" nogil:
    int rs3d_begin_blob(int top, const char *segment, const char *name, const char *data, size_t bytes, size_t align,
                        int *directory, int *file)
    int rs3d_finish_blob(int data, int64_t cut_to, int64_t dirty_from, int directory, const char *name,
                         const char *sidecar, size_t sidecar_bytes)

cdef extern from "<unistd.h>" nogil:
    int unlinkat(int directory, const char *path, int flags)

KEEP_LENGTH = -1
ALIGN_BYTES = 4096


cdef bytes name_of(str name):
    cdef bytes encoded = name.encode("ascii")
    if b"/" in encoded or b"\0" in encoded or not encoded:
        raise ValueError(f"{name!r} is no name in a directory")
    return encoded


def begin(int top, str segment not None, str name not None, data, *, uint32_t align_bytes=ALIGN_BYTES):
    cdef Py_buffer view
    cdef bytes folder = name_of(segment), file_name = name_of(name)
    cdef const char *folder_path = folder
    cdef const char *path = file_name
    cdef int answer, directory = -1, file = -1
    if align_bytes & (align_bytes - 1):
        raise ValueError(f"{align_bytes} is no power of two")
    open_readable(data, &view)
    try:
        with nogil:
            answer = rs3d_begin_blob(top, folder_path, path, <const char *>view.buf, view.len, align_bytes, &directory,
                                     &file)
        if answer != 0:
            try:
                PyErr_SetFromErrno(OSError)
            finally:
                if file >= 0:
                    unlinkat(directory, path, 0)
                    close(file)
                if directory >= 0:
                    close(directory)
    finally:
        PyBuffer_Release(&view)
    return file, directory


def finish(int data, int directory, str name not None, sidecar, *, int64_t dirty_from=0, bint is_clean=False,
           int64_t cut_to=KEEP_LENGTH):
    cdef Py_buffer view
    cdef bytes encoded = name_of(name)
    cdef const char *path = encoded
    cdef int answer
    if dirty_from < 0:
        raise ValueError(f"offset {dirty_from} is negative")
    if is_clean:
        dirty_from = -1
    open_readable(sidecar, &view)
    try:
        with nogil:
            answer = rs3d_finish_blob(data, cut_to, dirty_from, directory, path, <const char *>view.buf, view.len)
        if answer != 0:
            PyErr_SetFromErrno(OSError)
    finally:
        PyBuffer_Release(&view)


def selftest():
    # Without a place on a disk: the data is cut, then no sidecar can be made in what is no directory.
    data = os.memfd_create("rs3d-blobfiles-selftest")
    try:
        os.pwrite(data, b"12345678", 0)
        try:
            finish(data, data, "meta", b"sidecar", cut_to=5)
        except NotADirectoryError:
            if os.fstat(data).st_size != 5:
                raise RuntimeError("kernel blobfiles: the data file has another length than was asked for")
            return 1
        raise RuntimeError("kernel blobfiles: a failed call was not told")
    finally:
        os.close(data)
