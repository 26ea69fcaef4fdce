#include "sigv4_impl.c" /* a kernel is a leaf: it carries its own copy of SHA-256 rather than import another's */
