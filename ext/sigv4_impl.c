#include "sigv4_impl.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* ---------------------------------------------------------------------------------------------------- SHA-256 */

static const uint32_t round_constant[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static inline uint32_t load_big(const unsigned char *at)
{
    uint32_t word;
    memcpy(&word, at, 4);
    return __builtin_bswap32(word); /* little-endian machines only, as everywhere in ext/ */
}

static inline void store_big(unsigned char *at, uint32_t word)
{
    word = __builtin_bswap32(word);
    memcpy(at, &word, 4);
}

static void blocks_scalar(uint32_t state[8], const unsigned char *data, size_t blocks)
{
    for (; blocks; blocks--, data += SIGV4_BLOCK) {
        uint32_t w[64], s[8];
        for (int i = 0; i < 16; i++)
            w[i] = load_big(data + 4 * i);
        for (int i = 16; i < 64; i++) {
            const uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
            const uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16] + a + w[i - 7] + b;
        }
        memcpy(s, state, sizeof s);
        for (int i = 0; i < 64; i++) {
            const uint32_t big1 = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
            const uint32_t choose = (s[4] & s[5]) ^ (~s[4] & s[6]);
            const uint32_t first = s[7] + big1 + choose + round_constant[i] + w[i];
            const uint32_t big0 = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
            const uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += first;
            s[0] = first + big0 + majority;
        }
        for (int i = 0; i < 8; i++)
            state[i] += s[i];
    }
}

#if defined(__x86_64__)
/* The instructions keep the state as two registers, {a b e f} and {c d g h} from the high word down, and do two rounds
 * each; the schedule runs four words at a time. */
__attribute__((target("sha,sse4.1,ssse3"))) static void blocks_shani(uint32_t state[8], const unsigned char *data,
                                                                     size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    const __m128i dcba = _mm_loadu_si128((const __m128i *)state), hgfe = _mm_loadu_si128((const __m128i *)(state + 4));
    const __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1), efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);

    for (; blocks; blocks--, data += SIGV4_BLOCK) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), swap);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            const __m128i now = w[i & 3];
            __m128i sum = _mm_add_epi32(now, _mm_load_si128((const __m128i *)(round_constant + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            sum = _mm_shuffle_epi32(sum, 0x0e);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, sum);
            if (i < 12) { /* words 16 + 4 i to 19 + 4 i take the place of the ones just used */
                const __m128i next = w[(i + 1) & 3], third = w[(i + 2) & 3], last = w[(i + 3) & 3];
                const __m128i half = _mm_add_epi32(_mm_sha256msg1_epu32(now, next), _mm_alignr_epi8(last, third, 4));
                w[i & 3] = _mm_sha256msg2_epu32(half, last);
            }
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}
#endif

static inline void run_blocks(sigv4_sha256 *hash, const unsigned char *data, size_t blocks)
{
#if defined(__x86_64__)
    if (hash->variant == SIGV4_SHANI) {
        blocks_shani(hash->state, data, blocks);
        return;
    }
#endif
    blocks_scalar(hash->state, data, blocks);
}

void sigv4_sha256_start(sigv4_sha256 *hash, int variant)
{
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, initial, sizeof initial);
    hash->length = 0;
    hash->variant = variant;
}

void sigv4_sha256_update(sigv4_sha256 *hash, const void *data, size_t length)
{
    const unsigned char *at = data;
    const size_t held = hash->length % SIGV4_BLOCK;
    hash->length += length;
    if (held) {
        const size_t room = SIGV4_BLOCK - held, part = length < room ? length : room;
        memcpy(hash->block + held, at, part);
        if (part < room)
            return;
        run_blocks(hash, hash->block, 1);
        at += part;
        length -= part;
    }
    run_blocks(hash, at, length / SIGV4_BLOCK);
    memcpy(hash->block, at + length / SIGV4_BLOCK * SIGV4_BLOCK, length % SIGV4_BLOCK);
}

void sigv4_sha256_finish(sigv4_sha256 *hash, unsigned char digest[SIGV4_DIGEST])
{
    const uint64_t bits = hash->length * 8;
    size_t held = hash->length % SIGV4_BLOCK;
    hash->block[held++] = 0x80;
    if (held > SIGV4_BLOCK - 8) {
        memset(hash->block + held, 0, SIGV4_BLOCK - held);
        run_blocks(hash, hash->block, 1);
        held = 0;
    }
    memset(hash->block + held, 0, SIGV4_BLOCK - 8 - held);
    store_big(hash->block + SIGV4_BLOCK - 8, (uint32_t)(bits >> 32));
    store_big(hash->block + SIGV4_BLOCK - 4, (uint32_t)bits);
    run_blocks(hash, hash->block, 1);
    for (int i = 0; i < 8; i++)
        store_big(digest + 4 * i, hash->state[i]);
}

void sigv4_hmac(int variant, const unsigned char *key, size_t key_length, const void *data, size_t length,
                unsigned char digest[SIGV4_DIGEST])
{
    unsigned char pad[SIGV4_BLOCK], outer[SIGV4_BLOCK], inner[SIGV4_DIGEST];
    sigv4_sha256 hash;
    for (size_t i = 0; i < SIGV4_BLOCK; i++) {
        const unsigned char byte = i < key_length ? key[i] : 0;
        pad[i] = byte ^ 0x36;
        outer[i] = byte ^ 0x5c;
    }
    sigv4_sha256_start(&hash, variant);
    sigv4_sha256_update(&hash, pad, sizeof pad);
    sigv4_sha256_update(&hash, data, length);
    sigv4_sha256_finish(&hash, inner);
    sigv4_sha256_start(&hash, variant);
    sigv4_sha256_update(&hash, outer, sizeof outer);
    sigv4_sha256_update(&hash, inner, sizeof inner);
    sigv4_sha256_finish(&hash, digest);
}

static const char lower_digits[] = "0123456789abcdef", upper_digits[] = "0123456789ABCDEF";

void sigv4_hex(const unsigned char digest[SIGV4_DIGEST], char out[SIGV4_DIGITS])
{
    for (int i = 0; i < SIGV4_DIGEST; i++) {
        out[2 * i] = lower_digits[digest[i] >> 4];
        out[2 * i + 1] = lower_digits[digest[i] & 15];
    }
}

int sigv4_equal(const char *a, const char *b)
{
    volatile unsigned char difference = 0;
    for (int i = 0; i < SIGV4_DIGITS; i++)
        difference |= (unsigned char)(a[i] ^ b[i]);
    return difference == 0;
}

/* ----------------------------------------------------------------------------------------------- canonical forms */

/* RFC 3986 2.3, the unreserved characters. */
static inline int is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

static inline int hex_value(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        return (c | 0x20) - 'a' + 10;
    return -1;
}

/* Decode and encode in one pass. An escape that is none (`%`, `%4`, `%zz`) stands for itself, as S3's own decoder and
 * Python's have it. `kept` is a further byte that is not encoded; `space` one that means a space. */
static size_t recode(const unsigned char *from, size_t length, int kept, int space, unsigned char *to)
{
    unsigned char *const start = to;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = from[i];
        int is_decoded = 0;
        if (byte == '%' && length - i > 2 && hex_value(from[i + 1]) >= 0 && hex_value(from[i + 2]) >= 0) {
            byte = (unsigned char)(hex_value(from[i + 1]) << 4 | hex_value(from[i + 2]));
            i += 2;
            is_decoded = 1;
        }
        if (byte == space && !is_decoded)
            byte = ' ';
        if (is_plain(byte) || byte == kept) {
            *to++ = byte;
        } else {
            *to++ = '%';
            *to++ = (unsigned char)upper_digits[byte >> 4];
            *to++ = (unsigned char)upper_digits[byte & 15];
        }
    }
    return (size_t)(to - start);
}

size_t sigv4_path(const unsigned char *path, size_t length, unsigned char *out)
{
    return recode(path, length, '/', -1, out);
}

typedef struct {
    const unsigned char *name, *value;
    size_t name_length, value_length;
} parameter;

static int compare(const unsigned char *a, size_t a_length, const unsigned char *b, size_t b_length)
{
    const int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int comes_after(const parameter *a, const parameter *b)
{
    const int order = compare(a->name, a->name_length, b->name, b->name_length);
    return (order ? order : compare(a->value, a->value_length, b->value, b->value_length)) > 0;
}

ptrdiff_t sigv4_query(const unsigned char *query, size_t length, const unsigned char *dropped, size_t dropped_length,
                      unsigned char *scratch, unsigned char *out)
{
    parameter sorted[SIGV4_PARAMETERS];
    const unsigned char *const end = query + length, *at = query;
    int count = 0;
    while (at < end) {
        const unsigned char *stop = memchr(at, '&', (size_t)(end - at));
        if (!stop)
            stop = end;
        if (stop > at) {
            const unsigned char *equals = memchr(at, '=', (size_t)(stop - at));
            const unsigned char *const name_end = equals ? equals : stop;
            const unsigned char *const value = equals ? equals + 1 : stop;
            parameter next = {.name = scratch};
            next.name_length = recode(at, (size_t)(name_end - at), -1, '+', scratch);
            scratch += next.name_length;
            next.value = scratch;
            next.value_length = recode(value, (size_t)(stop - value), -1, '+', scratch);
            scratch += next.value_length;
            if (!dropped_length || compare(next.name, next.name_length, dropped, dropped_length) != 0) {
                if (count == SIGV4_PARAMETERS)
                    return -1;
                int place = count++; /* insertion: clients mostly send them sorted */
                for (; place && comes_after(&sorted[place - 1], &next); place--)
                    sorted[place] = sorted[place - 1];
                sorted[place] = next;
            }
        }
        at = stop + 1;
    }
    unsigned char *to = out;
    for (int i = 0; i < count; i++) {
        if (i)
            *to++ = '&';
        memcpy(to, sorted[i].name, sorted[i].name_length);
        to += sorted[i].name_length;
        *to++ = '=';
        memcpy(to, sorted[i].value, sorted[i].value_length);
        to += sorted[i].value_length;
    }
    return to - out;
}

ptrdiff_t sigv4_value(const unsigned char *value, size_t length, unsigned char *out)
{
    unsigned char *to = out;
    int gap = 0;
    for (size_t i = 0; i < length; i++) {
        const unsigned char byte = value[i];
        if (byte == ' ' || byte == '\t') {
            gap = to > out;
            continue;
        }
        if (byte < 0x20)
            return -1;
        if (gap)
            *to++ = ' ';
        gap = 0;
        *to++ = byte;
    }
    return to - out;
}
