# cython: auto_pickle=False
"""The end of a blob in one call without the GIL: see blobfiles.pyi for the contract and why."""
from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport int64_t

import os

from bufview cimport Py_buffer, PyBuffer_Release, open_readable

cdef extern from "blobfiles_impl.h" nogil:
    int rs3d_finish_blob(int data, int64_t cut_to, int64_t dirty_from, int directory, const char *name,
                         const char *sidecar, size_t sidecar_bytes)

KEEP_LENGTH = -1


def finish(int data, int directory, str name not None, sidecar, *, int64_t dirty_from=0, int64_t cut_to=KEEP_LENGTH):
    cdef Py_buffer view
    cdef bytes encoded = name.encode("ascii")
    cdef const char *path = encoded
    cdef int answer
    if b"/" in encoded or b"\0" in encoded or not encoded:
        raise ValueError(f"{name!r} is no name of a file in a directory")
    if dirty_from < 0:
        raise ValueError(f"offset {dirty_from} is negative")
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
