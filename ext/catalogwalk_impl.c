#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "catalogwalk_impl.h"

#include "crc_impl.c" /* a kernel is a leaf: it carries its own copy of the CRC rather than import another's */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

enum {
    HEAD_BYTES = 16, /* of a page: number, padding, flags, end of the pointers, begin of the nodes */
    FLAGS_AT = 10,
    LOWER_AT = 12,
    UPPER_AT = 14,
    POINTER_BYTES = 2,
    NODE_BYTES = 8, /* of a node: low and high half, flags, length of the key */
    BRANCH_PAGE = 1,
    LEAF_PAGE = 2,
    FIRST_BYTES = 1 << 16
};

static inline unsigned load16(const unsigned char *at) { return (unsigned)at[0] | (unsigned)at[1] << 8; }

static inline uint64_t load_number(const unsigned char *at)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

static inline unsigned char *page_of(const walk_cursor *at, unsigned level)
{
    return at->pages + (size_t)level * at->page_bytes;
}

static int unfollowable(walk_cursor *at, uint64_t number, const char *reason)
{
    at->page = number;
    at->reason = reason;
    return WALK_PAGE;
}

static inline int compare(const unsigned char *a, size_t a_bytes, const unsigned char *b, size_t b_bytes)
{
    const int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int read_page(walk_cursor *at, uint64_t number, unsigned char *to)
{
    size_t done = 0;
    if (number > (uint64_t)INT64_MAX / at->page_bytes - 1)
        return unfollowable(at, number, "it is not in the file");
    while (done < at->page_bytes) {
        const struct iovec rest = {to + done, at->page_bytes - done};
        const ssize_t got = preadv2(at->fd, &rest, 1, (off_t)(number * at->page_bytes + done), at->flags);
        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0) {
            return unfollowable(at, number, "it is not in the file");
        } else if (errno != EINTR) {
            at->page = number;
            return errno == EAGAIN && at->flags ? WALK_WAIT : WALK_ERRNO;
        }
    }
    return 0;
}

/* The page that a level is to stand on, read unless it is there, its head checked. */
static int load(walk_cursor *at, unsigned level, uint64_t number)
{
    walk_level *const here = &at->levels[level];
    unsigned char *const page = page_of(at, level);
    if (here->is_loaded && here->number == number)
        return 0;
    here->is_loaded = 0;
    const int answer = read_page(at, number, page);
    if (answer < 0)
        return answer;
    if (load_number(page) != number)
        return unfollowable(at, number, "it says that it is another page");
    if (load16(page + FLAGS_AT) != (level + 1 == at->depth ? LEAF_PAGE : BRANCH_PAGE))
        return unfollowable(at, number, "it is of another kind than its depth has");
    const unsigned lower = load16(page + LOWER_AT), upper = load16(page + UPPER_AT);
    if (lower < HEAD_BYTES || lower % POINTER_BYTES || lower > upper || upper > at->page_bytes)
        return unfollowable(at, number, "its pointers and nodes do not lie within it");
    if (lower == HEAD_BYTES)
        return unfollowable(at, number, "it is empty");
    here->number = number;
    here->count = (lower - HEAD_BYTES) / POINTER_BYTES;
    here->is_loaded = 1;
    return 0;
}

/* A node of a level's page; its key lies within the page. */
static int node(walk_cursor *at, unsigned level, unsigned index, const unsigned char **begin, size_t *key_bytes)
{
    const unsigned char *const page = page_of(at, level);
    const unsigned place = load16(page + HEAD_BYTES + POINTER_BYTES * index);
    if (place < load16(page + UPPER_AT) || place > at->page_bytes - NODE_BYTES)
        return unfollowable(at, at->levels[level].number, "a node does not begin within it");
    *begin = page + place;
    *key_bytes = load16(page + place + 6);
    if (*key_bytes > WALK_KEY_LIMIT || place + NODE_BYTES + *key_bytes > at->page_bytes)
        return unfollowable(at, at->levels[level].number, "a key does not end within it");
    return 0;
}

static int load_child(walk_cursor *at, unsigned level)
{
    const unsigned char *begin;
    size_t key_bytes;
    const int answer = node(at, level, at->levels[level].index, &begin, &key_bytes);
    if (answer < 0)
        return answer;
    return load(at, level + 1,
                (uint64_t)load16(begin) | (uint64_t)load16(begin + 2) << 16 | (uint64_t)load16(begin + 4) << 32);
}

/* Go down from `level`, whose page and index stand, to the first or the last row below. */
static int descend(walk_cursor *at, unsigned level, int to_last)
{
    for (; level + 1 < at->depth; level++) {
        const int answer = load_child(at, level);
        if (answer < 0)
            return answer;
        at->levels[level + 1].index = to_last ? at->levels[level + 1].count - 1 : 0;
    }
    return 0;
}

/* The row on which the last level stands, checked. */
static int take_row(walk_cursor *at)
{
    const unsigned level = at->depth - 1;
    const unsigned char *const page = page_of(at, level), *begin;
    size_t key_bytes;
    const int answer = node(at, level, at->levels[level].index, &begin, &key_bytes);
    if (answer < 0)
        return answer;
    const size_t value_bytes = (size_t)load16(begin) | (size_t)load16(begin + 2) << 16;
    if (load16(begin + 4))
        return unfollowable(at, at->levels[level].number, "a row is of a kind that is not used here");
    if (value_bytes > at->page_bytes ||
        (size_t)(begin - page) + NODE_BYTES + key_bytes + value_bytes > at->page_bytes)
        return unfollowable(at, at->levels[level].number, "a value does not end within it");
    at->key = begin + NODE_BYTES;
    at->key_bytes = key_bytes;
    at->value = at->key + key_bytes;
    at->value_bytes = value_bytes;
    if (value_bytes < WALK_CRC_BYTES)
        return WALK_DAMAGED;
    uint64_t crc = crc_update(&crc_poly_32c, at->crc_variant, at->seed, at->key, key_bytes);
    crc = crc_update(&crc_poly_32c, at->crc_variant, crc, at->value, value_bytes - WALK_CRC_BYTES);
    const unsigned char *const stored = at->value + value_bytes - WALK_CRC_BYTES;
    const uint32_t wanted =
        (uint32_t)stored[0] << 24 | (uint32_t)stored[1] << 16 | (uint32_t)stored[2] << 8 | (uint32_t)stored[3];
    return crc == wanted ? WALK_ROW : WALK_DAMAGED;
}

/* Whether the rows of the last level's page lie between the keys by which the levels above lead there: else a branch leads
 * past pages, forward or back, and rows would be left out without a word. */
static int check_bounds(walk_cursor *at)
{
    const unsigned leaf = at->depth - 1;
    const unsigned char *first, *last, *bound;
    size_t first_bytes, last_bytes, bound_bytes;
    int has_low = 0, has_high = 0, answer = node(at, leaf, 0, &first, &first_bytes);
    if (answer == 0)
        answer = node(at, leaf, at->levels[leaf].count - 1, &last, &last_bytes);
    for (unsigned level = leaf; answer == 0 && level-- > 0 && !(has_low && has_high);) {
        const walk_level *const here = &at->levels[level];
        if (!has_low && here->index > 0) {
            has_low = 1;
            answer = node(at, level, here->index, &bound, &bound_bytes);
            if (answer == 0 && compare(bound + NODE_BYTES, bound_bytes, first + NODE_BYTES, first_bytes) > 0)
                answer = unfollowable(at, at->levels[leaf].number, "its rows lie before where the pages above have them");
        }
        if (answer == 0 && !has_high && here->index + 1 < here->count) {
            has_high = 1;
            answer = node(at, level, here->index + 1, &bound, &bound_bytes);
            if (answer == 0 && compare(last + NODE_BYTES, last_bytes, bound + NODE_BYTES, bound_bytes) >= 0)
                answer = unfollowable(at, at->levels[leaf].number, "its rows lie behind where the pages above have them");
        }
    }
    return answer;
}

/* Stand where the first row from `key` on is, or behind the last row of its page. */
static int search(walk_cursor *at, const unsigned char *key, size_t key_bytes)
{
    int answer = load(at, 0, at->root);
    for (unsigned level = 0; answer >= 0; level++) {
        const int is_leaf = level + 1 == at->depth;
        /* In a branch: the last node whose key is not behind `key`; what the first one says does not count. */
        unsigned low = is_leaf ? 0 : 1, high = at->levels[level].count;
        while (low < high) {
            const unsigned middle = (low + high) / 2;
            const unsigned char *begin;
            size_t there;
            answer = node(at, level, middle, &begin, &there);
            if (answer < 0)
                return answer;
            const int order = compare(begin + NODE_BYTES, there, key, key_bytes);
            if (is_leaf ? order < 0 : order <= 0)
                low = middle + 1;
            else
                high = middle;
        }
        at->levels[level].index = is_leaf ? low : low - 1;
        if (is_leaf)
            return check_bounds(at);
        answer = load_child(at, level);
    }
    return answer;
}

/* Stand on the first row of the next page, or the last one of the page before. END where there is none. */
static int turn_page(walk_cursor *at, int backwards)
{
    unsigned level = at->depth - 1;
    do {
        if (level == 0)
            return WALK_END;
        level--;
    } while (backwards ? at->levels[level].index == 0 : at->levels[level].index + 1 >= at->levels[level].count);
    if (backwards)
        at->levels[level].index--;
    else
        at->levels[level].index++;
    int answer = descend(at, level, backwards);
    if (answer == 0)
        answer = check_bounds(at);
    return answer < 0 ? answer : WALK_ROW;
}

static int next_row(walk_cursor *at)
{
    walk_level *const leaf = &at->levels[at->depth - 1];
    const unsigned char *const before = at->key;
    const size_t before_bytes = at->key_bytes;
    int answer;
    if (++leaf->index < leaf->count) {
        answer = take_row(at);
        return answer == WALK_ROW && compare(before, before_bytes, at->key, at->key_bytes) >= 0 ? WALK_ORDER : answer;
    }
    answer = turn_page(at, 0);
    return answer == WALK_ROW ? take_row(at) : answer;
}

/* The first row from `key` on. The row before it has to be sound and before `key`: a flipped bit in its key, or in one of a
 * page that leads there, would have the search pass over rows. */
static int begin_at(walk_cursor *at, const unsigned char *key, size_t key_bytes)
{
    walk_level *const leaf = &at->levels[at->depth - 1];
    int answer = search(at, key, key_bytes);
    if (answer < 0)
        return answer;
    if (leaf->index > 0) {
        leaf->index--;
        answer = WALK_ROW;
    } else {
        answer = turn_page(at, 1);
    }
    if (answer == WALK_END) { /* nothing is before it: the table's first row, and no page is empty */
        answer = take_row(at);
    } else if (answer == WALK_ROW) {
        answer = take_row(at);
        if (answer != WALK_ROW)
            return answer;
        if (compare(at->key, at->key_bytes, key, key_bytes) >= 0)
            return WALK_ORDER;
        answer = next_row(at);
    }
    if (answer == WALK_ROW && compare(at->key, at->key_bytes, key, key_bytes) < 0)
        return WALK_ORDER;
    return answer;
}

/* Memory for `wanted` more bytes, or NULL. */
static unsigned char *room(walk_bytes *bytes, size_t wanted)
{
    if (bytes->size - bytes->used < wanted) {
        size_t size = bytes->size ? bytes->size : FIRST_BYTES;
        while (size - bytes->used < wanted)
            size *= 2;
        unsigned char *const start = realloc(bytes->start, size);
        if (start == NULL)
            return NULL;
        bytes->start = start;
        bytes->size = size;
    }
    return bytes->start + bytes->used;
}

/* Put u16 `text_bytes`, the text and the value behind the others; where it begins, in `began`. */
static int put(walk_bytes *bytes, const unsigned char *text, size_t text_bytes, const unsigned char *value,
               size_t value_bytes, size_t *began)
{
    unsigned char *const to = room(bytes, 2 + text_bytes + value_bytes);
    if (to == NULL)
        return WALK_MEMORY;
    *began = bytes->used;
    to[0] = (unsigned char)text_bytes;
    to[1] = (unsigned char)(text_bytes >> 8);
    memcpy(to + 2, text, text_bytes);
    memcpy(to + 2 + text_bytes, value, value_bytes);
    bytes->used += 2 + text_bytes + value_bytes;
    return 0;
}

int walk_list(walk_cursor *at, const unsigned char *seek, size_t seek_bytes, size_t wanted_bytes,
              const unsigned char *wanted, const unsigned char *delimiter, size_t delimiter_bytes, size_t value_bytes,
              size_t maximum, walk_page *found)
{
    unsigned char behind[WALK_KEY_LIMIT];
    int answer = begin_at(at, seek, seek_bytes);
    while (answer == WALK_ROW) {
        if (at->key_bytes < wanted_bytes || memcmp(at->key, wanted, wanted_bytes) != 0)
            return WALK_END;
        const int is_branch = at->value_bytes == WALK_BRANCH_BYTES;
        if (!is_branch && at->value_bytes != value_bytes)
            return WALK_DAMAGED;
        if (found->row_count + found->prefix_count == maximum)
            return WALK_FULL;
        if (is_branch)
            return WALK_LONG;
        const unsigned char *const text = at->key + WALK_SPACE_BYTES;
        const unsigned char *const cut =
            delimiter_bytes
                ? memmem(at->key + wanted_bytes, at->key_bytes - wanted_bytes, delimiter, delimiter_bytes)
                : NULL;
        if (cut == NULL) {
            if (put(&found->rows, text, at->key_bytes - WALK_SPACE_BYTES, at->value, value_bytes - WALK_CRC_BYTES,
                    &found->last_row) < 0)
                return WALK_MEMORY;
            found->row_count++;
            found->last_is_prefix = 0;
            answer = next_row(at);
            continue;
        }
        const size_t behind_bytes = (size_t)(cut - at->key) + delimiter_bytes;
        if (put(&found->prefixes, text, behind_bytes - WALK_SPACE_BYTES, text, 0, &found->last_prefix) < 0)
            return WALK_MEMORY;
        found->prefix_count++;
        found->last_is_prefix = 1;
        /* The first byte string that sorts behind all that begins with it: the caller's delimiter does not end in 255. */
        memcpy(behind, at->key, behind_bytes);
        behind[behind_bytes - 1]++;
        answer = begin_at(at, behind, behind_bytes);
    }
    return answer;
}
