"""The functions of recordfields.h: numbers and msgpack fields of records and rows. Textual, like variant.pxd."""
from libc.stdint cimport uint64_t

cdef extern from "recordfields.h" nogil:
    uint64_t load_big(const unsigned char *, int)
    unsigned char *put_big(unsigned char *, uint64_t, int)
    unsigned char *put_raw(unsigned char *, const void *, size_t)
    unsigned char *put_zeros(unsigned char *, size_t)
    unsigned char *put_uint(unsigned char *, uint64_t)
    unsigned char *put_text_head(unsigned char *, size_t)
    unsigned char *put_text(unsigned char *, const void *, size_t)
    unsigned char *put_name(unsigned char *, const char *)
    unsigned char *put_bin(unsigned char *, const void *, size_t)
    unsigned char *put_hex(unsigned char *, const unsigned char *, size_t)
