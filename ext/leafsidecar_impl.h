/* The sidecar of a blob that is one leaf: FORMAT.md section "Sidecar". */
#ifndef RS3D_LEAFSIDECAR_IMPL_H
#define RS3D_LEAFSIDECAR_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "crc_impl.h"
#include "merkle_impl.h"

enum {
    RS3D_LEAF_BYTES = 1 << 20,
    RS3D_BLOCK_BYTES = 1 << 16,
    RS3D_LEAF_BLOCKS = RS3D_LEAF_BYTES / RS3D_BLOCK_BYTES,
    RS3D_SIDECAR_HEAD_BYTES = 56,
    /* Behind the body: a page of the block table and one of the leaf table, each with its CRC. */
    RS3D_LEAF_TABLES_BYTES = 4 * RS3D_LEAF_BLOCKS + 4 + 32 + 4,
};

static inline unsigned char *rs3d_put_big(unsigned char *to, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, value >>= 8)
        to[i] = (unsigned char)value;
    return to + bytes;
}

/* SHA-256(02 | number of leaves | length | top), where the one leaf is the top. */
static inline void rs3d_root_of_leaf(int sha_variant, const unsigned char *leaf, uint64_t length, unsigned char *root)
{
    unsigned char tagged[49];
    rs3d_sha256 hash;

    tagged[0] = 2;
    rs3d_put_big(tagged + 1, 1, 8);
    rs3d_put_big(tagged + 9, length, 8);
    memcpy(tagged + 17, leaf, 32);
    rs3d_sha256_start(&hash);
    rs3d_sha256_update(sha_variant, &hash, tagged, sizeof tagged);
    rs3d_sha256_end(sha_variant, &hash, root);
}

/* One page of a table, and its CRC, which begins with table and page and the head's CRC. */
static inline unsigned char *rs3d_put_page(unsigned char *to, int crc_variant, uint32_t table, uint32_t head_crc,
                                           const unsigned char *rows, size_t bytes)
{
    unsigned char seed[8];
    uint64_t crc;

    rs3d_put_big(seed, table, 4);
    rs3d_put_big(seed + 4, 0, 4);
    crc = crc_update(&crc_poly_32c, crc_variant, head_crc, seed, sizeof seed);
    crc = crc_update(&crc_poly_32c, crc_variant, crc, rows, bytes);
    memcpy(to, rows, bytes);
    return rs3d_put_big(to + bytes, crc, 4);
}

/* How long the sidecar of `length` bytes is, 1 to RS3D_LEAF_BYTES of them. */
static inline size_t rs3d_leaf_sidecar_bytes(uint64_t length, size_t body_bytes)
{
    size_t block_rows = (size_t)((length + RS3D_BLOCK_BYTES - 1) / RS3D_BLOCK_BYTES);

    return RS3D_SIDECAR_HEAD_BYTES + body_bytes + 4 * block_rows + 4 + 32 + 4;
}

/* The sidecar to `out`, which has room for head, body and tables. `blocks` are the rows of `length` bytes, 1 to
 * RS3D_LEAF_BYTES of them. Returns how long it is. */
static inline size_t rs3d_leaf_sidecar(unsigned char *out, int crc_variant, uint64_t segment, uint32_t number,
                                       uint64_t length, const unsigned char *body, size_t body_bytes,
                                       const unsigned char *blocks, const unsigned char *leaf)
{
    enum { MAJOR = 1, MINOR = 0, BLOCKS = 1, LEAVES = 2 };
    size_t block_rows = (size_t)((length + RS3D_BLOCK_BYTES - 1) / RS3D_BLOCK_BYTES);
    unsigned char *at = out;
    uint64_t head_crc;

    memcpy(at, "rs3dblob", 8);
    at = rs3d_put_big(at + 8, MAJOR, 2);
    at = rs3d_put_big(at, MINOR, 2);
    at = rs3d_put_big(at, body_bytes, 4);
    at = rs3d_put_big(at, length, 8);
    at = rs3d_put_big(at, segment, 8);
    at = rs3d_put_big(at, number, 4);
    at = rs3d_put_big(at, RS3D_BLOCK_BYTES, 4);
    at = rs3d_put_big(at, RS3D_LEAF_BYTES, 4);
    at = rs3d_put_big(at, 0, 4); /* no features */
    at = rs3d_put_big(at, crc_update(&crc_poly_32c, crc_variant, 0, body, body_bytes), 4);
    head_crc = crc_update(&crc_poly_32c, crc_variant, 0, out, (size_t)(at - out));
    at = rs3d_put_big(at, head_crc, 4);
    memcpy(at, body, body_bytes);
    at = rs3d_put_page(at + body_bytes, crc_variant, BLOCKS, (uint32_t)head_crc, blocks, 4 * block_rows);
    at = rs3d_put_page(at, crc_variant, LEAVES, (uint32_t)head_crc, leaf, 32);
    return (size_t)(at - out);
}

#endif
