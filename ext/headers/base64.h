/* Base64 of a digest (RFC 4648 section 4), strict: no white space, padded, no bits behind the last byte. */
#ifndef RS3D_BASE64_H
#define RS3D_BASE64_H

#include <stddef.h>
#include <stdint.h>

static const char rs3d_base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* How long the text of `length` bytes is. */
static inline size_t rs3d_base64_length(size_t length)
{
    return (length + 2) / 3 * 4;
}

/* Writes that text, and returns where the next byte goes. */
static inline unsigned char *rs3d_put_base64(unsigned char *at, const unsigned char *data, size_t length)
{
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t three = (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) | (left > 2 ? data[i + 2] : 0);

        *at++ = (unsigned char)rs3d_base64_digits[three >> 18];
        *at++ = (unsigned char)rs3d_base64_digits[three >> 12 & 63];
        *at++ = left > 1 ? (unsigned char)rs3d_base64_digits[three >> 6 & 63] : '=';
        *at++ = left > 2 ? (unsigned char)rs3d_base64_digits[three & 63] : '=';
    }
    return at;
}

static inline int rs3d_base64_digit(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Reads `text` into exactly `length` bytes. Whether it is the text of so many. */
static inline int rs3d_take_base64(const unsigned char *text, size_t text_length, unsigned char *to, size_t length)
{
    size_t digits = (8 * length + 5) / 6, done = 0;
    uint32_t held = 0;
    int bits = 0;

    if (text_length != rs3d_base64_length(length))
        return 0;
    for (size_t i = 0; i < text_length; i++) {
        int digit = rs3d_base64_digit(text[i]);

        if (i >= digits) {
            if (text[i] != '=')
                return 0;
            continue;
        }
        if (digit < 0)
            return 0;
        held = held << 6 | (uint32_t)digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            to[done++] = (unsigned char)(held >> bits);
            held &= (1u << bits) - 1;
        }
    }
    return done == length && held == 0;
}

#endif
