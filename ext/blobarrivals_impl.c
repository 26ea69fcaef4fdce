/* A kernel is a leaf: it carries its own copies rather than import others'. */
#include "bodyhash_impl.c"
