/* Arithmetic of GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d), and matrices times shards. */
#ifndef RS3D_REEDSOLOMON_IMPL_H
#define RS3D_REEDSOLOMON_IMPL_H

#include <stddef.h>
#include <stdint.h>

enum { RS3D_RS_GFNI = 0, RS3D_RS_AVX2 = 1, RS3D_RS_SCALAR = 2 }; /* rows of VARIANTS in reedsolomon.pyx */

/* Fill the tables: once, when the module is imported. */
void rs3d_rs_start(void);

unsigned char rs3d_rs_multiply(unsigned char a, unsigned char b);
unsigned char rs3d_rs_invert(unsigned char a); /* a is not 0 */

/* Replace the n x n matrix by its inverse. Returns 0, or -1 if it has none; `work` has room for n * n bytes. */
int rs3d_rs_invert_matrix(unsigned char *matrix, unsigned char *work, size_t n);

/* out[r] = sum over c of matrix[r * columns + c] * in[c], byte by byte, of `bytes` each. No out may overlap an in. */
void rs3d_rs_apply(int variant, const unsigned char *matrix, size_t rows, size_t columns,
                   const unsigned char *const *in, unsigned char *const *out, size_t bytes);

#endif
