/* The heads that S3 clients really send, scanned in one pass; everything else is somebody else's to judge.
 *
 *     head    = method SP target SP "HTTP/1.1" CRLF *( name ":" OWS value OWS CRLF ) CRLF
 *     method  = one of METHODS          target = "/" *( %x21-7E except "#" )
 *     name    = 1*tchar                 value  = *( HTAB / SP / %x21-7E / %x80-FF ), trimmed
 *
 * and beyond that grammar: exactly one Host, a plain name or IPv4 address with an optional port; at most one
 * Content-Length, of 1 to 18 digits; no Transfer-Encoding and no Upgrade; Connection only keep-alive or close; Expect
 * only 100-continue; at most HEAD_FIELDS fields. The scanner never refuses: what is outside is handed over.
 *
 * Source: RFC 9112 sections 2 to 6, RFC 9110 section 5.
 */
#ifndef RS3D_HTTPHEAD_IMPL_H
#define RS3D_HTTPHEAD_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    HEAD_FIELDS = 64,      /* SDKs send 8 to 20; user metadata rarely makes it 40 */
    HEAD_LENGTH_DIGITS = 18 /* below 2^63 whatever the digits */
};

typedef enum { HEAD_GOOD, HEAD_HAND_OVER, HEAD_INCOMPLETE } head_outcome;

typedef struct {
    uint32_t name, name_length, value, value_length; /* positions in the buffer */
} head_field;

typedef struct {
    int method; /* index in head_methods */
    uint32_t target, target_length, length;
    int fields;
    head_field field[HEAD_FIELDS];
} head_parts;

enum { HEAD_METHODS = 6 };
static const struct {
    const char *text;
    uint32_t length;
} head_methods[HEAD_METHODS] = {{"GET ", 4}, {"PUT ", 4}, {"HEAD ", 5}, {"POST ", 5}, {"DELETE ", 7}, {"OPTIONS ", 8}};

/* The lower-case form of each tchar of RFC 9110, 0 for all else. */
static const unsigned char head_token[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
    ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|', ['~'] = '~',
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6', ['7'] = '7',
    ['8'] = '8', ['9'] = '9',
    ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h',
    ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p',
    ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x',
    ['y'] = 'y', ['z'] = 'z',
    ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h',
    ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p',
    ['Q'] = 'q', ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x',
    ['Y'] = 'y', ['Z'] = 'z',
};

/* First byte at or after `at` that cannot be in a field value: a control character other than HTAB. */
static inline const unsigned char *head_value_end(const unsigned char *at, const unsigned char *end)
{
#if defined(__SSE2__)
    const __m128i controls = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), delete_ = _mm_set1_epi8(0x7f);
    for (; end - at >= 16; at += 16) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, controls), bytes);
        const __m128i bad =
            _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), low), _mm_cmpeq_epi8(bytes, delete_));
        const int mask = _mm_movemask_epi8(bad);
        if (mask)
            return at + __builtin_ctz((unsigned)mask);
    }
#endif
    for (; at < end; at++)
        if ((*at < 0x20 && *at != '\t') || *at == 0x7f)
            break;
    return at;
}

static inline int head_is(const unsigned char *name, uint32_t length, const char *lower)
{
    for (uint32_t i = 0; i < length; i++)
        if (head_token[name[i]] != (unsigned char)lower[i])
            return 0;
    return 1;
}

#define HEAD_IS(text) (length == sizeof text - 1 && head_is(name, length, text))

static inline int head_is_digit(unsigned char c) { return c >= '0' && c <= '9'; }
static inline int head_is_letter(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* A registered name or IPv4 address of letters, digits, dots and hyphens, with an optional port. */
static inline int head_host_is_plain(const unsigned char *at, uint32_t length)
{
    uint32_t i = 0;
    while (i < length && (head_is_letter(at[i]) || head_is_digit(at[i]) || at[i] == '.' || at[i] == '-'))
        i++;
    if (i == 0 || i > 255)
        return 0;
    if (i == length)
        return 1;
    if (at[i] != ':' || length - i - 1 < 1 || length - i - 1 > 5)
        return 0;
    for (i++; i < length; i++)
        if (!head_is_digit(at[i]))
            return 0;
    return 1;
}

static inline int head_is_number(const unsigned char *at, uint32_t length)
{
    if (length < 1 || length > HEAD_LENGTH_DIGITS)
        return 0;
    for (uint32_t i = 0; i < length; i++)
        if (!head_is_digit(at[i]))
            return 0;
    return 1;
}

/* Whether a field keeps the head inside the subset. `seen` counts Host (bit 0) and Content-Length (bit 1). */
static inline int head_field_is_usual(const unsigned char *name, uint32_t length, const unsigned char *value,
                                      uint32_t value_length, unsigned *seen)
{
    switch (length) {
    case 4:
        if (!HEAD_IS("host"))
            return 1;
        if ((*seen & 1) || !head_host_is_plain(value, value_length))
            return 0;
        *seen |= 1;
        return 1;
    case 6:
        if (!HEAD_IS("expect"))
            return 1;
        return value_length == 12 && head_is(value, 12, "100-continue");
    case 7:
        return !HEAD_IS("upgrade");
    case 10:
        if (!HEAD_IS("connection"))
            return 1;
        return (value_length == 10 && head_is(value, 10, "keep-alive")) ||
               (value_length == 5 && head_is(value, 5, "close"));
    case 14:
        if (!HEAD_IS("content-length"))
            return 1;
        if ((*seen & 2) || !head_is_number(value, value_length))
            return 0;
        *seen |= 2;
        return 1;
    case 17:
        return !HEAD_IS("transfer-encoding");
    default:
        return 1;
    }
}

/* Scan one head at the front of [data, data + length). Bytes behind it are not looked at. A head that is both
 * incomplete and unusual may be called either. */
static inline head_outcome head_scan(const unsigned char *data, size_t length, head_parts *parts)
{
    const unsigned char *at = data, *const end = data + length;
    unsigned seen = 0;

    if (length > UINT32_MAX)
        return HEAD_HAND_OVER;
    for (parts->method = 0; parts->method < HEAD_METHODS; parts->method++) {
        const size_t size = head_methods[parts->method].length, have = size < length ? size : length;
        if (memcmp(at, head_methods[parts->method].text, have) == 0) {
            if (have < size)
                return HEAD_INCOMPLETE;
            at += size;
            break;
        }
    }
    if (parts->method == HEAD_METHODS)
        return HEAD_HAND_OVER;

    parts->target = (uint32_t)(at - data);
    if (at < end && *at != '/')
        return HEAD_HAND_OVER;
    while (at < end && *at > 0x20 && *at < 0x7f && *at != '#')
        at++;
    parts->target_length = (uint32_t)(at - data) - parts->target;

    static const char version[] = " HTTP/1.1\r\n";
    const size_t rest = (size_t)(end - at) < sizeof version - 1 ? (size_t)(end - at) : sizeof version - 1;
    if (memcmp(at, version, rest) != 0)
        return HEAD_HAND_OVER;
    if (rest < sizeof version - 1)
        return HEAD_INCOMPLETE;
    at += rest;

    for (parts->fields = 0;; parts->fields++) {
        if (end - at < 2)
            return at < end && *at != '\r' && !head_token[*at] ? HEAD_HAND_OVER : HEAD_INCOMPLETE;
        if (*at == '\r') {
            if (at[1] != '\n' || !(seen & 1))
                return HEAD_HAND_OVER;
            parts->length = (uint32_t)(at + 2 - data);
            return HEAD_GOOD;
        }
        if (parts->fields == HEAD_FIELDS)
            return HEAD_HAND_OVER;
        const unsigned char *const name = at;
        while (at < end && head_token[*at])
            at++;
        if (at == end)
            return HEAD_INCOMPLETE;
        if (*at != ':' || at == name)
            return HEAD_HAND_OVER;
        const uint32_t name_length = (uint32_t)(at - name);
        const unsigned char *value = ++at;
        while (value < end && (*value == ' ' || *value == '\t'))
            value++;
        at = head_value_end(value, end);
        if (end - at < 2)
            return at < end && *at != '\r' ? HEAD_HAND_OVER : HEAD_INCOMPLETE;
        if (at[0] != '\r' || at[1] != '\n')
            return HEAD_HAND_OVER;
        const unsigned char *last = at;
        while (last > value && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        at += 2;
        head_field *field = &parts->field[parts->fields];
        field->name = (uint32_t)(name - data);
        field->name_length = name_length;
        field->value = (uint32_t)(value - data);
        field->value_length = (uint32_t)(last - value);
        if (!head_field_is_usual(name, name_length, value, field->value_length, &seen))
            return HEAD_HAND_OVER;
    }
}

#endif
