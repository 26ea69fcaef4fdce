# cython: auto_pickle=False
"""A small put or delete of a parked connection, from its message to the head of its answer: see smallwrites.pyi for the
contract."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from bufview cimport Py_buffer, PyBuffer_Release, check_span, open_readable
from recordfields cimport load_big, put_big, put_hex, put_raw, put_zeros

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(object, object) except? NULL

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT, MSG_NOSIGNAL
    Py_ssize_t send(int, const void *, size_t, int)

cdef enum:
    # The head of an operation's packet, and the packet of answers (rs3d/stores/messages.py).
    OPERATION = 1
    REPLIES = 4
    HEAD_BYTES = 24
    COUNTER_AT = 8
    # A put's message (rs3d/stores/smallput.py), a removal's (rs3d/stores/smallremoval.py).
    PUT_BYTES = 137
    REMOVAL_BYTES = 96
    TOKEN_BYTES = 16
    ETAG_MD5 = 1
    ETAG_SHA256 = 2
    OWNER_BYTES = 32
    OWNER_TEXT_BYTES = 64
    MOST_KEY_BYTES = 462
    MOST_TYPE_BYTES = 512
    # What kernel bodyhash gives of a body.
    MD5_BYTES = 16
    DIGEST_BYTES = 32
    DIGESTS_BYTES = 52
    # Of an answer: all but the Date, the request's id and what all answers end in.
    LINES_ROOM = 512
    MOST_TEXT_BYTES = 64  # an ETag has as many at most, an id of a version 48


@cython.final
@cython.freelist(64)
cdef class SmallWrite:
    cdef bytes message, root, head
    cdef unsigned char etag[MOST_TEXT_BYTES]
    cdef unsigned char version[MOST_TEXT_BYTES]
    cdef int etag_bytes, version_bytes
    cdef bint reports_version, is_marker
    cdef readonly bint is_put
    cdef readonly Py_ssize_t body_bytes
    cdef readonly uint64_t sequence
    cdef readonly bytes request
    cdef readonly int64_t started_ns
    cdef readonly object connection, finish
    cdef readonly Py_ssize_t taken_bytes
    cdef public int fd
    cdef public object settle
    cdef public bint sent
    cdef public int deaths

    def __cinit__(self):
        self.fd = -1

    @property
    def parts(self):
        return self.message, b""

    @property
    def size_bytes(self):
        return PyBytes_GET_SIZE(self.message)

    @property
    def answer(self):
        return self.head

    @property
    def is_sent(self):
        return self.head is not None and self.taken_bytes == PyBytes_GET_SIZE(self.head)

    def number(self, uint64_t epoch, uint64_t counter, uint64_t answered_below):
        cdef unsigned char *at = <unsigned char *>PyBytes_AS_STRING(self.message)
        put_big(put_big(put_big(at + COUNTER_AT, counter, 8), answered_below, 8), epoch, 8)

    def park(self, int fd, connection, finish, int64_t started_ns, buffer, Py_ssize_t request_bytes):
        cdef Py_buffer view
        open_readable(buffer, &view)
        try:
            check_span("request", view.len, 0, request_bytes)
            self.request = PyBytes_FromStringAndSize(<const char *>view.buf, request_bytes)
        finally:
            PyBuffer_Release(&view)
        self.fd, self.connection, self.finish, self.started_ns = fd, connection, finish, started_ns

    def take(self, bytes outcome not None):
        if not take_outcome(self, <const unsigned char *>PyBytes_AS_STRING(outcome), PyBytes_GET_SIZE(outcome)):
            raise ValueError("an outcome that is none of a small write")


cdef unsigned char *begin_message(SmallWrite write, int kind, size_t body_bytes):
    """Room for the message, and where its bucket goes: behind the head and the epoch."""
    write.message = PyBytes_FromStringAndSize(NULL, HEAD_BYTES + body_bytes)
    cdef unsigned char *at = <unsigned char *>PyBytes_AS_STRING(write.message)
    at = put_big(put_big(put_big(put_big(at, OPERATION, 1), kind, 1), 0, 2), body_bytes, 4)
    return put_zeros(at, 3 * 8)


def put(int kind, uint64_t bucket, bytes key not None, bytes token not None, bytes digests not None, bint by_sha256,
        bytes root not None, bytes owner not None, bytes content_type, buffer, Py_ssize_t start, Py_ssize_t stop, settle):
    cdef size_t key_bytes = PyBytes_GET_SIZE(key), type_bytes = 0
    cdef const char *digest = PyBytes_AS_STRING(digests)
    cdef SmallWrite write
    cdef Py_buffer view
    cdef unsigned char *at
    if content_type is not None:
        type_bytes = PyBytes_GET_SIZE(content_type)
    if not 0 < key_bytes <= MOST_KEY_BYTES or type_bytes > MOST_TYPE_BYTES:
        raise ValueError("a small put with too long a key or type")
    if (PyBytes_GET_SIZE(token) != TOKEN_BYTES or PyBytes_GET_SIZE(digests) != DIGESTS_BYTES
            or PyBytes_GET_SIZE(root) != DIGEST_BYTES or PyBytes_GET_SIZE(owner) != OWNER_BYTES):
        raise ValueError("a small put with a token, digests, a root or an owner that is none")
    open_readable(buffer, &view)
    try:
        check_span("body", view.len, start, stop - start)
        write = SmallWrite()
        at = begin_message(write, kind, PUT_BYTES + key_bytes + type_bytes + stop - start)
        at = put_raw(put_big(at, bucket, 8), PyBytes_AS_STRING(token), TOKEN_BYTES)
        at = put_big(at, ETAG_SHA256 if by_sha256 else ETAG_MD5, 1)
        if by_sha256:
            at = put_raw(at, digest + MD5_BYTES, DIGEST_BYTES)
        else:
            at = put_zeros(put_raw(at, digest, MD5_BYTES), DIGEST_BYTES - MD5_BYTES)
        at = put_raw(put_raw(at, PyBytes_AS_STRING(root), DIGEST_BYTES), PyBytes_AS_STRING(owner), OWNER_BYTES)
        at = put_raw(at, digest + MD5_BYTES + DIGEST_BYTES, 4)
        at = put_raw(put_big(put_big(at, key_bytes, 2), type_bytes, 2), PyBytes_AS_STRING(key), key_bytes)
        if type_bytes:
            at = put_raw(at, PyBytes_AS_STRING(content_type), type_bytes)
        memcpy(at, <const char *>view.buf + start, stop - start)
    finally:
        PyBuffer_Release(&view)
    write.is_put, write.body_bytes, write.root, write.settle = True, stop - start, root, settle
    return write


def delete(int kind, uint64_t bucket, bytes key not None, bytes token not None, bytes owner not None, settle):
    cdef size_t key_bytes = PyBytes_GET_SIZE(key)
    cdef SmallWrite write
    if not 0 < key_bytes <= MOST_KEY_BYTES:
        raise ValueError("a small delete with too long a key")
    if PyBytes_GET_SIZE(token) != TOKEN_BYTES or PyBytes_GET_SIZE(owner) != OWNER_TEXT_BYTES:
        raise ValueError("a small delete with a token or an owner that is none")
    write = SmallWrite()
    cdef unsigned char *at = begin_message(write, kind, REMOVAL_BYTES + key_bytes)
    at = put_raw(put_big(at, bucket, 8), PyBytes_AS_STRING(token), TOKEN_BYTES)
    put_raw(put_raw(at, PyBytes_AS_STRING(owner), OWNER_TEXT_BYTES), PyBytes_AS_STRING(key), key_bytes)
    write.settle = settle
    return write


# ------------------------------------------------------------------------------------------------------------- answers


ctypedef struct reader:
    const unsigned char *at
    const unsigned char *end


cdef inline bint take_uint(reader *r, uint64_t *value) noexcept nogil:
    """A msgpack number that is none below 0."""
    cdef int bytes
    if r.at >= r.end:
        return False
    if r.at[0] < 0x80:
        value[0] = r.at[0]
        r.at += 1
        return True
    if not 0xCC <= r.at[0] <= 0xCF:
        return False
    bytes = 1 << (r.at[0] - 0xCC)
    if r.end - r.at <= bytes:
        return False
    value[0] = load_big(r.at + 1, bytes)
    r.at += 1 + bytes
    return True


cdef inline bint take_flag(reader *r, bint *value) noexcept nogil:
    if r.at >= r.end or (r.at[0] | 1) != 0xC3:
        return False
    value[0] = r.at[0] & 1
    r.at += 1
    return True


cdef inline bint take_text(reader *r, unsigned char *text, int *length) noexcept nogil:
    """A short text, copied."""
    cdef int bytes
    if r.at >= r.end:
        return False
    if r.at[0] & 0xE0 == 0xA0:
        bytes = r.at[0] & 0x1F
        r.at += 1
    elif r.at[0] == 0xD9 and r.end - r.at > 1:
        bytes = r.at[1]
        r.at += 2
    else:
        return False
    if bytes > MOST_TEXT_BYTES or r.end - r.at < bytes:
        return False
    memcpy(text, r.at, bytes)
    length[0] = bytes
    r.at += bytes
    return True


cdef inline bint take_array(reader *r, uint32_t *count) noexcept nogil:
    if r.at >= r.end:
        return False
    if r.at[0] & 0xF0 == 0x90:
        count[0] = r.at[0] & 0x0F
        r.at += 1
        return True
    if r.at[0] != 0xDC or r.end - r.at < 3:
        return False
    count[0] = <uint32_t>load_big(r.at + 1, 2)
    r.at += 3
    return True


cdef bint take_outcome(SmallWrite write, const unsigned char *raw, size_t length) noexcept:
    """Sequence, version, whether it is told, whether it is a marker; then perhaps when it was made, and the ETag
    (rs3d/stores/outcomes.py)."""
    cdef reader r
    cdef uint32_t fields
    cdef uint64_t sequence, moment
    r.at, r.end = raw, raw + length
    if not take_array(&r, &fields) or not 4 <= fields <= 6:
        return False
    write.etag_bytes = 0
    if (not take_uint(&r, &sequence) or not take_text(&r, write.version, &write.version_bytes)
            or not take_flag(&r, &write.reports_version) or not take_flag(&r, &write.is_marker)):
        return False
    if fields > 4 and not take_uint(&r, &moment):
        return False
    if fields > 5 and not take_text(&r, write.etag, &write.etag_bytes):
        return False
    if r.at != r.end or (write.is_put and write.etag_bytes == 0):
        return False
    write.sequence = sequence
    write.head = b""  # it has one to come
    return True


def settle(bytes packet not None, dict waiting not None):
    cdef reader r
    cdef uint32_t count, fields, i
    cdef uint64_t counter, last = 0
    cdef size_t outcome_bytes
    cdef Py_ssize_t total = 0
    cdef PyObject *found
    cdef SmallWrite write
    cdef list writes = [], counters = []
    r.at = <const unsigned char *>PyBytes_AS_STRING(packet)
    r.end = r.at + PyBytes_GET_SIZE(packet)
    if r.at == r.end or r.at[0] != REPLIES:
        return None
    r.at += 1
    if not take_array(&r, &count) or not count:
        return None
    for i in range(count):
        if not take_array(&r, &fields) or fields != 3 or not take_uint(&r, &counter):
            return None
        if r.end - r.at < 2 or r.at[0] != 0xC4:  # none, or longer than 255 bytes
            return None
        outcome_bytes = r.at[1]
        if <size_t>(r.end - r.at) < 2 + outcome_bytes + 1 or r.at[2 + outcome_bytes] != 0xC0:
            return None
        number = counter
        found = PyDict_GetItemWithError(waiting, number)
        if found == NULL or type(<object>found) is not SmallWrite:
            return None
        write = <SmallWrite><object>found
        if not take_outcome(write, r.at + 2, outcome_bytes):
            return None
        writes.append(write)
        counters.append(number)
        total += PyBytes_GET_SIZE(write.message)
        if write.sequence > last:
            last = write.sequence
        r.at += 2 + outcome_bytes + 1
    if r.at != r.end:
        return None
    for number in counters:
        del waiting[number]
    return writes, total, last


cdef inline unsigned char *put_line(unsigned char *at, const char *text) noexcept nogil:
    while text[0]:
        at[0] = <unsigned char>text[0]
        at += 1
        text += 1
    return at


def answer(list writes not None, bytes date not None, next_request_id, bytes tail not None):
    cdef unsigned char lines[LINES_ROOM]
    cdef unsigned char *at
    cdef unsigned char *to
    cdef size_t date_bytes = PyBytes_GET_SIZE(date), tail_bytes = PyBytes_GET_SIZE(tail), status_bytes, id_bytes
    cdef SmallWrite write
    cdef bytes name
    for found in writes:
        write = <SmallWrite?>found
        if write.head is None:
            continue
        at = put_line(lines, b"HTTP/1.1 200 OK\r\n" if write.is_put else b"HTTP/1.1 204 No Content\r\n")
        status_bytes = at - lines
        if write.is_put:
            at = put_raw(put_line(at, b"Content-Length: 0\r\nETag: \""), write.etag, write.etag_bytes)
            at = put_hex(put_line(at, b"\"\r\nx-rs3d-merkle-root: "),
                         <const unsigned char *>PyBytes_AS_STRING(write.root), DIGEST_BYTES)
            at = put_line(at, b"\r\n")
        if write.reports_version and write.version_bytes and not (
                write.is_put and write.version_bytes == 4 and memcmp(write.version, b"null", 4) == 0):
            at = put_raw(put_line(at, b"x-amz-version-id: "), write.version, write.version_bytes)
            at = put_line(at, b"\r\n")
        if write.is_marker:
            at = put_line(at, b"x-amz-delete-marker: true\r\n")
        at = put_line(at, b"x-amz-request-id: ")
        name = (<str?>next_request_id()).encode("ascii")
        id_bytes = PyBytes_GET_SIZE(name)
        write.head = PyBytes_FromStringAndSize(NULL, at - lines + date_bytes + id_bytes + tail_bytes)
        to = <unsigned char *>PyBytes_AS_STRING(write.head)
        to = put_raw(put_raw(to, lines, status_bytes), PyBytes_AS_STRING(date), date_bytes)
        to = put_raw(to, lines + status_bytes, at - lines - status_bytes)
        put_raw(put_raw(to, PyBytes_AS_STRING(name), id_bytes), PyBytes_AS_STRING(tail), tail_bytes)


def send_answers(list writes not None):
    cdef SmallWrite write
    cdef Py_ssize_t count
    for found in writes:
        write = <SmallWrite?>found
        if write.fd < 0 or write.head is None:
            continue
        count = send(write.fd, PyBytes_AS_STRING(write.head), PyBytes_GET_SIZE(write.head), MSG_DONTWAIT | MSG_NOSIGNAL)
        write.taken_bytes = count if count > 0 else 0  # what went wrong, whoever sends the rest meets


def selftest():
    key, digests = b"k", bytes(range(DIGESTS_BYTES))
    write = put(27, 5, key, bytes(TOKEN_BYTES), digests, False, bytes(DIGEST_BYTES), bytes(OWNER_BYTES), None, b"body", 0,
                4, None)
    write.number(7, 9, 3)
    removal = delete(28, 5, key, bytes(TOKEN_BYTES), b"0" * OWNER_TEXT_BYTES, None)
    head = bytes((1, 27, 0, 0)) + (PUT_BYTES + 5).to_bytes(4, "big") + bytes(7) + b"\x09" + bytes(7) + b"\x03"
    if not write.parts[0].startswith(head + bytes(7) + b"\x07" + bytes(7) + b"\x05") or not write.parts[0].endswith(b"kbody"):
        raise RuntimeError("smallwrites: a wrong message of a put")
    if len(removal.parts[0]) != HEAD_BYTES + REMOVAL_BYTES + 1:
        raise RuntimeError("smallwrites: a wrong message of a removal")
    outcome = b"\x96\x02\xa4null\xc2\xc2\x03\xa2ee"
    packet = b"\x04\x92\x93\x09\xc4" + bytes((len(outcome),)) + outcome + b"\xc0\x93\x0a\xc4\x09\x94\x04\xa4null\xc2\xc2\xc0"
    waiting = {9: write, 10: removal}
    if settle(packet[:len(packet) - 1], waiting) is not None or settle(packet, {9: write}) is not None or len(waiting) != 2:
        raise RuntimeError("smallwrites: answers to others were taken")
    if settle(packet, waiting) != ([write, removal], write.size_bytes + removal.size_bytes, 4) or waiting:
        raise RuntimeError("smallwrites: answers were not taken")
    answer([write, removal], b"D\r\n", lambda: "ID", b"\r\n\r\n")
    if removal.answer != b"HTTP/1.1 204 No Content\r\nD\r\nx-amz-request-id: ID\r\n\r\n":
        raise RuntimeError("smallwrites: a wrong answer to a removal")
    if b'D\r\nContent-Length: 0\r\nETag: "ee"\r\nx-rs3d-merkle-root: 00' not in write.answer:
        raise RuntimeError("smallwrites: a wrong answer to a put")
    return 6
