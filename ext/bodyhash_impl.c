/* A body's MD5, the SHA-256 of its leaves and of all of it, the CRC32C of its blocks, while its bytes are in the cache.
 *
 * MD5 is one chain: it leaves most of a core idle while it waits for itself. The SHA unit is idle then, too. So where
 * there is one, both hashes of a body go through its blocks together, a few steps of one and four rounds of the other
 * in turn: SHA-256 costs next to nothing beside MD5. Two bodies share the wait of both. Three or four have their MD5
 * in the columns of one set of registers, and their SHA-256 in pairs among its steps. Of many bodies (LANES_FROM) the
 * lanes of md5_impl.c are ahead, with the leaves apart.
 *
 * Leaves begin where blocks of the hash do. So the SHA-256 of a body as a whole has the same words in its rounds as
 * that of the leaf at hand, and takes no more than the rounds, which have room beside MD5, too. Such bodies go by up to
 * four, however many there are. Instead of the whole it may be chunks that are hashed so, as long as they begin where
 * blocks of the hash do.
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
    COLUMNS = 4,      /* bodies of which both hashes go side by side */
    COLUMNS_FROM = 3, /* fewer are faster in pairs */
    LANES_FROM = 5,   /* bodies that are faster in lanes, */
    LANES_FROM_AVX512 = 13 /* and where columns have AVX-512's instructions: nearly all sixteen lanes have to be full */
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

/* The same of the leaf and of the whole, x, y and u, v: where `whole` is there, a constant wherever this is inlined. */
#define SHA_STEP(whole, x, y, u, v, m, i) \
    if (whole) \
        SHANI_ROUNDS(u, v, m, i); \
    FOUR_ROUNDS(x, y, m, i)

#define INLINED SHANI static inline __attribute__((always_inline))

INLINED void both_blocks_of(uint32_t *md5, uint32_t *sha, uint32_t *whole, const unsigned char *p, size_t blocks)
{
    uint32_t a = md5[0], b = md5[1], c = md5[2], d = md5[3];
    __m128i x, y, u, v, m[4];

    shani_load(sha, &x, &y);
    shani_load(whole ? whole : sha, &u, &v);
    for (; blocks; blocks--, p += 64) {
        uint32_t a0 = a, b0 = b, c0 = c, d0 = d;
        __m128i x0 = x, y0 = y, u0 = u, v0 = v;
        for (int i = 0; i < 4; i++)
            m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), BYTE_SWAP);
#define X(f, a, b, c, d, g, s, k) \
        STEP(f, a, b, c, d, load_le32(p + 4 * g), s, SINES[k]) \
        if ((k) % 4 == 3) { SHA_STEP(whole, x, y, u, v, m, (k) / 4); }
        STEPS(X)
#undef X
        a += a0; b += b0; c += c0; d += d0;
        x = _mm_add_epi32(x, x0);
        y = _mm_add_epi32(y, y0);
        u = _mm_add_epi32(u, u0);
        v = _mm_add_epi32(v, v0);
    }
    md5[0] = a; md5[1] = b; md5[2] = c; md5[3] = d;
    shani_store(sha, x, y);
    if (whole)
        shani_store(whole, u, v);
}

/* `whole` may be NULL. */
SHANI static void both_blocks(uint32_t *md5, uint32_t *sha, uint32_t *whole, const unsigned char *p, size_t blocks)
{
    if (whole)
        both_blocks_of(md5, sha, whole, p, blocks);
    else
        both_blocks_of(md5, sha, NULL, p, blocks);
}

/* Two bodies in turn; the second's names have a t before them. */
INLINED void both_blocks_2_of(uint32_t *md5, uint32_t *sha, uint32_t *whole, const unsigned char *p, uint32_t *tmd5,
                              uint32_t *tsha, uint32_t *twhole, const unsigned char *q, size_t blocks)
{
    uint32_t a = md5[0], b = md5[1], c = md5[2], d = md5[3], ta = tmd5[0], tb = tmd5[1], tc = tmd5[2], td = tmd5[3];
    __m128i x, y, u, v, m[4], tx, ty, tu, tv, n[4];

    shani_load(sha, &x, &y);
    shani_load(tsha, &tx, &ty);
    shani_load(whole ? whole : sha, &u, &v);
    shani_load(twhole ? twhole : tsha, &tu, &tv);
    for (; blocks; blocks--, p += 64, q += 64) {
        uint32_t a0 = a, b0 = b, c0 = c, d0 = d, ta0 = ta, tb0 = tb, tc0 = tc, td0 = td;
        __m128i x0 = x, y0 = y, u0 = u, v0 = v, tx0 = tx, ty0 = ty, tu0 = tu, tv0 = tv;
        for (int i = 0; i < 4; i++) {
            m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), BYTE_SWAP);
            n[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(q + 16 * i)), BYTE_SWAP);
        }
#define X(f, a, b, c, d, g, s, k) \
        STEP(f, a, b, c, d, load_le32(p + 4 * g), s, SINES[k]) \
        STEP(f, t##a, t##b, t##c, t##d, load_le32(q + 4 * g), s, SINES[k]) \
        if ((k) % 4 == 3) { SHA_STEP(whole, x, y, u, v, m, (k) / 4); SHA_STEP(twhole, tx, ty, tu, tv, n, (k) / 4); }
        STEPS(X)
#undef X
        a += a0; b += b0; c += c0; d += d0;
        ta += ta0; tb += tb0; tc += tc0; td += td0;
        x = _mm_add_epi32(x, x0);
        y = _mm_add_epi32(y, y0);
        u = _mm_add_epi32(u, u0);
        v = _mm_add_epi32(v, v0);
        tx = _mm_add_epi32(tx, tx0);
        ty = _mm_add_epi32(ty, ty0);
        tu = _mm_add_epi32(tu, tu0);
        tv = _mm_add_epi32(tv, tv0);
    }
    md5[0] = a; md5[1] = b; md5[2] = c; md5[3] = d;
    tmd5[0] = ta; tmd5[1] = tb; tmd5[2] = tc; tmd5[3] = td;
    shani_store(sha, x, y);
    shani_store(tsha, tx, ty);
    if (whole)
        shani_store(whole, u, v);
    if (twhole)
        shani_store(twhole, tu, tv);
}

/* `twhole` may be NULL, and `whole` as well where it is. */
SHANI static void both_blocks_2(uint32_t *md5, uint32_t *sha, uint32_t *whole, const unsigned char *p, uint32_t *tmd5,
                                uint32_t *tsha, uint32_t *twhole, const unsigned char *q, size_t blocks)
{
    if (twhole)
        both_blocks_2_of(md5, sha, whole, p, tmd5, tsha, twhole, q, blocks);
    else if (whole)
        both_blocks_2_of(md5, sha, whole, p, tmd5, tsha, NULL, q, blocks);
    else
        both_blocks_2_of(md5, sha, NULL, p, tmd5, tsha, NULL, q, blocks);
}

/* What up to four bodies have in registers, between stretches. */
typedef struct {
    __m128i md5[4];            /* word i of each body */
    __m128i leaf[COLUMNS][2];  /* ABEF and CDGH */
    __m128i whole[COLUMNS][2];
    const unsigned char *at[COLUMNS];
} columns;

typedef uint32_t word4 __attribute__((vector_size(16)));

/* AVX's forms of the instructions, which name their result apart, but of 128 bits all of them: those of the SHA unit
 * have no such form, and where the upper half of a register is in use each of them takes a hundred times as long (eight
 * bodies in 256 bits took 110 ms a MiB). */
#define COLUMNS_CODE __attribute__((target("avx,sha,sse4.1,ssse3")))

/* Step `i` of sixteen of the SHA-256 of column `l`, by the registers of `r`, which two columns take in turn. */
#define COLUMN_ROUNDS(l, r, i) \
    if ((l) < count) { \
        if ((i) == 0) { \
            for (int j = 0; j < 2; j++) { \
                leaf[r][j] = g->leaf[l][j]; \
                whole[r][j] = g->whole[l][j]; \
            } \
            for (int j = 0; j < 4; j++) \
                m[r][j] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(g->at[l] + offset + 16 * j)), BYTE_SWAP); \
        } \
        SHA_STEP(has_wholes, leaf[r][0], leaf[r][1], whole[r][0], whole[r][1], m[r], i); \
        if ((i) == 15) { \
            for (int j = 0; j < 2; j++) { \
                g->leaf[l][j] = _mm_add_epi32(g->leaf[l][j], leaf[r][j]); \
                if (has_wholes) \
                    g->whole[l][j] = _mm_add_epi32(g->whole[l][j], whole[r][j]); \
            } \
        } \
    }

/* All hashes of `count` columns, three or four, which is a constant, as is `has_wholes`. Behind each step of MD5 comes
 * SHA-256, of two columns in turn, in the second half of the other two. */
COLUMNS_CODE static inline __attribute__((always_inline)) void columns_blocks_of(columns *g, size_t blocks, int count,
                                                                                 int has_wholes)
{
    OPAQUE_SINES;
    word4 a = (word4)g->md5[0], b = (word4)g->md5[1], c = (word4)g->md5[2], d = (word4)g->md5[3];
    __m128i leaf[2][2], whole[2][2], m[2][4];

    for (size_t offset = 0; offset < 64 * blocks; offset += 64) {
        word4 w[16], a0 = a, b0 = b, c0 = c, d0 = d;
        for (int i = 0; i < 4; i++) {
            __m128i r[COLUMNS], low[2], high[2];
            for (int l = 0; l < COLUMNS; l++)
                r[l] = _mm_loadu_si128((const __m128i *)(g->at[l < count ? l : 0] + offset + 16 * i));
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
        COLUMN_ROUNDS((k) / 32 * 2 + (k) % 2, (k) % 2, (k) / 2 % 16)
        STEPS(X)
#undef X
        a += a0; b += b0; c += c0; d += d0;
    }
    g->md5[0] = (__m128i)a; g->md5[1] = (__m128i)b; g->md5[2] = (__m128i)c; g->md5[3] = (__m128i)d;
}

#define DEFINE_COLUMNS(NAME, TARGET) \
    TARGET static void NAME(columns *g, size_t blocks, size_t count, int has_wholes) \
    { \
        _mm256_zeroupper(); /* whoever ran before on this thread: see COLUMNS_CODE */ \
        if (count == 3 && has_wholes) \
            columns_blocks_of(g, blocks, 3, 1); \
        else if (count == 3) \
            columns_blocks_of(g, blocks, 3, 0); \
        else if (has_wholes) \
            columns_blocks_of(g, blocks, 4, 1); \
        else \
            columns_blocks_of(g, blocks, 4, 0); \
    }

DEFINE_COLUMNS(columns_blocks_avx, COLUMNS_CODE)
/* The same text with a rotation and any function of three words as one instruction each, which MD5 waits for. */
DEFINE_COLUMNS(columns_blocks_avx512, __attribute__((target("avx512f,avx512vl,sha"))))

#endif /* x86-64 */

/* --------------------------------------------------------------------------------------------------------- tables */

/* How many of `bytes` go into the leaf, the block and the chunk that are being filled. */
static size_t stretch(const rs3d_body *b, size_t bytes)
{
    uint64_t leaf = b->leaf_bytes - b->bytes % b->leaf_bytes, block = b->block_bytes - b->bytes % b->block_bytes;
    uint64_t room = leaf < block ? leaf : block;

    if (b->chunks && b->chunks->hashed < b->chunks->count) {
        uint64_t chunk = b->chunks->ends[b->chunks->hashed] - b->bytes;
        room = room < chunk ? room : chunk;
    }
    return bytes < room ? bytes : (size_t)room;
}

void rs3d_body_end_chunks(int variant, rs3d_body *b)
{
    rs3d_chunks *c = b->chunks;

    while (c->hashed < c->count && c->ends[c->hashed] == b->bytes) {
        rs3d_sha256_end(sha_variant(variant), &b->whole, c->digests[c->hashed++]);
        rs3d_sha256_start(&b->whole);
    }
}

/* `bytes` at `data`, at most a stretch, are in the hash of the leaf: count them, add them to the block and, unless
 * `has_whole` says that they are in it, to the hash of the whole; end what is full. */
static void counted(int variant, int crc_variant, rs3d_body *b, const unsigned char *data, size_t bytes, int has_whole)
{
    if (b->wants_sha256 && !has_whole)
        rs3d_sha256_update(sha_variant(variant), &b->whole, data, bytes);
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
    if (b->chunks)
        rs3d_body_end_chunks(variant, b);
}

/* The tables alone, of all of the job. */
static void tabulate(int variant, int crc_variant, rs3d_body_job *job)
{
    while (job->bytes) {
        size_t bytes = stretch(job->body, job->bytes);
        rs3d_sha256_update(sha_variant(variant), &job->body->leaf, job->data, bytes);
        counted(variant, crc_variant, job->body, job->data, bytes, 0);
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

static void both_done(int variant, int crc_variant, rs3d_body_job *job, size_t bytes, int has_whole)
{
    job->body->md5.bytes += bytes;
    job->body->leaf.bytes += bytes;
    if (has_whole)
        job->body->whole.bytes += bytes;
    counted(variant, crc_variant, job->body, job->data, bytes, has_whole);
    job->data += bytes;
    job->bytes -= bytes;
}

/* A body whose last piece did not end at a block of the hashes: rare, and not worth more code. */
static int in_step(const rs3d_body *b)
{
    return b->wants_md5 && b->wants_tables && !(b->bytes & 63);
}

static int wants_whole(const rs3d_body *b)
{
    return b->wants_sha256;
}

/* Whether the hash of the whole has its blocks where that of the leaf has them, in a body in step: a chunk may have
 * begun elsewhere. */
static int shares_blocks(const rs3d_body *b)
{
    return b->wants_sha256 && !(b->whole.bytes & 63);
}

static uint32_t *whole_of(rs3d_body *b)
{
    return shares_blocks(b) ? b->whole.h : NULL;
}

/* To the front those of which `is` is true; returns how many there are. */
static size_t to_front(rs3d_body_job *jobs, size_t count, int (*is)(const rs3d_body *))
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        if (is(jobs[i].body)) {
            rs3d_body_job moved = jobs[found];
            jobs[found++] = jobs[i];
            jobs[i] = moved;
        }
    }
    return found;
}

static void by_both(int variant, int crc_variant, rs3d_body_job *job)
{
    rs3d_body *b = job->body;
    size_t bytes;

    while ((bytes = both_stretch(job))) {
        int shares = shares_blocks(b);
        both_blocks(b->md5.h, b->leaf.h, whole_of(b), job->data, bytes / 64);
        both_done(variant, crc_variant, job, bytes, shares);
    }
    alone(variant, crc_variant, job);
}

static void by_both_2(int variant, int crc_variant, rs3d_body_job *one, rs3d_body_job *other)
{
    for (;;) {
        size_t bytes = both_stretch(one), others = both_stretch(other);
        rs3d_body *b, *t;
        int shares;
        bytes = bytes < others ? bytes : others;
        if (!bytes)
            break;
        if (shares_blocks(other->body)) { /* if one of them does, the first has to */
            rs3d_body_job *first = other;
            other = one;
            one = first;
        }
        b = one->body;
        t = other->body;
        both_blocks_2(b->md5.h, b->leaf.h, whole_of(b), one->data, t->md5.h, t->leaf.h, whole_of(t), other->data,
                      bytes / 64);
        shares = shares_blocks(t);
        both_done(variant, crc_variant, one, bytes, shares_blocks(b));
        both_done(variant, crc_variant, other, bytes, shares);
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
SHANI static void columns_step(int variant, rs3d_body_job *jobs, size_t count, size_t bytes)
{
    uint32_t words[4][COLUMNS];
    columns g;
    int has_wholes = 0;

    for (size_t l = 0; l < COLUMNS; l++) {
        /* A column that is left over reads along with the first; what it computes is not looked at. */
        const rs3d_body_job *job = &jobs[l < count ? l : 0];
        for (size_t i = 0; i < 4; i++)
            words[i][l] = job->body->md5.h[i];
        shani_load(job->body->leaf.h, &g.leaf[l][0], &g.leaf[l][1]);
        shani_load(job->body->whole.h, &g.whole[l][0], &g.whole[l][1]);
        has_wholes |= shares_blocks(job->body);
        g.at[l] = job->data;
    }
    memcpy(g.md5, words, sizeof words);
    if (variant == RS3D_BODY_AVX512)
        columns_blocks_avx512(&g, bytes / 64, count, has_wholes);
    else
        columns_blocks_avx(&g, bytes / 64, count, has_wholes);
    memcpy(words, g.md5, sizeof words);
    for (size_t l = 0; l < count; l++) {
        for (size_t i = 0; i < 4; i++)
            jobs[l].body->md5.h[i] = words[i][l];
        shani_store(jobs[l].body->leaf.h, g.leaf[l][0], g.leaf[l][1]);
        if (shares_blocks(jobs[l].body))
            shani_store(jobs[l].body->whole.h, g.whole[l][0], g.whole[l][1]);
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
            columns_step(variant, jobs, count, bytes);
            for (size_t l = 0; l < count; l++)
                both_done(variant, crc_variant, &jobs[l], bytes, shares_blocks(jobs[l].body));
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
            counted(variant, crc_variant, b, of[k]->data, bytes, 0);
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
    if (variant <= RS3D_BODY_SHANI) {
        /* What cannot be hashed so, if anything, goes as it would in lanes; of more than go at once, those that have
         * wholes, for which lanes have no room. */
        size_t together = to_front(jobs, count, in_step);
        size_t lanes_from = variant == RS3D_BODY_AVX512 ? LANES_FROM_AVX512 : LANES_FROM;
        size_t grouped = count >= lanes_from ? to_front(jobs, together, wants_whole) : together;
        while (grouped) {
            size_t group = grouped < COLUMNS ? grouped : COLUMNS;
            by_columns(variant, crc_variant, jobs, group);
            jobs += group;
            count -= group;
            grouped -= group;
        }
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
