#include "crc_impl.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

crc_poly crc_poly_32 = {.width = 32, .polynomial = 0xEDB88320u};
crc_poly crc_poly_32c = {.width = 32, .polynomial = 0x82F63B78u};
crc_poly crc_poly_64 = {.width = 64, .polynomial = 0x9A6C9329AC4BC9B5u};

static inline uint64_t load64(const unsigned char *at)
{
    uint64_t word;
    memcpy(&word, at, 8); /* x86 and the little-endian ARM that Linux runs; big-endian machines are not supported */
    return word;
}

static inline void store32(unsigned char *at, uint32_t value) { memcpy(at, &value, 4); }

/* ------------------------------------------------------------------------------------------------ polynomials */

/* A * B mod P, all reflected in `width` bits. Bit by bit: only combine and setup use it. */
static uint64_t multiply(const crc_poly *poly, uint64_t a, uint64_t b)
{
    uint64_t product = 0;
    for (uint64_t bit = 1ull << (poly->width - 1); bit; bit >>= 1) { /* ascending powers of A, from x^0 */
        if (a & bit)
            product ^= b;
        b = (b >> 1) ^ (poly->polynomial & (0 - (b & 1))); /* B * x */
    }
    return product;
}

/* x^n mod P for small n, reflected in `width` bits. */
static uint64_t power_of_x(const crc_poly *poly, unsigned n)
{
    uint64_t value = 1ull << (poly->width - 1);
    while (n--)
        value = (value >> 1) ^ (poly->polynomial & (0 - (value & 1)));
    return value;
}

static void setup_one(crc_poly *poly)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = (value >> 1) ^ (poly->polynomial & (0 - (value & 1)));
        poly->table[0][byte] = value;
    }
    for (int k = 1; k < 8; k++)
        for (unsigned byte = 0; byte < 256; byte++) {
            uint64_t before = poly->table[k - 1][byte];
            poly->table[k][byte] = (before >> 8) ^ poly->table[0][before & 0xff];
        }
    poly->power[0] = power_of_x(poly, 8);
    for (int k = 1; k < 64; k++)
        poly->power[k] = multiply(poly, poly->power[k - 1], poly->power[k - 1]);
    for (int k = 0; k < CRC_FOLDS; k++) {
        unsigned distance = 128u << k;
        poly->fold[k][0] = power_of_x(poly, distance + 63) << (64 - poly->width);
        poly->fold[k][1] = power_of_x(poly, distance - 1) << (64 - poly->width);
    }
}

/* state * x^(8 * length) mod P */
static uint64_t shift(const crc_poly *poly, uint64_t state, uint64_t length)
{
    for (int k = 0; length; k++, length >>= 1)
        if (length & 1)
            state = multiply(poly, poly->power[k], state);
    return state;
}

uint64_t crc_combine(const crc_poly *poly, uint64_t crc_a, uint64_t crc_b, uint64_t length_b)
{
    /* Initial and final inversions cancel: both CRCs carry one of each. */
    return shift(poly, crc_a, length_b) ^ crc_b;
}

/* ------------------------------------------------------------------------------------------------------ scalar */

static uint64_t update_scalar(const crc_poly *poly, uint64_t state, const unsigned char *data, size_t length)
{
    for (; length >= 8; data += 8, length -= 8) {
        uint64_t word = load64(data) ^ state;
        state = poly->table[7][word & 0xff] ^ poly->table[6][(word >> 8) & 0xff] ^
                poly->table[5][(word >> 16) & 0xff] ^ poly->table[4][(word >> 24) & 0xff] ^
                poly->table[3][(word >> 32) & 0xff] ^ poly->table[2][(word >> 40) & 0xff] ^
                poly->table[1][(word >> 48) & 0xff] ^ poly->table[0][word >> 56];
    }
    for (; length; data++, length--)
        state = (state >> 8) ^ poly->table[0][(state ^ *data) & 0xff];
    return state;
}

#if defined(__x86_64__)

/* ------------------------------------------------------------------------------------- SSE4.2, for CRC32C alone */

/* Three strips at once, because the crc32 instruction takes three cycles and starts one a cycle; then the first two
 * are moved ahead by what follows them. Strip lengths: long ones for the rate, short ones for the rest of 64 KiB. */
enum { LONG_STRIP = 4096, SHORT_STRIP = 256, STRIP_SIZES = 2 };
static const size_t strip_bytes[STRIP_SIZES] = {LONG_STRIP, SHORT_STRIP};
static uint32_t strip_shift[STRIP_SIZES][4][256]; /* state * x^(8 * strip), by the state's bytes */

static void setup_strips(void)
{
    for (int size = 0; size < STRIP_SIZES; size++)
        for (int byte = 0; byte < 4; byte++)
            for (unsigned value = 0; value < 256; value++)
                strip_shift[size][byte][value] =
                    (uint32_t)shift(&crc_poly_32c, (uint64_t)value << (8 * byte), strip_bytes[size]);
}

static inline uint32_t skip_strip(int size, uint32_t state)
{
    return strip_shift[size][0][state & 0xff] ^ strip_shift[size][1][(state >> 8) & 0xff] ^
           strip_shift[size][2][(state >> 16) & 0xff] ^ strip_shift[size][3][state >> 24];
}

__attribute__((target("sse4.2"))) static uint64_t update_sse42(uint64_t state, const unsigned char *data, size_t length)
{
    for (int size = 0; size < STRIP_SIZES; size++) {
        const size_t strip = strip_bytes[size];
        while (length >= 3 * strip) {
            uint64_t first = state, second = 0, third = 0;
            for (size_t at = 0; at < strip; at += 8) {
                first = _mm_crc32_u64(first, load64(data + at));
                second = _mm_crc32_u64(second, load64(data + strip + at));
                third = _mm_crc32_u64(third, load64(data + 2 * strip + at));
            }
            second ^= skip_strip(size, (uint32_t)first);
            state = third ^ skip_strip(size, (uint32_t)second);
            data += 3 * strip;
            length -= 3 * strip;
        }
    }
    for (; length >= 8; data += 8, length -= 8)
        state = _mm_crc32_u64(state, load64(data));
    for (; length; data++, length--)
        state = _mm_crc32_u8((uint32_t)state, *data);
    return state;
}

/* -------------------------------------------------------------------------------------------------- 128-bit folds */

#define TARGET_128 __attribute__((target("sse4.1,pclmul")))
#define LOAD_128(at) _mm_loadu_si128((const __m128i *)(at))

TARGET_128 static inline __m128i fold_128(__m128i value, __m128i k, __m128i next)
{
    __m128i low = _mm_clmulepi64_si128(value, k, 0x00), high = _mm_clmulepi64_si128(value, k, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* From an accumulator over all before `data`: whole 16-byte blocks by folding, the rest by tables. */
TARGET_128 static inline uint64_t finish_128(const crc_poly *poly, __m128i value, const unsigned char *data,
                                             size_t length)
{
    const __m128i k = LOAD_128(poly->fold[0]);
    unsigned char last[16];
    for (; length >= 16; data += 16, length -= 16)
        value = fold_128(value, k, LOAD_128(data));
    _mm_storeu_si128((__m128i *)last, value);
    return update_scalar(poly, update_scalar(poly, 0, last, 16), data, length);
}

TARGET_128 static uint64_t update_pclmul(const crc_poly *poly, uint64_t state, const unsigned char *data,
                                         size_t length)
{
    if (length < 64)
        return update_scalar(poly, state, data, length);
    __m128i value = _mm_xor_si128(LOAD_128(data), _mm_set_epi64x(0, (long long)state));
    if (length < 256)
        return finish_128(poly, value, data + 16, length - 16);

    const __m128i k1 = LOAD_128(poly->fold[0]), k8 = LOAD_128(poly->fold[3]);
    __m128i lane[8];
    lane[0] = value;
    for (int i = 1; i < 8; i++)
        lane[i] = LOAD_128(data + 16 * i);
    for (data += 128, length -= 128; length >= 128; data += 128, length -= 128)
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            lane[i] = fold_128(lane[i], k8, LOAD_128(data + 16 * i));
#pragma GCC unroll 8
    for (int i = 1; i < 8; i++)
        lane[i] = fold_128(lane[i - 1], k1, lane[i]);
    return finish_128(poly, lane[7], data, length);
}

/* ------------------------------------------------------------------------------------------ 256- and 512-bit folds */

/* The upper halves of the registers are cleared by hand at the end: GCC leaves that out where the last instructions are
 * of 128 bits, and with them in use each SHA instruction that comes later takes a hundred times as long on Intel's.
 *
 * One text for both widths, so that what tests of one prove holds for the other but for four intrinsics.
 * LANES accumulators hide the multiplication's latency; `ahead` is the fold constant of LANES whole registers. */
enum { PREFETCH_LANES = 32 }; /* 2 KiB before it is needed; beyond the end of the data it does nothing */

#define DEFINE_WIDE(NAME, TARGET, V, BYTES, LANES, AHEAD, ONE, LOAD, SPREAD, FIRST, FOLD, NARROW)                      \
    TARGET static uint64_t NAME(const crc_poly *poly, uint64_t state, const unsigned char *data, size_t length)        \
    {                                                                                                                  \
        if (length < 2 * BYTES * LANES)                                                                                \
            return update_pclmul(poly, state, data, length);                                                           \
        const V ahead = SPREAD(LOAD_128(poly->fold[AHEAD])), one = SPREAD(LOAD_128(poly->fold[ONE]));                  \
        V lane[LANES];                                                                                                 \
        lane[0] = FIRST(LOAD(data), state);                                                                            \
        _Pragma("GCC unroll 8") for (int i = 1; i < LANES; i++) lane[i] = LOAD(data + BYTES * i);                      \
        data += BYTES * LANES, length -= BYTES * LANES;                                                                \
        for (; length >= BYTES * LANES; data += BYTES * LANES, length -= BYTES * LANES)                                \
            _Pragma("GCC unroll 8") for (int i = 0; i < LANES; i++) {                                                  \
                if (BYTES == 64) /* a cache line a step: faster than the processor's own prefetching follows */        \
                    _mm_prefetch((const char *)(data + BYTES * (i + PREFETCH_LANES)), _MM_HINT_T0);                    \
                lane[i] = FOLD(lane[i], ahead, LOAD(data + BYTES * i));                                                \
            }                                                                                                          \
        _Pragma("GCC unroll 8") for (int i = 1; i < LANES; i++) lane[i] = FOLD(lane[i - 1], one, lane[i]);             \
        V value = lane[LANES - 1];                                                                                     \
        for (; length >= BYTES; data += BYTES, length -= BYTES)                                                        \
            value = FOLD(value, one, LOAD(data));                                                                      \
        const __m128i narrow = NARROW(value, poly);                                                                    \
        _mm256_zeroupper();                                                                                            \
        return finish_128(poly, narrow, data, length);                                                                 \
    }

#define TARGET_256 __attribute__((target("avx2,pclmul,vpclmulqdq")))
#define LOAD_256(at) _mm256_loadu_si256((const __m256i *)(at))

TARGET_256 static inline __m256i fold_256(__m256i value, __m256i k, __m256i next)
{
    __m256i low = _mm256_clmulepi64_epi128(value, k, 0x00), high = _mm256_clmulepi64_epi128(value, k, 0x11);
    return _mm256_xor_si256(_mm256_xor_si256(low, high), next);
}

TARGET_256 static inline __m256i first_256(__m256i value, uint64_t state)
{
    return _mm256_xor_si256(value, _mm256_set_epi64x(0, 0, 0, (long long)state));
}

TARGET_256 static inline __m128i narrow_256(__m256i value, const crc_poly *poly)
{
    return fold_128(_mm256_castsi256_si128(value), LOAD_128(poly->fold[0]), _mm256_extracti128_si256(value, 1));
}

DEFINE_WIDE(update_vpclmul, TARGET_256, __m256i, 32, 8, 4, 1, LOAD_256, _mm256_broadcastsi128_si256, first_256,
            fold_256, narrow_256)

/* ------------------------------------------------------------------ CRC32C: the crc32 instruction beside the folds */

/* The crc32 instruction and the carry-less multiplier are different units of the processor, so a piece is divided: three
 * strips A, B, C for the instruction (as above) and a rest W for four 256-bit folds, in the ratio in which both take the
 * same time. Measured on Zen 3: 32 to 39 GB/s, against 22 of either alone.
 *
 * Joining: a * x^(8n) mod P = crc32(0, clmul(a, x^(8n - 33) mod P)), because the product of two reflected 32-bit words,
 * read as a reflected 64-bit word, carries one x too many, and the instruction multiplies by x^32. */
enum { FUSED_WORDS = 5, FUSED_LANES = 4, FUSED_STEP = 3 * 8 * FUSED_WORDS + 32 * FUSED_LANES, FUSED_SIZES = 2 };
static const size_t fused_steps[FUSED_SIZES] = {264, 16}; /* 65,472 and 3,968 bytes: most of a 64 KiB and a 4 KiB block */
static uint64_t fused_shift[FUSED_SIZES][3];              /* for A, B and C: past all that follows each */

static void setup_fused(void)
{
    for (int size = 0; size < FUSED_SIZES; size++) {
        const size_t strip = 8 * FUSED_WORDS * fused_steps[size], rest = 32 * FUSED_LANES * fused_steps[size];
        for (int i = 0; i < 3; i++)
            fused_shift[size][i] = power_of_x(&crc_poly_32c, (unsigned)(8 * (rest + (size_t)(2 - i) * strip) - 33));
    }
}

#define TARGET_FUSED __attribute__((target("avx2,pclmul,vpclmulqdq,sse4.2")))

TARGET_FUSED static inline __m128i times(uint64_t state, uint64_t constant)
{
    return _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)state), _mm_cvtsi64_si128((long long)constant), 0);
}

TARGET_FUSED static uint64_t update_fused(uint64_t state, const unsigned char *data, size_t length)
{
    const __m256i ahead = _mm256_broadcastsi128_si256(LOAD_128(crc_poly_32c.fold[3]));
    const __m256i one = _mm256_broadcastsi128_si256(LOAD_128(crc_poly_32c.fold[1]));
    for (int size = 0; size < FUSED_SIZES; size++) {
        const size_t steps = fused_steps[size], strip = 8 * FUSED_WORDS * steps;
        for (; length >= FUSED_STEP * steps; data += FUSED_STEP * steps, length -= FUSED_STEP * steps) {
            const unsigned char *at = data, *rest = data + 3 * strip;
            uint64_t a = state, b = 0, c = 0;
            __m256i lane[FUSED_LANES];
            for (int i = 0; i < FUSED_LANES; i++)
                lane[i] = _mm256_setzero_si256();
            for (size_t step = 0; step < steps; step++, at += 8 * FUSED_WORDS, rest += 32 * FUSED_LANES) {
#pragma GCC unroll 4
                for (int i = 0; i < FUSED_LANES; i++)
                    lane[i] = fold_256(lane[i], ahead, LOAD_256(rest + 32 * i));
#pragma GCC unroll 5
                for (int i = 0; i < FUSED_WORDS; i++) {
                    a = _mm_crc32_u64(a, load64(at + 8 * i));
                    b = _mm_crc32_u64(b, load64(at + strip + 8 * i));
                    c = _mm_crc32_u64(c, load64(at + 2 * strip + 8 * i));
                }
            }
#pragma GCC unroll 4
            for (int i = 1; i < FUSED_LANES; i++)
                lane[i] = fold_256(lane[i - 1], one, lane[i]);
            const __m128i folded = narrow_256(lane[FUSED_LANES - 1], &crc_poly_32c);
            const __m128i joined = _mm_xor_si128(_mm_xor_si128(times(a, fused_shift[size][0]),
                                                               times(b, fused_shift[size][1])),
                                                 times(c, fused_shift[size][2]));
            state = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(folded));
            state = _mm_crc32_u64(state, (uint64_t)_mm_extract_epi64(folded, 1));
            state ^= _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(joined));
        }
    }
    _mm256_zeroupper();
    return update_sse42(state, data, length);
}

#define TARGET_512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,pclmul,vpclmulqdq")))
#define LOAD_512(at) _mm512_loadu_si512((const void *)(at))

TARGET_512 static inline __m512i fold_512(__m512i value, __m512i k, __m512i next)
{
    __m512i low = _mm512_clmulepi64_epi128(value, k, 0x00), high = _mm512_clmulepi64_epi128(value, k, 0x11);
    return _mm512_ternarylogic_epi64(low, high, next, 0x96); /* exclusive or of three */
}

TARGET_512 static inline __m512i first_512(__m512i value, uint64_t state)
{
    return _mm512_xor_si512(value, _mm512_set_epi64(0, 0, 0, 0, 0, 0, 0, (long long)state));
}

TARGET_512 static inline __m128i narrow_512(__m512i value, const crc_poly *poly)
{
    const __m128i k = LOAD_128(poly->fold[0]);
    __m128i sum = _mm512_castsi512_si128(value);
    sum = fold_128(sum, k, _mm512_extracti64x2_epi64(value, 1));
    sum = fold_128(sum, k, _mm512_extracti64x2_epi64(value, 2));
    return fold_128(sum, k, _mm512_extracti64x2_epi64(value, 3));
}

DEFINE_WIDE(update_avx512, TARGET_512, __m512i, 64, 8, 5, 2, LOAD_512, _mm512_broadcast_i32x4, first_512, fold_512,
            narrow_512)

#endif /* x86-64 */

/* ---------------------------------------------------------------------------------------------------- entrances */

void crc_setup(void)
{
    setup_one(&crc_poly_32);
    setup_one(&crc_poly_32c);
    setup_one(&crc_poly_64);
#if defined(__x86_64__)
    setup_strips();
    setup_fused();
#endif
}

uint64_t crc_update(const crc_poly *poly, int variant, uint64_t crc, const unsigned char *data, size_t length)
{
    const uint64_t ones = ~0ull >> (64 - poly->width);
    uint64_t state = crc ^ ones;
    switch (variant) {
#if defined(__x86_64__)
    case CRC_AVX512:
        state = update_avx512(poly, state, data, length);
        break;
    case CRC_VPCLMUL:
        state = poly == &crc_poly_32c ? update_fused(state, data, length) : update_vpclmul(poly, state, data, length);
        break;
    case CRC_PCLMUL:
        state = update_pclmul(poly, state, data, length);
        break;
    case CRC_SSE42:
        state = poly == &crc_poly_32c ? update_sse42(state, data, length) : update_scalar(poly, state, data, length);
        break;
#endif
    default:
        state = update_scalar(poly, state, data, length);
    }
    return state ^ ones;
}

void crc32c_table(int variant, const unsigned char *data, size_t length, size_t block, unsigned char *out)
{
    for (; length; out += 4) {
        const size_t span = length < block ? length : block;
        store32(out, (uint32_t)crc_update(&crc_poly_32c, variant, 0, data, span));
        data += span;
        length -= span;
    }
}

ptrdiff_t crc32c_first_bad(int variant, const unsigned char *data, size_t length, size_t block,
                           const unsigned char *expected)
{
    for (ptrdiff_t index = 0; length; index++) {
        const size_t span = length < block ? length : block;
        unsigned char found[4];
        store32(found, (uint32_t)crc_update(&crc_poly_32c, variant, 0, data, span));
        if (memcmp(found, expected + 4 * index, 4) != 0)
            return index;
        data += span;
        length -= span;
    }
    return -1;
}
