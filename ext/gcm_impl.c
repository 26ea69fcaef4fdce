/* The frame loop, driving EVP_CIPHER of a libcrypto found at run time (see gcm_impl.h for the contract).
 *
 * Why dlopen: a build needs only gcm's own sources, no OpenSSL headers, and CPython's ssl module has the library in the
 * process anyway. The functions below have been part of OpenSSL's public, stable interface since 1.1 or 3.0, so their
 * prototypes are declared here. Each call has a context of its own (about a microsecond, key schedule included), so
 * that any number of threads may open frames of one blob at once.
 */
#define _GNU_SOURCE
#include "gcm_impl.h"

#include <dlfcn.h>
#include <string.h>

typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
typedef struct evp_cipher_st EVP_CIPHER;

/* From openssl/evp.h: part of the ABI. GCM's names and the AEAD ones are the same numbers. */
enum { CTRL_AEAD_GET_TAG = 0x10, CTRL_AEAD_SET_TAG = 0x11 };

static struct {
    unsigned long (*version_num)(void);
    EVP_CIPHER *(*cipher_fetch)(void *library, const char *name, const char *properties);
    EVP_CIPHER_CTX *(*ctx_new)(void);
    void (*ctx_free)(EVP_CIPHER_CTX *);
    int (*ctx_ctrl)(EVP_CIPHER_CTX *, int type, int argument, void *data);
    int (*init)(EVP_CIPHER_CTX *, const EVP_CIPHER *, void *engine, const unsigned char *key, const unsigned char *iv,
                int seal);
    int (*update)(EVP_CIPHER_CTX *, unsigned char *out, int *out_bytes, const unsigned char *in, int in_bytes);
    int (*final)(EVP_CIPHER_CTX *, unsigned char *out, int *out_bytes);
} crypto;

static EVP_CIPHER *ciphers[3]; /* by algorithm; fetched once: a fetch takes a lock and a hash lookup */

int rs3d_libcrypto_load(void)
{
    void *library;

    if (ciphers[RS3D_AES_256_GCM] && ciphers[RS3D_CHACHA20_POLY1305])
        return 0;
    library = dlopen("libcrypto.so.4", RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (!library)
        library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        library = dlopen("libcrypto.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return -1;
#define BIND(field, symbol) \
    do { \
        *(void **)&crypto.field = dlsym(library, symbol); \
        if (!crypto.field) \
            return -1; \
    } while (0)
    BIND(version_num, "OpenSSL_version_num");
    BIND(cipher_fetch, "EVP_CIPHER_fetch");
    BIND(ctx_new, "EVP_CIPHER_CTX_new");
    BIND(ctx_free, "EVP_CIPHER_CTX_free");
    BIND(ctx_ctrl, "EVP_CIPHER_CTX_ctrl");
    BIND(init, "EVP_CipherInit_ex");
    BIND(update, "EVP_CipherUpdate");
    BIND(final, "EVP_CipherFinal_ex");
#undef BIND
    ciphers[RS3D_AES_256_GCM] = crypto.cipher_fetch(NULL, "AES-256-GCM", NULL);
    ciphers[RS3D_CHACHA20_POLY1305] = crypto.cipher_fetch(NULL, "ChaCha20-Poly1305", NULL);
    return ciphers[RS3D_AES_256_GCM] && ciphers[RS3D_CHACHA20_POLY1305] ? 0 : -1;
}

unsigned long rs3d_libcrypto_version(void)
{
    return crypto.version_num ? crypto.version_num() : 0;
}

void rs3d_frames_init(rs3d_frames *f, int algorithm, const unsigned char *key, const unsigned char *prefix,
                      const unsigned char *blob_id, size_t blob_id_bytes)
{
    memset(f, 0, sizeof *f);
    f->algorithm = algorithm;
    memcpy(f->key, key, RS3D_KEY_BYTES);
    memcpy(f->prefix, prefix, RS3D_PREFIX_BYTES);
    memcpy(f->aad, "rs3d/fr1", 8);
    f->aad[8] = (unsigned char)algorithm;
    memcpy(f->aad + RS3D_AAD_HEAD_BYTES, blob_id, blob_id_bytes);
    f->aad_bytes = RS3D_AAD_HEAD_BYTES + blob_id_bytes;
}

void rs3d_frames_wipe(rs3d_frames *f)
{
    explicit_bzero(f, sizeof *f);
}

static void put_frame_number(unsigned char *at, uint32_t frame, int final)
{
    at[0] = (unsigned char)(frame >> 24);
    at[1] = (unsigned char)(frame >> 16);
    at[2] = (unsigned char)(frame >> 8);
    at[3] = (unsigned char)frame;
    at[4] = final ? 1 : 0;
}

void rs3d_frame_names(const rs3d_frames *f, uint32_t frame, int final, unsigned char *nonce, unsigned char *aad)
{
    memcpy(nonce, f->prefix, RS3D_PREFIX_BYTES);
    put_frame_number(nonce + RS3D_PREFIX_BYTES, frame, final);
    memcpy(aad, f->aad, f->aad_bytes);
    put_frame_number(aad + 9, frame, final);
}

/* The parts that both directions share: the names of this frame, then its bytes. */
static int run_frame(EVP_CIPHER_CTX *ctx, const rs3d_frames *f, uint32_t frame, int final, int seal,
                     const unsigned char *in, size_t bytes, unsigned char *out)
{
    unsigned char nonce[RS3D_NONCE_BYTES], aad[sizeof f->aad];
    int produced;

    rs3d_frame_names(f, frame, final, nonce, aad);
    if (crypto.init(ctx, NULL, NULL, NULL, nonce, seal) != 1 ||
        crypto.update(ctx, NULL, &produced, aad, (int)f->aad_bytes) != 1)
        return -1;
    if (bytes && (crypto.update(ctx, out, &produced, in, (int)bytes) != 1 || produced != (int)bytes))
        return -1;
    return 0;
}

static EVP_CIPHER_CTX *new_context(const rs3d_frames *f, int seal)
{
    EVP_CIPHER_CTX *ctx = crypto.ctx_new();

    if (ctx && crypto.init(ctx, ciphers[f->algorithm], NULL, f->key, NULL, seal) != 1) {
        crypto.ctx_free(ctx);
        ctx = NULL;
    }
    return ctx;
}

int rs3d_frames_seal(const rs3d_frames *f, uint32_t first, int ends, const unsigned char *in, size_t in_bytes,
                     unsigned char *out)
{
    EVP_CIPHER_CTX *ctx = new_context(f, 1);
    unsigned char nothing[RS3D_TAG_BYTES];
    uint32_t frame = first;
    int status = ctx ? 0 : -1, produced;

    /* One round at least: an empty body is one empty final frame. */
    while (status == 0) {
        size_t bytes = in_bytes < RS3D_FRAME_BYTES ? in_bytes : RS3D_FRAME_BYTES;
        int last = in_bytes == bytes;

        status = run_frame(ctx, f, frame, ends && last, 1, in, bytes, out);
        if (status == 0 && (crypto.final(ctx, nothing, &produced) != 1 ||
                            crypto.ctx_ctrl(ctx, CTRL_AEAD_GET_TAG, RS3D_TAG_BYTES, out + bytes) != 1))
            status = -1;
        if (last)
            break;
        in += bytes;
        in_bytes -= bytes;
        out += bytes + RS3D_TAG_BYTES;
        frame++;
    }
    crypto.ctx_free(ctx);
    return status;
}

int rs3d_frames_open(const rs3d_frames *f, uint32_t first, int ends, const unsigned char *in, size_t in_bytes,
                     unsigned char *out, uint32_t *bad)
{
    EVP_CIPHER_CTX *ctx = new_context(f, 0);
    unsigned char nothing[RS3D_TAG_BYTES], tag[RS3D_TAG_BYTES], *written = out;
    uint32_t frame = first;
    int status = ctx ? 0 : -1, produced;

    while (status == 0) {
        size_t sealed = in_bytes < RS3D_FRAME_BYTES + RS3D_TAG_BYTES ? in_bytes : RS3D_FRAME_BYTES + RS3D_TAG_BYTES;
        size_t bytes = sealed - RS3D_TAG_BYTES;
        int last = in_bytes == sealed;

        status = run_frame(ctx, f, frame, ends && last, 0, in, bytes, written);
        written += bytes;
        memcpy(tag, in + bytes, RS3D_TAG_BYTES);
        if (status == 0 && crypto.ctx_ctrl(ctx, CTRL_AEAD_SET_TAG, RS3D_TAG_BYTES, tag) != 1)
            status = -1;
        if (status == 0 && crypto.final(ctx, nothing, &produced) != 1) {
            *bad = frame;
            status = 1;
        }
        if (last)
            break;
        in += sealed;
        in_bytes -= sealed;
        frame++;
    }
    if (status != 0)
        memset(out, 0, (size_t)(written - out));
    crypto.ctx_free(ctx);
    return status;
}
