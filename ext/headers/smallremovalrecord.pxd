"""A small removal's record in the log and its outcome, made of the message that asks for it and of the row that goes.
Textual, like variant.pxd."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp

from recordfields cimport load_big, put_big, put_raw, put_zeros, put_uint, put_text, put_name, put_bin
from smallrecord cimport (
    BLOB_ID_BYTES, BUCKET_AT, CRC_BYTES, FLAG_NULL, HEAD_BYTES, KIND_OBJECT, MOST_KEY_BYTES, PLACED_EXTENT,
    PLACED_INLINE, SEQUENCE_BYTES, TOKEN_BYTES, VERSION_BYTES, finish_record, is_ascii_without_zero, is_sealed, put_flag,
)

cdef enum:
    # The message (rs3d/stores/smallremoval.py BODY); the key follows.
    REMOVAL_BYTES = 96
    # The record (FORMAT.md sections "Log record" and "Record bodies").
    VERSION_REMOVED = 3
    # The row (FORMAT.md section "Catalog rows").
    FLAGS_AT = 1
    SIZE_AT = 2
    TOKEN_AT = 18
    SEGMENT_AT = 34
    HEAD_BYTES_AT = 42
    PAYLOAD_BYTES_AT = 46
    STATE_SEGMENT_AT = 50
    PLACEMENT_AT = 136
    BLOB_AT = 137
    RETENTION_AT = 161
    # Names, numbers and the token take some 160 bytes beside the key.
    REMOVAL_BODY_ROOM = 1024
    REMOVAL_OUTCOME_ROOM = 32

ctypedef struct plain_row:
    # A version of which nothing but its row, its record and one reference to a blob has to go with it.
    uint64_t sequence, size, record_bytes
    uint32_t segment
    const unsigned char *token
    const unsigned char *blob  # NULL where the object lies in its record

ctypedef struct removal_made:
    uint32_t crc
    size_t body_bytes, outcome_bytes
    unsigned char outcome[REMOVAL_OUTCOME_ROOM]
    unsigned char body[REMOVAL_BODY_ROOM]


cdef inline bint is_plain_removal(const unsigned char *m, size_t length) noexcept nogil:
    """Whether it is whole, and its key ASCII, not too long and without a zero byte."""
    if not REMOVAL_BYTES < length <= REMOVAL_BYTES + MOST_KEY_BYTES:
        return False
    return is_ascii_without_zero(m + REMOVAL_BYTES, length - REMOVAL_BYTES)


cdef inline bint read_plain(
    uint32_t seed, const unsigned char *row_key, size_t row_key_bytes, const unsigned char *key, size_t key_bytes,
    const unsigned char *row, size_t length, plain_row *found
) noexcept nogil:
    """Take a row of `versions` apart. False where it is another key's or damaged, or its version is a marker, not the
    null version, locked or held (now or once), was patched, or is a set of parts. `found` points into the row."""
    if key_bytes != row_key_bytes + SEQUENCE_BYTES or memcmp(key, row_key, row_key_bytes):
        return False
    if length != VERSION_BYTES + CRC_BYTES or not is_sealed(seed, key, key_bytes, row, length):
        return False
    if row[0] != KIND_OBJECT or row[FLAGS_AT] != FLAG_NULL:
        return False
    if row[PLACEMENT_AT] != PLACED_INLINE and row[PLACEMENT_AT] != PLACED_EXTENT:
        return False
    if row[RETENTION_AT] or load_big(row + STATE_SEGMENT_AT, 4):
        return False
    found.sequence = ~load_big(key + row_key_bytes, SEQUENCE_BYTES)
    found.token = row + TOKEN_AT
    found.size = load_big(row + SIZE_AT, 8)
    found.segment = <uint32_t>load_big(row + SEGMENT_AT, 4)
    found.record_bytes = (load_big(row + HEAD_BYTES_AT, 4) + load_big(row + PAYLOAD_BYTES_AT, 4) + 7) & ~<uint64_t>7
    found.blob = row + BLOB_AT if row[PLACEMENT_AT] == PLACED_EXTENT else NULL
    return True


cdef inline size_t removal_body(
    const unsigned char *m, size_t length, uint64_t counter, uint64_t answered_below, const plain_row *removed,
    removal_made *made
) noexcept nogil:
    """The body of the record, of a null version in a bucket that was never versioned. Returns how long the whole record
    will be."""
    cdef unsigned char *at = made.body
    at[0] = 0x88
    at = put_name(at + 1, "operation")
    at[0] = 0x93
    at = put_uint(put_uint(put_uint(at + 1, load_big(m, 8)), counter), answered_below)
    at = put_uint(put_name(at, "bucket"), load_big(m + BUCKET_AT, 8))
    at = put_text(put_name(at, "key"), m + REMOVAL_BYTES, length - REMOVAL_BYTES)
    at = put_uint(put_name(at, "version"), removed.sequence)
    at = put_bin(put_name(at, "token"), removed.token, TOKEN_BYTES)
    at = put_flag(put_name(at, "null"), True)
    at = put_flag(put_name(at, "reports_version"), False)
    at = put_flag(put_name(at, "marker"), False)
    made.body_bytes = at - made.body
    return (HEAD_BYTES + made.body_bytes + 7) & ~<size_t>7


cdef inline void removal_record(
    removal_made *made, unsigned char *head, uint64_t sequence, uint32_t seed, uint32_t previous_crc
) noexcept nogil:
    """The record of `removal_body`'s body, to `head`, and the outcome."""
    cdef unsigned char *at
    made.crc = finish_record(
        head, VERSION_REMOVED, sequence, made.body, made.body_bytes, made.body, 0, 0, seed, previous_crc)
    made.outcome[0] = 0x94
    at = put_flag(put_flag(put_name(put_uint(made.outcome + 1, sequence), "null"), False), False)
    made.outcome_bytes = at - made.outcome
