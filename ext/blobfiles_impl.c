#include "directio_impl.c"
