/* Sixteen rows of sixteen 32-bit words become sixteen columns, as transpose8.h does for eight: `r` is an array of
 * sixteen __m512i. To be used in functions with the target attribute "avx512f". Rows are paired word by word, then pair
 * by pair within each quarter of 128 bits; what is left is a transposition of quarters. */
#ifndef RS3D_TRANSPOSE16_H
#define RS3D_TRANSPOSE16_H

/* Quarter q of u[4 * g + c] is column 4 * q + c of rows 4 * g to 4 * g + 3: columns c, 4 + c, 8 + c and 12 + c. */
#define RS3D_JOIN_QUARTERS16(r, u, c) \
    do { \
        __m512i a_ = _mm512_shuffle_i32x4((u)[c], (u)[4 + (c)], 0x88); \
        __m512i b_ = _mm512_shuffle_i32x4((u)[c], (u)[4 + (c)], 0xdd); \
        __m512i d_ = _mm512_shuffle_i32x4((u)[8 + (c)], (u)[12 + (c)], 0x88); \
        __m512i e_ = _mm512_shuffle_i32x4((u)[8 + (c)], (u)[12 + (c)], 0xdd); \
        (r)[c] = _mm512_shuffle_i32x4(a_, d_, 0x88); \
        (r)[8 + (c)] = _mm512_shuffle_i32x4(a_, d_, 0xdd); \
        (r)[4 + (c)] = _mm512_shuffle_i32x4(b_, e_, 0x88); \
        (r)[12 + (c)] = _mm512_shuffle_i32x4(b_, e_, 0xdd); \
    } while (0)

#define RS3D_TRANSPOSE16(r) \
    do { \
        __m512i t[16], u[16]; \
        for (int i = 0; i < 16; i += 2) { \
            t[i] = _mm512_unpacklo_epi32((r)[i], (r)[i + 1]); \
            t[i + 1] = _mm512_unpackhi_epi32((r)[i], (r)[i + 1]); \
        } \
        for (int i = 0; i < 16; i += 4) { \
            u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]); \
            u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]); \
            u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]); \
            u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]); \
        } \
        for (int c = 0; c < 4; c++) \
            RS3D_JOIN_QUARTERS16(r, u, c); \
    } while (0)

#endif
