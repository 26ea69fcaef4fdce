"""Rows of the catalog's table `current` as a LIST shows them: see catalogrows.pyi for the contract."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from smallcrc cimport CRC_SCALAR, crc_poly_32c, crc_setup, crc_update, small_crc_variant

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        object (*tp_alloc)(PyTypeObject *, Py_ssize_t)
    object PyUnicode_New(Py_ssize_t, Py_UCS4)
    void *PyUnicode_DATA(object)
    bint PyType_IsSubtype(PyTypeObject *, PyTypeObject *)
    PyTypeObject PyTuple_Type

cdef extern from "catalogrows_impl.h" nogil:
    enum:
        CURRENT_BYTES, CRC_BYTES, SIZE_AT, MODIFIED_AT, ETAG_KIND_AT, ETAG_PARTS_AT, ETAG_AT, CLASS_AT, OWNER_AT
        ALGORITHM_AT, TYPE_AT, ETAG_MD5, ETAG_SHA256, OWNER_BYTES, PACKED_TEXT_AT
    size_t NOT_PACKED
    size_t packed_text_bytes(const unsigned char *, size_t)
    uint64_t load_big(const unsigned char *, int)
    void write_hex(unsigned char *, const unsigned char *, size_t)

crc_setup()
cdef int variant = small_crc_variant()

cdef enum:
    FIELDS = 8


cdef str hex_of(const unsigned char *data, Py_ssize_t length):
    text = PyUnicode_New(length * 2, 127)
    write_hex(<unsigned char *>PyUnicode_DATA(text), data, length)
    return <str>text


cdef str etag_of(const unsigned char *value):
    cdef int kind = value[ETAG_KIND_AT]
    cdef int parts = <int>load_big(value + ETAG_PARTS_AT, 2)
    cdef str text = ""
    if kind == ETAG_MD5:
        text = hex_of(value + ETAG_AT, 16)
    elif kind == ETAG_SHA256:
        text = hex_of(value + ETAG_AT, 32)
    return f"{text}-{parts}" if parts else text


cdef inline object member(tuple names, unsigned number):
    if <Py_ssize_t>number >= PyTuple_GET_SIZE(names):
        raise IndexError("a row names what this build does not know")
    return <object>PyTuple_GET_ITEM(names, number)


cdef inline void place(object row, Py_ssize_t index, object value):
    Py_INCREF(value)  # PyTuple_SET_ITEM takes the reference over
    PyTuple_SET_ITEM(row, index, value)


@cython.final
cdef class _RowMaker:
    """Makes rows of one class; keeps the owner it met last, who mostly owns the next row too."""

    cdef object kind
    cdef tuple classes, algorithms, types
    cdef unsigned char owner[OWNER_BYTES]
    cdef str owner_hex

    def __init__(self, kind, tuple classes, tuple algorithms, tuple types):
        if not isinstance(kind, type) or not PyType_IsSubtype(<PyTypeObject *>kind, &PyTuple_Type):
            raise TypeError("a row's class must be a tuple's")
        self.kind = kind
        self.classes, self.algorithms, self.types = classes, algorithms, types
        self.owner_hex = None

    cdef object row(self, const unsigned char *text, Py_ssize_t text_bytes, const unsigned char *value):
        if self.owner_hex is None or memcmp(value + OWNER_AT, self.owner, OWNER_BYTES) != 0:
            memcpy(self.owner, value + OWNER_AT, OWNER_BYTES)
            self.owner_hex = hex_of(value + OWNER_AT, OWNER_BYTES)
        name = PyUnicode_DecodeUTF8(<const char *>text, text_bytes, NULL)
        size, modified = load_big(value + SIZE_AT, 8), load_big(value + MODIFIED_AT, 8)
        etag = etag_of(value)
        storage_class = member(self.classes, value[CLASS_AT])
        algorithm, kind = member(self.algorithms, value[ALGORITHM_AT]), member(self.types, value[TYPE_AT])
        # What a named tuple's own constructor does, without its Python frame.
        row = (<PyTypeObject *>self.kind).tp_alloc(<PyTypeObject *>self.kind, FIELDS)
        place(row, 0, name)
        place(row, 1, size)
        place(row, 2, modified)
        place(row, 3, etag)
        place(row, 4, storage_class)
        place(row, 5, self.owner_hex)
        place(row, 6, algorithm)
        place(row, 7, kind)
        return row


@cython.final
cdef class ListedRows:
    cdef object rows, damaged
    cdef _RowMaker maker
    cdef uint32_t seed

    def __init__(self, rows, uint32_t seed, kind not None, tuple classes not None, tuple algorithms not None,
                 tuple types not None, damaged not None):
        self.maker = _RowMaker(kind, classes, algorithms, types)
        self.rows = iter(rows)
        self.seed = seed
        self.damaged = damaged

    def __iter__(self):
        return self

    def __next__(self):
        cdef object triple = next(self.rows)
        if not PyTuple_CheckExact(triple) or PyTuple_GET_SIZE(triple) != 3:
            raise TypeError("a row is a key, a text and a value")
        key = <object>PyTuple_GET_ITEM(triple, 0)
        text = <object>PyTuple_GET_ITEM(triple, 1)
        sealed = <object>PyTuple_GET_ITEM(triple, 2)
        if not (PyBytes_CheckExact(key) and PyBytes_CheckExact(text) and PyBytes_CheckExact(sealed)):
            raise TypeError("a row is made of bytes")
        return text, self.listed(key, text, sealed)

    cdef object listed(self, key, text, sealed):
        cdef const unsigned char *value = <const unsigned char *>PyBytes_AS_STRING(sealed)
        cdef uint64_t crc
        if PyBytes_GET_SIZE(sealed) != CURRENT_BYTES + CRC_BYTES:
            raise self.damaged(key)
        crc = crc_update(&crc_poly_32c, variant, self.seed, <const unsigned char *>PyBytes_AS_STRING(key),
                         PyBytes_GET_SIZE(key))
        crc = crc_update(&crc_poly_32c, variant, crc, value, CURRENT_BYTES)
        if crc != load_big(value + CURRENT_BYTES, CRC_BYTES):
            raise self.damaged(key)
        return self.maker.row(<const unsigned char *>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), value)


def listed_rows(bytes packed not None, kind not None, tuple classes not None, tuple algorithms not None,
                tuple types not None):
    cdef _RowMaker maker = _RowMaker(kind, classes, algorithms, types)
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(packed)
    cdef size_t left = PyBytes_GET_SIZE(packed), text_bytes
    cdef list rows = []
    while left:
        text_bytes = packed_text_bytes(at, left)
        if text_bytes == NOT_PACKED:
            raise ValueError(f"no row begins {left} bytes before the end")
        rows.append(maker.row(at + PACKED_TEXT_AT, text_bytes, at + PACKED_TEXT_AT + text_bytes))
        at += PACKED_TEXT_AT + text_bytes + CURRENT_BYTES
        left -= PACKED_TEXT_AT + text_bytes + CURRENT_BYTES
    return rows


def owners_of(bytes packed not None):
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(packed)
    cdef const unsigned char *owner
    cdef const unsigned char *last = NULL
    cdef size_t left = PyBytes_GET_SIZE(packed), text_bytes
    cdef set found = set()
    while left:
        text_bytes = packed_text_bytes(at, left)
        if text_bytes == NOT_PACKED:
            raise ValueError(f"no row begins {left} bytes before the end")
        owner = at + PACKED_TEXT_AT + text_bytes + OWNER_AT
        if last == NULL or memcmp(owner, last, OWNER_BYTES) != 0:
            found.add(hex_of(owner, OWNER_BYTES))
            last = owner
        at += PACKED_TEXT_AT + text_bytes + CURRENT_BYTES
        left -= PACKED_TEXT_AT + text_bytes + CURRENT_BYTES
    return found


def selftest():
    """See the .pyi."""
    value = bytearray(CURRENT_BYTES)
    value[SIZE_AT + 7] = 5
    value[MODIFIED_AT + 7] = 9
    value[ETAG_KIND_AT], value[ETAG_PARTS_AT + 1] = ETAG_MD5, 2
    value[ETAG_AT:ETAG_AT + 16] = bytes(range(0xF0, 0x100))
    value[OWNER_AT] = 0xAB
    value[ALGORITHM_AT] = 1
    # 0xE3069283 is the CRC32C of "123456789" (RFC 3720, B.4), here continued over the value.
    cdef bytes raw = bytes(value)
    cdef uint64_t crc = crc_update(&crc_poly_32c, CRC_SCALAR, 0, b"123456789", 9)
    if crc != 0xE3069283:
        raise RuntimeError("catalogrows: wrong CRC32C")
    crc = crc_update(&crc_poly_32c, CRC_SCALAR, crc, <const unsigned char *>PyBytes_AS_STRING(raw), CURRENT_BYTES)
    rows = ListedRows([(b"123456789", b"k", raw + int(crc).to_bytes(CRC_BYTES, "big"))], 0, tuple, ("S",), ("", "C"),
                      ("T",), KeyError)
    expected = ("k", 5, 9, bytes(range(0xF0, 0x100)).hex() + "-2", "S", "ab" + "00" * 31, "C", "T")
    if list(rows) != [(b"k", expected)]:
        raise RuntimeError("catalogrows: a row was read wrongly")
    packed = b"\x01\x00k" + raw
    if listed_rows(packed, tuple, ("S",), ("", "C"), ("T",)) != [expected] or owners_of(packed) != {expected[5]}:
        raise RuntimeError("catalogrows: a packed row was read wrongly")
    return 3
