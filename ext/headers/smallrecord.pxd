"""What records and rows of small puts and removals share. Textual, like variant.pxd. The kernel is linked with
crc_impl.c."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr

from recordfields cimport load_big, put_big, put_raw, put_zeros
from smallcrc cimport crc_poly_32c, crc_setup, crc_update, small_crc_variant

cdef enum:
    # The message begins with epoch and bucket (rs3d/stores/smallmessage.py IDS).
    BUCKET_AT = 8
    TOKEN_BYTES = 16
    DIGEST_BYTES = 32
    MOST_KEY_BYTES = 462
    MOST_MUTABLE_BYTES = 256
    # The record (FORMAT.md section "Log record").
    HEAD_BYTES = 40
    CHECKED_FROM = 8
    RECORD_MAGIC = 0x52334C52
    # The rows (FORMAT.md section "Catalog rows").
    VERSION_BYTES = 170
    CRC_BYTES = 4
    SEQUENCE_BYTES = 8
    KIND_OBJECT = 1
    FLAG_NULL = 1
    PLACED_INLINE = 1
    PLACED_EXTENT = 2
    BLOB_ID_BYTES = 12

cdef extern from *:
    "static int record_crc_variant;"
    int record_crc_variant


cdef inline void setup_records() noexcept:
    """Once, before anything else of these."""
    global record_crc_variant
    crc_setup()
    record_crc_variant = small_crc_variant()


cdef inline uint32_t crc32c(uint32_t seed, const void *data, size_t length) noexcept nogil:
    return <uint32_t>crc_update(&crc_poly_32c, record_crc_variant, seed, <const unsigned char *>data, length)


cdef inline unsigned char *put_flag(unsigned char *at, bint value) noexcept nogil:
    at[0] = 0xC3 if value else 0xC2
    return at + 1


cdef inline bint is_ascii_without_zero(const unsigned char *text, size_t length) noexcept nogil:
    cdef size_t i
    cdef unsigned char seen = 0
    if memchr(text, 0, length) != NULL:
        return False
    for i in range(length):
        seen |= text[i]
    return seen < 0x80


cdef inline void seal_row(
    unsigned char *to, uint32_t seed, const unsigned char *key, size_t key_bytes, const unsigned char *value, size_t length
) noexcept nogil:
    """The value and its CRC behind it, as the catalog stores it."""
    put_big(put_raw(to, value, length), crc32c(crc32c(seed, key, key_bytes), value, length), CRC_BYTES)


cdef inline bint is_sealed(
    uint32_t seed, const unsigned char *key, size_t key_bytes, const unsigned char *sealed, size_t length
) noexcept nogil:
    """Whether a value as it is stored ends in the CRC of its key and itself."""
    if length < CRC_BYTES:
        return False
    length -= CRC_BYTES
    return crc32c(crc32c(seed, key, key_bytes), sealed, length) == load_big(sealed + length, CRC_BYTES)


cdef inline uint32_t finish_record(
    unsigned char *head, int kind, uint64_t sequence, const unsigned char *body, size_t body_bytes,
    const unsigned char *payload, size_t payload_bytes, uint32_t payload_crc, uint32_t seed, uint32_t previous_crc,
) noexcept nogil:
    """Write a whole record, padding included. Returns its CRC."""
    cdef unsigned char *at = put_big(put_big(head + CHECKED_FROM, previous_crc, 4), kind, 2)
    cdef uint32_t crc
    at = put_big(put_big(at, 0, 2), sequence, 8)
    at = put_big(put_big(put_big(put_big(at, body_bytes, 4), payload_bytes, 4), payload_crc, 4), 0, 4)
    at = put_raw(at, body, body_bytes)
    crc = crc32c(seed, head + CHECKED_FROM, at - head - CHECKED_FROM)
    at = put_raw(at, payload, payload_bytes)
    put_zeros(at, -(at - head) & 7)
    put_big(put_big(head, RECORD_MAGIC, 4), crc, 4)
    return crc
