/* Frames of a compressed stream (lz4 blocks, or stored as they are), decoded straight to where they belong. The format
 * is described in rs3d/rio/compression.py; the decompressor is the lz4 library's. */
#ifndef RS3D_LZ4FRAMES_IMPL_H
#define RS3D_LZ4FRAMES_IMPL_H

#include <stddef.h>
#include <stdint.h>

enum { LZ4FRAMES_ROW_BYTES = 12, LZ4FRAMES_STORED = 0, LZ4FRAMES_LZ4 = 2 };

enum {
    LZ4FRAMES_DECODED = 0,
    LZ4FRAMES_NOT_RESIDENT = 1, /* its stored bytes are not in the page cache */
    LZ4FRAMES_OTHER_CODEC = 2,
    LZ4FRAMES_BROKEN = 3,       /* impossible row, failed check, or no lz4 block of that length */
    LZ4FRAMES_NO_MEMORY = 4
};

typedef int (*lz4_decompress)(const char *from, char *to, int from_bytes, int to_bytes);

/* The stored bytes of a stream from `begin` on: in memory, or in the page cache of a file that holds all of it. */
typedef struct {
    const unsigned char *memory; /* NULL: the file */
    size_t memory_bytes;
    int fd;
    uint64_t begin;
} lz4frames_source;

/* Decode frames `first`, `first` + 1 ... into `out`: whole frames of `frame_bytes`, the last one perhaps shorter. `rows`
 * has a row for each of them; the first begins at `source->begin`. */
int lz4frames_decode(lz4_decompress decompress, int crc_variant, const lz4frames_source *source,
                     const unsigned char *rows, uint64_t first, unsigned char *out, size_t out_bytes,
                     size_t frame_bytes);

/* CRC32C over frame number and place (u64 BE each), stored bytes, and the plain ones (none: NULL). */
uint32_t lz4frames_check(int crc_variant, uint64_t frame, uint64_t place, const unsigned char *stored,
                         size_t stored_bytes, const unsigned char *plain, size_t plain_bytes);

#endif
