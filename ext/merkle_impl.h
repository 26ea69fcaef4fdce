/* SHA-256 of many messages at once, and of one in pieces. Every variant gives the same bits (FIPS 180-4). */
#ifndef RS3D_MERKLE_IMPL_H
#define RS3D_MERKLE_IMPL_H

#include <stddef.h>
#include <stdint.h>

enum { RS3D_SHA_AVX512 = 0, RS3D_SHA_SHANI = 1, RS3D_SHA_AVX2 = 2, RS3D_SHA_SCALAR = 3 }; /* rows of VARIANTS in merkle.pyx */

typedef struct {
    const unsigned char *data;
    uint64_t bytes;
} rs3d_message;

typedef struct {
    uint32_t h[8];
    uint64_t bytes;         /* so far */
    unsigned char rest[64]; /* bytes % 64 of them */
} rs3d_sha256;

/* Digest i of message i goes to out + 32 * i. Messages of equal length run fastest; order and lengths are free. */
void rs3d_sha256_many(int variant, const rs3d_message *messages, size_t count, unsigned char *out);

void rs3d_sha256_start(rs3d_sha256 *s);
void rs3d_sha256_update(int variant, rs3d_sha256 *s, const unsigned char *data, size_t bytes);
void rs3d_sha256_end(int variant, rs3d_sha256 *s, unsigned char *out);

#endif
