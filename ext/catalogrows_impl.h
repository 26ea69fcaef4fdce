/* Where the fields of a row of the table `current` lie: FORMAT.md section "Catalog rows"; rs3d/format/rows.py CURRENT. */
#ifndef RS3D_CATALOGROWS_IMPL_H
#define RS3D_CATALOGROWS_IMPL_H

#include <stddef.h>
#include <stdint.h>

enum {
    SIZE_AT = 0,
    MODIFIED_AT = 8, /* sequence and the places of body and state lie between this and the ETag */
    ETAG_KIND_AT = 52,
    ETAG_PARTS_AT = 53,
    ETAG_AT = 55,
    CLASS_AT = 87,
    OWNER_AT = 88,
    ALGORITHM_AT = 120,
    TYPE_AT = 121,
    CURRENT_BYTES = 123,
    CRC_BYTES = 4,
    OWNER_BYTES = 32
};

enum { ETAG_MD5 = 1, ETAG_SHA256 = 2 };

static inline uint64_t load_big(const unsigned char *at, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

/* Packed rows, as the catalogwalk kernel hands them out: of each the length of its text (u16, little-endian), the text, the
 * value without its CRC. */
enum { PACKED_TEXT_AT = 2 };
#define NOT_PACKED SIZE_MAX

/* Length of the text of the row at `at`, of which `left` bytes are there; NOT_PACKED where they are no whole row. */
static inline size_t packed_text_bytes(const unsigned char *at, size_t left) {
    if (left < PACKED_TEXT_AT + CURRENT_BYTES) {
        return NOT_PACKED;
    }
    const size_t text_bytes = (size_t)at[0] | (size_t)at[1] << 8;
    return text_bytes <= left - PACKED_TEXT_AT - CURRENT_BYTES ? text_bytes : NOT_PACKED;
}

/* Lower-case hex digits of `length` bytes, two for each. */
static inline void write_hex(unsigned char *out, const unsigned char *data, size_t length) {
    static const char digits[16] = "0123456789abcdef";
    for (size_t i = 0; i < length; i++) {
        out[2 * i] = (unsigned char)digits[data[i] >> 4];
        out[2 * i + 1] = (unsigned char)digits[data[i] & 15];
    }
}

#endif
