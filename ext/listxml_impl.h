/* Text into XML, as S3 lists write it. Every function writes to memory that has room for the worst case, which is stated,
 * and returns the end of what it wrote.
 *
 * Sources: XML 1.0 section 2.4 (escapes), RFC 3986 section 2 (percent-encoding), H. Hinnant, "chrono-Compatible
 * Low-Level Date Algorithms" (days to civil dates).
 */
#ifndef RS3D_LISTXML_IMPL_H
#define RS3D_LISTXML_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    LISTXML_GROWTH = 6,      /* a byte becomes at most this many: &quot; or &#x1f; */
    LISTXML_FIXED = 320,     /* tags, date and size of a row: some 210 */
    LISTXML_DATE = 24        /* 2009-10-12T17:50:30.000Z */
};

static inline unsigned char *listxml_copy(unsigned char *to, const void *from, size_t length)
{
    memcpy(to, from, length);
    return to + length;
}

/* 0: stands for itself; 1: one of & < > " CR; 2: a control character; 3: may begin U+FFFE or U+FFFF. */
static inline int listxml_class(unsigned char c)
{
    if (c == '&' || c == '<' || c == '>' || c == '"' || c == '\r')
        return 1;
    if ((c < 0x20 && c != '\t' && c != '\n') || c == 0x7f)
        return 2;
    return c == 0xef ? 3 : 0;
}

static const char listxml_lower[] = "0123456789abcdef", listxml_upper[] = "0123456789ABCDEF";

/* XML character data from UTF-8. Control characters become references, as S3 writes them. Room: 6 * length. */
static inline unsigned char *listxml_escape(unsigned char *to, const unsigned char *from, size_t length)
{
    size_t i = 0;
    while (i < length) {
#if defined(__SSE2__)
        /* Copy sixteen bytes at once while none of them is special (tab, newline and 0xef count as special here). */
        while (length - i >= 16) {
            const __m128i bytes = _mm_loadu_si128((const __m128i *)(from + i));
            const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
            const __m128i amp = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('&'));
            const __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
            /* < and > differ in one bit */
            const __m128i angle = _mm_cmpeq_epi8(_mm_or_si128(bytes, _mm_set1_epi8(2)), _mm_set1_epi8('>'));
            const __m128i rare = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f)),
                                              _mm_cmpeq_epi8(bytes, _mm_set1_epi8((char)0xef)));
            const __m128i any = _mm_or_si128(_mm_or_si128(_mm_or_si128(control, amp), _mm_or_si128(quote, angle)), rare);
            if (_mm_movemask_epi8(any))
                break;
            _mm_storeu_si128((__m128i *)to, bytes);
            to += 16;
            i += 16;
        }
        if (i == length)
            break;
#endif
        const size_t stop = length - i < 16 ? length : i + 16;
        for (; i < stop; i++) {
            const unsigned char c = from[i];
            switch (listxml_class(c)) {
            case 0:
                *to++ = c;
                break;
            case 1:
                if (c == '&')
                    to = listxml_copy(to, "&amp;", 5);
                else if (c == '<')
                    to = listxml_copy(to, "&lt;", 4);
                else if (c == '>')
                    to = listxml_copy(to, "&gt;", 4);
                else if (c == '"')
                    to = listxml_copy(to, "&quot;", 6);
                else
                    to = listxml_copy(to, "&#13;", 5);
                break;
            case 2:
                to = listxml_copy(to, "&#x", 3);
                if (c >= 16)
                    *to++ = (unsigned char)listxml_lower[c >> 4];
                *to++ = (unsigned char)listxml_lower[c & 15];
                *to++ = ';';
                break;
            default:
                if (length - i > 2 && from[i + 1] == 0xbf && from[i + 2] >= 0xbe) {
                    to = listxml_copy(to, from[i + 2] == 0xbe ? "&#xfffe;" : "&#xffff;", 8);
                    i += 2;
                } else {
                    *to++ = c;
                }
            }
        }
    }
    return to;
}

static inline int listxml_is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '-' && c <= '9') /* - . / and digits */ ||
           c == '_' || c == '~';
}

/* Percent-encoded but for RFC 3986's unreserved characters and the slash. Room: 3 * length. */
static inline unsigned char *listxml_url(unsigned char *to, const unsigned char *from, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = from[i];
        if (listxml_is_plain(c)) {
            *to++ = c;
        } else {
            *to++ = '%';
            *to++ = (unsigned char)listxml_upper[c >> 4];
            *to++ = (unsigned char)listxml_upper[c & 15];
        }
    }
    return to;
}

static inline unsigned char *listxml_number(unsigned char *to, uint64_t value)
{
    unsigned char digits[20];
    int count = 0;
    do {
        digits[count++] = (unsigned char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (count)
        *to++ = digits[--count];
    return to;
}

static inline void listxml_two(unsigned char *to, unsigned value)
{
    to[0] = (unsigned char)('0' + value / 10);
    to[1] = (unsigned char)('0' + value % 10);
}

/* The day last written: a list's rows are mostly of few days. */
typedef struct {
    int64_t day;
    unsigned char date[10];
} listxml_day;

/* Seconds since 1970 as YYYY-MM-DDThh:mm:ss.000Z. Returns NULL for years before 1 or after 9999. */
static inline unsigned char *listxml_time(unsigned char *to, int64_t seconds, listxml_day *cache)
{
    int64_t day = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        day--;
        rest += 86400;
    }
    if (day != cache->day) {
        if (day < -719162 || day > 2932896)
            return NULL;
        /* Years of 365.2425 days that begin on the first of March, in eras of 400 years. */
        const int64_t shifted = day + 719468, era = shifted / 146097; /* never negative in this range */
        const unsigned of_era = (unsigned)(shifted - era * 146097);
        const unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
        const unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        const unsigned shifted_month = (5 * of_year + 2) / 153;
        const unsigned month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
        const unsigned year = (unsigned)(era * 400) + year_of_era + (month <= 2);
        listxml_two(cache->date, year / 100);
        listxml_two(cache->date + 2, year % 100);
        cache->date[4] = cache->date[7] = '-';
        listxml_two(cache->date + 5, month);
        listxml_two(cache->date + 8, of_year - (153 * shifted_month + 2) / 5 + 1);
        cache->day = day;
    }
    memcpy(to, cache->date, 10);
    to[10] = 'T';
    listxml_two(to + 11, (unsigned)(rest / 3600));
    to[13] = ':';
    listxml_two(to + 14, (unsigned)(rest / 60 % 60));
    to[16] = ':';
    listxml_two(to + 17, (unsigned)(rest % 60));
    memcpy(to + 19, ".000Z", 5);
    return to + LISTXML_DATE;
}

#endif
