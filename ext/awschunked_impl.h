/* The aws-chunked framing of SigV4 uploads, as a resumable scanner over any split of the stream.
 *
 *     body     = *chunk last trailers CRLF
 *     chunk    = size [";chunk-signature=" 64HEXLOWER] CRLF <size bytes> CRLF        size > 0
 *     last     = "0" [";chunk-signature=" 64HEXLOWER] CRLF                           any number of zeros up to 16
 *     trailers = *(1*OCTET CRLF)                                                    at most 8 KiB together
 *
 * A signed body has the extension on every chunk, an unsigned one on none. The grammar bounds a chunk header by itself:
 * 16 hexadecimal digits, 17 bytes of name, 64 of signature, CRLF: 99 bytes, well inside the 256 that the widest form
 * known (SigV4A, 144 digits) would need. Nothing is buffered but the signature and the trailers.
 *
 * Source: AWS, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks".
 */
#ifndef RS3D_AWSCHUNKED_IMPL_H
#define RS3D_AWSCHUNKED_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    AWS_SIZE_DIGITS = 16,
    AWS_SIGNATURE = 64,
    AWS_TRAILERS_MAX = 8192, /* a checksum and a trailer signature take some 150 bytes; HTTP servers allow 8 KiB */
    AWS_PIECES_MAX = 256     /* a call: 16 MiB of usual 64 KiB chunks, while chunks of one byte cannot pile up */
};

typedef enum {
    AT_SIZE,      /* digits of the size; the first one must come */
    AT_EXTENSION, /* ";chunk-signature=" */
    AT_SIGNATURE,
    AT_HEADER_CR,
    AT_HEADER_LF,
    AT_DATA,
    AT_DATA_CR,
    AT_DATA_LF,
    AT_LINE,       /* first byte of a trailer line, or the CR of the empty one */
    AT_TRAILER,    /* inside a trailer line */
    AT_TRAILER_LF, /* after its CR */
    AT_END_LF,     /* after the CR of the empty line */
    AT_END
} aws_state;

typedef enum {
    AWS_FINE,
    AWS_BAD_SIZE,
    AWS_SIZE_TOO_LARGE,
    AWS_NO_SIGNATURE,
    AWS_UNEXPECTED_SIGNATURE,
    AWS_BAD_EXTENSION,
    AWS_BAD_SIGNATURE,
    AWS_NO_HEADER_CRLF,
    AWS_NO_DATA_CRLF,
    AWS_BAD_TRAILER,
    AWS_TRAILERS_TOO_LONG,
    AWS_ERRORS
} aws_error;

typedef struct {
    size_t offset, length;  /* payload in the buffer, after compaction if that was asked for */
    uint64_t chunk_bytes;   /* the chunk's declared size */
    unsigned char signature[AWS_SIGNATURE];
    int ends_chunk;         /* the last payload byte of the chunk is in this piece */
} aws_piece;

typedef struct {
    aws_state state;
    aws_error error;
    int is_signed;
    int digits;                /* of the size; of the signature; matched bytes of the extension's name */
    uint64_t chunk_bytes, left; /* of the chunk at hand */
    uint64_t decoded;          /* sum of declared sizes */
    uint64_t offset;           /* stream position of the next byte; of the offending one after an error */
    unsigned char signature[AWS_SIGNATURE];
    size_t trailer_bytes;
    unsigned char trailers[AWS_TRAILERS_MAX];
} aws_scanner;

static const char aws_extension[] = ";chunk-signature=";

static inline int aws_hex(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static inline aws_error aws_after_size(aws_scanner *s, unsigned char c)
{
    if (!s->digits)
        return AWS_BAD_SIZE;
    if (c == '\r') {
        if (s->is_signed)
            return AWS_NO_SIGNATURE;
        s->state = AT_HEADER_LF;
    } else if (c == ';') {
        if (!s->is_signed)
            return AWS_UNEXPECTED_SIGNATURE;
        s->state = AT_EXTENSION;
        s->digits = 1;
    } else {
        return AWS_BAD_SIZE;
    }
    s->left = s->chunk_bytes;
    return AWS_FINE;
}

/* One byte of framing (never of payload). */
static inline aws_error aws_step(aws_scanner *s, unsigned char c)
{
    int digit;
    switch (s->state) {
    case AT_SIZE:
        if ((digit = aws_hex(c)) < 0)
            return aws_after_size(s, c);
        if (s->digits == AWS_SIZE_DIGITS)
            return AWS_BAD_SIZE;
        /* Below 2^63 the sum of all sizes cannot wrap either: it is checked to stay there. */
        if (s->chunk_bytes >> 59)
            return AWS_SIZE_TOO_LARGE;
        s->chunk_bytes = s->chunk_bytes << 4 | (uint64_t)digit;
        if ((s->chunk_bytes + s->decoded) >> 63)
            return AWS_SIZE_TOO_LARGE;
        s->digits++;
        return AWS_FINE;
    case AT_EXTENSION:
        if (c != (unsigned char)aws_extension[s->digits])
            return AWS_BAD_EXTENSION;
        if (++s->digits == (int)sizeof aws_extension - 1) {
            s->state = AT_SIGNATURE;
            s->digits = 0;
        }
        return AWS_FINE;
    case AT_SIGNATURE:
        if (aws_hex(c) < 0 || (c >= 'A' && c <= 'F'))
            return AWS_BAD_SIGNATURE;
        s->signature[s->digits++] = c;
        if (s->digits == AWS_SIGNATURE)
            s->state = AT_HEADER_CR;
        return AWS_FINE;
    case AT_HEADER_CR:
        if (c != '\r')
            return aws_hex(c) >= 0 || c == '*' ? AWS_BAD_SIGNATURE : AWS_NO_HEADER_CRLF;
        s->state = AT_HEADER_LF;
        return AWS_FINE;
    case AT_HEADER_LF:
        if (c != '\n')
            return AWS_NO_HEADER_CRLF;
        s->decoded += s->chunk_bytes;
        s->state = s->chunk_bytes ? AT_DATA : AT_LINE;
        return AWS_FINE;
    case AT_DATA_CR:
        if (c != '\r')
            return AWS_NO_DATA_CRLF;
        s->state = AT_DATA_LF;
        return AWS_FINE;
    case AT_DATA_LF:
        if (c != '\n')
            return AWS_NO_DATA_CRLF;
        s->state = AT_SIZE;
        s->digits = 0;
        s->chunk_bytes = 0;
        return AWS_FINE;
    case AT_LINE:
        if (c == '\r') {
            s->state = AT_END_LF;
            return AWS_FINE;
        }
        s->state = AT_TRAILER;
        /* fall through */
    case AT_TRAILER:
        if (c == '\n' || c == '\0')
            return AWS_BAD_TRAILER;
        if (s->trailer_bytes == AWS_TRAILERS_MAX)
            return AWS_TRAILERS_TOO_LONG;
        s->trailers[s->trailer_bytes++] = c;
        if (c == '\r')
            s->state = AT_TRAILER_LF;
        return AWS_FINE;
    case AT_TRAILER_LF:
        if (c != '\n')
            return AWS_BAD_TRAILER;
        if (s->trailer_bytes == AWS_TRAILERS_MAX)
            return AWS_TRAILERS_TOO_LONG;
        s->trailers[s->trailer_bytes++] = c;
        s->state = AT_LINE;
        return AWS_FINE;
    case AT_END_LF:
        if (c != '\n')
            return AWS_BAD_TRAILER;
        s->state = AT_END;
        return AWS_FINE;
    default: /* AT_DATA and AT_END never come here */
        return AWS_BAD_SIZE;
    }
}

/* Scan `length` bytes. With `compact` the payload is moved together at the start of `buffer`. `pieces` may be NULL: then
 * none are reported and none end the call. Returns the bytes consumed; *payload is the payload among them. Stops early
 * at the end of the body, at an error (s->error), or when `pieces_max` pieces are found. */
static inline size_t aws_scan(aws_scanner *s, unsigned char *buffer, size_t length, int compact, aws_piece *pieces,
                              int pieces_max, int *found, size_t *payload)
{
    size_t at = 0, moved = 0;
    *found = 0;
    while (at < length && s->state != AT_END && s->error == AWS_FINE) {
        if (pieces && *found == pieces_max)
            break;
        size_t span = 0;
        int is_last = 0;
        if (s->state == AT_DATA) {
            span = length - at < s->left ? length - at : (size_t)s->left;
            s->left -= span;
            if (s->left == 0)
                s->state = AT_DATA_CR;
        } else {
            s->error = aws_step(s, buffer[at]);
            if (s->error != AWS_FINE)
                break;
            at++;
            s->offset++;
            is_last = s->state == AT_LINE && s->chunk_bytes == 0 && s->trailer_bytes == 0;
            if (!is_last)
                continue;
        }
        if (pieces) { /* payload, or the last chunk, which has none but may have a signature */
            aws_piece *piece = &pieces[(*found)++];
            piece->offset = compact ? moved : at;
            piece->length = span;
            piece->chunk_bytes = s->chunk_bytes;
            piece->ends_chunk = s->left == 0;
            memcpy(piece->signature, s->signature, AWS_SIGNATURE);
        }
        if (compact && moved != at)
            memmove(buffer + moved, buffer + at, span);
        moved += span;
        at += span;
        s->offset += span;
    }
    *payload = moved;
    return at;
}

#endif
