/* The frame loop over the AEAD of a library found at run time (see gcm_impl.h for the contract).
 *
 * Why dlopen: a build needs only gcm's own sources, no library's headers. CPython's ssl module has libcrypto in the
 * process anyway, and most systems with systemd have libgcrypt. The functions bound below are public and stable:
 * libcrypto's since 1.1 or 3.0, libgcrypt's since 1.6; their prototypes are declared here. Each call has a context of
 * its own (one to three microseconds, key schedule included), so that any number of threads may open frames of one blob
 * at once.
 */
#define _GNU_SOURCE
#include "gcm_impl.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/uio.h>

/* One library's AEAD. A frame's function returns 0, -1 when the library fails, and 1 when a tag is wrong. */
typedef struct {
    void *(*start)(const rs3d_frames *f, int seal);
    void (*end)(void *context);
    int (*seal)(void *context, const unsigned char *nonce, const unsigned char *aad, size_t aad_bytes,
                const unsigned char *in, size_t bytes, unsigned char *out);
    int (*open)(void *context, const unsigned char *nonce, const unsigned char *aad, size_t aad_bytes,
                const unsigned char *in, size_t bytes, unsigned char *out);
} engine;

#define BIND(table, field, symbol) \
    do { \
        *(void **)&table.field = dlsym(library, symbol); \
        if (!table.field) \
            return -1; \
    } while (0)

/* ------------------------------------------------------------------------------------------------------ libcrypto */

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
    BIND(crypto, version_num, "OpenSSL_version_num");
    BIND(crypto, cipher_fetch, "EVP_CIPHER_fetch");
    BIND(crypto, ctx_new, "EVP_CIPHER_CTX_new");
    BIND(crypto, ctx_free, "EVP_CIPHER_CTX_free");
    BIND(crypto, ctx_ctrl, "EVP_CIPHER_CTX_ctrl");
    BIND(crypto, init, "EVP_CipherInit_ex");
    BIND(crypto, update, "EVP_CipherUpdate");
    BIND(crypto, final, "EVP_CipherFinal_ex");
    ciphers[RS3D_AES_256_GCM] = crypto.cipher_fetch(NULL, "AES-256-GCM", NULL);
    ciphers[RS3D_CHACHA20_POLY1305] = crypto.cipher_fetch(NULL, "ChaCha20-Poly1305", NULL);
    return ciphers[RS3D_AES_256_GCM] && ciphers[RS3D_CHACHA20_POLY1305] ? 0 : -1;
}

unsigned long rs3d_libcrypto_version(void)
{
    return crypto.version_num ? crypto.version_num() : 0;
}

static void *crypto_start(const rs3d_frames *f, int seal)
{
    EVP_CIPHER_CTX *ctx = crypto.ctx_new();

    if (ctx && crypto.init(ctx, ciphers[f->algorithm], NULL, f->key, NULL, seal) != 1) {
        crypto.ctx_free(ctx);
        ctx = NULL;
    }
    return ctx;
}

static void crypto_end(void *ctx)
{
    crypto.ctx_free(ctx);
}

/* The parts that both directions share: the names of this frame, then its bytes. */
static int crypto_run(EVP_CIPHER_CTX *ctx, int seal, const unsigned char *nonce, const unsigned char *aad,
                      size_t aad_bytes, const unsigned char *in, size_t bytes, unsigned char *out)
{
    int produced;

    if (crypto.init(ctx, NULL, NULL, NULL, nonce, seal) != 1 ||
        crypto.update(ctx, NULL, &produced, aad, (int)aad_bytes) != 1)
        return -1;
    if (bytes && (crypto.update(ctx, out, &produced, in, (int)bytes) != 1 || produced != (int)bytes))
        return -1;
    return 0;
}

static int crypto_seal(void *ctx, const unsigned char *nonce, const unsigned char *aad, size_t aad_bytes,
                       const unsigned char *in, size_t bytes, unsigned char *out)
{
    unsigned char nothing[RS3D_TAG_BYTES];
    int produced;

    if (crypto_run(ctx, 1, nonce, aad, aad_bytes, in, bytes, out) != 0 || crypto.final(ctx, nothing, &produced) != 1 ||
        crypto.ctx_ctrl(ctx, CTRL_AEAD_GET_TAG, RS3D_TAG_BYTES, out + bytes) != 1)
        return -1;
    return 0;
}

static int crypto_open(void *ctx, const unsigned char *nonce, const unsigned char *aad, size_t aad_bytes,
                       const unsigned char *in, size_t bytes, unsigned char *out)
{
    unsigned char nothing[RS3D_TAG_BYTES], tag[RS3D_TAG_BYTES];
    int produced;

    memcpy(tag, in + bytes, RS3D_TAG_BYTES);
    if (crypto_run(ctx, 0, nonce, aad, aad_bytes, in, bytes, out) != 0 ||
        crypto.ctx_ctrl(ctx, CTRL_AEAD_SET_TAG, RS3D_TAG_BYTES, tag) != 1)
        return -1;
    return crypto.final(ctx, nothing, &produced) == 1 ? 0 : 1;
}

/* ------------------------------------------------------------------------------------------------------ libgcrypt */

typedef struct gcry_cipher_handle gcry_cipher_handle;

/* From gcrypt.h: part of the ABI. */
enum {
    GCRYPT_AES256 = 9,
    GCRYPT_CHACHA20 = 316,
    GCRYPT_MODE_GCM = 9,
    GCRYPT_MODE_POLY1305 = 10,
    GCRYPT_DISABLE_SECMEM = 37,
    GCRYPT_INITIALIZATION_FINISHED = 38,
    GCRYPT_IS_INITIALIZATION_FINISHED = 39,
    GCRYPT_ERROR_CODE = 0xffff, /* the rest of an error tells its source */
    GCRYPT_CHECKSUM = 10
};

static struct {
    const char *(*check_version)(const char *at_least);
    unsigned (*control)(int command, ...);
    unsigned (*open)(gcry_cipher_handle **, int algorithm, int mode, unsigned flags);
    void (*close)(gcry_cipher_handle *);
    unsigned (*setkey)(gcry_cipher_handle *, const void *key, size_t bytes);
    unsigned (*setiv)(gcry_cipher_handle *, const void *iv, size_t bytes);
    unsigned (*authenticate)(gcry_cipher_handle *, const void *aad, size_t bytes);
    unsigned (*encrypt)(gcry_cipher_handle *, void *out, size_t out_bytes, const void *in, size_t in_bytes);
    unsigned (*decrypt)(gcry_cipher_handle *, void *out, size_t out_bytes, const void *in, size_t in_bytes);
    unsigned (*gettag)(gcry_cipher_handle *, void *tag, size_t bytes);
    unsigned (*checktag)(gcry_cipher_handle *, const void *tag, size_t bytes);
} gcrypt;

static int gcrypt_ready;

static gcry_cipher_handle *gcrypt_handle(int algorithm)
{
    gcry_cipher_handle *handle = NULL;
    int is_aes = algorithm == RS3D_AES_256_GCM;

    if (gcrypt.open(&handle, is_aes ? GCRYPT_AES256 : GCRYPT_CHACHA20, is_aes ? GCRYPT_MODE_GCM : GCRYPT_MODE_POLY1305,
                    0) != 0)
        return NULL;
    return handle;
}

int rs3d_libgcrypt_load(void)
{
    void *library;
    gcry_cipher_handle *trial;

    if (gcrypt_ready)
        return 0;
    library = dlopen("libgcrypt.so.20", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return -1;
    BIND(gcrypt, check_version, "gcry_check_version");
    BIND(gcrypt, control, "gcry_control");
    BIND(gcrypt, open, "gcry_cipher_open");
    BIND(gcrypt, close, "gcry_cipher_close");
    BIND(gcrypt, setkey, "gcry_cipher_setkey");
    BIND(gcrypt, setiv, "gcry_cipher_setiv");
    BIND(gcrypt, authenticate, "gcry_cipher_authenticate");
    BIND(gcrypt, encrypt, "gcry_cipher_encrypt");
    BIND(gcrypt, decrypt, "gcry_cipher_decrypt");
    BIND(gcrypt, gettag, "gcry_cipher_gettag");
    BIND(gcrypt, checktag, "gcry_cipher_checktag");
    /* VAES came with 1.10. The check also begins the library's initialization, which we end unless somebody has:
     * without its secure memory, of which we allocate none. */
    if (!gcrypt.check_version("1.10.0"))
        return -1;
    if (!gcrypt.control(GCRYPT_IS_INITIALIZATION_FINISHED, 0)) {
        gcrypt.control(GCRYPT_DISABLE_SECMEM, 0);
        gcrypt.control(GCRYPT_INITIALIZATION_FINISHED, 0);
    }
    /* In FIPS mode, say, it does not have every cipher. */
    for (int algorithm = RS3D_AES_256_GCM; algorithm <= RS3D_CHACHA20_POLY1305; algorithm++) {
        if (!(trial = gcrypt_handle(algorithm)))
            return -1;
        gcrypt.close(trial);
    }
    gcrypt_ready = 1;
    return 0;
}

static void *gcrypt_start(const rs3d_frames *f, int seal)
{
    gcry_cipher_handle *handle = gcrypt_handle(f->algorithm);

    (void)seal;
    if (handle && gcrypt.setkey(handle, f->key, RS3D_KEY_BYTES) != 0) {
        gcrypt.close(handle);
        handle = NULL;
    }
    return handle;
}

static void gcrypt_end(void *handle)
{
    gcrypt.close(handle); /* wipes the key */
}

static int gcrypt_seal(void *handle, const unsigned char *nonce, const unsigned char *aad, size_t aad_bytes,
                       const unsigned char *in, size_t bytes, unsigned char *out)
{
    if (gcrypt.setiv(handle, nonce, RS3D_NONCE_BYTES) != 0 || gcrypt.authenticate(handle, aad, aad_bytes) != 0 ||
        gcrypt.encrypt(handle, out, bytes, in, bytes) != 0 || gcrypt.gettag(handle, out + bytes, RS3D_TAG_BYTES) != 0)
        return -1;
    return 0;
}

static int gcrypt_open(void *handle, const unsigned char *nonce, const unsigned char *aad, size_t aad_bytes,
                       const unsigned char *in, size_t bytes, unsigned char *out)
{
    unsigned wrong;

    if (gcrypt.setiv(handle, nonce, RS3D_NONCE_BYTES) != 0 || gcrypt.authenticate(handle, aad, aad_bytes) != 0 ||
        gcrypt.decrypt(handle, out, bytes, in, bytes) != 0)
        return -1;
    wrong = gcrypt.checktag(handle, in + bytes, RS3D_TAG_BYTES);
    if (!wrong)
        return 0;
    return (wrong & GCRYPT_ERROR_CODE) == GCRYPT_CHECKSUM ? 1 : -1;
}

static const engine engines[] = {
    [RS3D_BY_LIBCRYPTO] = {crypto_start, crypto_end, crypto_seal, crypto_open},
    [RS3D_BY_LIBGCRYPT] = {gcrypt_start, gcrypt_end, gcrypt_seal, gcrypt_open},
};

/* --------------------------------------------------------------------------------------------------------- frames */

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

int rs3d_frames_seal(int library, const rs3d_frames *f, uint32_t first, int ends, const unsigned char *in,
                     size_t in_bytes, unsigned char *out)
{
    const engine *e = &engines[library];
    void *context = e->start(f, 1);
    unsigned char nonce[RS3D_NONCE_BYTES], aad[sizeof f->aad];
    uint32_t frame = first;
    int status = context ? 0 : -1;

    /* One round at least: an empty body is one empty final frame. */
    while (status == 0) {
        size_t bytes = in_bytes < RS3D_FRAME_BYTES ? in_bytes : RS3D_FRAME_BYTES;
        int last = in_bytes == bytes;

        rs3d_frame_names(f, frame, ends && last, nonce, aad);
        status = e->seal(context, nonce, aad, f->aad_bytes, in, bytes, out);
        if (last)
            break;
        in += bytes;
        in_bytes -= bytes;
        out += bytes + RS3D_TAG_BYTES;
        frame++;
    }
    if (context)
        e->end(context);
    return status;
}

int rs3d_frames_open(int library, const rs3d_frames *f, uint32_t first, int ends, const unsigned char *in,
                     size_t in_bytes, unsigned char *out, uint32_t *bad)
{
    const engine *e = &engines[library];
    void *context = e->start(f, 0);
    unsigned char nonce[RS3D_NONCE_BYTES], aad[sizeof f->aad], *written = out;
    uint32_t frame = first;
    int status = context ? 0 : -1;

    while (status == 0) {
        size_t sealed = in_bytes < RS3D_FRAME_BYTES + RS3D_TAG_BYTES ? in_bytes : RS3D_FRAME_BYTES + RS3D_TAG_BYTES;
        size_t bytes = sealed - RS3D_TAG_BYTES;
        int last = in_bytes == sealed;

        rs3d_frame_names(f, frame, ends && last, nonce, aad);
        status = e->open(context, nonce, aad, f->aad_bytes, in, bytes, written);
        written += bytes;
        *bad = frame;
        if (last)
            break;
        in += sealed;
        in_bytes -= sealed;
        frame++;
    }
    if (status != 0)
        memset(out, 0, (size_t)(written - out));
    if (context)
        e->end(context);
    return status;
}

ssize_t rs3d_frame_resident(int fd, uint32_t frame, unsigned char *sealed, size_t bytes)
{
    struct iovec vector = {.iov_base = sealed, .iov_len = bytes};

    return preadv2(fd, &vector, 1, (off_t)frame * (RS3D_FRAME_BYTES + RS3D_TAG_BYTES), RWF_NOWAIT);
}
