/* A body from its socket to its file, piece by piece, hashed on the way. */
#ifndef RS3D_BODYINTAKE_IMPL_H
#define RS3D_BODYINTAKE_IMPL_H

#include "awschunked_impl.h"
#include "blobfiles_impl.h"
#include "bodygang_impl.h"
#include "crc_impl.h"
#include "receive_impl.h"

enum {
    RS3D_INTAKE_CRCS = 3,   /* that one intake makes at most: one of each polynomial that S3 knows */
    RS3D_INTAKE_PIECES = 64 /* of chunks, of one look at the framing: a buffer of 1 MiB has 17 of usual ones */
};

/* Why an intake of a framed body ended, beside what rs3d_receive says. */
enum {
    RS3D_INTAKE_BROKEN = 16, /* the framing is, or has an end before what was received: the scanner knows */
    RS3D_INTAKE_FULL         /* no room for more chunks until somebody has looked at those that there are */
};

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
    int64_t framed;       /* bytes behind those, received, in the framing */
    aws_scanner *framing; /* to be taken away; NULL: there is none */
    int64_t to_come;      /* bytes to be received, beside those */
    int to_end;           /* they are the file's last */
    int file_fd;
    int64_t offset;       /* in the file, of the next piece */
    size_t align;         /* as in rs3d_write_new */
    rs3d_gang *gang;
    rs3d_body *body;
    rs3d_whole_crc *crcs[RS3D_INTAKE_CRCS];
    int crc_count;
    int variant, crc_variant;
    int is_coming;           /* the gang counts its next piece */
    int64_t waited_ns;       /* for the socket, before the piece that is being received */
    /* Set up by rs3d_take_in: the next piece is received into one half of the buffer while that in the other is hashed. */
    int halves;
    char *at;                /* in the buffer, where the next piece begins */
    int64_t piece_bytes;     /* of it at most */
    rs3d_piece piece;        /* the last one announced; its hash is to be waited for if it `is_hashing` */
    int is_hashing;
};

enum { RS3D_INTAKE_HALVES_FROM = 512 * 1024 }; /* bytes of a buffer: what a round costs beside the hash shows in less */

/* The piece before is hashed when this returns. */
static inline void rs3d_await_hash(struct rs3d_intake *it)
{
    if (!it->is_hashing)
        return;
    rs3d_gang_hash(it->gang, &it->piece, it->variant, it->crc_variant);
    it->is_hashing = 0;
    it->is_coming = it->piece.goes_on;
}

/* Write the piece that was received, and have it hashed: while this thread writes, or receives the next one into the
 * other half, another may be hashing it. Nobody will wait for the next piece of a client that let this one be waited for.
 * 0, or -1 with errno. */
static inline int rs3d_intake_piece(struct rs3d_intake *it)
{
    const int is_quick = it->from.waited_ns - it->waited_ns <= it->gang->company_ns;
    int answer, error, came;

    rs3d_await_hash(it);
    came = it->is_coming;
    it->is_coming = 0;
    it->waited_ns = it->from.waited_ns;
    it->piece = (rs3d_piece){.job = {it->body, (const unsigned char *)it->at, (size_t)it->filled},
                             .goes_on = it->to_come && is_quick};
    it->is_hashing = 1;
    rs3d_gang_announce(it->gang, &it->piece, came);
    answer = rs3d_write_new(it->file_fd, it->at, (size_t)it->filled, it->offset, it->align);
    error = errno;
    for (int i = 0; i < it->crc_count; i++)
        rs3d_whole_crc_update(it->crc_variant, it->crcs[i], (const unsigned char *)it->at, (size_t)it->filled);
    if (!it->halves || !it->to_come || it->piece_bytes == it->buffer_bytes)
        rs3d_await_hash(it);
    errno = error;
    if (answer != 0)
        return answer;
    it->offset += it->filled;
    it->filled = 0;
    if (it->halves) {
        it->piece_bytes = it->buffer_bytes / 2;
        it->at = it->is_hashing && it->at == it->buffer ? it->buffer + it->piece_bytes : it->buffer;
    }
    return 0;
}

/* Take the framing away from what is behind `filled`: what is left of it are bytes of the body. RS3D_RECEIVE_DONE, or
 * why there are still framed ones. */
static inline int rs3d_unframe(struct rs3d_intake *it)
{
    rs3d_chunks *chunks = it->body->chunks;
    aws_piece pieces[RS3D_INTAKE_PIECES];

    while (it->framed) {
        size_t consumed, payload = 0, room = chunks ? RS3D_CHUNK_ROWS - chunks->count : 0;
        unsigned char *at = (unsigned char *)it->at + it->filled;
        /* Without chunks somebody may be hashing the piece before, and counting. */
        uint64_t end = chunks ? it->body->bytes + (uint64_t)it->filled : 0;
        int found = 0;

        if (chunks && !room)
            return RS3D_INTAKE_FULL;
        room = room < RS3D_INTAKE_PIECES ? room : RS3D_INTAKE_PIECES;
        consumed = aws_scan(it->framing, at, (size_t)it->framed, 1, chunks ? pieces : NULL, (int)room, &found, &payload);
        for (int i = 0; i < found; i++) {
            end += pieces[i].length;
            if (pieces[i].ends_chunk) {
                chunks->ends[chunks->count] = end;
                memcpy(chunks->signatures[chunks->count++], pieces[i].signature, AWS_SIGNATURE);
            }
        }
        it->filled += (int64_t)payload;
        it->framed -= (int64_t)consumed;
        memmove(at + payload, at + consumed, (size_t)it->framed);
        if (it->framing->error != AWS_FINE || (it->framing->state == AT_END && it->framed))
            return RS3D_INTAKE_BROKEN;
    }
    return RS3D_RECEIVE_DONE;
}

/* `answer`, after what was received has gone through `rs3d_unframe`. */
static inline int rs3d_received(struct rs3d_intake *it, int answer)
{
    int unframed;

    it->to_come -= it->from.received;
    if (!it->framing) {
        it->filled += it->from.received;
        return answer;
    }
    it->framed = it->from.received;
    unframed = rs3d_unframe(it);
    return unframed == RS3D_RECEIVE_DONE ? answer : unframed;
}

/* Room for more chunks: those that are in the buffer, whole or in part, are written and hashed. 0, or -1 with errno. */
static inline int rs3d_make_room_for_chunks(struct rs3d_intake *it)
{
    int64_t before = it->filled;

    if (before && rs3d_intake_piece(it) != 0)
        return -1;
    memmove(it->at, it->at + before, (size_t)it->framed);
    return 0;
}

/* Whether what is in the buffer is to be written though nothing more comes in this call: it is the last, or there would
 * be no room for what is framed and comes otherwise. */
static inline int rs3d_is_due(const struct rs3d_intake *it)
{
    if (it->framing && it->framing->state != AT_END)
        return it->filled == it->buffer_bytes;
    return it->to_end && it->filled;
}

/* The whole of rs3d_take_in, but for its end. */
static inline int rs3d_take_pieces(struct rs3d_intake *it)
{
    int answer = rs3d_unframe(it);

    it->is_coming = it->to_come && answer == RS3D_RECEIVE_DONE;
    if (it->is_coming)
        rs3d_gang_count_coming(it->gang, 1);
    while (it->to_come && answer == RS3D_RECEIVE_DONE) {
        int64_t room;

        if (it->filled == it->piece_bytes && rs3d_intake_piece(it) != 0)
            return -2;
        room = it->piece_bytes - it->filled;
        it->from.data = it->at + it->filled;
        it->from.length = room < it->to_come ? room : it->to_come;
        it->from.received = 0;
        answer = rs3d_received(it, rs3d_receive(&it->from));
    }
    if (answer == RS3D_INTAKE_FULL && rs3d_make_room_for_chunks(it) != 0)
        return -2;
    if (answer == RS3D_RECEIVE_DONE && rs3d_is_due(it) && rs3d_intake_piece(it) != 0)
        return -2;
    if (it->body->chunks)
        rs3d_body_end_chunks(it->variant, it->body); /* the last one has no bytes */
    return answer;
}

/* Receive `to_come` bytes, framed where there is a framing; write and hash what fills the buffer while more is to come:
 * what is left in the buffer at the end is neither, unless `rs3d_is_due`. Returns what
 * rs3d_receive does, RS3D_INTAKE_BROKEN or _FULL, -1 with errno for the socket's errors, or -2 with errno for the file's,
 * after which the file holds any part of the last piece. */
static inline int rs3d_take_in(struct rs3d_intake *it)
{
    int answer, error;

    it->at = it->buffer;
    it->is_hashing = 0;
    it->piece_bytes = it->buffer_bytes;
    /* Where chunks are hashed, the framing of the next piece would change what that of this one looks at. */
    it->halves = it->buffer_bytes >= RS3D_INTAKE_HALVES_FROM && !it->body->chunks &&
                 it->buffer_bytes % (2 * (int64_t)(it->align ? it->align : 1)) == 0;
    if (it->halves && it->filled + it->framed <= it->buffer_bytes / 2)
        it->piece_bytes = it->buffer_bytes / 2;
    answer = rs3d_take_pieces(it);
    error = errno;
    rs3d_await_hash(it);
    if (it->at != it->buffer)
        memmove(it->buffer, it->at, (size_t)(it->filled + it->framed));
    if (it->is_coming) /* no more, whatever it was that ended it */
        rs3d_gang_count_coming(it->gang, -1);
    errno = error;
    return answer;
}

#endif
