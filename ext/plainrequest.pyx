"""A plain, signed request for one object, recognised and proven in one pass: see plainrequest.pyi for the contract."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from base64 cimport rs3d_take_base64
from bufview cimport Py_buffer, PyBuffer_Release, check_span, open_readable
from smallchecksum cimport (
    CHECKSUM_BYTES, CHECKSUM_CRC32, CHECKSUM_CRC32C, CHECKSUM_CRC64NVME, CHECKSUM_SHA256, checksum_bytes, checksum_name,
)
from variant cimport RS3D_CPU_SHA, RS3D_CPU_SSE41, RS3D_CPU_SSSE3, initial_variant, runnable_variants, variant_index

cdef extern from "httphead_impl.h" nogil:
    enum:
        HEAD_FIELDS, HEAD_GOOD
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

cdef extern from "sigv4_impl.h" nogil:
    enum:
        SIGV4_SCALAR, SIGV4_SHANI, SIGV4_DIGEST, SIGV4_DIGITS, SIGV4_BLOCK
    ctypedef struct sigv4_sha256:
        pass
    void sigv4_sha256_start(sigv4_sha256 *, int)
    void sigv4_sha256_update(sigv4_sha256 *, const void *, size_t)
    void sigv4_sha256_finish(sigv4_sha256 *, unsigned char *)
    void sigv4_hmac(int, const unsigned char *, size_t, const void *, size_t, unsigned char *)
    void sigv4_hex(const unsigned char *, char *)
    Py_ssize_t sigv4_value(const unsigned char *, size_t, unsigned char *)
    int sigv4_equal(const char *, const char *)

cdef extern from *:
    """
    typedef struct { const char *text; int length; } plain_method;
    static const plain_method plain_methods[] = {
        {"GET\\n", 4}, {"PUT\\n", 4}, {"HEAD\\n", 5}, {0, 0}, {"DELETE\\n", 7}};
    """
    ctypedef struct plain_method:
        const char *text
        int length
    const plain_method plain_methods[5]  # in the order of head_methods

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(object, object) except? NULL

cdef tuple VARIANTS = (("shani", RS3D_CPU_SHA | RS3D_CPU_SSE41 | RS3D_CPU_SSSE3), ("scalar", 0))
cdef int active = SIGV4_SHANI - initial_variant("plainrequest", VARIANTS)

cdef enum:
    GET_INDEX = 0   # in head_methods
    PUT_INDEX = 1
    HEAD_INDEX = 2
    DELETE_INDEX = 4
    ROOM = 8192     # a canonical request of a plain request has some 300 bytes
    MOST_DIGITS = 9  # of a Content-Length: what is longer than this lane takes anyway
    SKEW_S = 900    # S3's own figure
    MOST_SIGNED = 16
    TIMESTAMP = 16  # YYYYMMDDThhmmssZ
    SCOPE = 128
    # Fields that decide something here, as bits of what was seen.
    HOST = 1
    AUTHORIZATION = 2
    DATE = 4
    CONTENT_SHA256 = 8
    CHECKSUM_MODE = 16
    USER_AGENT = 32  # x-amz-user-agent
    INERT = 64
    UNKNOWN = 128
    LENGTH = 256
    TYPE = 512
    CONNECTION = 1024
    CHECKSUM = 2048       # x-amz-checksum-crc32 and the like
    SDK_ALGORITHM = 4096  # x-amz-sdk-checksum-algorithm
    EXPECT = 8192
    NAME_BYTES = 15       # of x-amz-checksum-
    # Where they are sent:
    SIGNED = HOST | DATE | CONTENT_SHA256 | CHECKSUM_MODE | USER_AGENT | CHECKSUM | SDK_ALGORITHM
    MOST_NUMBER_DIGITS = 5  # of a part: 1 to 10,000


def variant():
    return VARIANTS[SIGV4_SHANI - active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = SIGV4_SHANI - variant_index("plainrequest", VARIANTS, name)


cdef class Signer:
    """See plainrequest.pyi."""

    cdef readonly object owner
    cdef bytes key
    cdef bytes scope
    cdef tuple signed
    cdef bytes joined
    cdef int covered
    cdef bint usable

    def __init__(self, bytes signing_key not None, bytes scope not None, tuple signed not None, owner):
        self.key, self.scope, self.signed, self.owner = signing_key, scope, signed, owner
        if PyBytes_GET_SIZE(signing_key) > SIGV4_BLOCK:
            raise ValueError("a signing key has at most 64 bytes")
        for name in signed:
            if type(name) is not bytes:
                raise TypeError("signed names are bytes")
        self.joined = b";".join(signed)
        self.covered = 0
        for name in signed:
            self.covered |= kind_of(<const unsigned char *>PyBytes_AS_STRING(name), <uint32_t>PyBytes_GET_SIZE(name))
        self.usable = 8 < PyBytes_GET_SIZE(scope) <= SCOPE and len(signed) <= MOST_SIGNED


cdef inline bint named(const unsigned char *name, uint32_t length, const char *lower, uint32_t wanted) noexcept nogil:
    cdef uint32_t i
    if length != wanted:
        return False
    for i in range(length):
        if head_token[name[i]] != <unsigned char>lower[i]:
            return False
    return True


cdef int kind_of(const unsigned char *name, uint32_t length) noexcept nogil:
    """What a field name means to a plain request. What is not listed, somebody else has to judge."""
    if length == 4:
        return HOST if named(name, length, b"host", 4) else UNKNOWN
    if length == 6:
        if named(name, length, b"accept", 6):
            return INERT
        return EXPECT if named(name, length, b"expect", 6) else UNKNOWN
    if length == 10:
        if named(name, length, b"user-agent", 10):
            return INERT
        if named(name, length, b"connection", 10):
            return CONNECTION
        return DATE if named(name, length, b"x-amz-date", 10) else UNKNOWN
    if length == 12:
        return TYPE if named(name, length, b"content-type", 12) else UNKNOWN
    if length == 13:
        return AUTHORIZATION if named(name, length, b"authorization", 13) else UNKNOWN
    if length == 14:
        return LENGTH if named(name, length, b"content-length", 14) else UNKNOWN
    if length == 15:
        if named(name, length, b"accept-encoding", 15) or named(name, length, b"amz-sdk-request", 15):
            return INERT
        return INERT if named(name, length, b"accept-language", 15) else UNKNOWN
    if length == 16:
        return USER_AGENT if named(name, length, b"x-amz-user-agent", 16) else UNKNOWN
    if length == 19:
        return CHECKSUM_MODE if named(name, length, b"x-amz-checksum-mode", 19) else UNKNOWN
    if length == 20:
        if named(name, length, b"x-amz-content-sha256", 20):
            return CONTENT_SHA256
        return CHECKSUM if code_of(name, length) else UNKNOWN
    if length == 21:
        if named(name, length, b"amz-sdk-invocation-id", 21):
            return INERT
        return CHECKSUM if code_of(name, length) else UNKNOWN
    if length == 24:
        return CHECKSUM if code_of(name, length) else UNKNOWN
    if length == 28:
        return SDK_ALGORITHM if named(name, length, b"x-amz-sdk-checksum-algorithm", 28) else UNKNOWN
    return UNKNOWN


cdef int code_of(const unsigned char *name, uint32_t length) noexcept nogil:
    """The code of the checksum that such a header brings; 0 where a small put has none of that name."""
    if length == 20:
        return CHECKSUM_CRC32 if named(name, length, b"x-amz-checksum-crc32", 20) else 0
    if length == 21:
        if named(name, length, b"x-amz-checksum-crc32c", 21):
            return CHECKSUM_CRC32C
        return CHECKSUM_SHA256 if named(name, length, b"x-amz-checksum-sha256", 21) else 0
    return CHECKSUM_CRC64NVME if named(name, length, b"x-amz-checksum-crc64nvme", 24) else 0


cdef inline bint is_digit(unsigned char c) noexcept nogil:
    return 48 <= c <= 57


cdef inline bint is_unreserved(unsigned char c) noexcept nogil:
    return (97 <= c <= 122) or (65 <= c <= 90) or (45 <= c <= 57) or c == 95 or c == 126  # - . / 0-9


cdef inline int two(const unsigned char *at) noexcept nogil:
    return (at[0] - 48) * 10 + at[1] - 48


cdef int64_t seconds_of(const unsigned char *at) noexcept nogil:
    """Seconds since 1970 of YYYYMMDDThhmmssZ, or -1 for anything that is no moment of 1970 to 9999."""
    cdef int i, year, month, day, hour, minute, second, days
    cdef int64_t y, era, of_year, of_era
    for i in range(TIMESTAMP):
        if i == 8:
            if at[i] != 84:  # T
                return -1
        elif i == 15:
            if at[i] != 90:  # Z
                return -1
        elif not is_digit(at[i]):
            return -1
    year, month, day = two(at) * 100 + two(at + 2), two(at + 4), two(at + 6)
    hour, minute, second = two(at + 9), two(at + 11), two(at + 13)
    if year < 1970 or not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 59:
        return -1
    days = 31
    if month == 4 or month == 6 or month == 9 or month == 11:
        days = 30
    elif month == 2:
        days = 29 if (year % 4 == 0 and year % 100 != 0) or year % 400 == 0 else 28
    if not 1 <= day <= days:
        return -1
    # Days from the civil calendar, with years that begin in March (Howard Hinnant, "chrono-compatible date algorithms").
    y = year - (month <= 2)
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    of_era = of_era * 365 + of_era // 4 - of_era // 100 + of_year
    return (era * 146097 + of_era - 719468) * 86400 + hour * 3600 + minute * 60 + second


ctypedef struct plain_target:
    uint32_t path_length
    uint32_t query          # behind the question mark; 0 where there is none
    uint32_t query_length
    uint32_t upload         # the upload id's place in the query
    int number              # of a part; 0 where there is no query


cdef bint proves(Signer signer, const unsigned char *data, head_parts *parts, const plain_target *target,
                 const head_field *hash_field, const unsigned char *timestamp,
                 const unsigned char *claimed) except? False:
    """Whether the holder of the signer's key signed exactly this head."""
    cdef unsigned char room[ROOM]
    cdef unsigned char *to = room
    cdef unsigned char digest[SIGV4_DIGEST]
    cdef char digits[SIGV4_DIGITS]
    cdef sigv4_sha256 hash
    cdef const head_field *field
    cdef bytes name
    cdef Py_ssize_t length, folded, left
    cdef int index, found
    left = ROOM - 8 - parts.target_length - 4
    if left < 0:
        return False
    memcpy(to, plain_methods[parts.method].text, plain_methods[parts.method].length)
    to += plain_methods[parts.method].length
    memcpy(to, data + parts.target, target.path_length)
    to += target.path_length
    to[0] = 10
    to += 1
    memcpy(to, data + target.query, target.query_length)
    to += target.query_length
    to[0] = 10
    to += 1
    for name in signer.signed:
        length = PyBytes_GET_SIZE(name)
        found = -1
        for index in range(parts.fields):
            field = &parts.field[index]
            if named(data + field.name, field.name_length, PyBytes_AS_STRING(name), <uint32_t>length):
                if found >= 0:
                    return False  # joined by commas: the slow path's
                found = index
        if found < 0:
            return False
        field = &parts.field[found]
        left -= length + field.value_length + 2
        if left < 0:
            return False
        memcpy(to, PyBytes_AS_STRING(name), length)
        to += length
        to[0] = 58  # :
        folded = sigv4_value(data + field.value, field.value_length, to + 1)
        if folded < 0:
            return False
        to += 1 + folded
        to[0] = 10
        to += 1
    length = PyBytes_GET_SIZE(signer.joined)
    left -= length + hash_field.value_length + 3
    if left < 0:
        return False
    to[0] = 10
    memcpy(to + 1, PyBytes_AS_STRING(signer.joined), length)
    to += 1 + length
    to[0] = 10
    memcpy(to + 1, data + hash_field.value, hash_field.value_length)
    to += 1 + hash_field.value_length
    sigv4_sha256_start(&hash, active)
    sigv4_sha256_update(&hash, room, to - room)
    sigv4_sha256_finish(&hash, digest)
    to = room
    memcpy(to, b"AWS4-HMAC-SHA256\n", 17)
    memcpy(to + 17, timestamp, TIMESTAMP)
    to += 17 + TIMESTAMP
    to[0] = 10
    length = PyBytes_GET_SIZE(signer.scope)
    memcpy(to + 1, PyBytes_AS_STRING(signer.scope), length)
    to += 1 + length
    to[0] = 10
    sigv4_hex(digest, <char *>to + 1)
    to += 1 + SIGV4_DIGITS
    sigv4_hmac(active, <const unsigned char *>PyBytes_AS_STRING(signer.key), PyBytes_GET_SIZE(signer.key), room,
               to - room, digest)
    sigv4_hex(digest, digits)
    return sigv4_equal(digits, <const char *>claimed) != 0


cdef bint is_payload_hash(const unsigned char *at, uint32_t length) noexcept nogil:
    """UNSIGNED-PAYLOAD, or 64 lower-case hexadecimal digits."""
    cdef uint32_t i
    if length == 16:
        return memcmp(at, b"UNSIGNED-PAYLOAD", 16) == 0
    if length != 64:
        return False
    for i in range(64):
        if not (is_digit(at[i]) or 97 <= at[i] <= 102):
            return False
    return True


cdef Py_ssize_t length_of(const unsigned char *at, uint32_t digits) noexcept nogil:
    """A Content-Length as every server writes it, or -1."""
    cdef Py_ssize_t found = 0
    cdef uint32_t i
    if not 0 < digits <= MOST_DIGITS or (at[0] == 48 and digits > 1):
        return -1
    for i in range(digits):
        if not is_digit(at[i]):
            return -1
        found = found * 10 + at[i] - 48
    return found


cdef bint is_text(const unsigned char *at, uint32_t length) noexcept nogil:
    """Whether a value is printable ASCII, and something."""
    cdef uint32_t i
    for i in range(length):
        if not 32 <= at[i] <= 126:
            return False
    return length > 0


ctypedef struct plain_fields:
    int seen
    const head_field *authorization
    const head_field *date
    const head_field *payload_hash
    const head_field *host
    const head_field *type
    const head_field *checksum
    const head_field *sdk_algorithm
    Py_ssize_t length


cdef bint gather(const unsigned char *data, head_parts *parts, plain_fields *found) noexcept nogil:
    """The fields that matter; False where one decides something that is decided elsewhere."""
    cdef const head_field *field
    cdef const unsigned char *value
    cdef int index, kind
    memset(found, 0, sizeof(plain_fields))
    for index in range(parts.fields):
        field = &parts.field[index]
        kind = kind_of(data + field.name, field.name_length)
        if kind == INERT:
            continue
        if kind == UNKNOWN or found.seen & kind:
            return False
        value = data + field.value
        found.seen |= kind
        if kind == AUTHORIZATION:
            found.authorization = field
        elif kind == DATE:
            found.date = field
        elif kind == HOST:
            found.host = field
        elif kind == CONTENT_SHA256:
            found.payload_hash = field
        elif kind == TYPE:
            found.type = field
        elif kind == CHECKSUM:
            found.checksum = field
        elif kind == SDK_ALGORITHM:
            found.sdk_algorithm = field
        elif kind == LENGTH:
            found.length = length_of(value, field.value_length)
            if found.length < 0:
                return False
        elif kind == EXPECT and not named(value, field.value_length, b"100-continue", 12):
            return False
        elif kind == CONNECTION and field.value_length != 10:  # close ends the connection
            return False
        elif kind == CHECKSUM_MODE and not (field.value_length == 7 and memcmp(value, b"ENABLED", 7) == 0):
            return False
    return (found.host != NULL and found.authorization != NULL and found.date != NULL and found.payload_hash != NULL
            and found.authorization.value_length > SIGV4_DIGITS)


cdef object find_signer(const unsigned char *data, head_parts *parts, const plain_target *target, plain_fields *found,
                        dict signers, int64_t now_s):
    """Who signed this head; what names them, when they are not known; None when nobody is known to have."""
    cdef const unsigned char *value = data + found.authorization.value
    cdef uint32_t before = found.authorization.value_length - SIGV4_DIGITS
    cdef bytes name = PyBytes_FromStringAndSize(<const char *>value, before)
    cdef PyObject *known = PyDict_GetItemWithError(signers, name)
    cdef int64_t signed_s
    cdef Signer signer
    if known == NULL:
        return name
    if type(<object>known) is not Signer:
        raise TypeError("signers has a value that is no Signer")
    signer = <Signer><object>known
    # Host and whatever x-amz-… was sent have to be signed.
    if not signer.usable or found.seen & SIGNED & ~signer.covered:
        return None
    if found.date.value_length != TIMESTAMP or memcmp(data + found.date.value, PyBytes_AS_STRING(signer.scope), 8) != 0:
        return None
    signed_s = seconds_of(data + found.date.value)
    if signed_s < 0 or signed_s - now_s > SKEW_S or now_s - signed_s > SKEW_S:
        return None
    if not is_payload_hash(data + found.payload_hash.value, found.payload_hash.value_length):
        return None
    if not proves(signer, data, parts, target, found.payload_hash, data + found.date.value, value + before):
        return None
    return signer


cdef inline bytes value_of(const unsigned char *data, const head_field *field):
    return PyBytes_FromStringAndSize(<const char *>data + field.value, field.value_length)


cdef bytes checksum_in(const unsigned char *data, const plain_fields *found):
    """The checksum that came, as a message has it; None where it is none, or another was announced."""
    cdef const head_field *field = found.checksum
    cdef const head_field *named_by = found.sdk_algorithm
    cdef const char *name
    cdef unsigned char *at
    cdef uint32_t i
    cdef int code
    if field == NULL:
        return None
    code = code_of(data + field.name, field.name_length)
    if named_by != NULL:
        name = checksum_name(code)
        if named_by.value_length != field.name_length - NAME_BYTES:
            return None
        for i in range(named_by.value_length):
            if head_token[data[named_by.value + i]] != head_token[<unsigned char>name[i]]:
                return None
    checksum = PyBytes_FromStringAndSize(NULL, CHECKSUM_BYTES)
    at = <unsigned char *>PyBytes_AS_STRING(checksum)
    memset(at, 0, CHECKSUM_BYTES)
    at[0] = <unsigned char>code
    if not rs3d_take_base64(data + field.value, field.value_length, at + 1, checksum_bytes(code)):
        return None
    return checksum


cdef bint scan(const unsigned char *data, Py_ssize_t length, int most_fields, head_parts *parts,
               plain_target *target) noexcept nogil:
    """Whether this is a head of ours with a target that is its own canonical form; its query, if it has one, is that of
    a part."""
    cdef uint32_t i
    if head_scan(data, length, parts) != HEAD_GOOD or parts.fields > most_fields:
        return False
    memset(target, 0, sizeof(plain_target))
    target.path_length = parts.target_length
    for i in range(parts.target_length):
        if not is_unreserved(data[parts.target + i]):
            return data[parts.target + i] == 63 and reads_part(data, parts, i, target)  # ?
    return True


cdef bint reads_part(const unsigned char *data, head_parts *parts, uint32_t mark, plain_target *target) noexcept nogil:
    """Whether what follows the question mark is partNumber=…&uploadId=…, in this order, which is that of signatures."""
    cdef const unsigned char *query = data + parts.target + mark + 1
    cdef uint32_t length = parts.target_length - mark - 1
    cdef uint32_t at = 11
    cdef uint32_t i
    if length < 22 or memcmp(query, b"partNumber=", 11) != 0 or query[11] == 48:
        return False
    while at < length and is_digit(query[at]):
        target.number = target.number * 10 + query[at] - 48
        at += 1
        if at > 11 + MOST_NUMBER_DIGITS:
            return False
    if not 1 <= target.number <= 10000 or length - at <= 10 or memcmp(query + at, b"&uploadId=", 10) != 0:
        return False
    target.upload = at + 10
    for i in range(target.upload, length):
        if not is_unreserved(query[i]) or query[i] == 47:  # /
            return False
    target.path_length = mark
    target.query = parts.target + mark + 1
    target.query_length = length
    return True


cdef object recognise_read(const unsigned char *data, Py_ssize_t start, Py_ssize_t length, dict signers, int64_t now_s,
                           int most_fields):
    cdef head_parts parts
    cdef plain_target target
    cdef plain_fields found
    if length < 16 or (data[0] != 71 and data[0] != 72):  # G, H: everything else is told apart at once
        return None
    if not scan(data, length, most_fields, &parts, &target) or target.number:
        return None
    if parts.method != GET_INDEX and parts.method != HEAD_INDEX:
        return None
    if not gather(data, &parts, &found) or found.length or found.seen & (CHECKSUM | SDK_ALGORITHM | EXPECT):
        return None
    signer = find_signer(data, &parts, &target, &found, signers, now_s)
    if type(signer) is not Signer:
        return signer
    return (
        parts.method == HEAD_INDEX,
        PyBytes_FromStringAndSize(<const char *>data + parts.target, parts.target_length),
        signer,
        start + parts.length,
        found.seen & CHECKSUM_MODE != 0,
        value_of(data, found.host),
    )


cdef object recognise_write(const unsigned char *data, Py_ssize_t start, Py_ssize_t length, dict signers, int64_t now_s,
                            int most_fields):
    cdef head_parts parts
    cdef plain_target target
    cdef plain_fields found
    if length < 16 or (data[0] != 80 and data[0] != 68):  # P, D
        return None
    if not scan(data, length, most_fields, &parts, &target):
        return None
    if parts.method != PUT_INDEX and (parts.method != DELETE_INDEX or target.number):
        return None
    if not gather(data, &parts, &found) or found.seen & CHECKSUM_MODE:
        return None
    if parts.method == DELETE_INDEX:
        if found.length or found.type != NULL or found.seen & (CHECKSUM | SDK_ALGORITHM | EXPECT):
            return None
    elif not found.seen & LENGTH:
        return None
    if found.type != NULL and not is_text(data + found.type.value, found.type.value_length):
        return None
    checksum = None
    if found.seen & (CHECKSUM | SDK_ALGORITHM):
        checksum = checksum_in(data, &found)
        if checksum is None:
            return None
    signer = find_signer(data, &parts, &target, &found, signers, now_s)
    if type(signer) is not Signer:
        return signer
    return (
        parts.method == DELETE_INDEX,
        PyBytes_FromStringAndSize(<const char *>data + parts.target, target.path_length),
        signer,
        start + parts.length,
        start + parts.length + found.length,
        None if found.type == NULL else value_of(data, found.type),
        value_of(data, found.payload_hash),
        value_of(data, found.host),
        None if not target.number else (
            target.number,
            PyBytes_FromStringAndSize(
                <const char *>data + target.query + target.upload, target.query_length - target.upload
            ),
        ),
        checksum,
        found.seen & EXPECT != 0,
    )


ctypedef object (*recogniser)(const unsigned char *, Py_ssize_t, Py_ssize_t, dict, int64_t, int)


cdef object recognised(recogniser recognise, buffer, Py_ssize_t start, Py_ssize_t end, dict signers, int64_t now_s,
                       int most_fields):
    cdef Py_buffer view
    open_readable(buffer, &view)
    try:
        check_span("request", view.len, start, end - start)
        return recognise(<const unsigned char *>view.buf + start, start, end - start, signers, now_s, most_fields)
    finally:
        PyBuffer_Release(&view)


def read(buffer, Py_ssize_t start, Py_ssize_t end, dict signers not None, int64_t now_s, int most_fields):
    return recognised(recognise_read, buffer, start, end, signers, now_s, most_fields)


def write(buffer, Py_ssize_t start, Py_ssize_t end, dict signers not None, int64_t now_s, int most_fields):
    return recognised(recognise_write, buffer, start, end, signers, now_s, most_fields)


cdef bytes KNOWN_SIGNATURE = b"0fcb291c4b47980ad34dd9a29532ceae67b48e45de3d6054873b430740567ec2"


def selftest():
    # The example of the S3 API reference, without its Range: signed anew with the reference's key and checked here.
    key = bytes.fromhex("dbb893acc010964918f1fd433add87c70e8b0db6be30c1fbeafefa5ec6ba8378")
    before = (b"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
              b"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=")
    empty = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    signed = (b"host", b"x-amz-content-sha256", b"x-amz-date")
    signer = Signer(key, b"20130524/us-east-1/s3/aws4_request", signed, "owner")
    head = (b"GET /examplebucket/test.txt HTTP/1.1\r\nHost: s3.amazonaws.com\r\nAuthorization: " + before
            + b"SIGNATURE\r\nx-amz-content-sha256: " + empty + b"\r\nx-amz-date: 20130524T000000Z\r\n\r\n")
    now_s = 1369353600
    checks = 0
    global active
    variant_before = active
    try:
        for name in runnable_variants(VARIANTS):
            use_variant(name)
            good = head.replace(b"SIGNATURE", KNOWN_SIGNATURE)
            found = read(good, 0, len(good), {before: signer}, now_s, 64)
            if found != (False, b"/examplebucket/test.txt", signer, len(good), False, b"s3.amazonaws.com"):
                raise RuntimeError(f"kernel plainrequest: variant {name} does not prove a good signature")
            bad = head.replace(b"SIGNATURE", (b"1" if KNOWN_SIGNATURE[0] == 48 else b"0") + KNOWN_SIGNATURE[1:])
            if read(bad, 0, len(bad), {before: signer}, now_s, 64) is not None:
                raise RuntimeError(f"kernel plainrequest: variant {name} takes a wrong signature")
            checks += 2
    finally:
        active = variant_before
    if read(good, 0, len(good), {before: signer}, now_s + 901, 64) is not None:
        raise RuntimeError("kernel plainrequest: an old request is taken")
    return checks + 1

