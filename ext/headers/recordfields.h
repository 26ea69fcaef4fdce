/* Msgpack and big-endian fields, written at a cursor: each function returns where the next byte goes. The caller has made
   room: a head takes at most 9 bytes. */
#ifndef RS3D_RECORDFIELDS_H
#define RS3D_RECORDFIELDS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t load_big(const unsigned char *at, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static inline unsigned char *put_big(unsigned char *at, uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) {
        at[i] = (unsigned char)value;
        value >>= 8;
    }
    return at + bytes;
}

static inline unsigned char *put_raw(unsigned char *at, const void *data, size_t length) {
    memcpy(at, data, length);
    return at + length;
}

static inline unsigned char *put_zeros(unsigned char *at, size_t length) {
    memset(at, 0, length);
    return at + length;
}

/* The shortest form, as msgspec writes it. */
static inline unsigned char *put_uint(unsigned char *at, uint64_t value) {
    if (value < 0x80) {
        *at = (unsigned char)value;
        return at + 1;
    }
    int log2_bytes = value <= 0xFF ? 0 : value <= 0xFFFF ? 1 : value <= 0xFFFFFFFFu ? 2 : 3;
    *at = (unsigned char)(0xCC + log2_bytes);
    return put_big(at + 1, value, 1 << log2_bytes);
}

/* The head of a string of at most 64 KiB. */
static inline unsigned char *put_text_head(unsigned char *at, size_t length) {
    if (length < 32) {
        *at = (unsigned char)(0xA0 + length);
        return at + 1;
    }
    int wide = length > 0xFF;
    *at = wide ? 0xDA : 0xD9;
    return put_big(at + 1, length, 1 + wide);
}

static inline unsigned char *put_text(unsigned char *at, const void *text, size_t length) {
    return put_raw(put_text_head(at, length), text, length);
}

static inline unsigned char *put_name(unsigned char *at, const char *name) {
    return put_text(at, name, strlen(name));
}

/* At most 255 bytes. */
static inline unsigned char *put_bin(unsigned char *at, const void *data, size_t length) {
    at[0] = 0xC4;
    at[1] = (unsigned char)length;
    return put_raw(at + 2, data, length);
}

/* Lower-case hex digits of `length` bytes, two for each. */
static inline unsigned char *put_hex(unsigned char *at, const unsigned char *data, size_t length) {
    static const char digits[16] = "0123456789abcdef";
    for (size_t i = 0; i < length; i++) {
        *at++ = (unsigned char)digits[data[i] >> 4];
        *at++ = (unsigned char)digits[data[i] & 15];
    }
    return at;
}

#endif
