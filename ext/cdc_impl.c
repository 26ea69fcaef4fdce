/* The gear hash over GF(2), and how to run 32 of it at once.
 *
 *     h(i) = h(i - 1) << 1  ^  G[b(i)]                                     32 bits
 *          = XOR over j = 0 .. 31 of  G[b(i - j)] << j                     older bytes have been shifted out
 *
 * So h(i) is a function of the 32 bytes that end at i and of nothing else: not of the chunk, not of where the scan
 * began. That is what lets cuts survive insertions, and it is also what lets lanes start anywhere after 32 bytes of
 * warm-up. Bit k of h depends on the last k + 1 bytes; a cut is where the top bits are all zero, since these have seen
 * the most.
 *
 *     G[b] = LOW[b & 15] ^ HIGH[b >> 4]
 *
 * The usual gear adds where this XORs, and has 256 independent words. Both are changed for the sake of byte shuffles:
 * without carries h splits into four planes of one byte each, bits 8p .. 8p + 7 of h being plane p, and one register
 * holds a plane of 32 hashes:
 *
 *     plane p  =  plane p + plane p  +  top bit of plane p - 1  ^  LOW_p[b & 15]  ^  HIGH_p[b >> 4]
 *
 * where doubling is a byte addition, "top bit of" a signed comparison with zero (which gives -1, so it is subtracted),
 * and the tables' plane p is a 16-byte shuffle. The 32 hashes belong to 32 lanes: a region of 32 x S bytes is cut into
 * 32 stretches, lane l walks stretch l, so the bytes that all lanes need next form a column; 32 x 16 bytes are
 * transposed at a time. The cost is about 1.5 instructions a byte and does not depend on the content: hits are rare by
 * construction, and where a hostile or periodic content makes them frequent, they are still one row a step. `avx512`
 * has 64 lanes, a ternary XOR, and masks where `avx2` compares.
 *
 * Two thresholds (FastCDC's normalisation, Xia et al., USENIX ATC 2016): before the average length a cut needs 2 more
 * zero bits than log2(average), after it 2 fewer. Strict hits are a subset of loose ones, so that a step without loose
 * ones needs no second look.
 */
#include "cdc_impl.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Made by tests/oracles/cdc.py from SHA-256 of "rs3d cdc 1 ..."; part of the format: other tables, other cuts. */
static const uint32_t LOW[16] = {
    0x13ff7d30, 0x7f37527b, 0x9a1bf80a, 0x0357f86d, 0x4bfe2daf, 0xeb5f61d1, 0x9bcc207b, 0x48e3fbdf,
    0xb41b2942, 0xccaddf87, 0xa42a3ee4, 0xdb38f083, 0x67e0bc16, 0xe85914fa, 0x4a6c07ff, 0x0feceb1e,
};
static const uint32_t HIGH[16] = {
    0xe4dae921, 0x7ce299ed, 0x83d68f20, 0xe6b5a288, 0xe2595d95, 0xc9f341b3, 0x3b54a804, 0xd4ebc302,
    0x60dbe276, 0x6c8bf3af, 0x2da9c4ff, 0x14b41700, 0x1fd6e614, 0x3db7301d, 0x37571c64, 0x6fc17cc5,
};

/* G, and G << 1 for the scalar code's double step. */
static uint32_t gear[256], gear_twice[256];

void rs3d_cdc_start(void)
{
    for (int byte = 0; byte < 256; byte++) {
        gear[byte] = LOW[byte & 15] ^ HIGH[byte >> 4];
        gear_twice[byte] = gear[byte] << 1;
    }
}

enum { WINDOW = RS3D_CDC_WINDOW };

/* Lanes of 480 bytes: an odd number of 32-byte columns, so that the stretches spread over the first cache's sets, and
 * warm-up costs 1/15. The last region of a buffer is smaller; below two columns the scalar code is as fast. */
enum { COLUMN = 32, STRETCH = 480 };

typedef struct {
    uint64_t loose; /* bit l: lane l has so many zero bits here */
    uint64_t strict;
    uint32_t step; /* offset within each lane's stretch */
} hit;

typedef struct {
    const unsigned char *data;
    int64_t bytes;
    const rs3d_cdc *c;
    uint32_t masks[2];  /* by zone: the bits of h that have to be zero */
    int64_t begin, end; /* the region scanned last, as offsets in data */
    int64_t stretch;
    int64_t lanes; /* of the variant at work */
    int hit_count;
    hit hits[STRETCH];
} scan;

enum { LOOSE = 0, STRICT = 1 };

/* ---------------------------------------------------------------------------------------------------------- scalar */

/* h at offset i - 1 of the buffer, from the bytes before it, of which the first may lie in the tail. */
static uint32_t hash_before(const scan *s, int64_t i)
{
    uint32_t h = 0;

    for (int64_t at = i - WINDOW; at < i; at++) {
        unsigned char byte = at < 0 ? s->c->tail[WINDOW + at] : s->data[at];
        h = h << 1 ^ gear[byte];
    }
    return h;
}

/* The first offset in [from, to) where the zone's bits are zero, or `to`. Two bytes a step halve the chain. */
static int64_t find_scalar(const scan *s, int zone, int64_t from, int64_t to)
{
    const unsigned char *p = s->data;
    uint32_t h = hash_before(s, from), mask = s->masks[zone];
    int64_t i = from;

    for (; i + 2 <= to; i += 2) {
        uint32_t first = h << 1 ^ gear[p[i]];
        h = h << 2 ^ gear_twice[p[i]] ^ gear[p[i + 1]];
        if (!(first & mask))
            return i;
        if (!(h & mask))
            return i + 1;
    }
    if (i < to && !((h << 1 ^ gear[p[i]]) & mask))
        return i;
    return to;
}

/* ------------------------------------------------------------------------------------------------------------ avx2 */

#if defined(__x86_64__)

typedef struct {
    __m256i plane[4];
} planes;

typedef struct {
    __m256i low[4], high[4]; /* the tables' planes, the same in both halves */
    __m256i loose[2], strict[2]; /* planes 2 and 1 of the masks; plane 3 is always wanted whole, plane 0 never */
} constants;

__attribute__((target("avx2"))) static constants make_constants(const scan *s)
{
    constants k;

    for (int p = 0; p < 4; p++) {
        unsigned char low[16], high[16];
        for (int i = 0; i < 16; i++) {
            low[i] = (unsigned char)(LOW[i] >> 8 * p);
            high[i] = (unsigned char)(HIGH[i] >> 8 * p);
        }
        k.low[p] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)low));
        k.high[p] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)high));
    }
    for (int p = 0; p < 2; p++) {
        k.loose[p] = _mm256_set1_epi8((char)(s->masks[LOOSE] >> (16 - 8 * p)));
        k.strict[p] = _mm256_set1_epi8((char)(s->masks[STRICT] >> (16 - 8 * p)));
    }
    return k;
}

/* The next byte of all lanes. Written from the top plane down: each needs its lower neighbour as it was. */
__attribute__((target("avx2"))) static inline void advance(planes *h, __m256i bytes, const constants *k)
{
    const __m256i nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    __m256i low = _mm256_and_si256(bytes, nibble);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);

#pragma GCC unroll 4
    for (int p = 3; p >= 0; p--) {
        __m256i doubled = _mm256_add_epi8(h->plane[p], h->plane[p]);
        if (p > 0)
            doubled = _mm256_sub_epi8(doubled, _mm256_cmpgt_epi8(zero, h->plane[p - 1]));
        h->plane[p] = _mm256_xor_si256(
            doubled, _mm256_xor_si256(_mm256_shuffle_epi8(k->low[p], low), _mm256_shuffle_epi8(k->high[p], high)));
    }
}

__attribute__((target("avx2"))) static inline uint32_t lanes_zero(const planes *h, const __m256i *mask)
{
    __m256i rest = _mm256_or_si256(_mm256_and_si256(h->plane[2], mask[0]), _mm256_and_si256(h->plane[1], mask[1]));
    __m256i all = _mm256_or_si256(h->plane[3], rest);
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(all, _mm256_setzero_si256()));
}

/* Sixteen steps' bytes of 32 lanes: row l of `v` becomes column l. Lanes 16-31 ride in the upper halves, so that the
 * four rounds of unpacking, which work within halves, leave lane l in byte l. */
__attribute__((target("avx2"))) static inline void load_columns(__m256i *v, const unsigned char *at, int64_t stretch)
{
    __m256i w[16];

    for (int l = 0; l < 16; l++)
        v[l] = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(at + l * stretch))),
            _mm_loadu_si128((const __m128i *)(at + (l + 16) * stretch)), 1);
    for (int i = 0; i < 8; i++) {
        w[2 * i] = _mm256_unpacklo_epi8(v[i], v[i + 8]);
        w[2 * i + 1] = _mm256_unpackhi_epi8(v[i], v[i + 8]);
    }
    for (int i = 0; i < 8; i++) {
        v[2 * i] = _mm256_unpacklo_epi8(w[i], w[i + 8]);
        v[2 * i + 1] = _mm256_unpackhi_epi8(w[i], w[i + 8]);
    }
    for (int i = 0; i < 8; i++) {
        w[2 * i] = _mm256_unpacklo_epi8(v[i], v[i + 8]);
        w[2 * i + 1] = _mm256_unpackhi_epi8(v[i], v[i + 8]);
    }
    for (int i = 0; i < 8; i++) {
        v[2 * i] = _mm256_unpacklo_epi8(w[i], w[i + 8]);
        v[2 * i + 1] = _mm256_unpackhi_epi8(w[i], w[i + 8]);
    }
}

/* Hash the region that begins at offset `begin` and note every step at which a lane has a loose hit. The 32 bytes
 * before `begin` must lie in the buffer. */
__attribute__((target("avx2"))) static void scan_region_avx2(scan *s, int64_t begin, int64_t stretch)
{
    enum { LANES = 32 };
    const constants k = make_constants(s);
    const unsigned char *at = s->data + begin;
    planes h;
    __m256i column[16];

    s->begin = begin;
    s->stretch = stretch;
    s->end = begin + LANES * stretch;
    s->hit_count = 0;
    for (int p = 0; p < 4; p++)
        h.plane[p] = _mm256_setzero_si256();
    for (int64_t step = -WINDOW; step < 0; step += 16) {
        load_columns(column, at + step, stretch);
        for (int i = 0; i < 16; i++)
            advance(&h, column[i], &k);
    }
    for (int64_t step = 0; step < stretch; step += 16) {
        load_columns(column, at + step, stretch);
        /* Lanes that leap through memory escape the hardware's prefetching: fetch the next region here, in order. */
        for (int line = 0; line < LANES * 16; line += 64)
            _mm_prefetch((const char *)at + LANES * (stretch + step) + line, _MM_HINT_T0);
        for (int i = 0; i < 16; i++) {
            uint32_t loose;
            advance(&h, column[i], &k);
            loose = lanes_zero(&h, k.loose);
            if (__builtin_expect(loose != 0, 0)) {
                hit *found = &s->hits[s->hit_count++];
                found->step = (uint32_t)(step + i);
                found->loose = loose;
                found->strict = lanes_zero(&h, k.strict);
            }
        }
    }
}

/* ---------------------------------------------------------------------------------------------------------- avx512 */

#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl"

typedef struct {
    __m512i plane[4];
} wide_planes;

typedef struct {
    __m512i low[4], high[4];
    __m512i loose[2], strict[2];
} wide_constants;

__attribute__((target(AVX512))) static wide_constants make_wide_constants(const scan *s)
{
    const constants narrow = make_constants(s);
    wide_constants k;

    for (int p = 0; p < 4; p++) {
        k.low[p] = _mm512_broadcast_i64x4(narrow.low[p]);
        k.high[p] = _mm512_broadcast_i64x4(narrow.high[p]);
    }
    for (int p = 0; p < 2; p++) {
        k.loose[p] = _mm512_broadcast_i64x4(narrow.loose[p]);
        k.strict[p] = _mm512_broadcast_i64x4(narrow.strict[p]);
    }
    return k;
}

__attribute__((target(AVX512))) static inline void advance_wide(wide_planes *h, __m512i bytes, const wide_constants *k)
{
    const __m512i nibble = _mm512_set1_epi8(15), ones = _mm512_set1_epi8(-1);
    __m512i low = _mm512_and_si512(bytes, nibble);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);

#pragma GCC unroll 4
    for (int p = 3; p >= 0; p--) {
        __m512i doubled = _mm512_add_epi8(h->plane[p], h->plane[p]);
        if (p > 0)
            doubled = _mm512_mask_sub_epi8(doubled, _mm512_movepi8_mask(h->plane[p - 1]), doubled, ones);
        h->plane[p] = _mm512_ternarylogic_epi64(doubled, _mm512_shuffle_epi8(k->low[p], low),
                                                _mm512_shuffle_epi8(k->high[p], high), 0x96); /* XOR of three */
    }
}

__attribute__((target(AVX512))) static inline uint64_t lanes_zero_wide(const wide_planes *h, const __m512i *mask)
{
    __m512i rest = _mm512_ternarylogic_epi64(_mm512_and_si512(h->plane[1], mask[1]), h->plane[2], mask[0], 0xf8);
    __m512i all = _mm512_or_si512(h->plane[3], rest); /* 0xf8: a | b & c */
    return _mm512_testn_epi8_mask(all, all);
}

/* As `load_columns`, of 64 lanes: a quarter of the register has the next sixteen lanes. */
__attribute__((target(AVX512))) static inline void load_wide_columns(__m512i *v, const unsigned char *at,
                                                                     int64_t stretch)
{
    __m512i w[16];

#pragma GCC unroll 16
    for (int l = 0; l < 16; l++) {
        const unsigned char *row = at + l * stretch;
        v[l] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)row));
        v[l] = _mm512_inserti32x4(v[l], _mm_loadu_si128((const __m128i *)(row + 16 * stretch)), 1);
        v[l] = _mm512_inserti32x4(v[l], _mm_loadu_si128((const __m128i *)(row + 32 * stretch)), 2);
        v[l] = _mm512_inserti32x4(v[l], _mm_loadu_si128((const __m128i *)(row + 48 * stretch)), 3);
    }
#pragma GCC unroll 2
    for (int twice = 0; twice < 2; twice++) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            w[2 * i] = _mm512_unpacklo_epi8(v[i], v[i + 8]);
            w[2 * i + 1] = _mm512_unpackhi_epi8(v[i], v[i + 8]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            v[2 * i] = _mm512_unpacklo_epi8(w[i], w[i + 8]);
            v[2 * i + 1] = _mm512_unpackhi_epi8(w[i], w[i + 8]);
        }
    }
}

__attribute__((target(AVX512))) static void scan_region_avx512(scan *s, int64_t begin, int64_t stretch)
{
    enum { LANES = 64 };
    const wide_constants k = make_wide_constants(s);
    const unsigned char *at = s->data + begin;
    wide_planes h;
    __m512i column[16];

    s->begin = begin;
    s->stretch = stretch;
    s->end = begin + LANES * stretch;
    s->hit_count = 0;
    for (int p = 0; p < 4; p++)
        h.plane[p] = _mm512_setzero_si512();
    for (int64_t step = -WINDOW; step < 0; step += 16) {
        load_wide_columns(column, at + step, stretch);
        for (int i = 0; i < 16; i++)
            advance_wide(&h, column[i], &k);
    }
    for (int64_t step = 0; step < stretch; step += 16) {
        load_wide_columns(column, at + step, stretch);
        for (int line = 0; line < LANES * 16; line += 64)
            _mm_prefetch((const char *)at + LANES * (stretch + step) + line, _MM_HINT_T0);
        for (int i = 0; i < 16; i++) {
            uint64_t loose;
            advance_wide(&h, column[i], &k);
            loose = lanes_zero_wide(&h, k.loose);
            if (__builtin_expect(loose != 0, 0)) {
                hit *found = &s->hits[s->hit_count++];
                found->step = (uint32_t)(step + i);
                found->loose = loose;
                found->strict = lanes_zero_wide(&h, k.strict);
            }
        }
    }
}

/* --------------------------------------------------------------------------------------------------------- regions */

/* The first hit of the zone in [from, to), both within the region, or `to`. */
static int64_t find_in_region(const scan *s, int zone, int64_t from, int64_t to)
{
    uint64_t lanes = 0;

    for (int n = 0; n < s->hit_count; n++)
        lanes |= zone == STRICT ? s->hits[n].strict : s->hits[n].loose;
    for (int64_t l = (from - s->begin) / s->stretch; l < s->lanes && s->begin + l * s->stretch < to; l++) {
        if (!(lanes >> l & 1))
            continue;
        for (int n = 0; n < s->hit_count; n++) {
            const hit *candidate = &s->hits[n];
            int64_t at = s->begin + l * s->stretch + candidate->step;
            if (at >= from && (zone == STRICT ? candidate->strict : candidate->loose) >> l & 1)
                return at < to ? at : to;
        }
    }
    return to;
}

static int64_t find_wide(int variant, scan *s, int zone, int64_t from, int64_t to)
{
    while (from < to) {
        int64_t stop, found;
        if (from < s->begin || from >= s->end) {
            int64_t left = s->bytes - from;
            if (from < WINDOW || left < s->lanes * COLUMN * 2) {
                stop = from < WINDOW && to > WINDOW ? WINDOW : to;
                found = find_scalar(s, zone, from, stop);
                if (found < stop)
                    return found;
                from = stop;
                continue;
            }
            left = left / s->lanes / COLUMN * COLUMN;
            if (variant == RS3D_CDC_AVX512)
                scan_region_avx512(s, from, left < STRETCH ? left : STRETCH);
            else
                scan_region_avx2(s, from, left < STRETCH ? left : STRETCH);
        }
        stop = to < s->end ? to : s->end;
        found = find_in_region(s, zone, from, stop);
        if (found < stop)
            return found;
        from = stop;
    }
    return to;
}

#endif /* x86-64 */

/* ---------------------------------------------------------------------------------------------------------- chunks */

static int64_t find(int variant, scan *s, int zone, int64_t from, int64_t to)
{
#if defined(__x86_64__)
    if (variant != RS3D_CDC_SCALAR)
        return find_wide(variant, s, zone, from, to);
#endif
    return find_scalar(s, zone, from, to);
}

static int64_t clamp(int64_t at, int64_t bytes)
{
    return at < 0 ? 0 : at < bytes ? at : bytes;
}

size_t rs3d_cdc_scan(int variant, rs3d_cdc *c, const unsigned char *data, size_t bytes, int64_t *ends)
{
    scan s;
    int bits = 63 - __builtin_clzll((unsigned long long)c->average_bytes);
    int64_t start = -c->begun; /* of the current chunk */
    size_t count = 0;

    s.data = data;
    s.bytes = (int64_t)bytes;
    s.c = c;
    s.masks[STRICT] = ~(uint32_t)0 << (32 - (bits + 2));
    s.masks[LOOSE] = ~(uint32_t)0 << (32 - (bits - 2));
    s.begin = s.end = s.stretch = 0;
    s.lanes = variant == RS3D_CDC_AVX512 ? 64 : 32;
    s.hit_count = 0;
    for (;;) {
        /* A chunk of length n ends at offset start + n - 1; offsets before this buffer have been looked at already. */
        int64_t shortest = clamp(start + c->min_bytes - 1, s.bytes);
        int64_t turn = clamp(start + c->average_bytes - 1, s.bytes);
        int64_t longest = clamp(start + c->max_bytes - 1, s.bytes);
        int64_t at = find(variant, &s, STRICT, shortest, turn);
        if (at == turn)
            at = find(variant, &s, LOOSE, turn, longest);
        if (at == s.bytes)
            break;
        start = at + 1;
        ends[count++] = start;
    }
    c->begun = s.bytes - start;
    if (bytes >= WINDOW) {
        memcpy(c->tail, data + bytes - WINDOW, WINDOW);
    } else if (bytes) {
        memmove(c->tail, c->tail + bytes, WINDOW - bytes);
        memcpy(c->tail + WINDOW - bytes, data, bytes);
    }
    return count;
}
