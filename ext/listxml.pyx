"""Rows of a LIST as XML: see listxml.pyi for the contract, listxml_impl.h for the escapes."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL

cdef extern from "listxml_impl.h":
    enum:
        LISTXML_GROWTH, LISTXML_FIXED
    ctypedef struct listxml_day:
        int64_t day
    unsigned char *listxml_copy(unsigned char *, const void *, size_t)
    unsigned char *listxml_escape(unsigned char *, const unsigned char *, size_t)
    unsigned char *listxml_url(unsigned char *, const unsigned char *, size_t)
    unsigned char *listxml_number(unsigned char *, uint64_t)
    unsigned char *listxml_time(unsigned char *, int64_t, listxml_day *)

cdef extern from "catalogrows_impl.h":
    enum:
        CURRENT_BYTES, SIZE_AT, MODIFIED_AT, ETAG_KIND_AT, ETAG_PARTS_AT, ETAG_AT, CLASS_AT, OWNER_AT, OWNER_BYTES
        ALGORITHM_AT, TYPE_AT, ETAG_MD5, ETAG_SHA256, PACKED_TEXT_AT
    size_t NOT_PACKED
    size_t packed_text_bytes(const unsigned char *, size_t)
    uint64_t load_big(const unsigned char *, int)
    void write_hex(unsigned char *, const unsigned char *, size_t)

cdef enum:
    FIRST_BYTES = 64 * 1024
    ETAG_ROOM = 2 * 32 + 1 + 5  # digits, a hyphen, the number of parts

cdef int64_t NANOSECONDS = 1000000000


cdef class _Output:
    """Growing memory; freed with the object, whatever is raised."""

    cdef unsigned char *start
    cdef size_t used, size

    def __dealloc__(self):
        PyMem_Free(self.start)

    cdef unsigned char *room(self, size_t wanted) except NULL:
        """Memory for `wanted` more bytes; what was written before stays."""
        cdef size_t size = self.size
        if self.size - self.used < wanted:
            while size - self.used < wanted:
                size = size * 2 if size else FIRST_BYTES
            start = <unsigned char *>PyMem_Realloc(self.start, size)
            if start == NULL:
                raise MemoryError
            self.start, self.size = start, size
        return self.start + self.used

    cdef void wrote(self, const unsigned char *end) noexcept:
        self.used = end - self.start

    cdef bytes taken(self):
        return PyBytes_FromStringAndSize(<char *>self.start, self.used)


cdef inline const unsigned char *text_of(object text, Py_ssize_t *length) except NULL:
    """The UTF-8 of a str (kept by the str itself) or a bytes."""
    if isinstance(text, bytes):
        length[0] = PyBytes_GET_SIZE(text)
        return <const unsigned char *>PyBytes_AS_STRING(text)
    return <const unsigned char *>PyUnicode_AsUTF8AndSize(text, length)


cdef bint is_url(str encoding) except -1:
    if encoding == "plain":
        return False
    if encoding == "url":
        return True
    raise ValueError(f"encoding {encoding!r} is neither 'plain' nor 'url'")


cdef list column(object values, Py_ssize_t rows, str name):
    """A column as a list of the right length; None for a column that is not there.

    Always a copy: it keeps the texts alive while C points into them, whatever an odd number's __index__ does.
    """
    if values is None:
        return None
    cdef list found = list(values)
    if len(found) != rows:
        raise ValueError(f"{name}: {len(found)} values for {rows} keys")
    return found


def contents(keys, sizes, modified_ns, etags, storage_classes, *, checksums=None, owners=None,
             str encoding not None="plain"):
    cdef _Output out = _Output()
    cdef list key_list = list(keys)
    cdef Py_ssize_t rows = len(key_list), row
    cdef list size_list = column(sizes, rows, "sizes")
    cdef list time_list = column(modified_ns, rows, "modified_ns")
    cdef list etag_list = column(etags, rows, "etags")
    cdef list class_list = column(storage_classes, rows, "storage_classes")
    cdef list checksum_list = column(checksums, rows, "checksums")
    cdef list owner_list = column(owners, rows, "owners")
    cdef bint url = is_url(encoding)
    cdef listxml_day cache
    cdef const unsigned char *key
    cdef const unsigned char *etag
    cdef const unsigned char *storage_class
    cdef const unsigned char *checksum = <const unsigned char *>b""  # never NULL: memcpy forbids it even for nothing
    cdef const unsigned char *owner = <const unsigned char *>b""
    cdef Py_ssize_t key_length, etag_length, class_length, checksum_length = 0, owner_length = 0
    cdef unsigned char *to
    cdef uint64_t size
    cdef int64_t time_ns, seconds
    if size_list is None or time_list is None or etag_list is None or class_list is None:
        raise TypeError("only checksums and owners may be None")
    cache.day = -1000000000
    for row in range(rows):
        key = text_of(key_list[row], &key_length)
        etag = text_of(etag_list[row], &etag_length)
        storage_class = text_of(class_list[row], &class_length)
        if checksum_list is not None:
            checksum = text_of(checksum_list[row], &checksum_length)
        if owner_list is not None:
            owner = text_of(owner_list[row], &owner_length)
        size = size_list[row]
        time_ns = time_list[row]
        seconds = time_ns // NANOSECONDS
        if time_ns % NANOSECONDS < 0:  # C rounds towards zero, time goes forward
            seconds -= 1
        to = out.room(LISTXML_FIXED + LISTXML_GROWTH * (key_length + etag_length + class_length) + checksum_length
                      + owner_length)
        to = listxml_copy(to, b"<Contents><Key>", 15)
        to = listxml_url(to, key, key_length) if url else listxml_escape(to, key, key_length)
        to = listxml_copy(to, b"</Key><LastModified>", 20)
        to = listxml_time(to, seconds, &cache)
        if to == NULL:
            raise ValueError(f"modified_ns[{row}] = {time_ns}: not in the years 1 to 9999")
        to = listxml_copy(to, b"</LastModified><ETag>&quot;", 27)
        to = listxml_escape(to, etag, etag_length)
        to = listxml_copy(to, b"&quot;</ETag>", 13)
        to = listxml_copy(to, checksum, checksum_length)
        to = listxml_copy(to, b"<Size>", 6)
        to = listxml_number(to, size)
        to = listxml_copy(to, b"</Size>", 7)
        to = listxml_copy(to, owner, owner_length)
        to = listxml_copy(to, b"<StorageClass>", 14)
        to = listxml_escape(to, storage_class, class_length)
        to = listxml_copy(to, b"</StorageClass></Contents>", 26)
        out.wrote(to)
    return out.taken()


cdef unsigned char *put_etag(unsigned char *to, const unsigned char *value) noexcept:
    cdef int digest = 0
    cdef uint64_t parts = load_big(value + ETAG_PARTS_AT, 2)
    if value[ETAG_KIND_AT] == ETAG_MD5:
        digest = 16
    elif value[ETAG_KIND_AT] == ETAG_SHA256:
        digest = 32
    write_hex(to, value + ETAG_AT, digest)
    to += 2 * digest
    if parts:
        to[0] = c"-"
        to = listxml_number(to + 1, parts)
    return to


cdef bytes named(tuple names, size_t number):
    if number >= <size_t>len(names):
        raise IndexError("a row names what this build does not know")
    return names[number]


def packed_contents(bytes packed not None, tuple classes not None, tuple checksums not None, *, owners=None,
                    str encoding not None="plain"):
    cdef _Output out = _Output()
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(packed)
    cdef const unsigned char *value
    cdef const unsigned char *owner_id = NULL
    cdef size_t left = PyBytes_GET_SIZE(packed), text_bytes
    cdef bint url = is_url(encoding)
    cdef listxml_day cache
    cdef bytes storage_class, checksum, owner = b""
    cdef tuple by_type
    cdef unsigned char *to
    cache.day = -1000000000
    while left:
        text_bytes = packed_text_bytes(at, left)
        if text_bytes == NOT_PACKED:
            raise ValueError(f"no row begins {left} bytes before the end")
        value = at + PACKED_TEXT_AT + text_bytes
        storage_class = named(classes, value[CLASS_AT])
        if value[ALGORITHM_AT] >= len(checksums):
            raise IndexError("a row names what this build does not know")
        by_type = checksums[value[ALGORITHM_AT]]
        checksum = named(by_type, value[TYPE_AT])
        if owners is not None and (owner_id == NULL or memcmp(owner_id, value + OWNER_AT, OWNER_BYTES) != 0):
            owner_id = value + OWNER_AT
            owner = owners(PyBytes_FromStringAndSize(<const char *>owner_id, OWNER_BYTES))
        to = out.room(LISTXML_FIXED + ETAG_ROOM + LISTXML_GROWTH * text_bytes + len(storage_class) + len(checksum)
                      + len(owner))
        to = listxml_copy(to, b"<Contents><Key>", 15)
        to = (listxml_url(to, at + PACKED_TEXT_AT, text_bytes) if url
              else listxml_escape(to, at + PACKED_TEXT_AT, text_bytes))
        to = listxml_copy(to, b"</Key><LastModified>", 20)
        # 2^64 ns end in the year 2554: no time is refused.
        to = listxml_time(to, load_big(value + MODIFIED_AT, 8) // <uint64_t>NANOSECONDS, &cache)
        to = listxml_copy(to, b"</LastModified><ETag>&quot;", 27)
        to = put_etag(to, value)
        to = listxml_copy(to, b"&quot;</ETag>", 13)
        to = listxml_copy(to, PyBytes_AS_STRING(checksum), len(checksum))
        to = listxml_copy(to, b"<Size>", 6)
        to = listxml_number(to, load_big(value + SIZE_AT, 8))
        to = listxml_copy(to, b"</Size>", 7)
        to = listxml_copy(to, PyBytes_AS_STRING(owner), len(owner))
        to = listxml_copy(to, b"<StorageClass>", 14)
        to = listxml_copy(to, PyBytes_AS_STRING(storage_class), len(storage_class))
        to = listxml_copy(to, b"</StorageClass></Contents>", 26)
        out.wrote(to)
        at = value + CURRENT_BYTES
        left -= PACKED_TEXT_AT + text_bytes + CURRENT_BYTES
    return out.taken()


def common_prefixes(prefixes, *, str encoding not None="plain"):
    cdef _Output out = _Output()
    cdef bint url = is_url(encoding)
    cdef const unsigned char *text
    cdef Py_ssize_t length
    cdef unsigned char *to
    for prefix in prefixes:
        text = text_of(prefix, &length)
        to = out.room(LISTXML_FIXED + LISTXML_GROWTH * length)
        to = listxml_copy(to, b"<CommonPrefixes><Prefix>", 24)
        to = listxml_url(to, text, length) if url else listxml_escape(to, text, length)
        to = listxml_copy(to, b"</Prefix></CommonPrefixes>", 26)
        out.wrote(to)
    return out.taken()


def selftest():
    row = contents([b'a&<>"\r\x01 b\xc3\xa9/\xef\xbf\xbe'], [1234567890], [1255369830 * NANOSECONDS + 1], ["e"], ["STANDARD"])
    wanted = (b"<Contents><Key>a&amp;&lt;&gt;&quot;&#13;&#x1; b\xc3\xa9/&#xfffe;</Key>"
              b"<LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>1234567890</Size>"
              b"<StorageClass>STANDARD</StorageClass></Contents>")
    if row != wanted:
        raise RuntimeError("kernel listxml: a row is written wrongly")
    if common_prefixes(["a b/~\xe9"], encoding="url") != (
            b"<CommonPrefixes><Prefix>a%20b/~%C3%A9</Prefix></CommonPrefixes>"):
        raise RuntimeError("kernel listxml: a prefix is encoded wrongly")
    return 2
