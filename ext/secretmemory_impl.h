/* Pages for secrets: locked against swapping where the limit allows, left out of core dumps, between two pages that
 * nobody can touch, so that an overrun of a neighbour dies instead of reading or writing them.
 */
#ifndef RS3D_SECRETMEMORY_IMPL_H
#define RS3D_SECRETMEMORY_IMPL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

/* `bytes` (a multiple of `page`) of zeros; NULL with errno. *refusal is the errno of a lock that was refused, or 0: then
 * the pages are locked. Left out of dumps always: without that there is no memory. */
static inline unsigned char *rs3d_secret_map(size_t bytes, size_t page, int *refusal)
{
    unsigned char *whole = mmap(NULL, bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *at;
    int saved;

    if (whole == MAP_FAILED)
        return NULL;
    at = whole + page;
    if (mprotect(at, bytes, PROT_READ | PROT_WRITE) != 0 || madvise(at, bytes, MADV_DONTDUMP) != 0) {
        saved = errno;
        munmap(whole, bytes + 2 * page);
        errno = saved;
        return NULL;
    }
    *refusal = mlock(at, bytes) == 0 ? 0 : errno;
    return at;
}

/* Overwrite and give back what rs3d_secret_map made. */
static inline void rs3d_secret_unmap(unsigned char *at, size_t bytes, size_t page)
{
    explicit_bzero(at, bytes);
    munmap(at - page, bytes + 2 * page);
}

static inline void rs3d_secret_wipe(void *at, size_t bytes) { explicit_bzero(at, bytes); }

/* `bytes` from the kernel's generator; 0, or -1 with errno. */
static inline int rs3d_secret_random(unsigned char *at, size_t bytes)
{
    while (bytes > 0) {
        ssize_t got = getrandom(at, bytes, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        at += got;
        bytes -= (size_t)got;
    }
    return 0;
}

/* The value of a hexadecimal digit, or -1; without a table, so that no cache line tells which digit it was. */
static inline int rs3d_secret_digit(unsigned char c)
{
    int decimal = c - '0', letter = (c | 0x20) - 'a';
    int is_decimal = ~((decimal | (9 - decimal)) >> 31), is_letter = ~((letter | (5 - letter)) >> 31);

    return (decimal & is_decimal) | ((letter + 10) & is_letter) | ~(is_decimal | is_letter);
}

/* 2 x `bytes` digits at `text` into `at`; 0, or -1 for anything else than digits. */
static inline int rs3d_secret_unhex(const unsigned char *text, unsigned char *at, size_t bytes)
{
    int bad = 0;
    for (size_t i = 0; i < bytes; i++) {
        int high = rs3d_secret_digit(text[2 * i]), low = rs3d_secret_digit(text[2 * i + 1]);
        bad |= high | low;
        at[i] = (unsigned char)((high & 15) << 4 | (low & 15));
    }
    return bad < 0 ? -1 : 0;
}

static inline void rs3d_secret_hex(const unsigned char *at, size_t bytes, unsigned char *text)
{
    for (size_t i = 0; i < bytes; i++) {
        int high = at[i] >> 4, low = at[i] & 15;
        text[2 * i] = (unsigned char)(high + '0' + (((9 - high) >> 8) & ('a' - '0' - 10)));
        text[2 * i + 1] = (unsigned char)(low + '0' + (((9 - low) >> 8) & ('a' - '0' - 10)));
    }
}

/* 0 where both are alike, in a time that does not depend on where they differ. */
static inline int rs3d_secret_differ(const unsigned char *one, const unsigned char *other, size_t bytes)
{
    unsigned char difference = 0;
    for (size_t i = 0; i < bytes; i++)
        difference |= one[i] ^ other[i];
    return difference;
}

#endif
