/* Frames of a sealed blob: the loop over frames around a library's AEAD. The format is described in gcm.pyx. */
#ifndef RS3D_GCM_IMPL_H
#define RS3D_GCM_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    RS3D_FRAME_BYTES = 65536,
    RS3D_TAG_BYTES = 16,
    RS3D_KEY_BYTES = 32,
    RS3D_PREFIX_BYTES = 7,
    RS3D_NONCE_BYTES = 12,
    RS3D_AAD_HEAD_BYTES = 14,
    RS3D_BLOB_ID_LIMIT = 255
};

enum { RS3D_AES_256_GCM = 1, RS3D_CHACHA20_POLY1305 = 2 };

enum { RS3D_BY_LIBCRYPTO = 0, RS3D_BY_LIBGCRYPT = 1 };

typedef struct {
    int algorithm;
    unsigned char key[RS3D_KEY_BYTES];
    unsigned char prefix[RS3D_PREFIX_BYTES];
    unsigned char aad[RS3D_AAD_HEAD_BYTES + RS3D_BLOB_ID_LIMIT]; /* frame number and finality are filled in per frame */
    size_t aad_bytes;
} rs3d_frames;

/* Set up from checked arguments; `blob_id_bytes` at most RS3D_BLOB_ID_LIMIT. */
void rs3d_frames_init(rs3d_frames *f, int algorithm, const unsigned char *key, const unsigned char *prefix,
                      const unsigned char *blob_id, size_t blob_id_bytes);
void rs3d_frames_wipe(rs3d_frames *f);

/* Nonce and AAD of one frame; `aad` has room for sizeof f->aad bytes. */
void rs3d_frame_names(const rs3d_frames *f, uint32_t frame, int final, unsigned char *nonce, unsigned char *aad);

/* Bind a library at run time. Returns 0, or -1 where there is no libcrypto 3, no libgcrypt 1.10. Call with the GIL. */
int rs3d_libcrypto_load(void);
unsigned long rs3d_libcrypto_version(void);
int rs3d_libgcrypt_load(void);

/* Seal `in_bytes` as frames `first`, `first` + 1 ...; `ends` marks the last of them as final. Returns 0, or -1 when the
 * library fails (out of memory, a provider that refuses the cipher). `out` takes in_bytes + 16 a frame and must not
 * overlap `in`. */
int rs3d_frames_seal(int library, const rs3d_frames *f, uint32_t first, int ends, const unsigned char *in,
                     size_t in_bytes, unsigned char *out);

/* The reverse. Returns 0; -1 as above; or 1 when a frame is not what was sealed there, with its number in *bad. In both
 * failures everything written to `out` by this call is wiped: no byte that was not authenticated is ever handed on. */
int rs3d_frames_open(int library, const rs3d_frames *f, uint32_t first, int ends, const unsigned char *in,
                     size_t in_bytes, unsigned char *out, uint32_t *bad);

/* One sealed frame of a file that holds a blob from its first byte, read from the page cache without waiting: the bytes
 * read, or -1. */
ssize_t rs3d_frame_resident(int fd, uint32_t frame, unsigned char *sealed, size_t bytes);

#endif
