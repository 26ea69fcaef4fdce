/* A body's MD5, the SHA-256 of its leaves and the CRC32C of its blocks, while its bytes are in the cache.
 *
 * MD5 is one chain: it leaves most of a core idle while it waits for itself. The SHA unit is idle then, too. So where
 * there is one, both hashes of a body go through its blocks together, a few steps of one and four rounds of the other
 * in turn: SHA-256 costs next to nothing beside MD5. Two bodies share the wait of both. Three or four have their MD5
 * in the columns of one set of registers, and their SHA-256 in pairs among its steps. From five bodies on, the lanes of
 * md5_impl.c are ahead, with the leaves apart.
 *
 * A kernel is a leaf: it carries its own copies rather than import others'.
 */
#define _GNU_SOURCE /* for directio_impl.c, below */
#include "bodyhash_impl.h"

#include "crc_impl.c"
#include "md5_impl.c"
#undef F
#undef H
#undef I
#include "merkle_impl.c"

#include "directio_impl.c" /* for bodyintake_impl.h */

enum {
    COLUMNS = 4,     /* bodies of which both hashes go side by side: more are faster in lanes */
    COLUMNS_FROM = 3 /* fewer are faster in pairs */
};

static int md5_variant(int variant)
{
    return variant == RS3D_BODY_AVX512 ? RS3D_MD5_AVX512 : variant == RS3D_BODY_SCALAR ? RS3D_MD5_SCALAR : RS3D_MD5_AVX2;
}

/* The rows are those of merkle_impl.h: in the same order, each with the same instructions. */
static int sha_variant(int variant)
{
    return variant;
}

/* ---------------------------------------------------------------------------------------------------- both hashes */

#if defined(__x86_64__)

/* RFC 1321's functions once more, for the text of STEP. */
#define F(b, c, d) ((d) ^ ((b) & ((c) ^ (d))))
#define H(b, c, d) ((b) ^ ((c) ^ (d)))
#define I(b, c, d) ((c) ^ ((b) | ~(d)))

#define FOUR_ROUNDS(x, y, m, i) \
    SHANI_ROUNDS(x, y, m, i); \
    if ((i) < 12) \
        SHANI_SCHEDULE(m, i)

SHANI static void both_blocks(uint32_t *md5, uint32_t *sha, const unsigned char *p, size_t blocks)
{
    uint32_t a = md5[0], b = md5[1], c = md5[2], d = md5[3];
    __m128i x, y, m[4];

    shani_load(sha, &x, &y);
    for (; blocks; blocks--, p += 64) {
        uint32_t a0 = a, b0 = b, c0 = c, d0 = d;
        __m128i x0 = x, y0 = y;
        for (int i = 0; i < 4; i++)
            m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), BYTE_SWAP);
#define X(f, a, b, c, d, g, s, k) \
        STEP(f, a, b, c, d, load_le32(p + 4 * g), s, SINES[k]) \
        if ((k) % 4 == 3) { FOUR_ROUNDS(x, y, m, (k) / 4); }
        STEPS(X)
#undef X
        a += a0; b += b0; c += c0; d += d0;
        x = _mm_add_epi32(x, x0);
        y = _mm_add_epi32(y, y0);
    }
    md5[0] = a; md5[1] = b; md5[2] = c; md5[3] = d;
    shani_store(sha, x, y);
}

/* Two bodies in turn; the second's names have a t before them. */
SHANI static void both_blocks_2(uint32_t *md5, uint32_t *sha, const unsigned char *p, uint32_t *tmd5, uint32_t *tsha,
                                const unsigned char *q, size_t blocks)
{
    uint32_t a = md5[0], b = md5[1], c = md5[2], d = md5[3], ta = tmd5[0], tb = tmd5[1], tc = tmd5[2], td = tmd5[3];
    __m128i x, y, m[4], tx, ty, n[4];

    shani_load(sha, &x, &y);
    shani_load(tsha, &tx, &ty);
    for (; blocks; blocks--, p += 64, q += 64) {
        uint32_t a0 = a, b0 = b, c0 = c, d0 = d, ta0 = ta, tb0 = tb, tc0 = tc, td0 = td;
        __m128i x0 = x, y0 = y, tx0 = tx, ty0 = ty;
        for (int i = 0; i < 4; i++) {
            m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), BYTE_SWAP);
            n[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(q + 16 * i)), BYTE_SWAP);
        }
#define X(f, a, b, c, d, g, s, k) \
        STEP(f, a, b, c, d, load_le32(p + 4 * g), s, SINES[k]) \
        STEP(f, t##a, t##b, t##c, t##d, load_le32(q + 4 * g), s, SINES[k]) \
        if ((k) % 4 == 3) { FOUR_ROUNDS(x, y, m, (k) / 4); FOUR_ROUNDS(tx, ty, n, (k) / 4); }
        STEPS(X)
#undef X
        a += a0; b += b0; c += c0; d += d0;
        ta += ta0; tb += tb0; tc += tc0; td += td0;
        x = _mm_add_epi32(x, x0);
        y = _mm_add_epi32(y, y0);
        tx = _mm_add_epi32(tx, tx0);
        ty = _mm_add_epi32(ty, ty0);
    }
    md5[0] = a; md5[1] = b; md5[2] = c; md5[3] = d;
    tmd5[0] = ta; tmd5[1] = tb; tmd5[2] = tc; tmd5[3] = td;
    shani_store(sha, x, y);
    shani_store(tsha, tx, ty);
}

/* What three or four bodies have in registers, between stretches. */
typedef struct {
    __m128i md5[4];          /* word i of each body */
    __m128i sha[COLUMNS][2]; /* ABEF and CDGH */
    const unsigned char *at[COLUMNS];
} columns;

typedef uint32_t word4 __attribute__((vector_size(16)));

/* AVX's forms of the instructions, which name their result apart, but of 128 bits all of them: those of the SHA unit
 * have no such form, and where the upper half of a register is in use each of them takes a hundred times as long (eight
 * bodies in 256 bits took 110 ms a MiB). */
#define COLUMNS_CODE __attribute__((target("avx,sha,sse4.1,ssse3")))

/* Four rounds of two bodies' SHA-256, the first of a block and the last of one included: step `i` of sixteen. */
#define PAIR_ROUNDS(one, other, i) \
    if ((i) == 0) { \
        x = g->sha[one][0]; y = g->sha[one][1]; \
        tx = g->sha[other][0]; ty = g->sha[other][1]; \
        for (int j = 0; j < 4; j++) { \
            m[j] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(g->at[one] + offset + 16 * j)), BYTE_SWAP); \
            n[j] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(g->at[other] + offset + 16 * j)), BYTE_SWAP); \
        } \
    } \
    FOUR_ROUNDS(x, y, m, i); \
    FOUR_ROUNDS(tx, ty, n, i); \
    if ((i) == 15) { \
        g->sha[one][0] = _mm_add_epi32(g->sha[one][0], x); g->sha[one][1] = _mm_add_epi32(g->sha[one][1], y); \
        g->sha[other][0] = _mm_add_epi32(g->sha[other][0], tx); \
        g->sha[other][1] = _mm_add_epi32(g->sha[other][1], ty); \
    }

/* Both hashes of all columns: at every other step of MD5 four rounds of one pair, in the second half of the other. */
COLUMNS_CODE static void columns_blocks(columns *g, size_t blocks)
{
    OPAQUE_SINES;
    word4 a = (word4)g->md5[0], b = (word4)g->md5[1], c = (word4)g->md5[2], d = (word4)g->md5[3];
    __m128i x, y, m[4], tx, ty, n[4];

    for (size_t offset = 0; offset < 64 * blocks; offset += 64) {
        word4 w[16], a0 = a, b0 = b, c0 = c, d0 = d;
        for (int i = 0; i < 4; i++) {
            __m128i r[COLUMNS], low[2], high[2];
            for (int l = 0; l < COLUMNS; l++)
                r[l] = _mm_loadu_si128((const __m128i *)(g->at[l] + offset + 16 * i));
            low[0] = _mm_unpacklo_epi32(r[0], r[1]);
            low[1] = _mm_unpacklo_epi32(r[2], r[3]);
            high[0] = _mm_unpackhi_epi32(r[0], r[1]);
            high[1] = _mm_unpackhi_epi32(r[2], r[3]);
            w[4 * i] = (word4)_mm_unpacklo_epi64(low[0], low[1]);
            w[4 * i + 1] = (word4)_mm_unpackhi_epi64(low[0], low[1]);
            w[4 * i + 2] = (word4)_mm_unpacklo_epi64(high[0], high[1]);
            w[4 * i + 3] = (word4)_mm_unpackhi_epi64(high[0], high[1]);
        }
#define X(f, a, b, c, d, word, s, k) \
        STEP(f, a, b, c, d, w[word], s, (word4)_mm_set1_epi32((int)sines[k])) \
        if ((k) % 2) { PAIR_ROUNDS((k) / 32 * 2, (k) / 32 * 2 + 1, (k) / 2 % 16) }
        STEPS(X)
#undef X
        a += a0; b += b0; c += c0; d += d0;
    }
    g->md5[0] = (__m128i)a; g->md5[1] = (__m128i)b; g->md5[2] = (__m128i)c; g->md5[3] = (__m128i)d;
}

#endif /* x86-64 */

/* --------------------------------------------------------------------------------------------------------- tables */

/* How many of `bytes` go into the leaf and the block that are being filled. */
static size_t stretch(const rs3d_body *b, size_t bytes)
{
    uint64_t leaf = b->leaf_bytes - b->bytes % b->leaf_bytes, block = b->block_bytes - b->bytes % b->block_bytes;
    uint64_t room = leaf < block ? leaf : block;

    return bytes < room ? bytes : (size_t)room;
}

/* `bytes` at `data`, at most a stretch, are in the hash of the leaf: count them, add them to the block, end what is
 * full. */
static void counted(int variant, int crc_variant, rs3d_body *b, const unsigned char *data, size_t bytes)
{
    b->crc = (uint32_t)crc_update(&crc_poly_32c, crc_variant, b->crc, data, bytes);
    b->bytes += bytes;
    if (b->bytes % b->block_bytes == 0) {
        store32(b->block_rows + 4 * (b->bytes / b->block_bytes - 1), b->crc);
        b->crc = 0;
    }
    if (b->bytes % b->leaf_bytes == 0) {
        rs3d_sha256_end(sha_variant(variant), &b->leaf, b->leaf_rows + 32 * (b->bytes / b->leaf_bytes - 1));
        rs3d_sha256_start(&b->leaf);
    }
}

/* The tables alone, of all of the job. */
static void tabulate(int variant, int crc_variant, rs3d_body_job *job)
{
    while (job->bytes) {
        size_t bytes = stretch(job->body, job->bytes);
        rs3d_sha256_update(sha_variant(variant), &job->body->leaf, job->data, bytes);
        counted(variant, crc_variant, job->body, job->data, bytes);
        job->data += bytes;
        job->bytes -= bytes;
    }
}

static void alone(int variant, int crc_variant, rs3d_body_job *job)
{
    if (job->body->wants_md5)
        rs3d_md5_update(&job->body->md5, job->data, job->bytes);
    if (job->body->wants_tables)
        tabulate(variant, crc_variant, job);
}

#if defined(__x86_64__)

/* Bytes, a multiple of 64, of which both hashes can be taken next. */
static size_t both_stretch(const rs3d_body_job *job)
{
    return stretch(job->body, job->bytes) & ~(size_t)63;
}

static void both_done(int variant, int crc_variant, rs3d_body_job *job, size_t bytes)
{
    job->body->md5.bytes += bytes;
    job->body->leaf.bytes += bytes;
    counted(variant, crc_variant, job->body, job->data, bytes);
    job->data += bytes;
    job->bytes -= bytes;
}

/* A body whose last piece did not end at a block of the hashes: rare, and not worth more code. */
static int in_step(const rs3d_body *b)
{
    return b->wants_md5 && b->wants_tables && !(b->bytes & 63);
}

static void by_both(int variant, int crc_variant, rs3d_body_job *job)
{
    rs3d_body *b = job->body;
    size_t bytes;

    while ((bytes = both_stretch(job))) {
        both_blocks(b->md5.h, b->leaf.h, job->data, bytes / 64);
        both_done(variant, crc_variant, job, bytes);
    }
    alone(variant, crc_variant, job);
}

static void by_both_2(int variant, int crc_variant, rs3d_body_job *one, rs3d_body_job *other)
{
    rs3d_body *b = one->body, *t = other->body;

    for (;;) {
        size_t bytes = both_stretch(one), others = both_stretch(other);
        bytes = bytes < others ? bytes : others;
        if (!bytes)
            break;
        both_blocks_2(b->md5.h, b->leaf.h, one->data, t->md5.h, t->leaf.h, other->data, bytes / 64);
        both_done(variant, crc_variant, one, bytes);
        both_done(variant, crc_variant, other, bytes);
    }
    by_both(variant, crc_variant, one);
    by_both(variant, crc_variant, other);
}

static void by_pairs(int variant, int crc_variant, rs3d_body_job *jobs, size_t count)
{
    for (size_t i = 0; i + 1 < count; i += 2)
        by_both_2(variant, crc_variant, &jobs[i], &jobs[i + 1]);
    if (count & 1)
        by_both(variant, crc_variant, &jobs[count - 1]);
}

/* `bytes`, a multiple of 64, of each of COLUMNS_FROM to COLUMNS jobs. */
SHANI static void columns_step(rs3d_body_job *jobs, size_t count, size_t bytes)
{
    uint32_t words[4][COLUMNS];
    columns g;

    for (size_t l = 0; l < COLUMNS; l++) {
        /* A column that is left over reads along with the first; what it computes is not looked at. */
        const rs3d_body_job *job = &jobs[l < count ? l : 0];
        for (size_t i = 0; i < 4; i++)
            words[i][l] = job->body->md5.h[i];
        shani_load(job->body->leaf.h, &g.sha[l][0], &g.sha[l][1]);
        g.at[l] = job->data;
    }
    memcpy(g.md5, words, sizeof words);
    columns_blocks(&g, bytes / 64);
    memcpy(words, g.md5, sizeof words);
    for (size_t l = 0; l < count; l++) {
        for (size_t i = 0; i < 4; i++)
            jobs[l].body->md5.h[i] = words[i][l];
        shani_store(jobs[l].body->leaf.h, g.sha[l][0], g.sha[l][1]);
    }
}

/* Up to COLUMNS jobs. A body that ends leaves the others fewer. */
static void by_columns(int variant, int crc_variant, rs3d_body_job *jobs, size_t count)
{
    while (count >= COLUMNS_FROM) {
        size_t bytes = SIZE_MAX;
        for (size_t l = 0; l < count; l++) {
            size_t own = both_stretch(&jobs[l]);
            bytes = own < bytes ? own : bytes;
        }
        if (bytes) {
            columns_step(jobs, count, bytes);
            for (size_t l = 0; l < count; l++)
                both_done(variant, crc_variant, &jobs[l], bytes);
        }
        for (size_t l = count; l-- > 0;) {
            if (both_stretch(&jobs[l]))
                continue;
            alone(variant, crc_variant, &jobs[l]);
            jobs[l] = jobs[--count];
        }
    }
    by_pairs(variant, crc_variant, jobs, count);
}

#endif /* x86-64 */

/* Leaves that lie whole in the jobs, side by side, as many as go at once; what they do not cover is left in the jobs.
 * Returns how many there were. */
static size_t leaves_side_by_side(int variant, int crc_variant, rs3d_body_job *jobs, size_t count)
{
    enum { MOST = 32 };
    rs3d_message messages[MOST];
    rs3d_body_job *of[MOST];
    unsigned char rows[32 * MOST];
    size_t found = 0;

    for (rs3d_body_job *job = jobs; job < jobs + count; job++) {
        const rs3d_body *b = job->body;
        if (!b->wants_tables || b->bytes % b->leaf_bytes)
            continue;
        for (uint64_t at = 0; found < MOST && job->bytes - at >= b->leaf_bytes; at += b->leaf_bytes) {
            messages[found] = (rs3d_message){job->data + at, b->leaf_bytes};
            of[found++] = job;
        }
    }
    if (found < 2)
        return 0;
    rs3d_sha256_many(sha_variant(variant), messages, found, rows);
    for (size_t k = 0; k < found; k++) {
        rs3d_body *b = of[k]->body;
        uint64_t end = b->bytes + b->leaf_bytes;
        while (b->bytes < end) {
            size_t bytes = stretch(b, (size_t)(end - b->bytes));
            counted(variant, crc_variant, b, of[k]->data, bytes);
            of[k]->data += bytes;
            of[k]->bytes -= bytes;
        }
        memcpy(b->leaf_rows + 32 * (end / b->leaf_bytes - 1), rows + 32 * k, 32); /* not of the empty state */
    }
    return found;
}

static void in_lanes(int variant, int crc_variant, rs3d_body_job *jobs, size_t count, rs3d_md5_job *scratch)
{
    size_t wanted = 0;

    for (size_t i = 0; i < count; i++)
        if (jobs[i].body->wants_md5)
            scratch[wanted++] = (rs3d_md5_job){&jobs[i].body->md5, jobs[i].data, jobs[i].bytes};
    rs3d_md5_update_many(md5_variant(variant), scratch, wanted);
    while (leaves_side_by_side(variant, crc_variant, jobs, count))
        ;
    for (size_t i = 0; i < count; i++)
        if (jobs[i].body->wants_tables)
            tabulate(variant, crc_variant, &jobs[i]);
}

void rs3d_body_update_many(int variant, int crc_variant, rs3d_body_job *jobs, size_t count, rs3d_md5_job *scratch)
{
#if defined(__x86_64__)
    size_t together = 0;

    if (variant <= RS3D_BODY_SHANI && count <= COLUMNS) {
        /* To the front those that can be hashed so; the others, if any, as they would be in lanes. */
        for (size_t i = 0; i < count; i++) {
            if (in_step(jobs[i].body)) {
                rs3d_body_job moved = jobs[together];
                jobs[together++] = jobs[i];
                jobs[i] = moved;
            }
        }
        by_columns(variant, crc_variant, jobs, together);
        jobs += together;
        count -= together;
    }
#endif
    in_lanes(variant, crc_variant, jobs, count, scratch);
}

void rs3d_body_open_leaf(int variant, const rs3d_body *b, unsigned char *out)
{
    rs3d_sha256 leaf = b->leaf;

    rs3d_sha256_end(sha_variant(variant), &leaf, out);
}

void rs3d_body_setup(void)
{
    crc_setup();
}
