"""The functions of base64.h. Textual, like variant.pxd."""

cdef extern from "base64.h" nogil:
    unsigned char *rs3d_put_base64(unsigned char *, const unsigned char *, size_t)
    bint rs3d_take_base64(const unsigned char *, size_t, unsigned char *, size_t)
