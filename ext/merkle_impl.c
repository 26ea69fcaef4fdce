/* Four ways through SHA-256's compression function, and the lanes that feed them.
 *
 * One stream of SHA-256 is a chain: each pair of rounds needs the one before. A processor's SHA unit is therefore idle
 * half the time (Zen 3: sha256rnds2 answers after 4 cycles, but takes a new one every 2). Two independent messages,
 * interleaved instruction by instruction, fill it: `shani` runs messages in pairs. Where there is no such unit, `avx2`
 * holds eight messages in the eight 32-bit columns of its registers, one register a state word, and runs the plain
 * formulas on all of them. `avx512` holds sixteen, rotates in one instruction and computes each of the functions in one;
 * it overtakes the SHA unit from nine messages on, and leaves fewer to it.
 *
 * Messages end at different times. A lane is a place for a message: it first walks the message's whole blocks where
 * they lie, then one or two blocks of tail (the rest, 0x80, zeros, the bit length), then takes the next message. All
 * lanes step by the smallest number of blocks that any of them has left.
 */
#include "merkle_impl.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#include "transpose16.h"
#include "transpose8.h"
#endif

static const uint32_t K[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static const uint32_t START[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static inline uint32_t load_be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void store_be32(unsigned char *p, uint32_t x)
{
    p[0] = (unsigned char)(x >> 24);
    p[1] = (unsigned char)(x >> 16);
    p[2] = (unsigned char)(x >> 8);
    p[3] = (unsigned char)x;
}

/* The formulas of FIPS 180-4, 4.1.2; the same text serves a 32-bit word and a vector of eight. */
#define ROR(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define CH(e, f, g) ((g) ^ ((e) & ((f) ^ (g))))
#define MAJ(a, b, c) (((a) & (b)) | ((c) & ((a) | (b))))
#define SUM0(a) (ROR(a, 2) ^ ROR(a, 13) ^ ROR(a, 22))
#define SUM1(e) (ROR(e, 6) ^ ROR(e, 11) ^ ROR(e, 25))
#define SIG0(w) (ROR(w, 7) ^ ROR(w, 18) ^ ((w) >> 3))
#define SIG1(w) (ROR(w, 17) ^ ROR(w, 19) ^ ((w) >> 10))

/* Round i over w[16], used as a ring; the eight names rotate instead of the values, hence groups of eight rounds. */
#define ROUND(T, a, b, c, d, e, f, g, h, i) \
    do { \
        if ((i) >= 16) \
            w[(i) & 15] += SIG1(w[((i) - 2) & 15]) + w[((i) - 7) & 15] + SIG0(w[((i) - 15) & 15]); \
        T t = h + SUM1(e) + CH(e, f, g) + K[i] + w[(i) & 15]; \
        d += t; \
        h = t + SUM0(a) + MAJ(a, b, c); \
    } while (0)
#define EIGHT_ROUNDS(T, i) \
    ROUND(T, a, b, c, d, e, f, g, h, (i)); \
    ROUND(T, h, a, b, c, d, e, f, g, (i) + 1); \
    ROUND(T, g, h, a, b, c, d, e, f, (i) + 2); \
    ROUND(T, f, g, h, a, b, c, d, e, (i) + 3); \
    ROUND(T, e, f, g, h, a, b, c, d, (i) + 4); \
    ROUND(T, d, e, f, g, h, a, b, c, (i) + 5); \
    ROUND(T, c, d, e, f, g, h, a, b, (i) + 6); \
    ROUND(T, b, c, d, e, f, g, h, a, (i) + 7)
#define ALL_ROUNDS(T) \
    EIGHT_ROUNDS(T, 0); EIGHT_ROUNDS(T, 8); EIGHT_ROUNDS(T, 16); EIGHT_ROUNDS(T, 24); \
    EIGHT_ROUNDS(T, 32); EIGHT_ROUNDS(T, 40); EIGHT_ROUNDS(T, 48); EIGHT_ROUNDS(T, 56)

static void scalar_blocks(uint32_t *s, const unsigned char *p, size_t blocks)
{
    for (; blocks; blocks--, p += 64) {
        uint32_t w[16], a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
        for (int i = 0; i < 16; i++)
            w[i] = load_be32(p + 4 * i);
        ALL_ROUNDS(uint32_t);
        s[0] += a; s[1] += b; s[2] += c; s[3] += d; s[4] += e; s[5] += f; s[6] += g; s[7] += h;
    }
}

#if defined(__x86_64__)

typedef uint32_t word8 __attribute__((vector_size(32)));

/* Word i of lane l is state[8 * i + l]. */
__attribute__((target("avx2"))) static void avx2_blocks(uint32_t *state, const unsigned char **at, size_t blocks)
{
    const __m256i swap = _mm256_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12,
                                          3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    word8 *s = (word8 *)state;
    word8 s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3], s4 = s[4], s5 = s[5], s6 = s[6], s7 = s[7];

    for (size_t block = 0; block < blocks; block++) {
        word8 w[16], a = s0, b = s1, c = s2, d = s3, e = s4, f = s5, g = s6, h = s7;
        for (int half = 0; half < 2; half++) {
            __m256i r[8];
            for (int lane = 0; lane < 8; lane++)
                r[lane] = _mm256_loadu_si256((const __m256i *)(at[lane] + 64 * block + 32 * half));
            RS3D_TRANSPOSE8(r);
            for (int i = 0; i < 8; i++)
                w[8 * half + i] = (word8)_mm256_shuffle_epi8(r[i], swap);
        }
        ALL_ROUNDS(word8);
        s0 += a; s1 += b; s2 += c; s3 += d; s4 += e; s5 += f; s6 += g; s7 += h;
    }
    s[0] = s0; s[1] = s1; s[2] = s2; s[3] = s3; s[4] = s4; s[5] = s5; s[6] = s6; s[7] = s7;
}

#define AVX512 __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))

#define XOR3_512(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CH_512(e, f, g) _mm512_ternarylogic_epi32(e, f, g, 0xca)
#define MAJ_512(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xe8)
#define SUM_512(x, i, j, k) XOR3_512(_mm512_ror_epi32(x, i), _mm512_ror_epi32(x, j), _mm512_ror_epi32(x, k))
#define SIG_512(x, i, j, k) XOR3_512(_mm512_ror_epi32(x, i), _mm512_ror_epi32(x, j), _mm512_srli_epi32(x, k))
#define ADD_512 _mm512_add_epi32

#define ROUND_512(a, b, c, d, e, f, g, h, i) \
    do { \
        if ((i) >= 16) \
            w[(i) & 15] = ADD_512(ADD_512(w[(i) & 15], SIG_512(w[((i) - 2) & 15], 17, 19, 10)), \
                                  ADD_512(w[((i) - 7) & 15], SIG_512(w[((i) - 15) & 15], 7, 18, 3))); \
        h = ADD_512(ADD_512(h, ADD_512(w[(i) & 15], _mm512_set1_epi32((int)k[i]))), \
                    ADD_512(SUM_512(e, 6, 11, 25), CH_512(e, f, g))); \
        d = ADD_512(d, h); \
        h = ADD_512(h, ADD_512(SUM_512(a, 2, 13, 22), MAJ_512(a, b, c))); \
    } while (0)
#define EIGHT_ROUNDS_512(i) \
    ROUND_512(a, b, c, d, e, f, g, h, (i)); \
    ROUND_512(h, a, b, c, d, e, f, g, (i) + 1); \
    ROUND_512(g, h, a, b, c, d, e, f, (i) + 2); \
    ROUND_512(f, g, h, a, b, c, d, e, (i) + 3); \
    ROUND_512(e, f, g, h, a, b, c, d, (i) + 4); \
    ROUND_512(d, e, f, g, h, a, b, c, (i) + 5); \
    ROUND_512(c, d, e, f, g, h, a, b, (i) + 6); \
    ROUND_512(b, c, d, e, f, g, h, a, (i) + 7)

#define STAY_HERE __asm__ volatile("" ::: "memory") /* no load or store moves across it */
#define PREFETCH_BYTES 512 /* before a lane needs them; beyond the end of a message it does nothing */

/* Rotations have one port and shuffles the other: a block that is first turned into columns and then hashed leaves each
 * idle in turn, and waits for its sixteen lines. So the next block is turned in eight steps among the rounds of this
 * one, four lanes and then four columns at a time, by way of memory: the registers are full. */
AVX512 static inline __attribute__((always_inline)) void turn_rows(__m512i *fours, const unsigned char **p, size_t from)
{
    const __m512i swap = _mm512_broadcast_i32x4(_mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12));
    __m512i r[4], lo, hi;

    for (int lane = 0; lane < 4; lane++) {
        _mm_prefetch((const char *)(p[lane] + from + PREFETCH_BYTES), _MM_HINT_T1);
        r[lane] = _mm512_shuffle_epi8(_mm512_loadu_si512(p[lane] + from), swap);
    }
    lo = _mm512_unpacklo_epi32(r[0], r[1]);
    hi = _mm512_unpacklo_epi32(r[2], r[3]);
    fours[0] = _mm512_unpacklo_epi64(lo, hi);
    fours[1] = _mm512_unpackhi_epi64(lo, hi);
    lo = _mm512_unpackhi_epi32(r[0], r[1]);
    hi = _mm512_unpackhi_epi32(r[2], r[3]);
    fours[2] = _mm512_unpacklo_epi64(lo, hi);
    fours[3] = _mm512_unpackhi_epi64(lo, hi);
}

/* Word i of lane l is state[16 * i + l]. */
AVX512 static void avx512_blocks(uint32_t *state, const unsigned char **at, size_t blocks)
{
    const uint32_t *k = K;
    __m512i *s = (__m512i *)state, fours[16], words[16];

    __asm__("" : "+r"(k)); /* constants are loaded from the table, not built by three instructions each */
    for (int g = 0; g < 4; g++)
        turn_rows(fours + 4 * g, at + 4 * g, 0);
    for (int c = 0; c < 4; c++)
        RS3D_JOIN_QUARTERS16(words, fours, c);
    for (size_t block = 0; block < blocks; block++) {
        __m512i w[16], a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
        size_t next = 64 * (block + 1 < blocks ? block + 1 : block); /* the last block is turned twice, for nobody */
        for (int i = 0; i < 16; i++)
            w[i] = words[i];
        EIGHT_ROUNDS_512(0); turn_rows(fours, at, next); STAY_HERE;
        EIGHT_ROUNDS_512(8); turn_rows(fours + 4, at + 4, next); STAY_HERE;
        EIGHT_ROUNDS_512(16); turn_rows(fours + 8, at + 8, next); STAY_HERE;
        EIGHT_ROUNDS_512(24); turn_rows(fours + 12, at + 12, next); STAY_HERE;
        EIGHT_ROUNDS_512(32); RS3D_JOIN_QUARTERS16(words, fours, 0); STAY_HERE;
        EIGHT_ROUNDS_512(40); RS3D_JOIN_QUARTERS16(words, fours, 1); STAY_HERE;
        EIGHT_ROUNDS_512(48); RS3D_JOIN_QUARTERS16(words, fours, 2); STAY_HERE;
        EIGHT_ROUNDS_512(56); RS3D_JOIN_QUARTERS16(words, fours, 3); STAY_HERE;
        s[0] = ADD_512(s[0], a); s[1] = ADD_512(s[1], b); s[2] = ADD_512(s[2], c); s[3] = ADD_512(s[3], d);
        s[4] = ADD_512(s[4], e); s[5] = ADD_512(s[5], f); s[6] = ADD_512(s[6], g); s[7] = ADD_512(s[7], h);
    }
}

#define SHANI __attribute__((target("sha,sse4.1,ssse3")))

/* The SHA unit wants the state as two registers, ABEF and CDGH. */
SHANI static inline void shani_load(const uint32_t *s, __m128i *abef, __m128i *cdgh)
{
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)s), 0xb1);        /* CDAB */
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(s + 4)), 0x1b); /* EFGH */
    *abef = _mm_alignr_epi8(low, high, 8);
    *cdgh = _mm_blend_epi16(high, low, 0xf0);
}

SHANI static inline void shani_store(uint32_t *s, __m128i abef, __m128i cdgh)
{
    __m128i low = _mm_shuffle_epi32(abef, 0x1b);  /* FEBA */
    __m128i high = _mm_shuffle_epi32(cdgh, 0xb1); /* DCHG */
    _mm_storeu_si128((__m128i *)s, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(s + 4), _mm_alignr_epi8(high, low, 8));
}

#define BYTE_SWAP _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203)

/* Four rounds of one stream: m[0..3] is the ring of schedule words, four in each. */
#define SHANI_ROUNDS(x, y, m, i) \
    do { \
        __m128i wk = _mm_add_epi32(m[(i) & 3], _mm_load_si128((const __m128i *)(K + 4 * (i)))); \
        y = _mm_sha256rnds2_epu32(y, x, wk); \
        x = _mm_sha256rnds2_epu32(x, y, _mm_shuffle_epi32(wk, 0x0e)); \
    } while (0)
#define SHANI_SCHEDULE(m, i) \
    m[(i) & 3] = _mm_sha256msg2_epu32( \
        _mm_add_epi32(_mm_sha256msg1_epu32(m[(i) & 3], m[((i) + 1) & 3]), \
                      _mm_alignr_epi8(m[((i) + 3) & 3], m[((i) + 2) & 3], 4)), \
        m[((i) + 3) & 3])

SHANI static void shani_blocks(uint32_t *s, const unsigned char *p, size_t blocks)
{
    __m128i x, y, m[4];

    shani_load(s, &x, &y);
    for (; blocks; blocks--, p += 64) {
        __m128i x0 = x, y0 = y;
        for (int i = 0; i < 4; i++)
            m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), BYTE_SWAP);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            SHANI_ROUNDS(x, y, m, i);
            if (i < 12)
                SHANI_SCHEDULE(m, i);
        }
        x = _mm_add_epi32(x, x0);
        y = _mm_add_epi32(y, y0);
    }
    shani_store(s, x, y);
}

/* Two streams, interleaved. Word i of lane l is state[8 * l + i]. */
SHANI static void shani_blocks_2(uint32_t *state, const unsigned char **at, size_t blocks)
{
    const unsigned char *p = at[0], *q = at[1];
    __m128i x, y, u, v, m[4], n[4];

    shani_load(state, &x, &y);
    shani_load(state + 8, &u, &v);
    for (; blocks; blocks--, p += 64, q += 64) {
        __m128i x0 = x, y0 = y, u0 = u, v0 = v;
        for (int i = 0; i < 4; i++) {
            m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), BYTE_SWAP);
            n[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(q + 16 * i)), BYTE_SWAP);
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            SHANI_ROUNDS(x, y, m, i);
            SHANI_ROUNDS(u, v, n, i);
            if (i < 12) {
                SHANI_SCHEDULE(m, i);
                SHANI_SCHEDULE(n, i);
            }
        }
        x = _mm_add_epi32(x, x0);
        y = _mm_add_epi32(y, y0);
        u = _mm_add_epi32(u, u0);
        v = _mm_add_epi32(v, v0);
    }
    shani_store(state, x, y);
    shani_store(state + 8, u, v);
}

#endif /* x86-64 */

static void one_stream(int variant, uint32_t *s, const unsigned char *p, size_t blocks)
{
#if defined(__x86_64__)
    if (variant <= RS3D_SHA_SHANI) {
        shani_blocks(s, p, blocks);
        return;
    }
#endif
    scalar_blocks(s, p, blocks);
}

/* What follows the whole blocks of a message of `bytes`: returns how many blocks of `tail` it takes, 1 or 2. */
static size_t make_tail(unsigned char *tail, const unsigned char *rest, uint64_t bytes)
{
    size_t left = bytes & 63, blocks = left < 56 ? 1 : 2;

    memset(tail, 0, 128);
    if (left)
        memcpy(tail, rest, left);
    tail[left] = 0x80;
    store_be32(tail + 64 * blocks - 8, (uint32_t)(bytes >> 29));
    store_be32(tail + 64 * blocks - 4, (uint32_t)(bytes << 3));
    return blocks;
}

/* ---------------------------------------------------------------------------------------------------------- lanes */

enum { LANE_LIMIT = 16, WORTH_AVX512 = 9 };

typedef struct {
    size_t message;     /* which one is in this lane */
    size_t blocks;      /* left in this stretch */
    size_t tail_blocks; /* the stretch to come; 0 while in the tail */
    unsigned char tail[128];
} lane;

typedef void run_lanes(uint32_t *state, const unsigned char **at, size_t blocks);

/* Hash everything through `lanes` lanes. Word i of lane l is state[i * by_word + l * by_lane]. */
static void many(int variant, const rs3d_message *messages, size_t count, unsigned char *out, run_lanes *run,
                 size_t lanes, size_t by_word, size_t by_lane)
{
    uint32_t state[8 * LANE_LIMIT] __attribute__((aligned(64))) = {0};
    const unsigned char *at[LANE_LIMIT], *step_at[LANE_LIMIT];
    lane held[LANE_LIMIT];
    int busy[LANE_LIMIT] = {0};
    size_t next = 0, running = 0;

    for (;;) {
        size_t step = SIZE_MAX, some = 0;
        for (size_t l = 0; l < lanes; l++) {
            if (!busy[l] && next < count) {
                const rs3d_message *m = &messages[next];
                lane *h = &held[l];
                for (size_t i = 0; i < 8; i++)
                    state[i * by_word + l * by_lane] = START[i];
                h->message = next++;
                h->tail_blocks = make_tail(h->tail, m->data + (m->bytes & ~(uint64_t)63), m->bytes);
                h->blocks = (size_t)(m->bytes / 64);
                at[l] = m->data;
                if (!h->blocks) {
                    at[l] = h->tail;
                    h->blocks = h->tail_blocks;
                    h->tail_blocks = 0;
                }
                busy[l] = 1;
                running++;
            }
            if (busy[l]) {
                some = l;
                if (held[l].blocks < step)
                    step = held[l].blocks;
            }
        }
        if (!running)
            return;
        if (running == 1) {
            uint32_t alone[8];
            for (size_t i = 0; i < 8; i++)
                alone[i] = state[i * by_word + some * by_lane];
            one_stream(variant, alone, at[some], step);
            for (size_t i = 0; i < 8; i++)
                state[i * by_word + some * by_lane] = alone[i];
        } else {
            /* An idle lane reads along with a busy one; what it computes is not looked at. */
            for (size_t l = 0; l < lanes; l++)
                step_at[l] = at[busy[l] ? l : some];
            run(state, step_at, step);
        }
        for (size_t l = 0; l < lanes; l++) {
            lane *h = &held[l];
            if (!busy[l])
                continue;
            at[l] += 64 * step;
            h->blocks -= step;
            if (h->blocks)
                continue;
            if (h->tail_blocks) {
                at[l] = h->tail;
                h->blocks = h->tail_blocks;
                h->tail_blocks = 0;
            } else {
                for (size_t i = 0; i < 8; i++)
                    store_be32(out + 32 * h->message + 4 * i, state[i * by_word + l * by_lane]);
                busy[l] = 0;
                running--;
            }
        }
    }
}

static void never_run(uint32_t *state, const unsigned char **at, size_t blocks)
{
    (void)state;
    (void)at;
    (void)blocks;
}

void rs3d_sha256_many(int variant, const rs3d_message *messages, size_t count, unsigned char *out)
{
#if defined(__x86_64__)
    if (variant == RS3D_SHA_AVX512) {
        /* Full rounds of sixteen; what is left over too, if that is most of one. */
        size_t left = count % LANE_LIMIT, wide = left >= WORTH_AVX512 ? count : count - left;
        if (wide)
            many(variant, messages, wide, out, avx512_blocks, LANE_LIMIT, LANE_LIMIT, 1);
        messages += wide;
        count -= wide;
        out += 32 * wide;
        variant = RS3D_SHA_SHANI;
    }
    if (variant == RS3D_SHA_SHANI) {
        many(variant, messages, count, out, shani_blocks_2, 2, 1, 8);
        return;
    }
    if (variant == RS3D_SHA_AVX2) {
        many(variant, messages, count, out, avx2_blocks, 8, 8, 1);
        return;
    }
#endif
    many(variant, messages, count, out, never_run, 1, 1, 8);
}

/* ----------------------------------------------------------------------------------------------------- in pieces */

void rs3d_sha256_start(rs3d_sha256 *s)
{
    memcpy(s->h, START, sizeof START);
    s->bytes = 0;
}

void rs3d_sha256_update(int variant, rs3d_sha256 *s, const unsigned char *data, size_t bytes)
{
    size_t held = s->bytes & 63;

    s->bytes += bytes;
    if (held) {
        size_t taken = bytes < 64 - held ? bytes : 64 - held;
        memcpy(s->rest + held, data, taken);
        if (held + taken < 64)
            return;
        one_stream(variant, s->h, s->rest, 1);
        data += taken;
        bytes -= taken;
    }
    one_stream(variant, s->h, data, bytes / 64);
    if (bytes & 63)
        memcpy(s->rest, data + (bytes & ~(size_t)63), bytes & 63);
}

void rs3d_sha256_end(int variant, rs3d_sha256 *s, unsigned char *out)
{
    unsigned char tail[128];

    one_stream(variant, s->h, tail, make_tail(tail, s->rest, s->bytes));
    for (size_t i = 0; i < 8; i++)
        store_be32(out + 4 * i, s->h[i]);
}
