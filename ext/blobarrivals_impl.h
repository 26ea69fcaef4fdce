/* Whole blobs from their sockets to the disk, each in one visit of a thread that knows no interpreter. */
#ifndef RS3D_BLOBARRIVALS_IMPL_H
#define RS3D_BLOBARRIVALS_IMPL_H

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "blobfiles_impl.h"
#include "bodygang_impl.h"
#include "leafsidecar_impl.h"
#include "receive_impl.h"

enum {
    RS3D_ARRIVAL_BODY_BYTES = 2048, /* of a sidecar's msgpack at most */
    RS3D_ARRIVAL_PACKET_BYTES = 2048,
    RS3D_ARRIVAL_SIDECAR_BYTES = RS3D_SIDECAR_HEAD_BYTES + RS3D_ARRIVAL_BODY_BYTES + RS3D_LEAF_TABLES_BYTES
};

/* What became of an arrival. Unless it is stored, none of its files is left, as far as that could be done. */
enum {
    RS3D_ARRIVAL_STORED,
    RS3D_ARRIVAL_CUT,    /* the body did not come whole: `ending` says why */
    RS3D_ARRIVAL_OTHER,  /* its SHA-256 is not the one that was declared */
    RS3D_ARRIVAL_FAILED, /* a call on its files did: `error` is errno */
};

struct rs3d_arrival {
    /* What is to be done; whoever starts it owns all memory, and touches none of it until it has ended. */
    struct rs3d_receiving from; /* `data` and `length` are set below */
    char *data;
    const char *given;          /* all of the body, in memory that nobody changes; NULL: `data` has its first bytes */
    int64_t length, filled;     /* bytes of the body; and those that are in `data` already */
    int top;                    /* see rs3d_begin_blob */
    const char *segment_name;
    uint64_t segment;
    uint32_t number;
    size_t align;
    int wants_md5, is_declared;
    unsigned char declared[32]; /* SHA-256 */
    unsigned char sidecar_body[RS3D_ARRIVAL_BODY_BYTES];
    size_t sidecar_body_bytes;
    size_t root_at, md5_at;     /* where the Merkle root and the MD5 go in it */
    /* What is sent of one that is stored, and to which socket; no bytes where its owner does that. */
    unsigned char packet[RS3D_ARRIVAL_PACKET_BYTES];
    size_t packet_bytes, packet_root_at, packet_etag_at; /* the MD5, or the SHA-256 where no MD5 is wanted */
    int packet_to;
    /* What was done. */
    int state, ending, error, is_sent;
    unsigned char md5[16], sha256[32], root[32];
    /* In between. */
    struct rs3d_arrival *next;
    void *owner; /* the caller's, never looked at */
    rs3d_body body;
    unsigned char leaf[32], blocks[4 * RS3D_LEAF_BLOCKS];
};

typedef struct {
    pthread_mutex_t lock; /* over all that follows but the gang */
    pthread_cond_t waits;
    struct rs3d_arrival *first, **end; /* begun, in order */
    struct rs3d_arrival *ended, **ended_end;
    int wants_help; /* a body is alone: who has nothing else to do hashes it while it is written */
    int is_closing;
    int ended_fd;     /* an eventfd, readable while there are any that have ended */
    int steps_behind; /* see blobarrivals.pyi */
    int64_t company_ns; /* see blobarrivals.pyi */
    int most_rounds;    /* of the gang */
    int variant, crc_variant; /* bodyhash_impl.h's, which is merkle_impl.h's, too; and crc_impl.h's */
    rs3d_gang gang;
    pthread_cond_t company; /* with the gang's lock: a piece was announced, or nobody comes any more */
    int coming;             /* arrivals that are being received; under that lock, too */
} rs3d_arrivals;

/* Whether no byte of the data is in the page cache. */
static inline int rs3d_is_past_cache(const struct rs3d_arrival *it)
{
    return it->align && (size_t)it->length % it->align == 0;
}

/* Nothing of the blob is left: what was opened is closed, what was made unlinked. */
static inline void rs3d_unmake_blob(int directory, int file, const char *data_name, const char *meta_name)
{
    if (file >= 0) { /* else a file of that name is another's */
        unlinkat(directory, data_name, 0);
        unlinkat(directory, meta_name, 0);
        close(file);
    }
    if (directory >= 0)
        close(directory);
}

/* Both files and their names to stable storage, with as many zeros in the sidecar as it will have bytes: what is left
 * to be synced then is bytes written over bytes, which says nothing new to the file system. 0 and the sidecar's
 * descriptor, or -1 with errno. */
static inline int rs3d_sync_ahead(const struct rs3d_arrival *it, int directory, int file, const char *meta_name,
                                  int *meta)
{
    static const char zeros[RS3D_ARRIVAL_SIDECAR_BYTES];
    const size_t bytes = rs3d_leaf_sidecar_bytes((uint64_t)it->length, it->sidecar_body_bytes);

    *meta = rs3d_create_new(directory, meta_name);
    if (*meta < 0)
        return -1;
    if (rs3d_write_all(*meta, zeros, bytes, 0) != 0)
        return -1;
    return rs3d_write_out_and_sync(file, rs3d_is_past_cache(it) ? -1 : 0, *meta, directory);
}

/* The end of a blob that was synced ahead: as rs3d_finish_blob, but for `meta`, which stays open. */
static inline int rs3d_finish_ahead(int file, int meta, int directory, const unsigned char *sidecar, size_t bytes)
{
    if (rs3d_write_all(meta, (const char *)sidecar, bytes, 0) != 0 || fdatasync(meta) != 0)
        return -1;
    close(file);
    close(directory);
    return 0;
}

/* Digests and sidecar of a body that was hashed, then its end. `meta` is that of rs3d_sync_ahead, or -1. 0, or -1 with
 * errno. */
static inline int rs3d_end_arrival(const rs3d_arrivals *pool, struct rs3d_arrival *it, int directory, int file,
                                   int meta, const char *meta_name)
{
    unsigned char sidecar[RS3D_ARRIVAL_SIDECAR_BYTES];
    size_t bytes;

    if (it->body.bytes % RS3D_BLOCK_BYTES) {
        unsigned char *row = it->blocks + 4 * (it->body.bytes / RS3D_BLOCK_BYTES);
        for (int i = 0; i < 4; i++)
            row[i] = (unsigned char)(it->body.crc >> 8 * i);
    }
    rs3d_root_of_leaf(pool->variant, it->sha256, (uint64_t)it->length, it->root);
    memcpy(it->sidecar_body + it->root_at, it->root, sizeof it->root);
    if (it->wants_md5) {
        rs3d_md5_digest(&it->body.md5, it->md5);
        memcpy(it->sidecar_body + it->md5_at, it->md5, sizeof it->md5);
    }
    bytes = rs3d_leaf_sidecar(sidecar, pool->crc_variant, it->segment, it->number, (uint64_t)it->length,
                              it->sidecar_body, it->sidecar_body_bytes, it->blocks, it->sha256);
    if (meta >= 0)
        return rs3d_finish_ahead(file, meta, directory, sidecar, bytes);
    return rs3d_finish_blob(file, -1, rs3d_is_past_cache(it) ? -1 : 0, directory, meta_name, (const char *)sidecar,
                            bytes);
}

static inline void rs3d_hashed(rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    if (it->length == RS3D_LEAF_BYTES)
        memcpy(it->sha256, it->leaf, sizeof it->sha256);
    else
        rs3d_body_open_leaf(pool->variant, &it->body, it->sha256);
}

static inline void rs3d_start_body(struct rs3d_arrival *it)
{
    memset(&it->body, 0, sizeof it->body);
    it->body.wants_md5 = it->wants_md5;
    it->body.wants_tables = 1;
    it->body.leaf_bytes = RS3D_LEAF_BYTES;
    it->body.block_bytes = RS3D_BLOCK_BYTES;
    it->body.leaf_rows = it->leaf;
    it->body.block_rows = it->blocks;
    rs3d_md5_start(&it->body.md5);
    rs3d_sha256_start(&it->body.leaf);
}

/* `change` more are being received; with a `piece`, one has come and is announced. Whether nobody else is under way. */
static inline int rs3d_count_coming(rs3d_arrivals *pool, int change, rs3d_piece *piece)
{
    int is_alone;

    if (piece)
        rs3d_gang_announce(&pool->gang, piece);
    pthread_mutex_lock(&pool->gang.lock);
    pool->coming += change;
    if (change <= 0)
        pthread_cond_broadcast(&pool->company);
    is_alone = !pool->coming && !pool->gang.hashing && pool->gang.first == piece && piece && !piece->next;
    pthread_mutex_unlock(&pool->gang.lock);
    return is_alone;
}

/* Have a thread that is idle hash what was announced. */
static inline void rs3d_ask_for_help(rs3d_arrivals *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->wants_help = 1;
    pthread_cond_signal(&pool->waits);
    pthread_mutex_unlock(&pool->lock);
}

/* A piece alone takes the processor two thirds more than one of two. So who has written waits until there is another,
 * while one comes, but not longer than `company_ns`. */
static inline void rs3d_await_company(rs3d_arrivals *pool, const rs3d_piece *piece)
{
    const rs3d_gang *gang = &pool->gang;
    struct timespec until;

    pthread_mutex_lock(&pool->gang.lock);
    if (gang->first == piece && !piece->next && pool->coming) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += (time_t)((until.tv_nsec + pool->company_ns) / 1000000000);
        until.tv_nsec = (long)((until.tv_nsec + pool->company_ns) % 1000000000);
        while (gang->first == piece && !piece->next && pool->coming)
            if (pthread_cond_timedwait(&pool->company, &pool->gang.lock, &until) != 0)
                break;
    }
    pthread_mutex_unlock(&pool->gang.lock);
}

/* Receive it, unless it is all there, and announce `piece` of it: 0, or -1 where it did not come whole. Then
 * *is_alone says whether nobody else is under way. */
static inline int rs3d_bring(rs3d_arrivals *pool, struct rs3d_arrival *it, rs3d_piece *piece, int *is_alone)
{
    it->state = RS3D_ARRIVAL_CUT;
    if (it->given) {
        rs3d_start_body(it);
        *is_alone = rs3d_count_coming(pool, 0, piece);
        return 0;
    }
    it->from.data = it->data + it->filled;
    it->from.length = it->length - it->filled;
    it->from.received = it->from.waited_ns = 0;
    rs3d_count_coming(pool, 1, NULL);
    it->ending = rs3d_receive(&it->from);
    it->filled += it->from.received;
    if (it->ending != RS3D_RECEIVE_DONE) {
        rs3d_count_coming(pool, -1, NULL);
        return -1;
    }
    rs3d_start_body(it);
    *is_alone = rs3d_count_coming(pool, -1, piece);
    return 0;
}

/* Bring, write, hash, sync: all of it. */
static inline void rs3d_arrive(rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    rs3d_piece piece = {
        .job = {&it->body, (const unsigned char *)(it->given ? it->given : it->data), (size_t)it->length}};
    char data_name[16], meta_name[16];
    int directory, file, meta = -1, is_alone, answer;

    it->error = 0;
    if (rs3d_bring(pool, it, &piece, &is_alone) != 0)
        return;
    if (is_alone)
        rs3d_ask_for_help(pool);
    if (it->given) {
        memcpy(it->data, it->given, (size_t)it->length);
        it->filled = it->length;
    }
    snprintf(data_name, sizeof data_name, "%08x.data", it->number);
    snprintf(meta_name, sizeof meta_name, "%08x.meta", it->number);
    answer = rs3d_begin_blob(it->top, it->segment_name, data_name, it->data, (size_t)it->length, it->align, &directory,
                             &file);
    /* Where the disk has taken longer than the hashes, one sync more is nothing but longer. */
    if (answer == 0 && is_alone && !rs3d_gang_has_ended(&pool->gang, &piece))
        answer = rs3d_sync_ahead(it, directory, file, meta_name, &meta);
    it->error = answer != 0 ? errno : 0;
    rs3d_await_company(pool, &piece);
    rs3d_gang_hash(&pool->gang, &piece, pool->variant, pool->crc_variant);
    it->state = RS3D_ARRIVAL_FAILED;
    if (answer == 0) {
        rs3d_hashed(pool, it);
        if (it->is_declared && memcmp(it->declared, it->sha256, sizeof it->sha256) != 0)
            it->state = RS3D_ARRIVAL_OTHER;
        else if (rs3d_end_arrival(pool, it, directory, file, meta, meta_name) == 0)
            it->state = RS3D_ARRIVAL_STORED;
        else
            it->error = errno;
    }
    if (meta >= 0)
        close(meta);
    if (it->state != RS3D_ARRIVAL_STORED)
        rs3d_unmake_blob(directory, file, data_name, meta_name);
}

/* The next that was begun. NULL when there is none: then `*helps`, or the pool is closed. */
static inline struct rs3d_arrival *rs3d_next_arrival(rs3d_arrivals *pool, int *helps)
{
    struct rs3d_arrival *found;

    pthread_mutex_lock(&pool->lock);
    while (!pool->first && !pool->wants_help && !pool->is_closing)
        pthread_cond_wait(&pool->waits, &pool->lock);
    found = pool->first;
    if (found) {
        pool->first = found->next;
        if (!pool->first)
            pool->end = &pool->first;
        *helps = 0;
    } else {
        *helps = pool->wants_help;
        pool->wants_help = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

/* Whether the packet of one that is stored went out. It does not wait for room. */
static inline int rs3d_send_packet(struct rs3d_arrival *it)
{
    if (it->state != RS3D_ARRIVAL_STORED || !it->packet_bytes)
        return 0;
    memcpy(it->packet + it->packet_root_at, it->root, sizeof it->root);
    if (it->wants_md5)
        memcpy(it->packet + it->packet_etag_at, it->md5, sizeof it->md5);
    else
        memcpy(it->packet + it->packet_etag_at, it->sha256, sizeof it->sha256);
    return send(it->packet_to, it->packet, it->packet_bytes, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)it->packet_bytes;
}

/* With the packet under the lock, so that whoever hears the answer to it finds the arrival among those that ended: the
 * loop is not woken for one that was sent. */
static inline void rs3d_tell_ended(rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    int is_sent;

    it->next = NULL;
    pthread_mutex_lock(&pool->lock);
    is_sent = it->is_sent = rs3d_send_packet(it);
    *pool->ended_end = it;
    pool->ended_end = &it->next;
    pthread_mutex_unlock(&pool->lock);
    if (!is_sent) {
        const uint64_t one = 1;
        ssize_t told = write(pool->ended_fd, &one, sizeof one);
        (void)told; /* it has room for more than there are arrivals */
    }
}

/* A thread of the pool. */
static inline void *rs3d_arrivals_thread(void *given)
{
    rs3d_arrivals *pool = given;
    struct rs3d_arrival *it;
    int helps;

    if (pool->steps_behind) {
        int now = nice(pool->steps_behind); /* of this thread alone, on Linux; harmless where it is refused */
        (void)now;
    }
    while ((it = rs3d_next_arrival(pool, &helps)) || helps) {
        if (it) {
            rs3d_arrive(pool, it);
            rs3d_tell_ended(pool, it);
        } else {
            rs3d_gang_help(&pool->gang, pool->variant, pool->crc_variant);
        }
    }
    return NULL;
}

static inline int rs3d_arrivals_open(rs3d_arrivals *pool)
{
    pthread_condattr_t monotonic;

    pool->first = pool->ended = NULL;
    pool->end = &pool->first;
    pool->ended_end = &pool->ended;
    pool->is_closing = pool->coming = pool->wants_help = 0;
    if (pthread_mutex_init(&pool->lock, NULL) != 0)
        return -1;
    if (pthread_cond_init(&pool->waits, NULL) != 0)
        goto no_waits;
    if (pthread_condattr_init(&monotonic) != 0)
        goto no_company;
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    if (pthread_cond_init(&pool->company, &monotonic) != 0) {
        pthread_condattr_destroy(&monotonic);
        goto no_company;
    }
    pthread_condattr_destroy(&monotonic);
    if (rs3d_gang_open(&pool->gang, pool->most_rounds) == 0)
        return 0;
    pthread_cond_destroy(&pool->company);
no_company:
    pthread_cond_destroy(&pool->waits);
no_waits:
    pthread_mutex_destroy(&pool->lock);
    return -1;
}

/* No thread may be left. */
static inline void rs3d_arrivals_close(rs3d_arrivals *pool)
{
    rs3d_gang_close(&pool->gang);
    pthread_cond_destroy(&pool->company);
    pthread_cond_destroy(&pool->waits);
    pthread_mutex_destroy(&pool->lock);
}

static inline void rs3d_begin_arrival(rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    it->next = NULL;
    pthread_mutex_lock(&pool->lock);
    *pool->end = it;
    pool->end = &it->next;
    pthread_cond_signal(&pool->waits);
    pthread_mutex_unlock(&pool->lock);
}

/* Its packet is not sent any more, unless that was done: then it is among those that ended. */
static inline void rs3d_withhold_packet(rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    pthread_mutex_lock(&pool->lock);
    it->packet_bytes = 0;
    pthread_mutex_unlock(&pool->lock);
}

/* All that have ended since the last time. */
static inline struct rs3d_arrival *rs3d_take_ended(rs3d_arrivals *pool)
{
    struct rs3d_arrival *found;
    uint64_t count;
    ssize_t told = read(pool->ended_fd, &count, sizeof count); /* before the list, so that none is missed */

    (void)told;
    pthread_mutex_lock(&pool->lock);
    found = pool->ended;
    pool->ended = NULL;
    pool->ended_end = &pool->ended;
    pthread_mutex_unlock(&pool->lock);
    return found;
}

/* A thread, with every signal blocked: those are the interpreter's. 0, or an error number. */
static inline int rs3d_arrivals_add_thread(rs3d_arrivals *pool, pthread_t *made)
{
    enum { STACK_BYTES = 256 * 1024 };
    sigset_t all, before;
    pthread_attr_t attributes;
    int answer = pthread_attr_init(&attributes);

    if (answer != 0)
        return answer;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    answer = pthread_create(made, &attributes, rs3d_arrivals_thread, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return answer;
}

static inline void rs3d_arrivals_end_threads(rs3d_arrivals *pool, const pthread_t *threads, int count)
{
    pthread_mutex_lock(&pool->lock);
    pool->is_closing = 1;
    pthread_cond_broadcast(&pool->waits);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

#endif
