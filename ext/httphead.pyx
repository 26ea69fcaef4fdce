"""HTTP/1.1 request heads of the usual form, and response heads: see httphead.pyi for the contract."""
import enum

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

from bufview cimport Py_buffer, PyBuffer_Release, check_span, open_readable

cdef extern from "httphead_impl.h" nogil:
    enum:
        HEAD_FIELDS, HEAD_METHODS, HEAD_GOOD, HEAD_HAND_OVER, HEAD_INCOMPLETE
    ctypedef int head_outcome
    ctypedef struct head_field:
        uint32_t name, name_length, value, value_length
    ctypedef struct head_parts:
        int method
        uint32_t target, target_length, length
        int fields
        head_field *field
    const unsigned char *head_token
    head_outcome head_scan(const unsigned char *, size_t, head_parts *)
    const unsigned char *head_value_end(const unsigned char *, const unsigned char *)


class Outcome(enum.Enum):
    HAND_OVER = "hand-over"
    INCOMPLETE = "incomplete"


Outcome.__module__ = __name__
cdef object TO_H11 = Outcome.HAND_OVER
cdef object MORE = Outcome.INCOMPLETE

# In the order of head_methods.
cdef tuple METHODS = ("GET", "PUT", "HEAD", "POST", "DELETE", "OPTIONS")

# Names that S3 clients send: one shared bytes object each, with its hash already computed, instead of a new one.
cdef tuple USUAL_NAMES = (
    b"host", b"date", b"range", b"accept", b"expect", b"cookie", b"origin", b"pragma", b"referer", b"if-match",
    b"if-range", b"connection", b"user-agent", b"x-amz-acl", b"x-amz-date", b"content-md5", b"x-amz-server-side",
    b"content-type", b"cache-control", b"authorization", b"if-none-match", b"accept-charset", b"content-length",
    b"accept-encoding", b"accept-language", b"content-encoding", b"content-language", b"if-modified-since",
    b"x-amz-trailer", b"x-amz-tagging", b"x-amz-security-token", b"x-amz-content-sha256", b"x-amz-copy-source",
    b"x-amz-user-agent", b"x-amz-storage-class", b"x-amz-checksum-mode", b"x-amz-checksum-crc32",
    b"x-amz-checksum-crc32c", b"x-amz-checksum-crc64nvme", b"x-amz-checksum-sha1", b"x-amz-checksum-sha256",
    b"x-amz-checksum-type", b"x-amz-checksum-algorithm", b"x-amz-sdk-checksum-algorithm", b"x-amz-decoded-content-length",
    b"x-amz-expected-bucket-owner", b"x-amz-request-payer", b"x-amz-meta-mtime", b"x-amz-metadata-directive",
    b"x-amz-tagging-directive", b"x-amz-server-side-encryption", b"x-amz-copy-source-range",
    b"x-amz-bucket-object-lock-enabled", b"x-amz-mp-object-size", b"x-amz-object-attributes", b"x-amz-max-parts",
    b"amz-sdk-request", b"amz-sdk-invocation-id", b"content-disposition", b"if-unmodified-since", b"x-forwarded-for",
    b"x-forwarded-proto", b"transfer-encoding", b"x-amz-version-id", b"x-amz-fwd-header-accept-ranges", b"te",
)

cdef enum:
    SLOTS = 256  # a power of two, four times the names: short chains

cdef list slots = [None] * SLOTS


cdef inline uint32_t mix(uint32_t state, unsigned char byte) noexcept nogil:
    return (state ^ byte) * <uint32_t>16777619  # FNV-1a: these names differ early and late, and are not an attacker's


cdef int remember(bytes name) except -1:
    """Put a usual name into the table, at the first free place from its hash on."""
    cdef uint32_t state = <uint32_t>2166136261
    cdef Py_ssize_t index
    for index in range(len(name)):
        state = mix(state, <unsigned char>name[index])
    state ^= state >> 16
    while slots[state % SLOTS] is not None:
        state += 1
    slots[state % SLOTS] = name
    return 0


for _name in USUAL_NAMES:
    remember(_name)
del _name


cdef bytes lower_name(const unsigned char *name, Py_ssize_t length):
    """The shared object of a usual name, else a new one, in lower case."""
    cdef unsigned char lower[48]
    cdef uint32_t state = <uint32_t>2166136261
    cdef Py_ssize_t index
    cdef unsigned char *to
    if length <= 48:
        for index in range(length):
            lower[index] = head_token[name[index]]
            state = mix(state, lower[index])
        state ^= state >> 16
        while True:
            found = slots[state % SLOTS]
            if found is None:
                return PyBytes_FromStringAndSize(<char *>lower, length)
            if PyBytes_GET_SIZE(found) == length and memcmp(PyBytes_AS_STRING(found), lower, length) == 0:
                return <bytes>found
            state += 1
    new = PyBytes_FromStringAndSize(NULL, length)
    to = <unsigned char *>PyBytes_AS_STRING(new)
    for index in range(length):
        to[index] = head_token[name[index]]
    return new


def parse_head(buffer, Py_ssize_t start=0, Py_ssize_t end=-1):
    cdef Py_buffer view
    cdef head_parts parts
    cdef head_outcome outcome
    cdef const unsigned char *data
    cdef const head_field *field
    cdef int index
    cdef tuple headers
    cdef object name, value, pair
    open_readable(buffer, &view)
    try:
        if end < 0:
            end = view.len
        check_span("head", view.len, start, end - start)
        data = <const unsigned char *>view.buf + start
        outcome = head_scan(data, end - start, &parts)
        if outcome != HEAD_GOOD:
            return TO_H11 if outcome == HEAD_HAND_OVER else MORE
        headers = PyTuple_New(parts.fields)
        for index in range(parts.fields):
            field = &parts.field[index]
            name = lower_name(data + field.name, field.name_length)
            value = PyBytes_FromStringAndSize(<const char *>data + field.value, field.value_length)
            pair = (name, value)
            Py_INCREF(pair)
            PyTuple_SET_ITEM(headers, index, pair)
        return (
            METHODS[parts.method],
            PyBytes_FromStringAndSize(<const char *>data + parts.target, parts.target_length),
            headers,
            parts.length,
        )
    finally:
        PyBuffer_Release(&view)


cdef int refuse_field(bytes name, bytes value) except -1:
    raise ValueError(f"response field {name!r}: {value!r}: not a token, or a control character in the value")


cdef int check_field(bytes name, bytes value, tuple reserved) except -1:
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(name)
    cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(value)
    cdef const unsigned char *other
    cdef Py_ssize_t length = PyBytes_GET_SIZE(name), index
    if length == 0:
        return refuse_field(name, value)
    for index in range(length):
        if not head_token[at[index]]:
            return refuse_field(name, value)
    if head_value_end(text, text + PyBytes_GET_SIZE(value)) != text + PyBytes_GET_SIZE(value):
        return refuse_field(name, value)
    for taken in reserved:
        if PyBytes_GET_SIZE(taken) == length:
            other = <const unsigned char *>PyBytes_AS_STRING(taken)
            for index in range(length):
                if head_token[at[index]] != other[index]:
                    break
            else:
                raise ValueError(f"the response field {name!r} is not the handler's to write")
    return 0


def write_head(int status, bytes reason not None, headers, *, bytes ready not None=b"", tuple reserved not None=()):
    cdef Py_ssize_t total, size
    cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(reason)
    cdef char *to
    cdef tuple pair
    cdef bytes name, value
    cdef list fields = headers if type(headers) is list else list(headers)
    if not 100 <= status <= 599:
        raise ValueError(f"{status} is not an HTTP status")
    if head_value_end(text, text + PyBytes_GET_SIZE(reason)) != text + PyBytes_GET_SIZE(reason):
        raise ValueError(f"a control character in the reason {reason!r}")
    for taken in reserved:
        if type(taken) is not bytes:
            raise TypeError("reserved names are bytes")
    total = 15 + PyBytes_GET_SIZE(reason) + PyBytes_GET_SIZE(ready) + 2
    for pair in fields:
        name, value = pair
        if name is None or value is None:
            raise TypeError("fields are pairs of bytes")
        check_field(name, value, reserved)
        total += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + 4
    head = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(head)
    memcpy(to, b"HTTP/1.1 ", 9)
    to[9], to[10], to[11], to[12] = 48 + status // 100, 48 + status // 10 % 10, 48 + status % 10, 32
    to += 13
    to = put(to, reason)
    to = put_crlf(to)
    to = put(to, ready)
    for pair in fields:
        name, value = pair
        to = put(to, name)
        to[0], to[1] = 58, 32
        to = put(to + 2, value)
        to = put_crlf(to)
    put_crlf(to)
    return head


cdef inline char *put(char *to, bytes text):
    cdef Py_ssize_t length = PyBytes_GET_SIZE(text)
    memcpy(to, PyBytes_AS_STRING(text), length)
    return to + length


cdef inline char *put_crlf(char *to) noexcept nogil:
    to[0], to[1] = 13, 10
    return to + 2


def selftest():
    head = b"GET /b/k?x=1 HTTP/1.1\r\nHost: a:9000\r\nX-Amz-Meta-Odd:  v w\t\r\nContent-Length: 5\r\n\r\nhello"
    wanted = ("GET", b"/b/k?x=1", ((b"host", b"a:9000"), (b"x-amz-meta-odd", b"v w"), (b"content-length", b"5")),
              len(head) - 5)
    if parse_head(head) != wanted:
        raise RuntimeError("kernel httphead: a usual head is read wrongly")
    checks = 1
    for length in range(len(head) - 5):
        if parse_head(head[:length]) is not MORE:
            raise RuntimeError(f"kernel httphead: a head cut at {length} is not incomplete")
        checks += 1
    for odd in (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        if parse_head(odd) is not TO_H11:
            raise RuntimeError(f"kernel httphead: {odd} is not handed over")
        checks += 1
    if write_head(200, b"OK", [(b"A", b"b")], ready=b"C: d\r\n") != b"HTTP/1.1 200 OK\r\nC: d\r\nA: b\r\n\r\n":
        raise RuntimeError("kernel httphead: a response head is written wrongly")
    return checks + 1
