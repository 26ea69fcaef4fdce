#include "crc_impl.c" /* a kernel is a leaf: it carries its own copy of the CRC rather than import another's */
