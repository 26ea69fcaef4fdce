/* MD5 (RFC 1321) of one stream, or of up to sixteen streams side by side. Every variant gives the same bits. */
#ifndef RS3D_MD5_IMPL_H
#define RS3D_MD5_IMPL_H

#include <stddef.h>
#include <stdint.h>

enum { RS3D_MD5_AVX512 = 0, RS3D_MD5_AVX2 = 1, RS3D_MD5_SCALAR = 2 }; /* rows of VARIANTS in md5.pyx */

typedef struct {
    uint32_t h[4];
    uint64_t bytes;         /* so far */
    unsigned char rest[64]; /* bytes % 64 of them */
} rs3d_md5;

typedef struct {
    rs3d_md5 *stream; /* each stream at most once in a call */
    const unsigned char *data;
    size_t bytes;
} rs3d_md5_job;

void rs3d_md5_start(rs3d_md5 *s);
void rs3d_md5_update(rs3d_md5 *s, const unsigned char *data, size_t bytes);

/* The digest so far, to `out` (16 bytes); the stream can go on. */
void rs3d_md5_digest(const rs3d_md5 *s, unsigned char *out);

/* Every job's bytes into its stream. The jobs' fields are used up. */
void rs3d_md5_update_many(int variant, rs3d_md5_job *jobs, size_t count);

#endif
