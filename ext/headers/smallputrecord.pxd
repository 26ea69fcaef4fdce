"""A small put's record in the log, its rows and its outcome, made of the message that asks for it. Textual, like
variant.pxd."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr

from recordfields cimport (
    load_big, put_big, put_raw, put_zeros, put_uint, put_text_head, put_text, put_name, put_bin, put_hex,
)
from smallchecksum cimport CHECKSUM_BYTES, TYPE_FULL_OBJECT, checksum_bytes, checksum_name, is_checksum
from smallrecord cimport (
    BLOB_ID_BYTES, BUCKET_AT, CRC_BYTES, DIGEST_BYTES, FLAG_NULL, HEAD_BYTES, KIND_OBJECT, MOST_KEY_BYTES,
    MOST_MUTABLE_BYTES, PLACED_EXTENT, PLACED_INLINE, SEQUENCE_BYTES, TOKEN_BYTES, VERSION_BYTES, crc32c, finish_record,
    is_ascii_without_zero, put_flag, seal_row,
)

cdef enum:
    # The message (rs3d/stores/smallput.py BODY).
    PUT_TOKEN_AT = 16
    ETAG_KIND_AT = 32
    ETAG_AT = 33
    ROOT_AT = 65
    OWNER_AT = 97
    CRC_AT = 129
    CHECKSUM_AT = 133
    KEY_BYTES_AT = CHECKSUM_AT + CHECKSUM_BYTES
    TYPE_BYTES_AT = KEY_BYTES_AT + 2
    PUT_BYTES = TYPE_BYTES_AT + 2
    # What stands in place of a payload that is stored as a blob (rs3d/stores/blobput.py BLOB).
    NUMBER_AT = 8
    CLIENT_BYTES_AT = 12
    STORED_BYTES_AT = 20
    DISK_BYTES_AT = 28
    BLOB_BYTES = 36
    # The record (FORMAT.md sections "Log record" and "Record bodies").
    VERSION_PUT = 1
    # The rows (FORMAT.md section "Catalog rows").
    CURRENT_BYTES = 123
    PLACEMENT_ID_BYTES = 24
    ETAG_MD5 = 1
    MOST_TYPE_BYTES = 512
    # Names, numbers and digests of a body take some 760 bytes beside key, type and mutable part.
    PUT_BODY_ROOM = 2304
    OUTCOME_ROOM = 192

ctypedef struct put_message:
    # Pointers into the message.
    const unsigned char *at
    const unsigned char *key
    const unsigned char *payload
    size_t key_bytes, type_bytes, payload_bytes
    uint32_t payload_crc
    uint64_t size
    bint is_blob

ctypedef struct put_made:
    # What follows from a put beside its record.
    uint32_t crc
    size_t head_bytes, payload_bytes
    size_t version_key_bytes, current_key_bytes, outcome_bytes
    unsigned char version_key[8 + MOST_KEY_BYTES + 2 + SEQUENCE_BYTES]
    unsigned char current_key[8 + MOST_KEY_BYTES]
    unsigned char version[VERSION_BYTES + CRC_BYTES]
    unsigned char current[CURRENT_BYTES + CRC_BYTES]
    unsigned char outcome[OUTCOME_ROOM]
    size_t body_bytes
    unsigned char body[PUT_BODY_ROOM]


cdef inline const char *read_put(const unsigned char *m, size_t length, bint is_blob, put_message *put) noexcept nogil:
    """Take a message apart. Why it is none; NULL where it is one."""
    if length < PUT_BYTES:
        return "a put of a small object is cut"
    cdef size_t key_bytes = load_big(m + KEY_BYTES_AT, 2), type_bytes = load_big(m + TYPE_BYTES_AT, 2)
    if not 0 < key_bytes <= MOST_KEY_BYTES or type_bytes > MOST_TYPE_BYTES:
        return "a put of a small object with too long a key or type"
    if length < PUT_BYTES + key_bytes + type_bytes:
        return "a put of a small object is cut"
    if not is_checksum(m + CHECKSUM_AT):
        return "a put of a small object with a checksum that is none"
    put.at, put.key, put.key_bytes, put.type_bytes, put.is_blob = m, m + PUT_BYTES, key_bytes, type_bytes, is_blob
    if memchr(put.key, 0, key_bytes) != NULL:
        return "a put of a small object with a key that has to be escaped"
    put.payload = put.key + key_bytes + type_bytes
    put.payload_bytes = length - PUT_BYTES - key_bytes - type_bytes
    return NULL


cdef inline bint is_plain_text(const put_message *put) noexcept nogil:
    """Whether key and content type are ASCII without a zero byte."""
    return is_ascii_without_zero(put.key, put.key_bytes + put.type_bytes)


cdef inline const char *check_put(put_message *put) noexcept nogil:
    """Look at the payload, or the blob in its place. Why it is not the one announced; NULL where it is."""
    put.payload_crc = crc32c(0, put.payload, put.payload_bytes) if put.payload_bytes else 0
    if put.payload_crc != load_big(put.at + CRC_AT, 4):
        return "the payload of a small object changed on its way to the committer"
    put.size = put.payload_bytes
    if put.is_blob:
        if put.payload_bytes != BLOB_BYTES:
            return "a put of a blob is cut"
        put.size, put.payload_crc = load_big(put.payload + CLIENT_BYTES_AT, 8), 0
    return NULL


cdef inline size_t put_body(
    const put_message *put, put_made *made, uint64_t counter, uint64_t answered_below, uint64_t now_ns, bint null,
    bint reports, const void *mutable, size_t mutable_bytes,
) noexcept nogil:
    """The body of the record. Returns how long the whole record will be."""
    cdef const unsigned char *m = put.at
    cdef const unsigned char *blob = put.payload
    cdef size_t etag_bytes = 16 if m[ETAG_KIND_AT] == ETAG_MD5 else DIGEST_BYTES
    cdef unsigned char *at = made.body
    at[0] = 0x8B if put.is_blob else 0x8A  # so many fields; msgspec leaves out those at their defaults
    at = put_name(at + 1, "operation")
    at[0] = 0x93
    at = put_uint(put_uint(put_uint(at + 1, load_big(m, 8)), counter), answered_below)
    at = put_uint(put_name(at, "bucket"), load_big(m + BUCKET_AT, 8))
    at = put_text(put_name(at, "key"), put.key, put.key_bytes)
    at = put_bin(put_name(at, "token"), m + PUT_TOKEN_AT, TOKEN_BYTES)
    at = put_flag(put_name(at, "null"), null)
    at = put_flag(put_name(at, "reports_version"), reports)
    at = put_uint(put_name(at, "last_modified_ns"), now_ns)
    at = put_name(at, "meta")
    at[0] = 0x8A
    at = put_uint(put_name(at + 1, "size_bytes"), put.size)
    at = put_hex(put_text_head(put_name(at, "etag"), 2 * etag_bytes), m + ETAG_AT, etag_bytes)
    at = put_hex(put_text_head(put_name(at, "owner"), 2 * DIGEST_BYTES), m + OWNER_AT, DIGEST_BYTES)
    at = put_name(at, "headers")
    if put.type_bytes:
        at[0], at[1] = 0x91, 0x92
        at = put_text(put_name(at + 2, "content-type"), put.key + put.key_bytes, put.type_bytes)
    else:
        at[0] = 0x90
        at += 1
    at = put_name(at, "user_metadata")
    at[0] = 0x90
    at = put_checksums(put_name(at + 1, "checksums"), m + CHECKSUM_AT)
    at = put_uint(put_name(at, "part_count"), 0)
    at = put_bin(put_name(at, "merkle_root"), m + ROOT_AT, DIGEST_BYTES)
    at = put_bin(put_name(at, "signature"), m, 0)
    at = put_uint(put_name(at, "last_modified_ns"), 0)
    at = put_raw(put_name(at, "mutable"), mutable, mutable_bytes)
    if put.is_blob:
        at = put_name(at, "extent")
        at[0] = 0x83
        at = put_uint(put_name(put_blob_id(at + 1, blob), "offset"), 0)
        at = put_name(put_uint(put_name(at, "length"), put.size), "new_blobs")
        at[0], at[1] = 0x91, 0x83
        at = put_uint(put_name(put_blob_id(at + 2, blob), "stored_bytes"), load_big(blob + STORED_BYTES_AT, 8))
        at = put_uint(put_name(at, "disk_bytes"), load_big(blob + DISK_BYTES_AT, 8))
    else:
        at = put_name(at, "inline")
        at[0] = 0x82 if put.payload_crc else 0x81
        at = put_uint(put_name(at + 1, "stored_bytes"), put.size)
        if put.payload_crc:
            at = put_uint(put_name(at, "block_crc32c"), put.payload_crc)
    made.body_bytes = at - made.body
    made.head_bytes = HEAD_BYTES + made.body_bytes
    made.payload_bytes = 0 if put.is_blob else put.payload_bytes
    return (made.head_bytes + made.payload_bytes + 7) & ~<size_t>7


cdef inline void put_record(
    const put_message *put, put_made *made, unsigned char *head, uint64_t sequence, uint64_t now_ns, bint null,
    bint reports, uint32_t seed, uint32_t previous_crc, uint32_t segment, uint32_t offset, uint32_t versions_seed,
    uint32_t current_seed,
) noexcept nogil:
    """The record of `put_body`'s body, to `head`, then its rows and outcome."""
    cdef unsigned char row[VERSION_BYTES]
    cdef const unsigned char *m = put.at
    cdef size_t etag_bytes = 16 if m[ETAG_KIND_AT] == ETAG_MD5 else DIGEST_BYTES
    cdef unsigned char *at
    made.crc = finish_record(
        head, VERSION_PUT, sequence, made.body, made.body_bytes, put.payload, made.payload_bytes, put.payload_crc, seed,
        previous_crc,
    )
    at = put_raw(put_raw(made.current_key, m + BUCKET_AT, 8), put.key, put.key_bytes)
    made.current_key_bytes = at - made.current_key
    at = put_raw(made.version_key, made.current_key, made.current_key_bytes)
    made.version_key_bytes = put_big(put_zeros(at, 2), ~sequence, SEQUENCE_BYTES) - made.version_key

    row[0], row[1] = KIND_OBJECT, FLAG_NULL if null else 0
    at = put_raw(put_big(put_big(row + 2, put.size, 8), now_ns, 8), m + PUT_TOKEN_AT, TOKEN_BYTES)
    at = put_place(at, segment, offset, made.head_bytes, made.payload_bytes)
    at = put_etag(put_zeros(at, 16), m, etag_bytes)  # place of the state, revision
    at[0] = 0  # class
    at = put_checksum_codes(put_raw(at + 1, m + OWNER_AT, DIGEST_BYTES), m + CHECKSUM_AT)
    at[0] = PLACED_EXTENT if put.is_blob else PLACED_INLINE
    if put.is_blob:
        put_zeros(put_raw(at + 1, put.payload, BLOB_ID_BYTES), PLACEMENT_ID_BYTES - BLOB_ID_BYTES + 1 + 8)
    else:
        put_zeros(at + 1, PLACEMENT_ID_BYTES + 1 + 8)
    seal_row(made.version, versions_seed, made.version_key, made.version_key_bytes, row, VERSION_BYTES)

    at = put_big(put_big(put_big(row, put.size, 8), now_ns, 8), sequence, 8)
    at = put_place(at, segment, offset, made.head_bytes, made.payload_bytes)
    at = put_etag(put_zeros(at, 12), m, etag_bytes)
    at[0] = 0
    at = put_checksum_codes(put_raw(at + 1, m + OWNER_AT, DIGEST_BYTES), m + CHECKSUM_AT)
    at[0] = FLAG_NULL if null else 0
    seal_row(made.current, current_seed, made.current_key, made.current_key_bytes, row, CURRENT_BYTES)

    made.outcome[0] = 0x96
    at = put_uint(made.outcome + 1, sequence)
    if null:
        at = put_name(at, "null")
    else:
        put_big(row, sequence, 8)
        at = put_hex(put_text_head(at, 2 * (8 + TOKEN_BYTES)), row, 8)
        at = put_hex(at, m + PUT_TOKEN_AT, TOKEN_BYTES)
    at = put_uint(put_flag(put_flag(at, reports), False), now_ns)
    at = put_hex(put_text_head(at, 2 * etag_bytes), m + ETAG_AT, etag_bytes)
    made.outcome_bytes = at - made.outcome


cdef inline unsigned char *put_checksums(unsigned char *at, const unsigned char *checksum) noexcept nogil:
    at[0] = 0x91 if checksum[0] else 0x90
    if not checksum[0]:
        return at + 1
    at[1] = 0x83
    at = put_name(put_name(at + 2, "algorithm"), checksum_name(checksum[0]))
    at = put_bin(put_name(at, "value"), checksum + 1, checksum_bytes(checksum[0]))
    return put_name(put_name(at, "type"), "FULL_OBJECT")


cdef inline unsigned char *put_checksum_codes(unsigned char *at, const unsigned char *checksum) noexcept nogil:
    """Algorithm and type."""
    at[0], at[1] = checksum[0], TYPE_FULL_OBJECT if checksum[0] else 0
    return at + 2


cdef inline unsigned char *put_blob_id(unsigned char *at, const unsigned char *blob) noexcept nogil:
    at = put_name(at, "blob")
    at[0] = 0x92
    return put_uint(put_uint(at + 1, load_big(blob, 8)), load_big(blob + NUMBER_AT, 4))


cdef inline unsigned char *put_place(
    unsigned char *at, uint32_t segment, uint32_t offset, size_t head_bytes, size_t payload_bytes
) noexcept nogil:
    return put_big(put_big(put_big(put_big(at, segment, 4), offset, 4), head_bytes, 4), payload_bytes, 4)


cdef inline unsigned char *put_etag(unsigned char *at, const unsigned char *message, size_t length) noexcept nogil:
    """Kind, no parts, digest."""
    at[0] = message[ETAG_KIND_AT]
    at = put_raw(put_zeros(at + 1, 2), message + ETAG_AT, length)
    return put_zeros(at, DIGEST_BYTES - length)
