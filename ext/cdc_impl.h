/* Where content-defined chunks end: the scan behind cdc.pyx. Every variant finds the same cuts. */
#ifndef RS3D_CDC_IMPL_H
#define RS3D_CDC_IMPL_H

#include <stddef.h>
#include <stdint.h>

enum { RS3D_CDC_AVX512 = 0, RS3D_CDC_AVX2 = 1, RS3D_CDC_SCALAR = 2 }; /* rows of VARIANTS in cdc.pyx */

enum { RS3D_CDC_WINDOW = 32 };

typedef struct {
    int64_t min_bytes, average_bytes, max_bytes; /* WINDOW < min <= average <= max; average 2**10, 2**11 .. 2**20 */
    int64_t begun;                               /* bytes of the current chunk that lie before the next buffer */
    unsigned char tail[RS3D_CDC_WINDOW];         /* the last bytes before the next buffer, as far as there were any */
} rs3d_cdc;

/* Fill the scalar code's tables: once, when the module is imported. */
void rs3d_cdc_start(void);

/* Scan a buffer that follows the last one. Ends of chunks, as offsets in this buffer, go to `ends`, which has room for
 * bytes / min_bytes + 1 of them (the first chunk may have begun before the buffer). Returns how many there are. */
size_t rs3d_cdc_scan(int variant, rs3d_cdc *c, const unsigned char *data, size_t bytes, int64_t *ends);

#endif
