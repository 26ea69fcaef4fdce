/* Everything that is computed of a body's bytes on their way to a blob, in one pass and for several bodies at once. */
#ifndef RS3D_BODYHASH_IMPL_H
#define RS3D_BODYHASH_IMPL_H

#include <stddef.h>
#include <stdint.h>

#include "md5_impl.h"
#include "merkle_impl.h"

/* Rows of VARIANTS in bodyhash.pyx. */
enum { RS3D_BODY_AVX512 = 0, RS3D_BODY_SHANI = 1, RS3D_BODY_AVX2 = 2, RS3D_BODY_SCALAR = 3 };

enum { RS3D_CHUNK_ROWS = 1024 /* 64 MiB of usual chunks of 64 KiB; some 100 KiB of memory, touched as they come */ };

/* The chunks of a body of which the SHA-256 is wanted, one behind the other. Whoever brings the body says where each of
 * them ends before its last bytes are hashed. */
typedef struct {
    size_t count, hashed;                           /* rows; and those whose digest is there */
    uint64_t ends[RS3D_CHUNK_ROWS];                 /* bytes of the body up to there; a chunk may have none */
    unsigned char digests[RS3D_CHUNK_ROWS][32];
    unsigned char signatures[RS3D_CHUNK_ROWS][64];  /* that came with the chunk; not looked at */
} rs3d_chunks;

typedef struct {
    int wants_md5, wants_tables;
    int wants_sha256;         /* of the body as a whole, or of its chunks; only with tables */
    rs3d_md5 md5;
    uint64_t leaf_bytes;      /* a multiple of 64 */
    uint64_t block_bytes;     /* a multiple of 64, too */
    uint64_t bytes;           /* so far */
    rs3d_sha256 leaf;         /* the leaf that is being filled */
    rs3d_sha256 whole;        /* where it is wanted; with chunks, the one that is being filled */
    rs3d_chunks *chunks;      /* or NULL */
    uint32_t crc;             /* of the block that is being filled */
    unsigned char *leaf_rows; /* 32 bytes each leaf that is full, then room for those to come */
    unsigned char *block_rows; /* the same of blocks: 4 bytes each, little-endian */
} rs3d_body;

typedef struct {
    rs3d_body *body; /* each at most once in a call */
    const unsigned char *data;
    size_t bytes;
} rs3d_body_job;

/* Every job's bytes into its body, whose tables have room for them. `crc_variant` is crc_impl.h's number. The jobs'
 * fields are used up. */
void rs3d_body_update_many(int variant, int crc_variant, rs3d_body_job *jobs, size_t count, rs3d_md5_job *scratch);

/* SHA-256 of what is in the leaf that is being filled, to `out`; the body can go on. */
void rs3d_body_open_leaf(int variant, const rs3d_body *b, unsigned char *out);

/* End the chunks that end where the body does so far. */
void rs3d_body_end_chunks(int variant, rs3d_body *b);

void rs3d_body_setup(void);

#endif
