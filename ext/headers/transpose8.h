/* Eight rows of eight 32-bit words become eight columns: how multi-buffer hashes turn eight messages into one register
 * for each word. `r` is an array of eight __m256i. To be used in functions with the target attribute "avx2". */
#ifndef RS3D_TRANSPOSE8_H
#define RS3D_TRANSPOSE8_H

#define RS3D_TRANSPOSE8(r) \
    do { \
        __m256i t0 = _mm256_unpacklo_epi32(r[0], r[1]), t1 = _mm256_unpackhi_epi32(r[0], r[1]); \
        __m256i t2 = _mm256_unpacklo_epi32(r[2], r[3]), t3 = _mm256_unpackhi_epi32(r[2], r[3]); \
        __m256i t4 = _mm256_unpacklo_epi32(r[4], r[5]), t5 = _mm256_unpackhi_epi32(r[4], r[5]); \
        __m256i t6 = _mm256_unpacklo_epi32(r[6], r[7]), t7 = _mm256_unpackhi_epi32(r[6], r[7]); \
        __m256i u0 = _mm256_unpacklo_epi64(t0, t2), u1 = _mm256_unpackhi_epi64(t0, t2); \
        __m256i u2 = _mm256_unpacklo_epi64(t1, t3), u3 = _mm256_unpackhi_epi64(t1, t3); \
        __m256i u4 = _mm256_unpacklo_epi64(t4, t6), u5 = _mm256_unpackhi_epi64(t4, t6); \
        __m256i u6 = _mm256_unpacklo_epi64(t5, t7), u7 = _mm256_unpackhi_epi64(t5, t7); \
        r[0] = _mm256_permute2x128_si256(u0, u4, 0x20); \
        r[1] = _mm256_permute2x128_si256(u1, u5, 0x20); \
        r[2] = _mm256_permute2x128_si256(u2, u6, 0x20); \
        r[3] = _mm256_permute2x128_si256(u3, u7, 0x20); \
        r[4] = _mm256_permute2x128_si256(u0, u4, 0x31); \
        r[5] = _mm256_permute2x128_si256(u1, u5, 0x31); \
        r[6] = _mm256_permute2x128_si256(u2, u6, 0x31); \
        r[7] = _mm256_permute2x128_si256(u3, u7, 0x31); \
    } while (0)

#endif
