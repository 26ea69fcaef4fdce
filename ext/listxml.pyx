"""Rows of a LIST as XML: see listxml.pyi for the contract, listxml_impl.h for the escapes."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport int64_t, uint64_t

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

cdef enum:
    FIRST_BYTES = 64 * 1024

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
