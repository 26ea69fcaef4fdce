/* Reflected CRCs of up to 64 bits by carry-less multiplication. The contract: every variant gives the same answer, bit
 * for bit, for every polynomial, initial state, length and alignment; only the time differs.
 *
 * Algebra. A reflected word keeps the highest power in its lowest bit: 64-bit word a stands for
 * A(x) = sum a[i] * x^(63-i). The carry-less product of two such words has 127 bits, and read as a reflected 128-bit
 * value it stands for A * B * x: reflection costs one power. So a word is multiplied by x^n mod P with the constant
 * x^(n-1) mod P. Sixteen bytes of message, low word L (earlier, so higher powers) and high word H, stand for
 * L * x^64 + H; moved ahead by D bits they are L * x^(64+D) + H * x^D, hence a pair of constants for a distance D:
 *
 *     fold(D) = { x^(64+D-1) mod P, x^(D-1) mod P }     V' = clmul(V.low, k.low) ^ clmul(V.high, k.high)
 *
 * A 32-bit polynomial uses the same code: its remainders are 64-bit reflected words whose low half is empty.
 * The last 16 bytes are reduced by tables rather than by Barrett: as quick at this size, and nothing more to get wrong.
 *
 * V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009.
 */
#ifndef RS3D_CRC_IMPL_H
#define RS3D_CRC_IMPL_H

#include <stddef.h>
#include <stdint.h>

enum { CRC_SCALAR = 0, CRC_SSE42 = 1, CRC_PCLMUL = 2, CRC_VPCLMUL = 3, CRC_AVX512 = 4 };

enum { CRC_FOLDS = 6 }; /* distances of 128, 256, 512, 1024, 2048 and 4096 bits */

typedef struct {
    unsigned width;             /* 32 or 64 */
    uint64_t polynomial;        /* reflected, in the low `width` bits */
    uint64_t table[8][256];     /* table[k][b]: byte b followed by k zero bytes */
    uint64_t power[64];         /* x^(8 * 2^k) mod P, reflected in the low `width` bits: for combine */
    uint64_t fold[CRC_FOLDS][2];
} crc_poly;

extern crc_poly crc_poly_32;    /* IEEE 802.3: zlib's, x-amz-checksum-crc32 */
extern crc_poly crc_poly_32c;   /* Castagnoli: RFC 3720, x-amz-checksum-crc32c, our block tables */
extern crc_poly crc_poly_64;    /* NVM Express NVM Command Set: x-amz-checksum-crc64nvme */

/* Fill the tables. Call once, before anything else. */
void crc_setup(void);

/* The CRC of `length` bytes following a message whose CRC is `crc` (0 for none). Initial value and final inversion are
 * all ones for the three polynomials. `variant` must be one that the processor runs. */
uint64_t crc_update(const crc_poly *poly, int variant, uint64_t crc, const unsigned char *data, size_t length);

/* The CRC of A | B from the CRCs of both and the length of B. */
uint64_t crc_combine(const crc_poly *poly, uint64_t crc_a, uint64_t crc_b, uint64_t length_b);

/* CRC32C of each block of `block` bytes, the last one shorter, little-endian into `out` (4 bytes a block). */
void crc32c_table(int variant, const unsigned char *data, size_t length, size_t block, unsigned char *out);

/* Index of the first block whose CRC32C differs from `expected` (4 little-endian bytes a block), or -1. */
ptrdiff_t crc32c_first_bad(int variant, const unsigned char *data, size_t length, size_t block,
                           const unsigned char *expected);

#endif
