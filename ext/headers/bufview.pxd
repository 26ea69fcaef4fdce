"""Buffers in: how every kernel takes bytes, bytearrays, memoryviews, mappings and arrays. Textual, like variant.pxd.

    cdef Py_buffer view
    open_readable(data, &view)
    try:
        with nogil: ... <const unsigned char *>view.buf, view.len ...
    finally:
        PyBuffer_Release(&view)

The export pins the memory (a bytearray cannot be resized meanwhile), so the GIL may be dropped. It does not stop
another thread from writing into it: who passes a buffer must not change it until the call returns.
"""
from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer

cdef enum:
    # Below this a kernel keeps the GIL: dropping and taking it back costs some 0.1 us, and up to a switch interval
    # (5 ms) when another thread is computing, while 8 KiB take a kernel well under 10 us.
    GIL_FREE_BYTES = 8192


cdef inline int open_readable(object owner, Py_buffer *view) except -1:
    """Export `owner` as contiguous bytes. Raises TypeError or BufferError as the buffer protocol does."""
    return PyObject_GetBuffer(owner, view, PyBUF_SIMPLE)


cdef inline int open_writable(object owner, Py_buffer *view) except -1:
    """Export `owner` as contiguous writable bytes. Raises BufferError for a read-only one."""
    return PyObject_GetBuffer(owner, view, PyBUF_WRITABLE)


cdef inline int check_span(const char *what, Py_ssize_t length, Py_ssize_t offset, Py_ssize_t span) except -1:
    """Raise ValueError unless offset .. offset + span lies within a buffer of `length` bytes; cannot overflow."""
    if offset < 0 or span < 0 or offset > length or span > length - offset:
        raise ValueError(
            f"{what.decode('ascii')}: {span} bytes at {offset} are outside a buffer of {length} bytes")
    return 0
