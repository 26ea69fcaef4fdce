"""What a put writes whose record is small: see smallput.pyi for the contract."""
cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from recordfields cimport (
    load_big, put_big, put_raw, put_zeros, put_uint, put_text_head, put_text, put_name, put_bin, put_hex,
)
from smallcrc cimport crc_poly_32c, crc_setup, crc_update, small_crc_variant

crc_setup()
cdef int variant = small_crc_variant()

cdef enum:
    # The message (rs3d/stores/smallput.py BODY).
    BUCKET_AT = 8
    TOKEN_AT = 16
    ETAG_KIND_AT = 32
    ETAG_AT = 33
    ROOT_AT = 65
    OWNER_AT = 97
    CRC_AT = 129
    KEY_BYTES_AT = 133
    TYPE_BYTES_AT = 135
    FIXED_BYTES = 137
    # What stands in place of a payload that is stored as a blob (rs3d/stores/blobput.py BLOB).
    NUMBER_AT = 8
    CLIENT_BYTES_AT = 12
    STORED_BYTES_AT = 20
    DISK_BYTES_AT = 28
    BLOB_BYTES = 36
    BLOB_ID_BYTES = 12
    TOKEN_BYTES = 16
    DIGEST_BYTES = 32
    # The record (FORMAT.md sections "Log record" and "Record bodies").
    HEAD_BYTES = 40
    CHECKED_FROM = 8
    RECORD_MAGIC = 0x52334C52
    VERSION_PUT = 1
    # The rows (FORMAT.md section "Catalog rows").
    VERSION_BYTES = 170
    CURRENT_BYTES = 123
    CRC_BYTES = 4
    KIND_OBJECT = 1
    FLAG_NULL = 1
    PLACED_INLINE = 1
    PLACED_EXTENT = 2
    PLACEMENT_ID_BYTES = 24
    ETAG_MD5 = 1
    MOST_KEY_BYTES = 462
    MOST_TYPE_BYTES = 512
    # Names, numbers and digests of a body take some 660 bytes beside key, type and mutable part.
    MOST_MUTABLE_BYTES = 256
    BODY_ROOM = 2304


cdef inline uint32_t crc32c(uint32_t seed, const void *data, size_t length) noexcept nogil:
    return <uint32_t>crc_update(&crc_poly_32c, variant, seed, <const unsigned char *>data, length)


cdef inline unsigned char *put_flag(unsigned char *at, bint value) noexcept nogil:
    at[0] = 0xC3 if value else 0xC2
    return at + 1


cdef object sealed(uint32_t seed, object key, const unsigned char *value, size_t length):
    """The value and its CRC behind it, as the catalog stores it."""
    cdef uint32_t crc = crc32c(seed, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    made = PyBytes_FromStringAndSize(NULL, length + CRC_BYTES)
    cdef unsigned char *at = <unsigned char *>PyBytes_AS_STRING(made)
    put_big(put_raw(at, value, length), crc32c(crc, value, length), CRC_BYTES)
    return made


def row_key(bytes message not None):
    cdef const unsigned char *m = <const unsigned char *>PyBytes_AS_STRING(message)
    cdef size_t length = PyBytes_GET_SIZE(message), key_bytes, type_bytes, i
    cdef unsigned char seen = 0
    if length < FIXED_BYTES:
        return None
    key_bytes, type_bytes = load_big(m + KEY_BYTES_AT, 2), load_big(m + TYPE_BYTES_AT, 2)
    if not 0 < key_bytes <= MOST_KEY_BYTES or type_bytes > MOST_TYPE_BYTES:
        return None
    if length < FIXED_BYTES + key_bytes + type_bytes or memchr(m + FIXED_BYTES, 0, key_bytes + type_bytes) != NULL:
        return None
    for i in range(key_bytes + type_bytes):
        seen |= m[FIXED_BYTES + i]
    if seen & 0x80:
        return None
    made = PyBytes_FromStringAndSize(NULL, 8 + key_bytes + 2)
    cdef unsigned char *at = put_raw(<unsigned char *>PyBytes_AS_STRING(made), m + BUCKET_AT, 8)
    put_zeros(put_raw(at, m + FIXED_BYTES, key_bytes), 2)
    return made


cdef inline bint is_sound(uint32_t seed, const unsigned char *key, size_t key_bytes, bytes sealed) noexcept:
    """Whether a value as it is stored ends in the CRC of its key and itself."""
    cdef const unsigned char *value = <const unsigned char *>PyBytes_AS_STRING(sealed)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(sealed) - CRC_BYTES
    return length >= 0 and crc32c(crc32c(seed, key, key_bytes), value, length) == load_big(value + length, CRC_BYTES)


cdef int beside(object cursor, bytes row_key, uint32_t seed, tuple item, bint follows) except -1:
    """1 where the row that the cursor is at lies on that side of the key's place and is sound, else 0."""
    cdef bytes key = item[0], sealed = item[1]
    cdef size_t bytes_there = PyBytes_GET_SIZE(key), wanted = PyBytes_GET_SIZE(row_key)
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(key)
    cdef int order = memcmp(at, PyBytes_AS_STRING(row_key), bytes_there if bytes_there < wanted else wanted)
    if order == 0:
        order = -1 if bytes_there < wanted else 1
    return (order > 0) == follows and is_sound(seed, at, bytes_there, sealed)


def first_row(cursor, bytes row_key not None, uint32_t seed):
    cdef bint is_there = cursor.set_range(row_key)
    cdef tuple item
    cdef bytes key
    if is_there:
        item = cursor.item()
        key = item[0]
        if PyBytes_GET_SIZE(key) >= PyBytes_GET_SIZE(row_key) and memcmp(
                PyBytes_AS_STRING(key), PyBytes_AS_STRING(row_key), PyBytes_GET_SIZE(row_key)) == 0:
            return item
        if not beside(cursor, row_key, seed, item, True):
            return False
    if cursor.prev() if is_there else cursor.last():
        if not beside(cursor, row_key, seed, cursor.item(), False):
            return False
    return None


@cython.final
cdef class SmallPuts:
    cdef uint32_t versions_seed, current_seed
    cdef bytes mutable

    def __init__(self, uint32_t versions_seed, uint32_t current_seed, bytes mutable not None):
        if PyBytes_GET_SIZE(mutable) > MOST_MUTABLE_BYTES:
            raise ValueError(f"a mutable part of at most {MOST_MUTABLE_BYTES} bytes")
        self.versions_seed, self.current_seed = versions_seed, current_seed
        self.mutable = mutable

    def append(self, bytearray log not None, const unsigned char[::1] message not None, uint64_t counter,
               uint64_t answered_below, uint64_t sequence, uint64_t now_ns, bint null, bint reports, uint32_t seed,
               uint32_t previous_crc, uint32_t segment, uint32_t offset, bint is_blob):
        cdef unsigned char body[BODY_ROOM]
        cdef unsigned char row[VERSION_BYTES]
        cdef size_t length = message.shape[0]
        if length < FIXED_BYTES:
            raise ValueError("a put of a small object is cut")
        cdef const unsigned char *m = &message[0]
        cdef size_t key_bytes = load_big(m + KEY_BYTES_AT, 2), type_bytes = load_big(m + TYPE_BYTES_AT, 2)
        if not 0 < key_bytes <= MOST_KEY_BYTES or type_bytes > MOST_TYPE_BYTES:
            raise ValueError("a put of a small object with too long a key or type")
        if length < FIXED_BYTES + key_bytes + type_bytes:
            raise ValueError("a put of a small object is cut")
        cdef const unsigned char *key = m + FIXED_BYTES
        if memchr(key, 0, key_bytes) != NULL:
            raise ValueError("a put of a small object with a key that has to be escaped")
        cdef const unsigned char *payload = key + key_bytes + type_bytes
        cdef const unsigned char *blob = payload
        cdef size_t payload_bytes = length - FIXED_BYTES - key_bytes - type_bytes
        cdef uint32_t payload_crc = crc32c(0, payload, payload_bytes) if payload_bytes else 0
        if payload_crc != load_big(m + CRC_AT, 4):
            raise ValueError("the payload of a small object changed on its way to the committer")
        cdef uint64_t size = payload_bytes
        if is_blob:
            if payload_bytes != BLOB_BYTES:
                raise ValueError("a put of a blob is cut")
            size, payload_bytes, payload_crc = load_big(blob + CLIENT_BYTES_AT, 8), 0, 0

        cdef size_t etag_bytes = 16 if m[ETAG_KIND_AT] == ETAG_MD5 else DIGEST_BYTES
        cdef unsigned char *at = body
        at[0] = 0x8B if is_blob else 0x8A  # so many fields; msgspec leaves out those at their defaults
        at = put_name(at + 1, "operation")
        at[0] = 0x93
        at = put_uint(put_uint(put_uint(at + 1, load_big(m, 8)), counter), answered_below)
        at = put_uint(put_name(at, "bucket"), load_big(m + BUCKET_AT, 8))
        at = put_text(put_name(at, "key"), key, key_bytes)
        at = put_bin(put_name(at, "token"), m + TOKEN_AT, TOKEN_BYTES)
        at = put_flag(put_name(at, "null"), null)
        at = put_flag(put_name(at, "reports_version"), reports)
        at = put_uint(put_name(at, "last_modified_ns"), now_ns)
        at = put_name(at, "meta")
        at[0] = 0x8A
        at = put_uint(put_name(at + 1, "size_bytes"), size)
        at = put_hex(put_text_head(put_name(at, "etag"), 2 * etag_bytes), m + ETAG_AT, etag_bytes)
        at = put_hex(put_text_head(put_name(at, "owner"), 2 * DIGEST_BYTES), m + OWNER_AT, DIGEST_BYTES)
        at = put_name(at, "headers")
        if type_bytes:
            at[0], at[1] = 0x91, 0x92
            at = put_text(put_name(at + 2, "content-type"), key + key_bytes, type_bytes)
        else:
            at[0] = 0x90
            at += 1
        at = put_name(at, "user_metadata")
        at[0] = 0x90
        at = put_name(at + 1, "checksums")
        at[0] = 0x90
        at = put_uint(put_name(at + 1, "part_count"), 0)
        at = put_bin(put_name(at, "merkle_root"), m + ROOT_AT, DIGEST_BYTES)
        at = put_bin(put_name(at, "signature"), m, 0)
        at = put_uint(put_name(at, "last_modified_ns"), 0)
        at = put_name(at, "mutable")
        at = put_raw(at, PyBytes_AS_STRING(self.mutable), PyBytes_GET_SIZE(self.mutable))
        if is_blob:
            at = put_name(at, "extent")
            at[0] = 0x83
            at = put_uint(put_name(put_blob_id(at + 1, blob), "offset"), 0)
            at = put_name(put_uint(put_name(at, "length"), size), "new_blobs")
            at[0], at[1] = 0x91, 0x83
            at = put_uint(put_name(put_blob_id(at + 2, blob), "stored_bytes"), load_big(blob + STORED_BYTES_AT, 8))
            at = put_uint(put_name(at, "disk_bytes"), load_big(blob + DISK_BYTES_AT, 8))
        else:
            at = put_name(at, "inline")
            at[0] = 0x82 if payload_crc else 0x81
            at = put_uint(put_name(at + 1, "stored_bytes"), size)
            if payload_crc:
                at = put_uint(put_name(at, "block_crc32c"), payload_crc)

        cdef size_t body_bytes = at - body, start = PyByteArray_GET_SIZE(log)
        cdef size_t padding = -(HEAD_BYTES + body_bytes + payload_bytes) & 7
        cdef uint32_t crc
        PyByteArray_Resize(log, start + HEAD_BYTES + body_bytes + payload_bytes + padding)
        cdef unsigned char *head = <unsigned char *>PyByteArray_AS_STRING(log) + start
        at = put_big(put_big(head + CHECKED_FROM, previous_crc, 4), VERSION_PUT, 2)
        at = put_big(put_big(at, 0, 2), sequence, 8)
        at = put_big(put_big(put_big(put_big(at, body_bytes, 4), payload_bytes, 4), payload_crc, 4), 0, 4)
        at = put_raw(at, body, body_bytes)
        crc = crc32c(seed, head + CHECKED_FROM, at - head - CHECKED_FROM)
        put_zeros(put_raw(at, payload, payload_bytes), padding)
        put_big(put_big(head, RECORD_MAGIC, 4), crc, 4)

        current_key = PyBytes_FromStringAndSize(NULL, 8 + key_bytes)
        put_raw(put_raw(<unsigned char *>PyBytes_AS_STRING(current_key), m + BUCKET_AT, 8), key, key_bytes)
        version_key = PyBytes_FromStringAndSize(NULL, 8 + key_bytes + 2 + 8)
        at = put_raw(<unsigned char *>PyBytes_AS_STRING(version_key), PyBytes_AS_STRING(current_key), 8 + key_bytes)
        put_big(put_zeros(at, 2), ~sequence, 8)

        row[0], row[1] = KIND_OBJECT, FLAG_NULL if null else 0
        at = put_raw(put_big(put_big(row + 2, size, 8), now_ns, 8), m + TOKEN_AT, TOKEN_BYTES)
        at = put_place(at, segment, offset, HEAD_BYTES + body_bytes, payload_bytes)
        at = put_etag(put_zeros(at, 16), m, etag_bytes)  # place of the state, revision
        at[0] = 0  # class
        at = put_zeros(put_raw(at + 1, m + OWNER_AT, DIGEST_BYTES), 2)
        at[0] = PLACED_EXTENT if is_blob else PLACED_INLINE
        if is_blob:
            put_zeros(put_raw(at + 1, blob, BLOB_ID_BYTES), PLACEMENT_ID_BYTES - BLOB_ID_BYTES + 1 + 8)
        else:
            put_zeros(at + 1, PLACEMENT_ID_BYTES + 1 + 8)
        version = sealed(self.versions_seed, version_key, row, VERSION_BYTES)

        at = put_big(put_big(put_big(row, size, 8), now_ns, 8), sequence, 8)
        at = put_place(at, segment, offset, HEAD_BYTES + body_bytes, payload_bytes)
        at = put_etag(put_zeros(at, 12), m, etag_bytes)
        at[0] = 0
        at = put_zeros(put_raw(at + 1, m + OWNER_AT, DIGEST_BYTES), 2)
        at[0] = FLAG_NULL if null else 0
        current = sealed(self.current_seed, current_key, row, CURRENT_BYTES)

        body[0] = 0x96
        at = put_uint(body + 1, sequence)
        if null:
            at = put_name(at, "null")
        else:
            put_big(row, sequence, 8)
            at = put_hex(put_text_head(at, 2 * (8 + TOKEN_BYTES)), row, 8)
            at = put_hex(at, m + TOKEN_AT, TOKEN_BYTES)
        at = put_uint(put_flag(put_flag(at, reports), False), now_ns)
        at = put_hex(put_text_head(at, 2 * etag_bytes), m + ETAG_AT, etag_bytes)
        outcome = PyBytes_FromStringAndSize(<const char *>body, at - body)
        return crc, HEAD_BYTES + body_bytes, payload_bytes, size, version_key, version, current_key, current, outcome


cdef inline unsigned char *put_blob_id(unsigned char *at, const unsigned char *blob) noexcept nogil:
    at = put_name(at, "blob")
    at[0] = 0x92
    return put_uint(put_uint(at + 1, load_big(blob, 8)), load_big(blob + NUMBER_AT, 4))


cdef inline unsigned char *put_place(unsigned char *at, uint32_t segment, uint32_t offset, size_t head_bytes,
                                     size_t payload_bytes) noexcept nogil:
    return put_big(put_big(put_big(put_big(at, segment, 4), offset, 4), head_bytes, 4), payload_bytes, 4)


cdef inline unsigned char *put_etag(unsigned char *at, const unsigned char *message, size_t length) noexcept nogil:
    """Kind, no parts, digest."""
    at[0] = message[ETAG_KIND_AT]
    at = put_raw(put_zeros(at + 1, 2), message + ETAG_AT, length)
    return put_zeros(at, DIGEST_BYTES - length)


class _OneRow:
    """A cursor of a table with one row."""

    def __init__(self, key, value):
        self._row = (key, value)

    def set_range(self, key):
        return self._row[0] >= key

    def item(self):
        return self._row

    def prev(self):
        return False

    def last(self):
        return True


def selftest():
    """See the .pyi."""
    # 0xE3069283 is the CRC32C of "123456789" (RFC 3720, B.4).
    message = bytearray(FIXED_BYTES) + b"k" + b"123456789"
    message[ETAG_KIND_AT], message[CRC_AT:CRC_AT + 4], message[KEY_BYTES_AT + 1] = 1, b"\xe3\x06\x92\x83", 1
    log = bytearray()
    crc, head, payload, size, version_key, version, current_key, current, outcome = SmallPuts(0, 0, b"\x80").append(
        log, message, 1, 1, 2, 3, True, False, 0, 0, 1, 4096, False)
    if (head, payload, size) != (len(log) - 9 - (-(head + 9) & 7), 9, 9) or log[head:head + 9] != b"123456789":
        raise RuntimeError("smallput: a record was built wrongly")
    if int.from_bytes(log[4:8], "big") != crc or crc != crc32c(0, PyByteArray_AS_STRING(log) + CHECKED_FROM, head - 8):
        raise RuntimeError("smallput: wrong CRC of a record")
    if current_key != bytes(8) + b"k" or version_key != bytes(8) + b"k\0\0" + b"\xff" * 7 + b"\xfd":
        raise RuntimeError("smallput: wrong keys")
    if len(version) != VERSION_BYTES + CRC_BYTES or len(current) != CURRENT_BYTES + CRC_BYTES:
        raise RuntimeError("smallput: wrong rows")
    if outcome != b"\x96\x02\xa4null\xc2\xc2\x03\xd9\x20" + b"00" * 16:
        raise RuntimeError("smallput: wrong outcome")
    if row_key(bytes(message)) != bytes(8) + b"k\0\0" or row_key(bytes(message[:-9])) is None:
        raise RuntimeError("smallput: a wrong key of rows")
    placed = bytes(7) + b"\x05" + bytes(3) + b"\x06" + bytes(7) + b"\x07" + bytes(7) + b"\x08" + bytes(8)
    blob_message = message[:FIXED_BYTES + 1] + placed
    blob_message[CRC_AT:CRC_AT + 4] = crc32c(0, PyBytes_AS_STRING(placed), BLOB_BYTES).to_bytes(4, "big")
    log = bytearray()
    made = SmallPuts(0, 0, b"\x80").append(log, blob_message, 1, 1, 2, 3, True, False, 0, 0, 1, 4096, True)
    if made[2:4] != (0, 7) or len(log) != made[1] + (-made[1] & 7):
        raise RuntimeError("smallput: a record of a blob was built wrongly")
    if made[5][136:149] != b"\x02" + placed[:BLOB_ID_BYTES]:
        raise RuntimeError("smallput: a row of a blob was built wrongly")
    cursor = _OneRow(version_key, version)
    if first_row(cursor, version_key[:-8], 0) != (version_key, version):
        raise RuntimeError("smallput: a row was not found")
    after, before = version_key[:-9] + b"\x01", bytes(8) + b"j"
    if first_row(cursor, after, 0) is not None or first_row(cursor, before, 0) is not None:
        raise RuntimeError("smallput: a row was found that is not there")
    if first_row(cursor, after, 1) is not False or first_row(cursor, before, 1) is not False:
        raise RuntimeError("smallput: a damaged row beside a key was taken")
    message[FIXED_BYTES] = 0xC3
    if row_key(bytes(message)) is not None:
        raise RuntimeError("smallput: a key that is not ASCII got a key of rows")
    message[FIXED_BYTES], message[FIXED_BYTES + 1] = 0x6B, message[FIXED_BYTES + 1] ^ 1
    try:
        SmallPuts(0, 0, b"\x80").append(log, message, 1, 1, 2, 3, True, False, 0, 0, 1, 4096, False)
    except ValueError:
        return 15
    raise RuntimeError("smallput: a changed payload passed")
