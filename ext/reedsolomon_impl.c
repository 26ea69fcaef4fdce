/* A product c * x in GF(256) is linear in x over XOR, so it is the sum of two table look-ups, one for each half of x:
 *
 *     c * x  =  c * (x & 15)  ^  c * (x & 240)
 *
 * and a table of 16 bytes is one byte shuffle (Plank, Greenan, Miller: Screaming Fast Galois Field Arithmetic Using
 * Intel SIMD Instructions, FAST 2013). `avx2` does 64 bytes of each input at a time and up to four outputs at once, so
 * that an input is loaded and split into halves once for four rows.
 *
 * It is also a matrix of 8 x 8 bits times the bits of x, which is gf2p8affineqb: one instruction for both look-ups, of
 * 64 bytes in `gfni`. (gf2p8mulb multiplies modulo 0x11b, another field than the one this code is defined in.)
 */
#include "reedsolomon_impl.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static unsigned char exponents[512]; /* 2 ** i, twice around so that a sum of logarithms needs no modulus */
static unsigned char logarithms[256];
static unsigned char products[256][256];
static unsigned char halves[256][32] __attribute__((aligned(32))); /* c times 0 .. 15, then c times 0, 16 .. 240 */
static uint64_t bit_matrices[256]; /* c times x, as gf2p8affineqb reads it: byte 7 - i has the bits of x that bit i sums */

void rs3d_rs_start(void)
{
    unsigned x = 1;

    for (int i = 0; i < 255; i++) {
        exponents[i] = exponents[i + 255] = (unsigned char)x;
        logarithms[x] = (unsigned char)i;
        x <<= 1;
        if (x & 0x100)
            x ^= 0x11d;
    }
    for (int a = 1; a < 256; a++)
        for (int b = 1; b < 256; b++)
            products[a][b] = exponents[logarithms[a] + logarithms[b]];
    for (int c = 0; c < 256; c++)
        for (int n = 0; n < 16; n++) {
            halves[c][n] = products[c][n];
            halves[c][16 + n] = products[c][n << 4];
        }
    for (int c = 0; c < 256; c++)
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < 8; j++)
                bit_matrices[c] |= (uint64_t)(products[c][1 << j] >> i & 1) << (8 * (7 - i) + j);
}

unsigned char rs3d_rs_multiply(unsigned char a, unsigned char b)
{
    return products[a][b];
}

unsigned char rs3d_rs_invert(unsigned char a)
{
    return exponents[255 - logarithms[a]];
}

static void add_row(unsigned char *to, const unsigned char *from, unsigned char times, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] ^= products[times][from[i]];
}

static void scale_row(unsigned char *row, unsigned char times, size_t n)
{
    for (size_t i = 0; i < n; i++)
        row[i] = products[times][row[i]];
}

/* Gauss and Jordan: what turns `matrix` into the identity turns the identity in `work` into the inverse. */
int rs3d_rs_invert_matrix(unsigned char *matrix, unsigned char *work, size_t n)
{
    memset(work, 0, n * n);
    for (size_t i = 0; i < n; i++)
        work[i * n + i] = 1;
    for (size_t column = 0; column < n; column++) {
        size_t pivot = column;
        unsigned char inverse;
        while (pivot < n && !matrix[pivot * n + column])
            pivot++;
        if (pivot == n)
            return -1;
        if (pivot != column) { /* adding the pivot's row does what swapping would */
            add_row(matrix + column * n, matrix + pivot * n, 1, n);
            add_row(work + column * n, work + pivot * n, 1, n);
        }
        inverse = rs3d_rs_invert(matrix[column * n + column]);
        scale_row(matrix + column * n, inverse, n);
        scale_row(work + column * n, inverse, n);
        for (size_t row = 0; row < n; row++) {
            unsigned char times = matrix[row * n + column];
            if (row == column || !times)
                continue;
            add_row(matrix + row * n, matrix + column * n, times, n);
            add_row(work + row * n, work + column * n, times, n);
        }
    }
    memcpy(matrix, work, n * n);
    return 0;
}

static void scalar_row(const unsigned char *coefficients, size_t columns, const unsigned char *const *in,
                       unsigned char *out, size_t begin, size_t end)
{
    memset(out + begin, 0, end - begin);
    for (size_t c = 0; c < columns; c++) {
        const unsigned char *table = products[coefficients[c]], *from = in[c];
        for (size_t i = begin; i < end; i++)
            out[i] ^= table[from[i]];
    }
}

#if defined(__x86_64__)

/* `rows` is a constant in each of the four calls below, so that the sums stay in registers. */
__attribute__((target("avx2"), always_inline)) static inline void avx2_rows(
    const unsigned char *matrix, const int rows, size_t columns, const unsigned char *const *in,
    unsigned char *const *out, size_t bytes)
{
    const __m256i low_half = _mm256_set1_epi8(15);

    for (size_t at = 0; at < bytes; at += 64) {
        __m256i sum[4][2];
        for (int r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        for (size_t c = 0; c < columns; c++) {
            __m256i x = _mm256_loadu_si256((const __m256i *)(in[c] + at));
            __m256i y = _mm256_loadu_si256((const __m256i *)(in[c] + at + 32));
            __m256i x_low = _mm256_and_si256(x, low_half), y_low = _mm256_and_si256(y, low_half);
            __m256i x_high = _mm256_and_si256(_mm256_srli_epi16(x, 4), low_half);
            __m256i y_high = _mm256_and_si256(_mm256_srli_epi16(y, 4), low_half);
            for (int r = 0; r < rows; r++) {
                const __m128i *table = (const __m128i *)halves[matrix[(size_t)r * columns + c]];
                __m256i low = _mm256_broadcastsi128_si256(table[0]), high = _mm256_broadcastsi128_si256(table[1]);
                sum[r][0] = _mm256_xor_si256(sum[r][0], _mm256_xor_si256(_mm256_shuffle_epi8(low, x_low),
                                                                         _mm256_shuffle_epi8(high, x_high)));
                sum[r][1] = _mm256_xor_si256(sum[r][1], _mm256_xor_si256(_mm256_shuffle_epi8(low, y_low),
                                                                         _mm256_shuffle_epi8(high, y_high)));
            }
        }
        for (int r = 0; r < rows; r++) {
            _mm256_storeu_si256((__m256i *)(out[r] + at), sum[r][0]);
            _mm256_storeu_si256((__m256i *)(out[r] + at + 32), sum[r][1]);
        }
    }
}

__attribute__((target("avx2"))) static void avx2_apply(const unsigned char *matrix, size_t rows, size_t columns,
                                                       const unsigned char *const *in, unsigned char *const *out,
                                                       size_t bytes)
{
    for (size_t r = 0; r < rows; r += 4) {
        const unsigned char *from = matrix + r * columns;
        switch (rows - r) {
        case 1: avx2_rows(from, 1, columns, in, out + r, bytes); break;
        case 2: avx2_rows(from, 2, columns, in, out + r, bytes); break;
        case 3: avx2_rows(from, 3, columns, in, out + r, bytes); break;
        default: avx2_rows(from, 4, columns, in, out + r, bytes); break;
        }
    }
}

#define GFNI "avx512f,avx512bw,gfni"

__attribute__((target(GFNI), always_inline)) static inline void gfni_rows(
    const unsigned char *matrix, const int rows, size_t columns, const unsigned char *const *in,
    unsigned char *const *out, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 128) {
        __m512i sum[4][2];
        for (int r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm512_setzero_si512();
        for (size_t c = 0; c < columns; c++) {
            __m512i x = _mm512_loadu_si512(in[c] + at), y = _mm512_loadu_si512(in[c] + at + 64);
            for (int r = 0; r < rows; r++) {
                __m512i times = _mm512_set1_epi64((long long)bit_matrices[matrix[(size_t)r * columns + c]]);
                sum[r][0] = _mm512_xor_si512(sum[r][0], _mm512_gf2p8affine_epi64_epi8(x, times, 0));
                sum[r][1] = _mm512_xor_si512(sum[r][1], _mm512_gf2p8affine_epi64_epi8(y, times, 0));
            }
        }
        for (int r = 0; r < rows; r++) {
            _mm512_storeu_si512(out[r] + at, sum[r][0]);
            _mm512_storeu_si512(out[r] + at + 64, sum[r][1]);
        }
    }
}

__attribute__((target(GFNI))) static void gfni_apply(const unsigned char *matrix, size_t rows, size_t columns,
                                                     const unsigned char *const *in, unsigned char *const *out,
                                                     size_t bytes)
{
    for (size_t r = 0; r < rows; r += 4) {
        const unsigned char *from = matrix + r * columns;
        switch (rows - r) {
        case 1: gfni_rows(from, 1, columns, in, out + r, bytes); break;
        case 2: gfni_rows(from, 2, columns, in, out + r, bytes); break;
        case 3: gfni_rows(from, 3, columns, in, out + r, bytes); break;
        default: gfni_rows(from, 4, columns, in, out + r, bytes); break;
        }
    }
}

#endif

void rs3d_rs_apply(int variant, const unsigned char *matrix, size_t rows, size_t columns,
                   const unsigned char *const *in, unsigned char *const *out, size_t bytes)
{
    size_t done = 0;

#if defined(__x86_64__)
    if (variant == RS3D_RS_GFNI) {
        done = bytes & ~(size_t)127;
        gfni_apply(matrix, rows, columns, in, out, done);
    } else if (variant == RS3D_RS_AVX2) {
        done = bytes & ~(size_t)63;
        avx2_apply(matrix, rows, columns, in, out, done);
    }
#endif
    /* Stretches that fit the first cache, so that an output is not fetched from memory once for each input. */
    while (done < bytes) {
        size_t end = bytes - done < 8192 ? bytes : done + 8192;
        for (size_t r = 0; r < rows; r++)
            scalar_row(matrix + r * columns, columns, in, out[r], done, end);
        done = end;
    }
}
