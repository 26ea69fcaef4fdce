/* A body from its socket to its file, piece by piece, hashed on the way. */
#ifndef RS3D_BODYINTAKE_IMPL_H
#define RS3D_BODYINTAKE_IMPL_H

#include "blobfiles_impl.h"
#include "bodygang_impl.h"
#include "crc_impl.h"
#include "receive_impl.h"

enum { RS3D_INTAKE_CRCS = 3 /* that one intake makes at most: one of each polynomial that S3 knows */ };

/* A CRC of a body as a whole; 0 of no bytes. */
typedef struct {
    const crc_poly *poly;
    uint64_t value;
} rs3d_whole_crc;

static inline void rs3d_whole_crc_update(int crc_variant, rs3d_whole_crc *w, const unsigned char *data, size_t bytes)
{
    w->value = crc_update(w->poly, crc_variant, w->value, data, bytes);
}

/* What one intake is to do, and, up to date when the function below returns, how far it came. */
struct rs3d_intake {
    struct rs3d_receiving from; /* `data` and `length` are set below */
    char *buffer;
    int64_t buffer_bytes; /* of one piece */
    int64_t filled;       /* of it, received but not written */
    int64_t to_come;      /* bytes to be received, beside those */
    int file_fd;
    int64_t offset;       /* in the file, of the next piece */
    size_t align;         /* as in rs3d_write_new */
    rs3d_gang *gang;
    rs3d_body *body;
    rs3d_whole_crc *crcs[RS3D_INTAKE_CRCS];
    int crc_count;
    int variant, crc_variant;
};

/* Write the buffer and have it hashed: while this thread writes, another may be hashing it. 0, or -1 with errno. */
static inline int rs3d_intake_piece(struct rs3d_intake *it)
{
    rs3d_piece piece = {.job = {it->body, (const unsigned char *)it->buffer, (size_t)it->filled}};
    int answer, error;

    rs3d_gang_announce(it->gang, &piece);
    answer = rs3d_write_new(it->file_fd, it->buffer, (size_t)it->filled, it->offset, it->align);
    error = errno;
    for (int i = 0; i < it->crc_count; i++)
        rs3d_whole_crc_update(it->crc_variant, it->crcs[i], (const unsigned char *)it->buffer, (size_t)it->filled);
    rs3d_gang_hash(it->gang, &piece, it->variant, it->crc_variant);
    errno = error;
    if (answer == 0) {
        it->offset += it->filled;
        it->filled = 0;
    }
    return answer;
}

/* Receive `to_come` bytes; write and hash what fills the buffer while more is to come: what is left in the buffer at
 * the end is neither. Returns what rs3d_receive does, -1 with errno for the socket's errors, or -2 with errno for the
 * file's, after which the file holds any part of the last piece. */
static inline int rs3d_take_in(struct rs3d_intake *it)
{
    int answer = RS3D_RECEIVE_DONE;

    while (it->to_come && answer == RS3D_RECEIVE_DONE) {
        int64_t room;

        if (it->filled == it->buffer_bytes && rs3d_intake_piece(it) != 0)
            return -2;
        room = it->buffer_bytes - it->filled;
        it->from.data = it->buffer + it->filled;
        it->from.length = room < it->to_come ? room : it->to_come;
        it->from.received = 0;
        answer = rs3d_receive(&it->from);
        it->filled += it->from.received;
        it->to_come -= it->from.received;
    }
    return answer;
}

#endif
