#include "crc_impl.c" /* a kernel is a leaf: it carries its own copy of the CRCs rather than import another's */
