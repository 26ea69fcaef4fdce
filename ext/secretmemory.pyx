# cython: auto_pickle=False
"""Memory for keys: see secretmemory.pyi for the contract.

Small secrets share pages: slots of 64 bytes in regions of 64 KiB, handed out from a list of free ones and overwritten
when they come back. A larger secret has pages of its own. The GIL guards the list.
"""
import os

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport ENOMEM
from libc.string cimport memcpy

from bufview cimport Py_buffer, PyBuffer_Release, open_readable, open_writable

cdef extern from "secretmemory_impl.h" nogil:
    unsigned char *rs3d_secret_map(size_t, size_t, int *)
    void rs3d_secret_unmap(unsigned char *, size_t, size_t)
    void rs3d_secret_wipe(void *, size_t)
    int rs3d_secret_random(unsigned char *, size_t)
    int rs3d_secret_unhex(const unsigned char *, unsigned char *, size_t)
    void rs3d_secret_hex(const unsigned char *, size_t, unsigned char *)
    int rs3d_secret_differ(const unsigned char *, const unsigned char *, size_t)

cdef enum:
    c_SLOT_BYTES = 64
    REGION_BYTES = 65536
    SLOTS = REGION_BYTES // c_SLOT_BYTES
    c_LIMIT_BYTES = 65536

SLOT_BYTES = c_SLOT_BYTES
LIMIT_BYTES = c_LIMIT_BYTES

cdef size_t page_bytes = <size_t>os.sysconf("SC_PAGESIZE")

# The free list is threaded through the free slots themselves: the first eight bytes of each point to the next.
cdef unsigned char *free_slots = NULL
cdef long long used = 0, mapped = 0, locked = 0
cdef int last_refusal = 0


cdef unsigned char *map_pages(size_t size) except NULL:
    global mapped, locked, last_refusal
    cdef int refusal = 0
    cdef unsigned char *at = rs3d_secret_map(size, page_bytes, &refusal)
    if at == NULL:
        PyErr_SetFromErrno(OSError)
        return NULL
    mapped += size
    if refusal == 0:
        locked += size
    else:
        last_refusal = refusal
    return at


cdef size_t whole_pages(size_t size) noexcept:
    return (size + page_bytes - 1) // page_bytes * page_bytes


cdef int refill() except -1:
    global free_slots
    cdef unsigned char *region = map_pages(REGION_BYTES)
    cdef size_t number
    for number in range(<size_t>SLOTS):
        (<unsigned char **>(region + number * c_SLOT_BYTES))[0] = free_slots
        free_slots = region + number * c_SLOT_BYTES
    return 0


cdef class SecretMemory:
    cdef unsigned char *at
    cdef Py_ssize_t size
    cdef Py_ssize_t exports
    cdef bint given_up
    cdef bint is_locked

    def __cinit__(self, Py_ssize_t size):
        global free_slots, used
        cdef long long locked_before = locked
        if not 1 <= size <= c_LIMIT_BYTES:
            raise ValueError(f"a secret of {size} bytes: 1 to {c_LIMIT_BYTES} are possible")
        if size <= c_SLOT_BYTES:
            if free_slots == NULL:
                refill()
            self.at = free_slots
            free_slots = (<unsigned char **>self.at)[0]
            (<unsigned char **>self.at)[0] = NULL
        else:
            self.at = map_pages(whole_pages(size))
            self.is_locked = locked != locked_before
        self.size = size
        used += size

    cdef void give_back(self) noexcept:
        global free_slots, used, mapped, locked
        cdef size_t pages
        if self.at == NULL:
            return
        used -= self.size
        if self.size <= c_SLOT_BYTES:
            rs3d_secret_wipe(self.at, c_SLOT_BYTES)
            (<unsigned char **>self.at)[0] = free_slots
            free_slots = self.at
        else:
            pages = whole_pages(self.size)
            rs3d_secret_unmap(self.at, pages, page_bytes)
            mapped -= pages
            if self.is_locked:
                locked -= pages
        self.at = NULL

    def __dealloc__(self):
        self.give_back()

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.given_up:
            raise ValueError("the secret was wiped")
        PyBuffer_FillInfo(view, self, self.at, self.size, 0, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1
        if self.given_up and self.exports == 0:
            self.give_back()

    @staticmethod
    def copy(data):
        cdef Py_buffer view
        cdef SecretMemory made
        open_readable(data, &view)
        try:
            made = SecretMemory(view.len)
            memcpy(made.at, view.buf, view.len)
            return made
        finally:
            PyBuffer_Release(&view)

    @staticmethod
    def random(Py_ssize_t size):
        cdef SecretMemory made = SecretMemory(size)
        if rs3d_secret_random(made.at, size) != 0:
            PyErr_SetFromErrno(OSError)
        return made

    @staticmethod
    def from_hex(text):
        cdef Py_buffer view
        cdef SecretMemory made
        open_readable(text, &view)
        try:
            if view.len % 2:
                raise ValueError(f"{view.len} characters are not pairs of hexadecimal digits")
            made = SecretMemory(view.len // 2)
            if rs3d_secret_unhex(<const unsigned char *>view.buf, made.at, made.size) != 0:
                raise ValueError("not hexadecimal digits only")
            return made
        finally:
            PyBuffer_Release(&view)

    def hex(self):
        cdef SecretMemory made
        if self.given_up:
            raise ValueError("the secret was wiped")
        made = SecretMemory(2 * self.size)
        rs3d_secret_hex(self.at, self.size, made.at)
        return made

    def equals(self, other):
        cdef Py_buffer view
        if self.given_up:
            return False
        open_readable(other, &view)
        try:
            return view.len == self.size and rs3d_secret_differ(self.at, <const unsigned char *>view.buf, view.len) == 0
        finally:
            PyBuffer_Release(&view)

    def wipe(self):
        if self.given_up:
            return
        self.given_up = True
        if self.exports == 0:
            self.give_back()

    @property
    def is_wiped(self):
        return self.given_up

    def __len__(self):
        return 0 if self.given_up else self.size

    def __repr__(self):
        return "SecretMemory(wiped)" if self.given_up else f"SecretMemory({self.size} bytes, redacted)"

    def __reduce__(self):
        raise TypeError("a secret is not pickled")


def usage():
    return used, mapped, locked, last_refusal


def selftest():
    cdef SecretMemory one = SecretMemory.from_hex(b"00fF10aB"), other
    if bytes(one) != b"\x00\xff\x10\xab" or bytes(one.hex()) != b"00ff10ab":
        raise RuntimeError("secretmemory: hexadecimal digits")
    for bad in (b"0g", b"/0", b":0", b"@0", b"G0", b"`0", b" 1"):
        try:
            SecretMemory.from_hex(bad)
        except ValueError:
            continue
        raise RuntimeError(f"secretmemory: {bad} was taken for digits")
    other = SecretMemory.copy(one)
    if not one.equals(other) or one.equals(b"\x00\xff\x10\xaa"):
        raise RuntimeError("secretmemory: comparison")
    one.wipe()
    if other.is_wiped or one.equals(other):
        raise RuntimeError("secretmemory: wiping")
    return 10
