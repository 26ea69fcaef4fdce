/* MD5 is one chain of 64 steps a block, each waiting for the one before: some six cycles a step, however wide the
 * machine. A lone stream cannot go faster than that. Different streams can share the wait: `avx2` holds eight of them
 * in the eight 32-bit columns of its registers, and steps two such groups in turn (sixteen streams) when there are more
 * than eight, because one group alone leaves the arithmetic units idle for about half of the chain's latency. `avx512`
 * shortens the chain itself: vprold rotates in one instruction, vpternlogd computes each function in one, so a step
 * waits for four instructions; more than eight streams lie side by side in registers of sixteen columns.
 *
 * Streams have different lengths. A lane is a place for a stream's whole blocks; all lanes step by the smallest number
 * of blocks that any of them has left, then finished lanes take the next stream. With one or two streams left the
 * scalar code ends them, which is faster for those. Bytes before the first block boundary and after the last go through
 * the scalar code and the stream's 64-byte rest.
 */
#include "md5_impl.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#include "transpose16.h"
#include "transpose8.h"
#endif

static const uint32_t MD5_START[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};

/* RFC 1321, 3.4; the same text serves a 32-bit word and a vector of eight. G's halves have no bit in common, so that
 * they may be added: the half without b is then ready before b is. */
#define ROL(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define F(b, c, d) ((d) ^ ((b) & ((c) ^ (d))))
#define H(b, c, d) ((b) ^ ((c) ^ (d)))
#define I(b, c, d) ((c) ^ ((b) | ~(d)))
#define ADD_F(a, b, c, d) a += F(b, c, d)
#define ADD_G(a, b, c, d) a += ~(d) & (c); a += (d) & (b)
#define ADD_H(a, b, c, d) a += H(b, c, d)
#define ADD_I(a, b, c, d) a += I(b, c, d)
#define STEP(f, a, b, c, d, w, s, k) \
    a += (w) + (k); \
    ADD_##f(a, b, c, d); \
    a = ROL(a, s) + b;

/* floor(2**32 * abs(sin(i + 1))) */
static const uint32_t SINES[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};

/* The 64 steps: function, registers in their turn, word of the block, rotation, number of the step. */
#define STEPS(X) \
    X(F, a, b, c, d,  0,  7,  0) X(F, d, a, b, c,  1, 12,  1) \
    X(F, c, d, a, b,  2, 17,  2) X(F, b, c, d, a,  3, 22,  3) \
    X(F, a, b, c, d,  4,  7,  4) X(F, d, a, b, c,  5, 12,  5) \
    X(F, c, d, a, b,  6, 17,  6) X(F, b, c, d, a,  7, 22,  7) \
    X(F, a, b, c, d,  8,  7,  8) X(F, d, a, b, c,  9, 12,  9) \
    X(F, c, d, a, b, 10, 17, 10) X(F, b, c, d, a, 11, 22, 11) \
    X(F, a, b, c, d, 12,  7, 12) X(F, d, a, b, c, 13, 12, 13) \
    X(F, c, d, a, b, 14, 17, 14) X(F, b, c, d, a, 15, 22, 15) \
    X(G, a, b, c, d,  1,  5, 16) X(G, d, a, b, c,  6,  9, 17) \
    X(G, c, d, a, b, 11, 14, 18) X(G, b, c, d, a,  0, 20, 19) \
    X(G, a, b, c, d,  5,  5, 20) X(G, d, a, b, c, 10,  9, 21) \
    X(G, c, d, a, b, 15, 14, 22) X(G, b, c, d, a,  4, 20, 23) \
    X(G, a, b, c, d,  9,  5, 24) X(G, d, a, b, c, 14,  9, 25) \
    X(G, c, d, a, b,  3, 14, 26) X(G, b, c, d, a,  8, 20, 27) \
    X(G, a, b, c, d, 13,  5, 28) X(G, d, a, b, c,  2,  9, 29) \
    X(G, c, d, a, b,  7, 14, 30) X(G, b, c, d, a, 12, 20, 31) \
    X(H, a, b, c, d,  5,  4, 32) X(H, d, a, b, c,  8, 11, 33) \
    X(H, c, d, a, b, 11, 16, 34) X(H, b, c, d, a, 14, 23, 35) \
    X(H, a, b, c, d,  1,  4, 36) X(H, d, a, b, c,  4, 11, 37) \
    X(H, c, d, a, b,  7, 16, 38) X(H, b, c, d, a, 10, 23, 39) \
    X(H, a, b, c, d, 13,  4, 40) X(H, d, a, b, c,  0, 11, 41) \
    X(H, c, d, a, b,  3, 16, 42) X(H, b, c, d, a,  6, 23, 43) \
    X(H, a, b, c, d,  9,  4, 44) X(H, d, a, b, c, 12, 11, 45) \
    X(H, c, d, a, b, 15, 16, 46) X(H, b, c, d, a,  2, 23, 47) \
    X(I, a, b, c, d,  0,  6, 48) X(I, d, a, b, c,  7, 10, 49) \
    X(I, c, d, a, b, 14, 15, 50) X(I, b, c, d, a,  5, 21, 51) \
    X(I, a, b, c, d, 12,  6, 52) X(I, d, a, b, c,  3, 10, 53) \
    X(I, c, d, a, b, 10, 15, 54) X(I, b, c, d, a,  1, 21, 55) \
    X(I, a, b, c, d,  8,  6, 56) X(I, d, a, b, c, 15, 10, 57) \
    X(I, c, d, a, b,  6, 15, 58) X(I, b, c, d, a, 13, 21, 59) \
    X(I, a, b, c, d,  4,  6, 60) X(I, d, a, b, c, 11, 10, 61) \
    X(I, c, d, a, b,  2, 15, 62) X(I, b, c, d, a,  9, 21, 63)

static inline uint32_t load_le32(const unsigned char *p)
{
    uint32_t word;
    memcpy(&word, p, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

static void md5_blocks(uint32_t *s, const unsigned char *p, size_t blocks)
{
    uint32_t a = s[0], b = s[1], c = s[2], d = s[3];

    for (; blocks; blocks--, p += 64) {
        uint32_t a0 = a, b0 = b, c0 = c, d0 = d;
#define X(f, a, b, c, d, g, s, k) STEP(f, a, b, c, d, load_le32(p + 4 * g), s, SINES[k])
        STEPS(X)
#undef X
        a += a0; b += b0; c += c0; d += d0;
    }
    s[0] = a; s[1] = b; s[2] = c; s[3] = d;
}

/* Two streams step by step in turn: both chains in the time of one, which the eight lanes cannot do for two. */
static void md5_blocks_2(uint32_t *s, uint32_t *t, const unsigned char *p, const unsigned char *q, size_t blocks)
{
    uint32_t a = s[0], b = s[1], c = s[2], d = s[3], ta = t[0], tb = t[1], tc = t[2], td = t[3];

    for (; blocks; blocks--, p += 64, q += 64) {
        uint32_t a0 = a, b0 = b, c0 = c, d0 = d, ta0 = ta, tb0 = tb, tc0 = tc, td0 = td;
#define X(f, a, b, c, d, g, s, k) \
        STEP(f, a, b, c, d, load_le32(p + 4 * g), s, SINES[k]) \
        STEP(f, t##a, t##b, t##c, t##d, load_le32(q + 4 * g), s, SINES[k])
        STEPS(X)
#undef X
        a += a0; b += b0; c += c0; d += d0;
        ta += ta0; tb += tb0; tc += tc0; td += td0;
    }
    s[0] = a; s[1] = b; s[2] = c; s[3] = d;
    t[0] = ta; t[1] = tb; t[2] = tc; t[3] = td;
}

void rs3d_md5_start(rs3d_md5 *s)
{
    memcpy(s->h, MD5_START, sizeof MD5_START);
    s->bytes = 0;
}

/* Take what completes the rest and count everything; what is left begins at a block boundary, or is nothing. */
static void begin_update(rs3d_md5 *s, const unsigned char **data, size_t *bytes)
{
    size_t held = s->bytes & 63, taken;

    s->bytes += *bytes;
    if (!held)
        return;
    taken = *bytes < 64 - held ? *bytes : 64 - held;
    if (taken)
        memcpy(s->rest + held, *data, taken);
    if (held + taken == 64)
        md5_blocks(s->h, s->rest, 1);
    *data += taken;
    *bytes -= taken;
}

static void end_update(rs3d_md5 *s, const unsigned char *data, size_t bytes)
{
    /* With no bytes left the rest may have been filled just now, or not be complete yet: it stays as it is. */
    if (bytes)
        memcpy(s->rest, data, bytes);
}

void rs3d_md5_update(rs3d_md5 *s, const unsigned char *data, size_t bytes)
{
    begin_update(s, &data, &bytes);
    md5_blocks(s->h, data, bytes / 64);
    end_update(s, data + (bytes & ~(size_t)63), bytes & 63);
}

void rs3d_md5_digest(const rs3d_md5 *s, unsigned char *out)
{
    unsigned char tail[128] = {0};
    uint32_t h[4];
    size_t held = s->bytes & 63, blocks = held < 56 ? 1 : 2;
    uint64_t bits = s->bytes << 3;

    memcpy(h, s->h, sizeof h);
    memcpy(tail, s->rest, held);
    tail[held] = 0x80;
    for (int i = 0; i < 8; i++)
        tail[64 * blocks - 8 + (size_t)i] = (unsigned char)(bits >> 8 * i);
    md5_blocks(h, tail, blocks);
    for (int i = 0; i < 16; i++)
        out[i] = (unsigned char)(h[i / 4] >> 8 * (i % 4));
}

#if defined(__x86_64__)

typedef uint32_t word8 __attribute__((vector_size(32)));

/* The block of each of eight lanes, as sixteen words of eight columns. */
#define LOAD_WORDS(w, at, offset) \
    for (int half = 0; half < 2; half++) { \
        __m256i r[8]; \
        for (int lane = 0; lane < 8; lane++) \
            r[lane] = _mm256_loadu_si256((const __m256i *)((at)[lane] + (offset) + 32 * half)); \
        RS3D_TRANSPOSE8(r); \
        for (int i = 0; i < 8; i++) \
            (w)[8 * half + i] = (word8)r[i]; \
    }

/* A constant in all columns, loaded from the table: one load, where an immediate takes three instructions. The barrier
 * keeps the compiler from folding the table back into immediates. */
#define OPAQUE_SINES \
    const uint32_t *sines = SINES; \
    __asm__("" : "+r"(sines))
#define SPREAD(k) ((word8)_mm256_set1_epi32((int)sines[k]))

/* Word i of lane l is state[8 * i + l]. */
__attribute__((target("avx2"))) static void avx2_blocks_8(uint32_t *state, const unsigned char **at, size_t blocks)
{
    OPAQUE_SINES;
    word8 *s = (word8 *)state;
    word8 a = s[0], b = s[1], c = s[2], d = s[3];

    for (size_t offset = 0; offset < 64 * blocks; offset += 64) {
        word8 w[16], a0 = a, b0 = b, c0 = c, d0 = d;
        LOAD_WORDS(w, at, offset)
#define X(f, a, b, c, d, g, s, k) STEP(f, a, b, c, d, w[g], s, SPREAD(k))
        STEPS(X)
#undef X
        a += a0; b += b0; c += c0; d += d0;
    }
    s[0] = a; s[1] = b; s[2] = c; s[3] = d;
}

/* Two groups of eight, step by step in turn; the second group's state follows the first's. */
__attribute__((target("avx2"))) static void avx2_blocks_16(uint32_t *state, const unsigned char **at, size_t blocks)
{
    OPAQUE_SINES;
    word8 *s = (word8 *)state;
    word8 a = s[0], b = s[1], c = s[2], d = s[3], ta = s[4], tb = s[5], tc = s[6], td = s[7];

    for (size_t offset = 0; offset < 64 * blocks; offset += 64) {
        word8 w[16], v[16], a0 = a, b0 = b, c0 = c, d0 = d, ta0 = ta, tb0 = tb, tc0 = tc, td0 = td;
        LOAD_WORDS(w, at, offset)
        LOAD_WORDS(v, at + 8, offset)
#define X(f, a, b, c, d, g, s, k) \
        { word8 sine = SPREAD(k); STEP(f, a, b, c, d, w[g], s, sine) STEP(f, t##a, t##b, t##c, t##d, v[g], s, sine) }
        STEPS(X)
#undef X
        a += a0; b += b0; c += c0; d += d0;
        ta += ta0; tb += tb0; tc += tc0; td += td0;
    }
    s[0] = a; s[1] = b; s[2] = c; s[3] = d;
    s[4] = ta; s[5] = tb; s[6] = tc; s[7] = td;
}

#define AVX512 __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))

/* vpternlogd's tables of F, G, H, I, bit 4b + 2c + d. */
#define TABLE_F 0xca
#define TABLE_G 0xe4
#define TABLE_H 0x96
#define TABLE_I 0x39
#define STEP_512(width, f, a, b, c, d, w, s, sine) \
    a = _mm##width##_add_epi32(a, _mm##width##_add_epi32(w, sine)); \
    a = _mm##width##_add_epi32(a, _mm##width##_ternarylogic_epi32(b, c, d, TABLE_##f)); \
    a = _mm##width##_add_epi32(_mm##width##_rol_epi32(a, s), b);

AVX512 static void avx512_blocks_8(uint32_t *state, const unsigned char **at, size_t blocks)
{
    OPAQUE_SINES;
    __m256i *s = (__m256i *)state;
    __m256i a = s[0], b = s[1], c = s[2], d = s[3];

    for (size_t offset = 0; offset < 64 * blocks; offset += 64) {
        word8 w[16];
        __m256i a0 = a, b0 = b, c0 = c, d0 = d;
        LOAD_WORDS(w, at, offset)
#define X(f, a, b, c, d, g, s, k) STEP_512(256, f, a, b, c, d, (__m256i)w[g], s, _mm256_set1_epi32((int)sines[k]))
        STEPS(X)
#undef X
        a = _mm256_add_epi32(a, a0);
        b = _mm256_add_epi32(b, b0);
        c = _mm256_add_epi32(c, c0);
        d = _mm256_add_epi32(d, d0);
    }
    s[0] = a; s[1] = b; s[2] = c; s[3] = d;
}

/* What the lanes read next. A block's 64 steps are more instructions than the processor looks ahead over, so that it
 * does not meet the next block's loads in time, and its prefetcher does not follow sixteen streams. Into the second
 * cache: bodies lie at like addresses, and the first has twelve places for each. Beyond the end it does nothing. */
#define PREFETCH_BYTES 512

/* The two groups of eight as the halves of one register. */
#define JOINED(low, high) _mm512_inserti64x4(_mm512_castsi256_si512((__m256i)(low)), (__m256i)(high), 1)

AVX512 static void avx512_blocks_16(uint32_t *state, const unsigned char **at, size_t blocks)
{
    OPAQUE_SINES;
    __m256i *s = (__m256i *)state;
    __m512i a = JOINED(s[0], s[4]), b = JOINED(s[1], s[5]), c = JOINED(s[2], s[6]), d = JOINED(s[3], s[7]);

    for (size_t offset = 0; offset < 64 * blocks; offset += 64) {
        __m512i w[16], a0 = a, b0 = b, c0 = c, d0 = d;
        for (int lane = 0; lane < 16; lane++) {
            _mm_prefetch((const char *)(at[lane] + offset + PREFETCH_BYTES), _MM_HINT_T1);
            w[lane] = _mm512_loadu_si512(at[lane] + offset);
        }
        RS3D_TRANSPOSE16(w);
#define X(f, a, b, c, d, g, s, k) STEP_512(512, f, a, b, c, d, w[g], s, _mm512_set1_epi32((int)sines[k]))
        STEPS(X)
#undef X
        a = _mm512_add_epi32(a, a0);
        b = _mm512_add_epi32(b, b0);
        c = _mm512_add_epi32(c, c0);
        d = _mm512_add_epi32(d, d0);
    }
    s[0] = _mm512_castsi512_si256(a); s[4] = _mm512_extracti64x4_epi64(a, 1);
    s[1] = _mm512_castsi512_si256(b); s[5] = _mm512_extracti64x4_epi64(b, 1);
    s[2] = _mm512_castsi512_si256(c); s[6] = _mm512_extracti64x4_epi64(c, 1);
    s[3] = _mm512_castsi512_si256(d); s[7] = _mm512_extracti64x4_epi64(d, 1);
}

enum { LANES = 16 };

typedef void run_lanes(uint32_t *state, const unsigned char **at, size_t blocks);

/* Where word i of lane l lies: lanes 0-7 in the first group, 8-15 in the second. */
static inline size_t place(size_t i, size_t l)
{
    return 32 * (l / 8) + 8 * i + l % 8;
}

static void md5_many(rs3d_md5_job *jobs, size_t count, run_lanes *run_8, run_lanes *run_16)
{
    uint32_t state[4 * LANES] __attribute__((aligned(32))) = {0};
    const unsigned char *at[LANES];
    rs3d_md5_job *held[LANES] = {0};
    size_t next = 0, running = 0;

    for (;;) {
        size_t step = SIZE_MAX, lowest = LANES, highest = 0;
        for (size_t l = 0; l < LANES; l++) {
            while (!held[l] && next < count) {
                rs3d_md5_job *job = &jobs[next++];
                if (job->bytes < 64)
                    continue;
                held[l] = job;
                running++;
                for (size_t i = 0; i < 4; i++)
                    state[place(i, l)] = job->stream->h[i];
            }
            if (held[l]) {
                if (lowest == LANES)
                    lowest = l;
                highest = l;
                if (held[l]->bytes / 64 < step)
                    step = held[l]->bytes / 64;
            }
        }
        if (!running)
            return;
        if (running <= 2) {
            uint32_t h[2][4];
            for (size_t i = 0; i < 4; i++) {
                h[0][i] = state[place(i, lowest)];
                h[1][i] = state[place(i, highest)];
            }
            if (running == 1)
                md5_blocks(h[1], held[highest]->data, step);
            else
                md5_blocks_2(h[0], h[1], held[lowest]->data, held[highest]->data, step);
            for (size_t i = 0; i < 4; i++) {
                state[place(i, lowest)] = h[0][i];
                state[place(i, highest)] = h[1][i];
            }
        } else {
            /* An idle lane reads along with a busy one; what it computes is not looked at. */
            for (size_t l = 0; l < LANES; l++)
                at[l] = held[held[l] ? l : lowest]->data;
            if (highest < 8)
                run_8(state, at, step);
            else
                run_16(state, at, step);
        }
        for (size_t l = 0; l < LANES; l++) {
            rs3d_md5_job *job = held[l];
            if (!job)
                continue;
            job->data += 64 * step;
            job->bytes -= 64 * step;
            if (job->bytes >= 64)
                continue;
            for (size_t i = 0; i < 4; i++)
                job->stream->h[i] = state[place(i, l)];
            held[l] = NULL;
            running--;
        }
    }
}

#endif /* x86-64 */

void rs3d_md5_update_many(int variant, rs3d_md5_job *jobs, size_t count)
{
    size_t i;

#if defined(__x86_64__)
    if (variant != RS3D_MD5_SCALAR && count > 1) {
        for (i = 0; i < count; i++)
            begin_update(jobs[i].stream, &jobs[i].data, &jobs[i].bytes);
        if (variant == RS3D_MD5_AVX512)
            md5_many(jobs, count, avx512_blocks_8, avx512_blocks_16);
        else
            md5_many(jobs, count, avx2_blocks_8, avx2_blocks_16);
        for (i = 0; i < count; i++)
            end_update(jobs[i].stream, jobs[i].data, jobs[i].bytes);
        return;
    }
#endif
    for (i = 0; i < count; i++)
        rs3d_md5_update(jobs[i].stream, jobs[i].data, jobs[i].bytes);
}
