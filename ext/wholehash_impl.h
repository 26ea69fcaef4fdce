/* One digest of a body as a whole, beside those that bodyhash_impl.h makes for its blob. */
#ifndef RS3D_WHOLEHASH_IMPL_H
#define RS3D_WHOLEHASH_IMPL_H

#include "crc_impl.h"
#include "merkle_impl.h"

typedef struct {
    const crc_poly *poly; /* NULL: it is a SHA-256 */
    uint64_t crc;
    rs3d_sha256 sha;
} rs3d_whole;

static inline void rs3d_whole_start(rs3d_whole *w, const crc_poly *poly)
{
    w->poly = poly;
    w->crc = 0;
    rs3d_sha256_start(&w->sha);
}

static inline void rs3d_whole_update(int sha_variant, int crc_variant, rs3d_whole *w, const unsigned char *data,
                                     size_t bytes)
{
    if (w->poly)
        w->crc = crc_update(w->poly, crc_variant, w->crc, data, bytes);
    else
        rs3d_sha256_update(sha_variant, &w->sha, data, bytes);
}

#endif
