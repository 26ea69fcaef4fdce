/* SHA-256, HMAC and the canonical forms of SigV4 for S3. All on the caller's memory; nothing allocates.
 *
 * FIPS 180-4 (SHA-256), RFC 2104 (HMAC), S3 API reference "Authenticating Requests (AWS Signature Version 4)".
 */
#ifndef RS3D_SIGV4_IMPL_H
#define RS3D_SIGV4_IMPL_H

#include <stddef.h>
#include <stdint.h>

enum { SIGV4_SCALAR = 0, SIGV4_SHANI = 1 };

enum {
    SIGV4_DIGEST = 32,
    SIGV4_DIGITS = 64,
    SIGV4_BLOCK = 64,
    SIGV4_PARAMETERS = 64,       /* of a query; S3 operations know a dozen, presigned URLs add eight */
    SIGV4_TARGET = 16384,        /* path, and query, before encoding; the HTTP server takes no longer target */
    SIGV4_SCRATCH = 3 * SIGV4_TARGET,
    SIGV4_HEADERS = 128,
    SIGV4_HEADER_BYTES = 65536,  /* signed header lines: twice the largest head that the HTTP server takes */
    SIGV4_SIGNED_BYTES = 8192,   /* the list of signed names */
    SIGV4_REQUEST = 2 * SIGV4_SCRATCH + SIGV4_PARAMETERS + SIGV4_HEADER_BYTES + SIGV4_SIGNED_BYTES + 1024,
    SIGV4_TEXT = 1024            /* a string to sign: some 130 bytes with usual regions */
};

typedef struct {
    uint32_t state[8];
    uint64_t length;
    unsigned char block[SIGV4_BLOCK];
    int variant;
} sigv4_sha256;

void sigv4_sha256_start(sigv4_sha256 *hash, int variant);
void sigv4_sha256_update(sigv4_sha256 *hash, const void *data, size_t length);
void sigv4_sha256_finish(sigv4_sha256 *hash, unsigned char digest[SIGV4_DIGEST]);

/* HMAC-SHA256 with a key of at most 64 bytes. `digest` may be `key`. */
void sigv4_hmac(int variant, const unsigned char *key, size_t key_length, const void *data, size_t length,
                unsigned char digest[SIGV4_DIGEST]);

/* 64 lower-case digits. */
void sigv4_hex(const unsigned char digest[SIGV4_DIGEST], char out[SIGV4_DIGITS]);

/* The raw path decoded and encoded again, slashes kept. `out` has room for 3 * length. Returns the length written. */
size_t sigv4_path(const unsigned char *path, size_t length, unsigned char *out);

/* The raw query decoded, encoded again and sorted by name, then value; parameters whose encoded name is `dropped` are
 * left out. `out` and `scratch` have room for SIGV4_SCRATCH each (and for SIGV4_PARAMETERS separators in `out`).
 * Returns the length written, or -1 for more parameters than SIGV4_PARAMETERS. */
ptrdiff_t sigv4_query(const unsigned char *query, size_t length, const unsigned char *dropped, size_t dropped_length,
                      unsigned char *scratch, unsigned char *out);

/* A header value trimmed and its inner runs of spaces and tabs folded to one space. `out` has room for `length`.
 * Returns the length written, or -1 for a value with other control characters. */
ptrdiff_t sigv4_value(const unsigned char *value, size_t length, unsigned char *out);

/* Whether two texts of 64 bytes are equal, in time that does not depend on where they differ. */
int sigv4_equal(const char *a, const char *b);

#endif
