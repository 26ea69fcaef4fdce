/* A walk over a table of the catalog, in its pages as liblmdb 0.9 lays them out on a 64-bit machine (rs3d/format/lmdbpages.py
 * says how), read from its file one by one.
 *
 * Pages are hostile until they were checked: no offset, length, number or flag in one is used before it was compared with
 * what it has to lie in; keys have to rise, and those of a page to lie between the keys by which the pages above lead to it,
 * so that no page that leads back is followed for ever, and none that leads on leaves rows out. The caller holds a
 * view of the catalog meanwhile: then nobody writes the pages that its root leads to. Reads instead of a mapping, because
 * a read can be told not to wait for the disk, and one that fails is an error instead of a signal; from the page cache,
 * one costs 0.3 us.
 */
#ifndef RS3D_CATALOGWALK_IMPL_H
#define RS3D_CATALOGWALK_IMPL_H

#include <stddef.h>
#include <stdint.h>

enum {
    WALK_DEPTH_LIMIT = 32,
    WALK_KEY_LIMIT = 511, /* liblmdb's */
    WALK_SPACE_BYTES = 8,
    WALK_CRC_BYTES = 4,
    WALK_BRANCH_BYTES = 8 /* no other value in these tables has that length: FORMAT.md section "Catalog keys" */
};

enum walk_answer {
    WALK_END = 0, /* there is no further row */
    WALK_ROW = 1,
    WALK_FULL = 2,   /* as many as were asked for, and there is one more */
    WALK_LONG = 3,   /* a row that leads to keys too long for one row; `key` is its */
    WALK_MEMORY = -1,
    WALK_WAIT = -2,   /* a page is not in memory, and was not to be waited for */
    WALK_ERRNO = -3,  /* errno says why `page` could not be read */
    WALK_PAGE = -4,   /* `page` cannot be followed; `reason` says why */
    WALK_DAMAGED = -5, /* the CRC or the length of a row is wrong; `key` is its */
    WALK_ORDER = -6    /* `key` stands before a row that it has to follow */
};

typedef struct {
    uint64_t number;
    unsigned count, index;
    int is_loaded;
} walk_level;

typedef struct {
    /* By the caller. */
    int fd, flags; /* flags: of preadv2 */
    int crc_variant;
    uint32_t seed; /* that the CRCs of the table's rows begin with */
    uint32_t page_bytes;
    unsigned depth;
    uint64_t root;
    unsigned char *pages; /* `depth` of them */
    /* The row met last. Points into the pages: until the next call. */
    const unsigned char *key, *value;
    size_t key_bytes, value_bytes;
    /* Its own. */
    walk_level levels[WALK_DEPTH_LIMIT];
    uint64_t page;
    const char *reason;
} walk_cursor;

/* Growing memory, freed by the caller. */
typedef struct {
    unsigned char *start;
    size_t used, size;
} walk_bytes;

typedef struct {
    walk_bytes rows;     /* of each: u16 length of the text, the text, the value without its CRC */
    walk_bytes prefixes; /* of each: u16 length, the common prefix */
    size_t row_count, prefix_count;
    size_t last_row, last_prefix; /* where the last of each begins */
    int last_is_prefix;
} walk_page;

/* Take rows from the first key >= `seek` on, while they begin with `wanted`, until `maximum` rows and common prefixes are
 * in `found`. A key that has `delimiter` behind `wanted` makes one common prefix of all that share it, and a new descent.
 * `value_bytes`: of each row, CRC included. Returns END, FULL, LONG or an error. */
int walk_list(walk_cursor *at, const unsigned char *seek, size_t seek_bytes, size_t wanted_bytes,
              const unsigned char *wanted, const unsigned char *delimiter, size_t delimiter_bytes, size_t value_bytes,
              size_t maximum, walk_page *found);

#endif
