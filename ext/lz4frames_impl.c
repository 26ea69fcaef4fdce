/* See lz4frames_impl.h. One frame at a time: what was read is in the nearest cache when it is decompressed and checked.
 */
#define _GNU_SOURCE
#include "lz4frames_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "crc_impl.c" /* this kernel's own copy: a kernel imports no other */

enum { END_BITS = 56 };

static uint64_t load_be64(const unsigned char *p)
{
    uint64_t value;

    memcpy(&value, p, sizeof value);
    return __builtin_bswap64(value);
}

static uint32_t load_be32(const unsigned char *p)
{
    uint32_t value;

    memcpy(&value, p, sizeof value);
    return __builtin_bswap32(value);
}

uint32_t lz4frames_check(int crc_variant, uint64_t frame, uint64_t place, const unsigned char *stored,
                         size_t stored_bytes, const unsigned char *plain, size_t plain_bytes)
{
    uint64_t seed[2] = {__builtin_bswap64(frame), __builtin_bswap64(place)};
    uint64_t check = crc_update(&crc_poly_32c, crc_variant, 0, (const unsigned char *)seed, sizeof seed);

    check = crc_update(&crc_poly_32c, crc_variant, check, stored, stored_bytes);
    if (plain)
        check = crc_update(&crc_poly_32c, crc_variant, check, plain, plain_bytes);
    return (uint32_t)check;
}

/* The stored bytes [begin, begin + bytes): where they lie, if need be after they were read into `room`. NULL when they
 * cannot be had. */
static const unsigned char *stored_bytes(const lz4frames_source *source, uint64_t begin, size_t bytes,
                                         unsigned char *room)
{
    struct iovec vector = {.iov_base = room, .iov_len = bytes};
    uint64_t at = begin - source->begin;

    if (source->memory)
        return at <= source->memory_bytes && bytes <= source->memory_bytes - at ? source->memory + at : NULL;
    return preadv2(source->fd, &vector, 1, (off_t)begin, RWF_NOWAIT) == (ssize_t)bytes ? room : NULL;
}

static int one_frame(lz4_decompress decompress, int crc_variant, const lz4frames_source *source,
                     const unsigned char *row, uint64_t frame, uint64_t begin, unsigned char *room, unsigned char *out,
                     size_t plain_bytes)
{
    uint64_t place = load_be64(row), end = place & (((uint64_t)1 << END_BITS) - 1);
    unsigned codec = (unsigned)(place >> END_BITS);
    const unsigned char *stored;
    size_t bytes;

    if (end <= begin || end - begin > plain_bytes)
        return LZ4FRAMES_BROKEN;
    bytes = (size_t)(end - begin);
    if (codec == LZ4FRAMES_STORED) {
        if (bytes != plain_bytes)
            return LZ4FRAMES_BROKEN;
        stored = stored_bytes(source, begin, bytes, out);
        if (!stored)
            return LZ4FRAMES_NOT_RESIDENT;
        if (lz4frames_check(crc_variant, frame, place, stored, bytes, NULL, 0) != load_be32(row + 8))
            return LZ4FRAMES_BROKEN;
        if (stored != out)
            memcpy(out, stored, bytes);
        return LZ4FRAMES_DECODED;
    }
    if (codec != LZ4FRAMES_LZ4)
        return LZ4FRAMES_OTHER_CODEC;
    stored = stored_bytes(source, begin, bytes, room);
    if (!stored)
        return LZ4FRAMES_NOT_RESIDENT;
    if (decompress((const char *)stored, (char *)out, (int)bytes, (int)plain_bytes) != (int)plain_bytes)
        return LZ4FRAMES_BROKEN;
    if (lz4frames_check(crc_variant, frame, place, stored, bytes, out, plain_bytes) != load_be32(row + 8))
        return LZ4FRAMES_BROKEN;
    return LZ4FRAMES_DECODED;
}

int lz4frames_decode(lz4_decompress decompress, int crc_variant, const lz4frames_source *source,
                     const unsigned char *rows, uint64_t first, unsigned char *out, size_t out_bytes,
                     size_t frame_bytes)
{
    unsigned char *room = source->memory ? NULL : malloc(frame_bytes < out_bytes ? frame_bytes : out_bytes);
    int status = source->memory || room ? LZ4FRAMES_DECODED : LZ4FRAMES_NO_MEMORY;
    uint64_t begin = source->begin;
    size_t at;

    for (at = 0; at < out_bytes && status == LZ4FRAMES_DECODED; at += frame_bytes) {
        size_t plain_bytes = out_bytes - at < frame_bytes ? out_bytes - at : frame_bytes;

        status = one_frame(decompress, crc_variant, source, rows, first++, begin, room, out + at, plain_bytes);
        begin = load_be64(rows) & (((uint64_t)1 << END_BITS) - 1);
        rows += LZ4FRAMES_ROW_BYTES;
    }
    free(room);
    return status;
}
