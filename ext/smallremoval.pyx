"""What the removal of a small object reads and writes: see smallremoval.pyi for the contract."""
cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from recordfields cimport load_big, put_big, put_raw, put_zeros, put_uint, put_text, put_name, put_bin
from smallcrc cimport crc_poly_32c, crc_setup, crc_update, small_crc_variant

crc_setup()
cdef int variant = small_crc_variant()

cdef enum:
    # The message (rs3d/stores/smallremoval.py BODY).
    BUCKET_AT = 8
    FIXED_BYTES = 96
    MOST_KEY_BYTES = 462
    TOKEN_BYTES = 16
    # The record (FORMAT.md sections "Log record" and "Record bodies").
    HEAD_BYTES = 40
    CHECKED_FROM = 8
    RECORD_MAGIC = 0x52334C52
    VERSION_REMOVED = 3
    # The row (FORMAT.md section "Catalog rows").
    VERSION_BYTES = 170
    CRC_BYTES = 4
    SEQUENCE_BYTES = 8
    FLAGS_AT = 1
    SIZE_AT = 2
    TOKEN_AT = 18
    SEGMENT_AT = 34
    HEAD_BYTES_AT = 42
    PAYLOAD_BYTES_AT = 46
    STATE_SEGMENT_AT = 50
    PLACEMENT_AT = 136
    BLOB_AT = 137
    BLOB_ID_BYTES = 12
    RETENTION_AT = 161
    KIND_OBJECT = 1
    FLAG_NULL = 1
    PLACED_INLINE = 1
    PLACED_EXTENT = 2
    # Names, numbers and the token take some 160 bytes beside the key.
    BODY_ROOM = 1024


cdef inline uint32_t crc32c(uint32_t seed, const void *data, size_t length) noexcept nogil:
    return <uint32_t>crc_update(&crc_poly_32c, variant, seed, <const unsigned char *>data, length)


cdef inline unsigned char *put_flag(unsigned char *at, bint value) noexcept nogil:
    at[0] = 0xC3 if value else 0xC2
    return at + 1


def row_keys(bytes message not None):
    cdef const unsigned char *m = <const unsigned char *>PyBytes_AS_STRING(message)
    cdef size_t length = PyBytes_GET_SIZE(message), key_bytes, i
    cdef unsigned char seen = 0
    if not FIXED_BYTES < length <= FIXED_BYTES + MOST_KEY_BYTES:
        return None
    key_bytes = length - FIXED_BYTES
    if memchr(m + FIXED_BYTES, 0, key_bytes) != NULL:
        return None
    for i in range(key_bytes):
        seen |= m[FIXED_BYTES + i]
    if seen & 0x80:
        return None
    current = PyBytes_FromStringAndSize(NULL, 8 + key_bytes)
    versions = PyBytes_FromStringAndSize(NULL, 8 + key_bytes + 2)
    put_raw(put_raw(<unsigned char *>PyBytes_AS_STRING(current), m + BUCKET_AT, 8), m + FIXED_BYTES, key_bytes)
    put_zeros(put_raw(<unsigned char *>PyBytes_AS_STRING(versions), PyBytes_AS_STRING(current), 8 + key_bytes), 2)
    return versions, current


def plain_version(uint32_t seed, bytes row_key not None, bytes key not None, bytes sealed not None):
    cdef size_t row_key_bytes = PyBytes_GET_SIZE(row_key), key_bytes = PyBytes_GET_SIZE(key)
    cdef const unsigned char *k = <const unsigned char *>PyBytes_AS_STRING(key)
    cdef const unsigned char *row = <const unsigned char *>PyBytes_AS_STRING(sealed)
    if key_bytes != row_key_bytes + SEQUENCE_BYTES or memcmp(k, PyBytes_AS_STRING(row_key), row_key_bytes):
        return None
    if PyBytes_GET_SIZE(sealed) != VERSION_BYTES + CRC_BYTES:
        return None
    if crc32c(crc32c(seed, k, key_bytes), row, VERSION_BYTES) != load_big(row + VERSION_BYTES, CRC_BYTES):
        return None
    if row[0] != KIND_OBJECT or row[FLAGS_AT] != FLAG_NULL:
        return None
    if row[PLACEMENT_AT] != PLACED_INLINE and row[PLACEMENT_AT] != PLACED_EXTENT:
        return None
    if row[RETENTION_AT] or load_big(row + STATE_SEGMENT_AT, 4):
        return None
    cdef uint64_t record_bytes = load_big(row + HEAD_BYTES_AT, 4) + load_big(row + PAYLOAD_BYTES_AT, 4)
    return (
        <uint64_t>~load_big(k + row_key_bytes, SEQUENCE_BYTES),
        PyBytes_FromStringAndSize(<const char *>row + TOKEN_AT, TOKEN_BYTES),
        load_big(row + SIZE_AT, 8),
        load_big(row + SEGMENT_AT, 4),
        (record_bytes + 7) & ~<uint64_t>7,
        PyBytes_FromStringAndSize(<const char *>row + BLOB_AT, BLOB_ID_BYTES if row[PLACEMENT_AT] == PLACED_EXTENT else 0),
    )


def append(bytearray log not None, bytes message not None, uint64_t counter, uint64_t answered_below, uint64_t sequence,
           uint64_t version, bytes token not None, uint32_t seed, uint32_t previous_crc):
    cdef unsigned char body[BODY_ROOM]
    cdef unsigned char answer[32]
    cdef size_t length = PyBytes_GET_SIZE(message)
    if not FIXED_BYTES < length <= FIXED_BYTES + MOST_KEY_BYTES:
        raise ValueError("a removal of a small object that is cut, or with too long a key")
    if PyBytes_GET_SIZE(token) != TOKEN_BYTES:
        raise ValueError(f"a version's token has {TOKEN_BYTES} bytes")
    cdef const unsigned char *m = <const unsigned char *>PyBytes_AS_STRING(message)
    cdef unsigned char *at = body
    at[0] = 0x88
    at = put_name(at + 1, "operation")
    at[0] = 0x93
    at = put_uint(put_uint(put_uint(at + 1, load_big(m, 8)), counter), answered_below)
    at = put_uint(put_name(at, "bucket"), load_big(m + BUCKET_AT, 8))
    at = put_text(put_name(at, "key"), m + FIXED_BYTES, length - FIXED_BYTES)
    at = put_uint(put_name(at, "version"), version)
    at = put_bin(put_name(at, "token"), PyBytes_AS_STRING(token), TOKEN_BYTES)
    at = put_flag(put_name(at, "null"), True)
    at = put_flag(put_name(at, "reports_version"), False)
    at = put_flag(put_name(at, "marker"), False)

    cdef size_t body_bytes = at - body, start = PyByteArray_GET_SIZE(log)
    cdef size_t padding = -(HEAD_BYTES + body_bytes) & 7
    cdef uint32_t crc
    PyByteArray_Resize(log, start + HEAD_BYTES + body_bytes + padding)
    cdef unsigned char *head = <unsigned char *>PyByteArray_AS_STRING(log) + start
    at = put_big(put_big(head + CHECKED_FROM, previous_crc, 4), VERSION_REMOVED, 2)
    at = put_big(put_big(at, 0, 2), sequence, 8)
    at = put_big(put_big(put_big(put_big(at, body_bytes, 4), 0, 4), 0, 4), 0, 4)
    at = put_raw(at, body, body_bytes)
    crc = crc32c(seed, head + CHECKED_FROM, at - head - CHECKED_FROM)
    put_zeros(at, padding)
    put_big(put_big(head, RECORD_MAGIC, 4), crc, 4)

    answer[0] = 0x94
    at = put_flag(put_flag(put_name(put_uint(answer + 1, sequence), "null"), False), False)
    outcome = PyBytes_FromStringAndSize(<const char *>answer, at - answer)
    return crc, HEAD_BYTES + body_bytes + padding, outcome


def selftest():
    """See the .pyi."""
    message = bytes(FIXED_BYTES) + b"k"
    if row_keys(message) != (bytes(8) + b"k\0\0", bytes(8) + b"k") or row_keys(bytes(FIXED_BYTES)) is not None:
        raise RuntimeError("smallremoval: wrong keys of rows")
    if row_keys(message + b"\xc3") is not None:
        raise RuntimeError("smallremoval: a key that is not ASCII got keys of rows")
    row_key = bytes(8) + b"k\0\0"
    key, row = row_key + b"\xff" * 7 + b"\xfd", bytearray(VERSION_BYTES)
    row[0], row[FLAGS_AT], row[PLACEMENT_AT] = KIND_OBJECT, FLAG_NULL, PLACED_INLINE
    row[SIZE_AT + 7], row[SEGMENT_AT + 3], row[HEAD_BYTES_AT + 3], row[PAYLOAD_BYTES_AT + 3] = 9, 1, 40, 9
    whole = bytes(key) + bytes(row)
    sealed = bytes(row) + crc32c(0, PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole)).to_bytes(4, "big")
    if plain_version(0, row_key, key, sealed) != (2, bytes(TOKEN_BYTES), 9, 1, 56, b""):
        raise RuntimeError("smallremoval: a row was read wrongly")
    if plain_version(1, row_key, key, sealed) is not None:
        raise RuntimeError("smallremoval: a row of another table passed")
    log = bytearray()
    crc, record_bytes, outcome = append(log, message, 1, 1, 3, 2, bytes(TOKEN_BYTES), 0, 0)
    if record_bytes != len(log) or len(log) & 7 or not log.rstrip(b"\0").endswith(b"\xc2\xa6marker\xc2"):
        raise RuntimeError("smallremoval: a record was built wrongly")
    if int.from_bytes(log[4:8], "big") != crc or outcome != b"\x94\x03\xa4null\xc2\xc2":
        raise RuntimeError("smallremoval: a wrong CRC or outcome")
    return 7
