"""Pages of a LIST out of the catalog's file: see catalogwalk.pyi for the contract, catalogwalk_impl.h for how."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from smallcrc cimport crc_poly_32c, crc_setup, crc_update, small_crc_variant

cdef extern from "sys/uio.h" nogil:
    int RWF_NOWAIT

cdef extern from "catalogwalk_impl.h" nogil:
    enum:
        WALK_DEPTH_LIMIT, WALK_KEY_LIMIT, WALK_SPACE_BYTES, WALK_CRC_BYTES
        WALK_END, WALK_FULL, WALK_LONG, WALK_MEMORY, WALK_WAIT, WALK_ERRNO, WALK_PAGE, WALK_DAMAGED, WALK_ORDER
    ctypedef struct walk_cursor:
        int fd, flags, crc_variant
        uint32_t seed, page_bytes
        unsigned depth
        uint64_t root
        unsigned char *pages
        const unsigned char *key
        size_t key_bytes
        uint64_t page
        const char *reason
    ctypedef struct walk_bytes:
        unsigned char *start
        size_t used
    ctypedef struct walk_page:
        walk_bytes rows, prefixes
        size_t row_count, prefix_count, last_row, last_prefix
        int last_is_prefix
    int walk_list(walk_cursor *, const unsigned char *, size_t, size_t, const unsigned char *, const unsigned char *,
                  size_t, size_t, size_t, walk_page *)

cdef enum:
    RECORD_BYTES = 48  # lmdbpages.py: u32 padding, u16 flags, u16 depth, four counts, the root
    FLAGS_AT = 4
    DEPTH_AT = 6
    ROOT_AT = 40
    MOST_ROWS = 1 << 20
    LONGEST_VALUE = 1 << 12

crc_setup()
cdef int variant = small_crc_variant()

END, FULL, LONG = WALK_END, WALK_FULL, WALK_LONG


class PageUnfollowable(Exception):
    """See the .pyi."""

    def __init__(self, page, reason):
        super().__init__(f"page {page} cannot be followed: {reason}")
        self.page = page


class RowDamaged(Exception):
    """See the .pyi."""

    def __init__(self, key):
        super().__init__(key)
        self.key = key


class RowOutOfOrder(Exception):
    """See the .pyi."""

    def __init__(self, key):
        super().__init__(key)
        self.key = key


cdef inline uint64_t little(const unsigned char *at, int bytes) noexcept:
    cdef uint64_t value = 0
    cdef int i
    for i in range(bytes - 1, -1, -1):
        value = value << 8 | at[i]
    return value


cdef inline const unsigned char *start_of(bytes text):
    return <const unsigned char *>PyBytes_AS_STRING(text)


cdef bytes text_at(const walk_bytes *of, size_t place):
    cdef const unsigned char *at = of.start + place
    return PyBytes_FromStringAndSize(<const char *>at + 2, little(at, 2))


cdef object answered(walk_cursor *at, int answer):
    """The error that an answer stands for."""
    cdef bytes key = b""
    if answer == WALK_DAMAGED or answer == WALK_ORDER:
        key = PyBytes_FromStringAndSize(<const char *>at.key, at.key_bytes)
    if answer == WALK_DAMAGED:
        return RowDamaged(key)
    if answer == WALK_ORDER:
        return RowOutOfOrder(key)
    if answer == WALK_PAGE:
        return PageUnfollowable(at.page, (<bytes>at.reason).decode("ascii"))
    return MemoryError()


def walk_objects(int fd, bytes record not None, bytes space not None, bytes prefix not None, bytes start not None,
                 bytes delimiter not None, *, uint32_t page_bytes, uint32_t seed, Py_ssize_t value_bytes,
                 Py_ssize_t maximum, bint may_wait):
    cdef walk_cursor at
    cdef walk_page found
    cdef bytes wanted, seek, last
    cdef const unsigned char *raw = start_of(record)
    cdef const unsigned char *seek_at
    cdef const unsigned char *wanted_at
    cdef const unsigned char *delimiter_at = start_of(delimiter)
    cdef size_t seek_bytes, wanted_bytes, delimiter_bytes = PyBytes_GET_SIZE(delimiter), place
    cdef int answer
    if page_bytes < 512 or page_bytes > 65536 or page_bytes & (page_bytes - 1):
        raise ValueError(f"pages of {page_bytes} bytes are none of liblmdb")
    if PyBytes_GET_SIZE(space) != WALK_SPACE_BYTES:
        raise ValueError(f"a space is {WALK_SPACE_BYTES} bytes")
    if not 0 < maximum <= MOST_ROWS or not WALK_CRC_BYTES <= value_bytes <= LONGEST_VALUE:
        raise ValueError(f"{maximum} rows with values of {value_bytes} bytes")
    if delimiter_bytes and delimiter_at[delimiter_bytes - 1] == 255:
        raise ValueError("a delimiter is UTF-8 and does not end in a byte 255")
    if PyBytes_GET_SIZE(record) != RECORD_BYTES:
        raise PageUnfollowable(0, f"the table's record has {len(record)} bytes")
    wanted, seek = space + prefix, space + max(prefix, start)
    seek_at, seek_bytes = start_of(seek), PyBytes_GET_SIZE(seek)
    wanted_at, wanted_bytes = start_of(wanted), PyBytes_GET_SIZE(wanted)
    if seek_bytes > WALK_KEY_LIMIT or wanted_bytes > WALK_KEY_LIMIT:
        raise ValueError("too long for one row")
    memset(&at, 0, sizeof(at))
    memset(&found, 0, sizeof(found))
    at.fd, at.flags, at.crc_variant = fd, 0 if may_wait else RWF_NOWAIT, variant
    at.seed, at.page_bytes = seed, page_bytes
    at.depth, at.root = <unsigned>little(raw + DEPTH_AT, 2), little(raw + ROOT_AT, 8)
    if little(raw + FLAGS_AT, 2):
        raise PageUnfollowable(at.root, "the table is of a kind that is not used here")
    if at.root == 0xFFFFFFFFFFFFFFFF:
        return b"", 0, [], b"", False, WALK_END, b""
    if not 0 < at.depth <= WALK_DEPTH_LIMIT:
        raise PageUnfollowable(at.root, f"the table is {at.depth} pages deep")
    at.pages = <unsigned char *>PyMem_Malloc(at.depth * <size_t>page_bytes)
    if at.pages == NULL:
        raise MemoryError
    try:
        if may_wait:
            with nogil:
                answer = walk_list(&at, seek_at, seek_bytes, wanted_bytes, wanted_at, delimiter_at, delimiter_bytes,
                                   value_bytes, maximum, &found)
        else:
            answer = walk_list(&at, seek_at, seek_bytes, wanted_bytes, wanted_at, delimiter_at, delimiter_bytes,
                               value_bytes, maximum, &found)
        if answer == WALK_ERRNO:
            PyErr_SetFromErrno(OSError)
        if answer == WALK_WAIT:
            raise BlockingIOError(f"page {at.page} is not in memory")
        if answer < 0:
            raise answered(&at, answer)
        prefixes, place = [], 0
        while place < found.prefixes.used:
            prefix = text_at(&found.prefixes, place)
            prefixes.append(prefix)
            place += 2 + <size_t>PyBytes_GET_SIZE(prefix)
        last = b""
        if found.last_is_prefix:
            last = text_at(&found.prefixes, found.last_prefix)
        elif found.row_count:
            last = text_at(&found.rows, found.last_row)
        text = b""
        if answer == WALK_LONG:
            text = PyBytes_FromStringAndSize(<const char *>at.key + WALK_SPACE_BYTES, at.key_bytes - WALK_SPACE_BYTES)
        packed = PyBytes_FromStringAndSize(<const char *>found.rows.start, found.rows.used) if found.rows.used else b""
        return packed, found.row_count, prefixes, last, bool(found.last_is_prefix), answer, text
    finally:
        PyMem_Free(at.pages)
        free(found.rows.start)
        free(found.prefixes.start)


def selftest():
    import os
    cdef bytes key = b"spacespa" + b"key", value = b"value", page
    cdef uint64_t crc = crc_update(&crc_poly_32c, variant, 0, start_of(key), PyBytes_GET_SIZE(key))
    crc = crc_update(&crc_poly_32c, variant, crc, start_of(value), PyBytes_GET_SIZE(value))
    sealed = value + int(crc).to_bytes(WALK_CRC_BYTES, "big")
    node = len(sealed).to_bytes(4, "little") + bytes(2) + len(key).to_bytes(2, "little") + key + sealed
    head = bytes(10) + (2).to_bytes(2, "little") + (18).to_bytes(2, "little") + (512 - len(node)).to_bytes(2, "little")
    page = (head + (512 - len(node)).to_bytes(2, "little")).ljust(512 - len(node), b"\0") + node
    record = bytes(DEPTH_AT) + (1).to_bytes(2, "little") + bytes(RECORD_BYTES - DEPTH_AT - 2)
    fd = os.memfd_create("rs3d-catalogwalk-selftest")
    try:
        os.pwrite(fd, page, 0)
        for start, rows in ((b"k", 1), (b"kez", 0)):
            found = walk_objects(fd, record, key[:8], b"k", start, b"", page_bytes=512, seed=0,
                                 value_bytes=len(sealed), maximum=2, may_wait=True)
            row = (3).to_bytes(2, "little") + b"key" + value
            if found != (row * rows, rows, [], b"key" * rows, False, WALK_END, b""):
                raise RuntimeError("catalogwalk: a row was walked to wrongly")
    finally:
        os.close(fd)
    return 2
