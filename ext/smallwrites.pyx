# cython: auto_pickle=False
"""A small put or delete of a parked connection, from its message to the head of its answer: see smallwrites.pyi for the
contract."""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport PyObject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from base64 cimport rs3d_put_base64
from bufview cimport Py_buffer, PyBuffer_Release, check_span, open_readable
from crcvariants cimport crc_variants
from recordfields cimport load_big, put_big, put_hex, put_raw, put_zeros
from smallchecksum cimport (
    CHECKSUM_BYTES, CHECKSUM_CRC32, CHECKSUM_CRC32C, CHECKSUM_CRC64NVME, CHECKSUM_SHA256, checksum_bytes, checksum_name,
    is_checksum,
)
from variant cimport initial_variant

import socket

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(object, object) except? NULL
    object PyErr_SetFromErrno(object)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT, MSG_NOSIGNAL
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    Py_ssize_t send(int, const void *, size_t, int)
    Py_ssize_t sendmsg(int, const msghdr *, int)
    Py_ssize_t recv(int, void *, size_t, int)

cdef extern from "crc_impl.h" nogil:
    enum:
        CRC_AVX512
    ctypedef struct crc_poly:
        pass
    crc_poly crc_poly_32, crc_poly_64
    void crc_setup()
    uint64_t crc_update(const crc_poly *, int, uint64_t, const unsigned char *, size_t)

crc_setup()
cdef int crc_variant = CRC_AVX512 - initial_variant("smallwrites", crc_variants())

cdef enum:
    # The head of an operation's packet, several in one, and the packet of answers (rs3d/stores/messages.py).
    OPERATION = 1
    OPERATIONS = 5
    REPLIES = 4
    MOST_PACKET_BYTES = 128 << 10
    MOST_OPERATIONS = 256
    LENGTH_BYTES = 4
    HEAD_BYTES = 24
    COUNTER_AT = 8
    # A put's message (rs3d/stores/smallput.py), a removal's (rs3d/stores/smallremoval.py).
    PUT_BYTES = 137 + CHECKSUM_BYTES
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
    WHOLE_BYTES = 84
    DIGESTS_AT = HEAD_BYTES + 8 + 8 + TOKEN_BYTES  # behind epoch, bucket and token
    ROOT_AT = DIGESTS_AT + 1 + DIGEST_BYTES
    CHECKSUM_AT = ROOT_AT + DIGEST_BYTES + OWNER_BYTES + 4
    # Of an answer: all but the Date, the request's id and what all answers end in.
    LINES_ROOM = 640
    MOST_TEXT_BYTES = 64  # an ETag has as many at most, an id of a version 48


@cython.final
@cython.freelist(64)
cdef class SmallWrite:
    cdef bytes message, declared, head
    cdef bint by_sha256
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

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef char *end = PyBytes_AS_STRING(self.message) + PyBytes_GET_SIZE(self.message)
        PyBuffer_FillInfo(view, self, end - self.body_bytes, self.body_bytes, 1, flags)

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
        put_numbers(self, epoch, counter, answered_below)

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


cdef inline void put_numbers(SmallWrite write, uint64_t epoch, uint64_t counter, uint64_t answered_below) noexcept:
    cdef unsigned char *at = <unsigned char *>PyBytes_AS_STRING(write.message)
    put_big(put_big(put_big(at + COUNTER_AT, counter, 8), answered_below, 8), epoch, 8)


cdef unsigned char *begin_message(SmallWrite write, int kind, size_t body_bytes):
    """Room for the message, and where its bucket goes: behind the head and the epoch."""
    write.message = PyBytes_FromStringAndSize(NULL, HEAD_BYTES + body_bytes)
    cdef unsigned char *at = <unsigned char *>PyBytes_AS_STRING(write.message)
    at = put_big(put_big(put_big(put_big(at, OPERATION, 1), kind, 1), 0, 2), body_bytes, 4)
    return put_zeros(at, 3 * 8)


def put(int kind, uint64_t bucket, bytes key not None, bytes token not None, bint by_sha256, bytes owner not None,
        bytes content_type, bytes declared, bytes checksum, buffer, Py_ssize_t start, Py_ssize_t stop, settle):
    cdef size_t key_bytes = PyBytes_GET_SIZE(key), type_bytes = 0
    cdef SmallWrite write
    cdef Py_buffer view
    cdef unsigned char *at
    if content_type is not None:
        type_bytes = PyBytes_GET_SIZE(content_type)
    if not 0 < key_bytes <= MOST_KEY_BYTES or type_bytes > MOST_TYPE_BYTES:
        raise ValueError("a small put with too long a key or type")
    if (PyBytes_GET_SIZE(token) != TOKEN_BYTES or PyBytes_GET_SIZE(owner) != OWNER_BYTES
            or (declared is not None and PyBytes_GET_SIZE(declared) != DIGEST_BYTES)):
        raise ValueError("a small put with a token, an owner or a declared hash that is none")
    if checksum is not None and (PyBytes_GET_SIZE(checksum) != CHECKSUM_BYTES
                                 or not is_checksum(<const unsigned char *>PyBytes_AS_STRING(checksum))):
        raise ValueError("a small put with a checksum that is none")
    open_readable(buffer, &view)
    try:
        check_span("body", view.len, start, stop - start)
        write = SmallWrite()
        at = begin_message(write, kind, PUT_BYTES + key_bytes + type_bytes + stop - start)
        at = put_raw(put_big(at, bucket, 8), PyBytes_AS_STRING(token), TOKEN_BYTES)
        at = put_big(at, ETAG_SHA256 if by_sha256 else ETAG_MD5, 1)
        at = put_zeros(at, 2 * DIGEST_BYTES)  # the ETag, the root and the CRC are `seal`'s
        at = put_zeros(put_raw(at, PyBytes_AS_STRING(owner), OWNER_BYTES), 4)
        if checksum is None:
            at = put_zeros(at, CHECKSUM_BYTES)
        else:
            at = put_raw(at, PyBytes_AS_STRING(checksum), CHECKSUM_BYTES)
        at = put_raw(put_big(put_big(at, key_bytes, 2), type_bytes, 2), PyBytes_AS_STRING(key), key_bytes)
        if type_bytes:
            at = put_raw(at, PyBytes_AS_STRING(content_type), type_bytes)
        memcpy(at, <const char *>view.buf + start, stop - start)
    finally:
        PyBuffer_Release(&view)
    write.is_put, write.body_bytes, write.by_sha256, write.settle = True, stop - start, by_sha256, settle
    write.declared = declared
    return write


cdef bint has_its_checksum(SmallWrite write, const unsigned char *hash) noexcept:
    """Whether the body has the checksum that came with it, if one did; `hash` as for `seal`."""
    cdef const unsigned char *end = <unsigned char *>PyBytes_AS_STRING(write.message) + PyBytes_GET_SIZE(write.message)
    cdef const unsigned char *body = end - write.body_bytes
    cdef const unsigned char *checksum = <unsigned char *>PyBytes_AS_STRING(write.message) + CHECKSUM_AT
    cdef int code = checksum[0]
    checksum += 1
    if code == CHECKSUM_CRC32:
        return crc_update(&crc_poly_32, crc_variant, 0, body, write.body_bytes) == load_big(checksum, 4)
    if code == CHECKSUM_CRC64NVME:
        return crc_update(&crc_poly_64, crc_variant, 0, body, write.body_bytes) == load_big(checksum, 8)
    if code == CHECKSUM_CRC32C:
        return memcmp(checksum, hash + MD5_BYTES + DIGEST_BYTES, 4) == 0
    return code != CHECKSUM_SHA256 or memcmp(checksum, hash + MD5_BYTES, DIGEST_BYTES) == 0


def seal(list writes not None, list hashes not None):
    cdef list sealed = []
    cdef SmallWrite write
    cdef const char *hash
    cdef unsigned char *at
    cdef Py_ssize_t i
    if len(writes) != len(hashes):
        raise ValueError("not as many hashes as puts")
    for i in range(len(writes)):
        write = <SmallWrite?>writes[i]
        if not write.is_put or PyBytes_GET_SIZE(<bytes?>hashes[i]) != WHOLE_BYTES:
            raise ValueError("hashes that are none, or no small put")
        hash = PyBytes_AS_STRING(<bytes>hashes[i])
        if write.declared is not None and memcmp(PyBytes_AS_STRING(write.declared), hash + MD5_BYTES, DIGEST_BYTES) != 0:
            continue
        if not has_its_checksum(write, <const unsigned char *>hash):
            continue
        at = <unsigned char *>PyBytes_AS_STRING(write.message) + DIGESTS_AT + 1
        if write.by_sha256:
            memcpy(at, hash + MD5_BYTES, DIGEST_BYTES)
        else:
            memcpy(at, hash, MD5_BYTES)
        at = put_raw(at + DIGEST_BYTES, hash + MD5_BYTES + DIGEST_BYTES + 4, DIGEST_BYTES)
        memcpy(at + OWNER_BYTES, hash + MD5_BYTES + DIGEST_BYTES, 4)
        sealed.append(write)
    return sealed


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


# ------------------------------------------------------------------------------------------------------------- sending


def submit(list writes not None, uint64_t epoch, uint64_t counter, uint64_t answered_below, dict waiting not None,
           Py_ssize_t most_bytes, int channel):
    cdef Py_ssize_t total = 0
    cdef SmallWrite write
    for found in writes:
        total += PyBytes_GET_SIZE((<SmallWrite?>found).message)
    if total > most_bytes:
        return None
    for found in writes:
        write = <SmallWrite>found
        put_numbers(write, epoch, counter, answered_below)
        waiting[counter] = write
        counter += 1
    if not sent_together(writes, total, channel):
        return total, False
    for found in writes:
        (<SmallWrite>found).sent = True
    return total, True


cdef bint sent_together(list writes, Py_ssize_t total, int channel) noexcept:
    """Whether one packet has taken them all."""
    cdef unsigned char lengths[MOST_OPERATIONS * LENGTH_BYTES]
    cdef iovec pieces[1 + 2 * MOST_OPERATIONS]
    cdef msghdr head
    cdef unsigned char kind = OPERATIONS
    cdef size_t count = len(writes), i, used = 0
    cdef bytes message
    if channel < 0 or count > MOST_OPERATIONS or 1 + count * LENGTH_BYTES + total > MOST_PACKET_BYTES:
        return False
    if count != 1:
        pieces[0].iov_base, pieces[0].iov_len, used = &kind, 1, 1
    for i in range(count):
        message = (<SmallWrite>writes[i]).message
        if count != 1:
            put_big(lengths + i * LENGTH_BYTES, PyBytes_GET_SIZE(message), LENGTH_BYTES)
            pieces[used].iov_base, pieces[used].iov_len = lengths + i * LENGTH_BYTES, LENGTH_BYTES
            used += 1
        pieces[used].iov_base, pieces[used].iov_len = PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message)
        used += 1
    put_zeros(<unsigned char *>&head, sizeof(head))
    head.msg_iov, head.msg_iovlen = pieces, used
    while count:
        if sendmsg(channel, &head, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0:
            return True
        if errno != EINTR:
            return False  # what it was, whoever sends them again meets
    return True


# ------------------------------------------------------------------------------------------------------------- answers

cdef unsigned char received[MOST_PACKET_BYTES]


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


def receive(int channel, dict waiting not None):
    cdef Py_ssize_t length
    while True:
        length = recv(channel, received, MOST_PACKET_BYTES, MSG_DONTWAIT)
        if length >= 0:
            break
        if errno == EAGAIN:
            return None
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
    settled = settle(received, length, waiting)
    return PyBytes_FromStringAndSize(<const char *>received, length) if settled is None else settled


cdef tuple settle(const unsigned char *packet, size_t length, dict waiting):
    """What a packet says, and who was waiting for it is not any more; None when it is not of small writes alone."""
    cdef reader r
    cdef uint32_t count, fields, i
    cdef uint64_t counter, last = 0
    cdef size_t outcome_bytes
    cdef Py_ssize_t total = 0
    cdef PyObject *found
    cdef SmallWrite write
    cdef list writes = [], counters = []
    r.at, r.end = packet, packet + length
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


cdef unsigned char *put_checksum(unsigned char *at, const unsigned char *checksum) noexcept nogil:
    """The lines of an answer, if the message has one."""
    cdef unsigned char *name
    if not checksum[0]:
        return at
    name = put_line(at, b"x-amz-checksum-")
    at = put_line(name, checksum_name(checksum[0]))
    while name < at:
        name[0] |= 0x20  # digits have that bit
        name += 1
    at = rs3d_put_base64(put_line(at, b": "), checksum + 1, checksum_bytes(checksum[0]))
    return put_line(at, b"\r\nx-amz-checksum-type: FULL_OBJECT\r\n")


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
            at = put_checksum(put_line(at, b"\"\r\n"), <unsigned char *>PyBytes_AS_STRING(write.message) + CHECKSUM_AT)
            at = put_hex(put_line(at, b"x-rs3d-merkle-root: "),
                         <const unsigned char *>PyBytes_AS_STRING(write.message) + ROOT_AT, DIGEST_BYTES)
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
    key, hashes = b"k", bytes(range(WHOLE_BYTES))
    write = put(27, 5, key, bytes(TOKEN_BYTES), False, bytes(OWNER_BYTES), None, hashes[16:48], None, b"body", 0, 4, None)
    if seal([write], [bytes(WHOLE_BYTES)]) or seal([write], [hashes]) != [write] or bytes(write) != b"body":
        raise RuntimeError("smallwrites: a body is taken that is not what was declared, or the other way round")
    removal = delete(28, 5, key, bytes(TOKEN_BYTES), b"0" * OWNER_TEXT_BYTES, None)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        exchange(near, far, write, removal)
    finally:
        near.close()
        far.close()
    return 8


cdef exchange(near, far, SmallWrite write, SmallWrite removal):
    """The rest of the selftest, through a channel."""
    cdef dict waiting = {}
    total = write.size_bytes + removal.size_bytes
    if submit([write], 7, 9, 3, waiting, write.size_bytes - 1, near.fileno()) is not None or waiting:
        raise RuntimeError("smallwrites: more was submitted than there is room for")
    if submit([write, removal], 7, 9, 3, waiting, total, near.fileno()) != (total, True) or len(waiting) != 2:
        raise RuntimeError("smallwrites: two were not sent")
    head = bytes((1, 27, 0, 0)) + (PUT_BYTES + 5).to_bytes(4, "big") + bytes(7) + b"\x09" + bytes(7) + b"\x03"
    sent = b"\x05" + write.size_bytes.to_bytes(4, "big") + write.message + removal.size_bytes.to_bytes(4, "big")
    if far.recv(1 << 17) != sent + removal.message:
        raise RuntimeError("smallwrites: a wrong packet")
    if not write.parts[0].startswith(head + bytes(7) + b"\x07" + bytes(7) + b"\x05") or not write.parts[0].endswith(b"kbody"):
        raise RuntimeError("smallwrites: a wrong message of a put")
    if len(removal.parts[0]) != HEAD_BYTES + REMOVAL_BYTES + 1:
        raise RuntimeError("smallwrites: a wrong message of a removal")
    outcome = b"\x96\x02\xa4null\xc2\xc2\x03\xa2ee"
    packet = b"\x04\x92\x93\x09\xc4" + bytes((len(outcome),)) + outcome + b"\xc0\x93\x0a\xc4\x09\x94\x04\xa4null\xc2\xc2\xc0"
    for raw, known in ((packet[:len(packet) - 1], waiting), (packet, {9: write})):
        far.send(raw)
        if receive(near.fileno(), known) != raw or len(waiting) != 2:
            raise RuntimeError("smallwrites: answers to others were taken")
    far.send(packet)
    if receive(near.fileno(), waiting) != ([write, removal], total, 4) or waiting:
        raise RuntimeError("smallwrites: answers were not taken")
    if receive(near.fileno(), waiting) is not None:
        raise RuntimeError("smallwrites: an answer was taken that has not come")
    answer([write, removal], b"D\r\n", lambda: "ID", b"\r\n\r\n")
    if removal.answer != b"HTTP/1.1 204 No Content\r\nD\r\nx-amz-request-id: ID\r\n\r\n":
        raise RuntimeError("smallwrites: a wrong answer to a removal")
    if b'D\r\nContent-Length: 0\r\nETag: "ee"\r\nx-rs3d-merkle-root: 34353637' not in write.answer:
        raise RuntimeError("smallwrites: a wrong answer to a put")
