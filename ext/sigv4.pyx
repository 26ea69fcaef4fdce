"""SigV4 for S3: canonical request, string to sign, signature. See sigv4.pyi for the contract."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.string cimport memchr, memcmp, memcpy

from variant cimport RS3D_CPU_SHA, RS3D_CPU_SSE41, RS3D_CPU_SSSE3, initial_variant, runnable_variants, variant_index

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL

cdef extern from "sigv4_impl.h":
    enum:
        SIGV4_SCALAR, SIGV4_SHANI, SIGV4_DIGEST, SIGV4_DIGITS, SIGV4_BLOCK, SIGV4_PARAMETERS, SIGV4_TARGET, SIGV4_SCRATCH
        SIGV4_HEADERS, SIGV4_HEADER_BYTES, SIGV4_SIGNED_BYTES, SIGV4_REQUEST, SIGV4_TEXT
    ctypedef struct sigv4_sha256:
        pass
    void sigv4_sha256_start(sigv4_sha256 *, int)
    void sigv4_sha256_update(sigv4_sha256 *, const void *, size_t)
    void sigv4_sha256_finish(sigv4_sha256 *, unsigned char *)
    void sigv4_hmac(int, const unsigned char *, size_t, const void *, size_t, unsigned char *)
    void sigv4_hex(const unsigned char *, char *)
    size_t sigv4_path(const unsigned char *, size_t, unsigned char *)
    Py_ssize_t sigv4_query(const unsigned char *, size_t, const unsigned char *, size_t, unsigned char *, unsigned char *)
    Py_ssize_t sigv4_value(const unsigned char *, size_t, unsigned char *)
    int sigv4_equal(const char *, const char *)

cdef tuple VARIANTS = (("shani", RS3D_CPU_SHA | RS3D_CPU_SSE41 | RS3D_CPU_SSSE3), ("scalar", 0))
cdef int active = SIGV4_SHANI - initial_variant("sigv4", VARIANTS)

# One of each a process: the GIL is held throughout, so no call sees another's. Nothing secret is put here.
cdef unsigned char room[SIGV4_REQUEST]
cdef unsigned char scratch[SIGV4_SCRATCH]


def variant():
    return VARIANTS[SIGV4_SHANI - active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = SIGV4_SHANI - variant_index("sigv4", VARIANTS, name)


cdef inline unsigned char *put(unsigned char *to, const void *data, Py_ssize_t length):
    memcpy(to, data, length)
    return to + length


cdef inline unsigned char *put_text(unsigned char *to, str text, Py_ssize_t most) except NULL:
    """The text as UTF-8, or a ValueError for more than `most` bytes (of a method, a hash, a scope: not a request's)."""
    cdef Py_ssize_t length
    cdef const char *data = PyUnicode_AsUTF8AndSize(text, &length)
    if length > most:
        raise ValueError(f"a text of {length} bytes where at most {most} belong")
    return put(to, data, length)


cdef unsigned char *put_headers(unsigned char *to, object headers, tuple signed) except? NULL:
    """The canonical header lines; NULL where Python has to look."""
    cdef const unsigned char *names[SIGV4_HEADERS]
    cdef const unsigned char *values[SIGV4_HEADERS]
    cdef Py_ssize_t name_lengths[SIGV4_HEADERS]
    cdef Py_ssize_t value_lengths[SIGV4_HEADERS]
    cdef int count = 0, index, found
    cdef Py_ssize_t total = 0, length, folded
    cdef const unsigned char *wanted
    cdef bytes name, value
    cdef tuple pair
    for pair in headers:
        if count == SIGV4_HEADERS:
            return NULL
        name, value = pair
        if name is None or value is None:
            raise TypeError("headers are pairs of bytes")
        names[count], name_lengths[count] = <const unsigned char *>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)
        values[count], value_lengths[count] = <const unsigned char *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
        count += 1
    for name in signed:
        if name is None:
            raise TypeError("signed names are bytes")
        wanted, length = <const unsigned char *>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)
        total += length + 2
        if total > SIGV4_HEADER_BYTES:
            return NULL
        to = put(to, wanted, length)
        to[0] = 58  # :
        to += 1
        found = 0
        for index in range(count):
            if name_lengths[index] != length or memcmp(names[index], wanted, length) != 0:
                continue
            total += value_lengths[index] + 1
            if total > SIGV4_HEADER_BYTES:
                return NULL
            if found:
                to[0] = 44  # ,
                to += 1
            folded = sigv4_value(values[index], value_lengths[index], to)
            if folded < 0:
                return NULL
            to += folded
            found = 1
        if not found:
            return NULL
        to[0] = 10
        to += 1
    return to


cdef Py_ssize_t build(str method, bytes target, object headers, tuple signed, str payload_hash, bytes dropped) except -2:
    """Write the canonical request into `room`; its length, or -1 where Python has to look."""
    cdef const unsigned char *path = <const unsigned char *>PyBytes_AS_STRING(target)
    cdef const unsigned char *end = path + PyBytes_GET_SIZE(target)
    cdef const unsigned char *question = <const unsigned char *>memchr(path, 63, end - path)
    cdef unsigned char *to = room
    cdef Py_ssize_t query_length, total
    cdef bytes name
    cdef int first = 1
    if question == NULL:
        question = end
    if path == end or path[0] != 47 or question - path > SIGV4_TARGET or end - question > SIGV4_TARGET:
        return -1
    to = put_text(to, method, 64)
    to[0] = 10
    to += 1 + sigv4_path(path, question - path, to + 1)
    to[0] = 10
    to += 1
    if question < end:
        query_length = sigv4_query(question + 1, end - question - 1, <const unsigned char *>PyBytes_AS_STRING(dropped),
                                   PyBytes_GET_SIZE(dropped), scratch, to)
        if query_length < 0:
            return -1
        to += query_length
    to[0] = 10
    to = put_headers(to + 1, headers, signed)
    if to == NULL:
        return -1
    to[0] = 10
    to += 1
    total = 0
    for name in signed:
        total += PyBytes_GET_SIZE(name) + 1
        if total > SIGV4_SIGNED_BYTES:
            return -1
        if not first:
            to[0] = 59  # ;
            to += 1
        first = 0
        to = put(to, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
    to[0] = 10
    to = put_text(to + 1, payload_hash, 256)
    return to - room


cdef int sign(char *out, bytes signing_key, str method, bytes target, object headers, tuple signed, str payload_hash,
              str timestamp, str date, str region, str service, bytes dropped) except -1:
    """The signature's 64 digits into `out`: 1, or 0 where Python has to look."""
    cdef unsigned char text[SIGV4_TEXT]
    cdef unsigned char *to = text
    cdef unsigned char digest[SIGV4_DIGEST]
    cdef sigv4_sha256 hash
    cdef Py_ssize_t length
    if PyBytes_GET_SIZE(signing_key) > SIGV4_BLOCK:
        raise ValueError("a signing key has at most 64 bytes")
    length = build(method, target, headers, signed, payload_hash, dropped)
    if length < 0:
        return 0
    sigv4_sha256_start(&hash, active)
    sigv4_sha256_update(&hash, room, length)
    sigv4_sha256_finish(&hash, digest)
    to = put(to, b"AWS4-HMAC-SHA256\n", 17)
    to = put_text(to, timestamp, 64)
    to[0] = 10
    to = put_text(to + 1, date, 64)
    to[0] = 47
    to = put_text(to + 1, region, 512)
    to[0] = 47
    to = put_text(to + 1, service, 64)
    to = put(to, b"/aws4_request\n", 14)
    sigv4_hex(digest, <char *>to)
    to += SIGV4_DIGITS
    sigv4_hmac(active, <const unsigned char *>PyBytes_AS_STRING(signing_key), PyBytes_GET_SIZE(signing_key), text,
               to - text, digest)
    sigv4_hex(digest, out)
    return 1


def canonical_request(str method not None, bytes target not None, headers, tuple signed not None,
                      str payload_hash not None, *, bytes dropped not None=b""):
    cdef Py_ssize_t length = build(method, target, headers, signed, payload_hash, dropped)
    return None if length < 0 else PyBytes_FromStringAndSize(<char *>room, length)


def signature(bytes signing_key not None, str method not None, bytes target not None, headers, tuple signed not None,
              str payload_hash not None, str timestamp not None, str date not None, str region not None,
              str service not None, *, bytes dropped not None=b""):
    cdef char digits[SIGV4_DIGITS]
    if not sign(digits, signing_key, method, target, headers, signed, payload_hash, timestamp, date, region, service,
                dropped):
        return None
    return PyUnicode_DecodeASCII(digits, SIGV4_DIGITS, NULL)


def proves(str claimed not None, bytes signing_key not None, str method not None, bytes target not None, headers,
           tuple signed not None, str payload_hash not None, str timestamp not None, str date not None,
           str region not None, str service not None, *, bytes dropped not None=b""):
    cdef char digits[SIGV4_DIGITS]
    cdef Py_ssize_t length
    cdef const char *text = PyUnicode_AsUTF8AndSize(claimed, &length)
    if length != SIGV4_DIGITS:
        return False
    if not sign(digits, signing_key, method, target, headers, signed, payload_hash, timestamp, date, region, service,
                dropped):
        return False
    return sigv4_equal(digits, text) != 0


def signing_key(str secret not None, str date not None, str region not None, str service not None):
    cdef bytes first = b"AWS4" + secret.encode()
    cdef bytes piece
    cdef unsigned char key[SIGV4_DIGEST]
    cdef sigv4_sha256 hash
    if len(first) > SIGV4_BLOCK:  # RFC 2104: a key longer than a block is hashed first
        sigv4_sha256_start(&hash, active)
        sigv4_sha256_update(&hash, PyBytes_AS_STRING(first), PyBytes_GET_SIZE(first))
        sigv4_sha256_finish(&hash, key)
        first = PyBytes_FromStringAndSize(<char *>key, SIGV4_DIGEST)
    piece = date.encode()
    sigv4_hmac(active, <const unsigned char *>PyBytes_AS_STRING(first), PyBytes_GET_SIZE(first),
               PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), key)
    for piece in (region.encode(), service.encode(), b"aws4_request"):
        sigv4_hmac(active, key, SIGV4_DIGEST, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), key)
    return PyBytes_FromStringAndSize(<char *>key, SIGV4_DIGEST)


def selftest():
    # The example of the S3 API reference: GET with a Range, four signed headers.
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    headers = ((b"host", b"examplebucket.s3.amazonaws.com"), (b"range", b"bytes=0-9"),
               (b"x-amz-content-sha256", empty.encode()), (b"x-amz-date", b"20130524T000000Z"))
    signed = (b"host", b"range", b"x-amz-content-sha256", b"x-amz-date")
    wanted = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    global active
    before, checks = active, 0
    try:
        for name in runnable_variants(VARIANTS):
            use_variant(name)
            key = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1", "s3")
            made = signature(key, "GET", b"/test.txt", headers, signed, empty, "20130524T000000Z", "20130524", "us-east-1",
                             "s3")
            if made != wanted:
                raise RuntimeError(f"kernel sigv4: variant {name} signs wrongly")
            checks += 1
    finally:
        active = before
    if canonical_request("GET", b"/a%2fb+%?b=1&a=+%20&a", (), (), "x") != b"GET\n/a/b%2B%25\na=&a=%20%20&b=1\n\n\nx":
        raise RuntimeError("kernel sigv4: a canonical request is wrong")
    return checks + 1
