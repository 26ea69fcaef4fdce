/* What the processor (and the operating system, which must save the registers) can run: one bit a feature.
 *
 * Read by cpuid and xgetbv rather than by __builtin_cpu_supports, whose list of names depends on the compiler (gcc 12
 * knows neither "sha" nor "vaes") and which does not join AVX-512's parts into the one question a kernel asks.
 * Elsewhere than on x86-64 the answer is 0, and every kernel has a scalar path that needs nothing.
 */
#ifndef RS3D_CPUFEATURES_H
#define RS3D_CPUFEATURES_H

enum {
    RS3D_CPU_SSSE3 = 1 << 0,
    RS3D_CPU_SSE41 = 1 << 1,
    RS3D_CPU_SSE42 = 1 << 2,
    RS3D_CPU_PCLMUL = 1 << 3,
    RS3D_CPU_AVX2 = 1 << 4,       /* AVX and AVX2, ymm state saved */
    RS3D_CPU_BMI2 = 1 << 5,
    RS3D_CPU_SHA = 1 << 6,        /* SHA-NI */
    RS3D_CPU_VPCLMUL = 1 << 7,    /* VPCLMULQDQ, 256-bit */
    RS3D_CPU_GFNI = 1 << 8,
    RS3D_CPU_VAES = 1 << 9,
    RS3D_CPU_AVX512 = 1 << 10,    /* F, BW, DQ and VL together, zmm and mask state saved */
    RS3D_CPU_AVX512VBMI = 1 << 11
};

#if defined(__x86_64__)
#include <cpuid.h>

static inline unsigned long long rs3d_xgetbv0(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((unsigned long long)high << 32) | low;
}

static inline unsigned rs3d_read_cpu_features(void)
{
    unsigned a, b, c, d, found = 0;
    unsigned long long saved = 0;

    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    if (c & (1u << 9)) found |= RS3D_CPU_SSSE3;
    if (c & (1u << 19)) found |= RS3D_CPU_SSE41;
    if (c & (1u << 20)) found |= RS3D_CPU_SSE42;
    if (c & (1u << 1)) found |= RS3D_CPU_PCLMUL;
    if (c & (1u << 27)) saved = rs3d_xgetbv0(); /* OSXSAVE */

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return found;
    if (b & (1u << 8)) found |= RS3D_CPU_BMI2;
    if (b & (1u << 29)) found |= RS3D_CPU_SHA;
    if (c & (1u << 8)) found |= RS3D_CPU_GFNI; /* the SSE form; wider forms need AVX2 or AVX512 as well */
    if ((saved & 0x6) == 0x6) {                /* xmm and ymm state */
        if (b & (1u << 5)) found |= RS3D_CPU_AVX2;
        if (c & (1u << 9)) found |= RS3D_CPU_VAES;
        if (c & (1u << 10)) found |= RS3D_CPU_VPCLMUL;
    }
    if ((saved & 0xe6) == 0xe6) {              /* and mask registers, both halves of zmm */
        const unsigned wanted = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31); /* F, DQ, BW, VL */
        if ((b & wanted) == wanted) found |= RS3D_CPU_AVX512;
        if ((found & RS3D_CPU_AVX512) && (c & (1u << 1))) found |= RS3D_CPU_AVX512VBMI;
    }
    return found;
}

/* Read once: in a virtual machine each cpuid traps to the hypervisor, some 20-70 us. */
static inline unsigned rs3d_cpu_features(void)
{
    static unsigned known, found;
    if (!known) {
        found = rs3d_read_cpu_features();
        known = 1;
    }
    return found;
}
#else
static inline unsigned rs3d_cpu_features(void) { return 0; }
#endif

#endif
