/* Whole blobs from their sockets to the disk, each in one visit of a thread that knows no interpreter. */
#ifndef RS3D_BLOBARRIVALS_IMPL_H
#define RS3D_BLOBARRIVALS_IMPL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
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
    int directory, file, meta;  /* of its files, from their making to its end; -1 what is not open */
    /* Of a body whose hash began before the rest of it was known, in a thread of its own: that hash and the files go
     * side by side, and the thread that is done last ends it. */
    int is_ahead, is_forsaken;  /* forsaken: there will be no files */
    int halves_left;            /* of these two; atomic */
    rs3d_body_job ahead;
    struct rs3d_arrival *next_to_hash;
};

enum { RS3D_ARRIVALS_ENOUGH = 2 }; /* bodies that wait for no more company: for more than two it costs what it saves */

/* How many hashes begin wherever the scheduler puts them, after one had to wait behind somebody elsewhere. */
enum { RS3D_STAYS_NEAR = 64 };

typedef struct {
    pthread_mutex_t lock; /* over all that follows but the gang */
    int bell_to, bell;                 /* a pipe: as many bytes as there are tasks that no thread has come for */
    struct rs3d_arrival *first, **end; /* begun, in order */
    struct rs3d_arrival *to_hash;      /* ahead; its hash has not begun */
    int stays_near;                    /* so many times its thread may be woken where its waker is */
    pthread_cond_t hash_waits;         /* one of these has come, or none will */
    int is_closing;                    /* of that thread; the others' bell says it to them */
    pid_t hasher;                      /* its number, when it runs; and where it may */
    cpu_set_t allowed;
    struct rs3d_arrival *ended, **ended_end;
    int wants_help; /* a body is alone: who has nothing else to do hashes it while it is written */
    int ended_fd;     /* an eventfd, readable while there are any that have ended */
    int steps_behind; /* see blobarrivals.pyi */
    int64_t company_ns; /* see blobarrivals.pyi */
    int most_rounds;    /* of the gang */
    int variant, crc_variant; /* bodyhash_impl.h's, which is merkle_impl.h's, too; and crc_impl.h's */
    rs3d_gang gang;
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
 * to be synced then is bytes written over bytes, which says nothing new to the file system. 0, or -1 with errno. */
static inline int rs3d_sync_ahead(struct rs3d_arrival *it, const char *meta_name)
{
    static const char zeros[RS3D_ARRIVAL_SIDECAR_BYTES];
    const size_t bytes = rs3d_leaf_sidecar_bytes((uint64_t)it->length, it->sidecar_body_bytes);

    it->meta = rs3d_create_new(it->directory, meta_name);
    if (it->meta < 0)
        return -1;
    if (rs3d_write_all(it->meta, zeros, bytes, 0) != 0)
        return -1;
    return rs3d_write_out_and_sync(it->file, rs3d_is_past_cache(it) ? -1 : 0, it->meta, it->directory);
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

/* Digests and sidecar of a body that was hashed, then its end. 0, or -1 with errno. */
static inline int rs3d_end_arrival(const rs3d_arrivals *pool, struct rs3d_arrival *it, const char *meta_name)
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
    if (it->meta >= 0)
        return rs3d_finish_ahead(it->file, it->meta, it->directory, sidecar, bytes);
    return rs3d_finish_blob(it->file, -1, rs3d_is_past_cache(it) ? -1 : 0, it->directory, meta_name,
                            (const char *)sidecar, bytes);
}

static inline void rs3d_hashed(const rs3d_arrivals *pool, struct rs3d_arrival *it)
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

/* Announce a piece that `came`, or was all there. Whether nobody else is under way. */
static inline int rs3d_announce_piece(rs3d_arrivals *pool, rs3d_piece *piece, int came)
{
    rs3d_gang *g = &pool->gang;
    int is_alone;

    rs3d_gang_announce(g, piece, came);
    pthread_mutex_lock(&g->lock);
    is_alone = !g->coming && !g->hashing && g->first == piece && !piece->next;
    pthread_mutex_unlock(&g->lock);
    return is_alone;
}

/* Wake a thread for a task. By a pipe, since its writers are taken for threads that are about to sleep: who is woken gets
 * their processor if no other is idle. Woken by a condition, it is put where the weights say, which is behind the thread
 * that hashes, as heavy as the loop is not; and waits there for its end. */
static inline void rs3d_ring(const rs3d_arrivals *pool)
{
    ssize_t told;

    do
        told = write(pool->bell_to, "", 1);
    while (told < 0 && errno == EINTR);
}

/* Have a thread that is idle hash what was announced. */
static inline void rs3d_ask_for_help(rs3d_arrivals *pool)
{
    int is_new;

    pthread_mutex_lock(&pool->lock);
    is_new = !pool->wants_help;
    pool->wants_help = 1;
    pthread_mutex_unlock(&pool->lock);
    if (is_new)
        rs3d_ring(pool);
}

/* Receive it, unless it is all there, and announce `piece` of it: 0, or -1 where it did not come whole. Then
 * *is_alone says whether nobody else is under way. */
static inline int rs3d_bring(rs3d_arrivals *pool, struct rs3d_arrival *it, rs3d_piece *piece, int *is_alone)
{
    it->state = RS3D_ARRIVAL_CUT;
    if (it->given) {
        rs3d_start_body(it);
        *is_alone = rs3d_announce_piece(pool, piece, 0);
        return 0;
    }
    it->from.data = it->data + it->filled;
    it->from.length = it->length - it->filled;
    it->from.received = it->from.waited_ns = 0;
    rs3d_gang_count_coming(&pool->gang, 1);
    it->ending = rs3d_receive(&it->from);
    it->filled += it->from.received;
    if (it->ending != RS3D_RECEIVE_DONE) {
        rs3d_gang_count_coming(&pool->gang, -1);
        return -1;
    }
    rs3d_start_body(it);
    *is_alone = rs3d_announce_piece(pool, piece, 1);
    return 0;
}

static inline void rs3d_name_files(const struct rs3d_arrival *it, char data_name[16], char meta_name[16])
{
    snprintf(data_name, 16, "%08x.data", it->number);
    snprintf(meta_name, 16, "%08x.meta", it->number);
}

/* Move to the buffer what was given, and write it to a new file. `error` says what came of it, which nobody looks at
 * before the end. */
static inline void rs3d_write_files(struct rs3d_arrival *it)
{
    char data_name[16], meta_name[16];
    int answer;

    if (it->given) {
        memcpy(it->data, it->given, (size_t)it->length);
        it->filled = it->length;
    }
    rs3d_name_files(it, data_name, meta_name);
    it->meta = -1;
    answer = rs3d_begin_blob(it->top, it->segment_name, data_name, it->data, (size_t)it->length, it->align,
                             &it->directory, &it->file);
    it->error = answer != 0 ? errno : 0;
}

/* rs3d_sync_ahead of what could be written, whose hash has not `ended`: where the disk has taken longer than the hash,
 * one sync more is nothing but longer. */
static inline void rs3d_sync_files(struct rs3d_arrival *it, int ended)
{
    char data_name[16], meta_name[16];

    rs3d_name_files(it, data_name, meta_name);
    if (!it->error && !ended && rs3d_sync_ahead(it, meta_name) != 0)
        it->error = errno;
}

/* Both halves are done: its last sync, or nothing is left of it. */
static inline void rs3d_complete(const rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    char data_name[16], meta_name[16];

    rs3d_name_files(it, data_name, meta_name);
    it->state = RS3D_ARRIVAL_FAILED;
    if (!it->error) {
        rs3d_hashed(pool, it);
        if (it->is_declared && memcmp(it->declared, it->sha256, sizeof it->sha256) != 0)
            it->state = RS3D_ARRIVAL_OTHER;
        else if (rs3d_end_arrival(pool, it, meta_name) == 0)
            it->state = RS3D_ARRIVAL_STORED;
        else
            it->error = errno;
    }
    if (it->meta >= 0)
        close(it->meta);
    if (it->state != RS3D_ARRIVAL_STORED)
        rs3d_unmake_blob(it->directory, it->file, data_name, meta_name);
}

/* Whether the half of it that was done now is the last. */
static inline int rs3d_is_last_half(struct rs3d_arrival *it)
{
    return __atomic_sub_fetch(&it->halves_left, 1, __ATOMIC_ACQ_REL) == 0;
}

/* Take one back whose hash was to begin ahead and has not: its thread waits behind somebody, on a processor that is
 * busy. It goes on as one that was not ahead. */
static inline void rs3d_overtake(rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    pthread_mutex_lock(&pool->lock);
    for (struct rs3d_arrival **at = &pool->to_hash; *at; at = &(*at)->next_to_hash)
        if (*at == it) {
            *at = it->next_to_hash;
            it->is_ahead = 0;
            pool->stays_near = RS3D_STAYS_NEAR;
            break;
        }
    pthread_mutex_unlock(&pool->lock);
}

/* Bring, write, hash, sync: all of it, and 1; or 0: its hash goes on, and whose thread does that will end it. */
static inline int rs3d_arrive(rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    rs3d_piece piece = {
        .job = {&it->body, (const unsigned char *)(it->given ? it->given : it->data), (size_t)it->length}};
    int is_alone;

    it->error = 0;
    if (it->is_ahead)
        rs3d_overtake(pool, it);
    if (it->is_ahead) {
        rs3d_write_files(it);
        rs3d_sync_files(it, __atomic_load_n(&it->halves_left, __ATOMIC_RELAXED) == 1);
        if (!rs3d_is_last_half(it))
            return 0;
        rs3d_complete(pool, it);
        return 1;
    }
    if (rs3d_bring(pool, it, &piece, &is_alone) != 0)
        return 1;
    if (is_alone)
        rs3d_ask_for_help(pool);
    rs3d_write_files(it);
    if (is_alone)
        rs3d_sync_files(it, rs3d_gang_has_ended(&pool->gang, &piece));
    rs3d_gang_hash(&pool->gang, &piece, pool->variant, pool->crc_variant);
    rs3d_complete(pool, it);
    return 1;
}

/* What a thread does next. */
enum { RS3D_TO_END, RS3D_TO_ARRIVE, RS3D_TO_HELP };

/* Waits for it; `*it` is whose, if it is one's. */
static inline int rs3d_next_task(rs3d_arrivals *pool, struct rs3d_arrival **it)
{
    int task = RS3D_TO_END;
    ssize_t told;
    char byte;

    do
        told = read(pool->bell, &byte, 1);
    while (told < 0 && errno == EINTR);
    if (told != 1) /* nothing is to come any more */
        return task;
    pthread_mutex_lock(&pool->lock);
    if (pool->first) {
        task = RS3D_TO_ARRIVE;
        *it = pool->first;
        pool->first = (*it)->next;
        if (!pool->first)
            pool->end = &pool->first;
    } else if (pool->wants_help) {
        task = RS3D_TO_HELP;
        pool->wants_help = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return task;
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

/* The hash of one that is ahead, as a round of its own; then its end, if its files are done or will never be. */
static inline void rs3d_hash_ahead(rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    rs3d_gang *g = &pool->gang;
    rs3d_md5_job scratch[1];
    int answer = sched_setaffinity(0, sizeof pool->allowed, &pool->allowed); /* it runs: see rs3d_keep_away */

    (void)answer;
    pthread_mutex_lock(&g->lock);
    while (g->hashing >= g->most_rounds)
        pthread_cond_wait(&g->changed, &g->lock);
    g->hashing++;
    pthread_mutex_unlock(&g->lock);
    rs3d_body_update_many(pool->variant, pool->crc_variant, &it->ahead, 1, scratch);
    pthread_mutex_lock(&g->lock);
    g->hashing--;
    g->rounds++;
    g->pieces++;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    if (rs3d_is_last_half(it)) {
        if (it->is_forsaken)
            it->state = RS3D_ARRIVAL_CUT;
        else
            rs3d_complete(pool, it);
        rs3d_tell_ended(pool, it);
    }
}

static inline void rs3d_step_behind(const rs3d_arrivals *pool)
{
    if (pool->steps_behind) {
        int now = nice(pool->steps_behind); /* of this thread alone, on Linux; harmless where it is refused */
        (void)now;
    }
}

/* The thread that hashes what is ahead. */
static inline void *rs3d_hasher_thread(void *given)
{
    rs3d_arrivals *pool = given;
    struct rs3d_arrival *it;

    rs3d_step_behind(pool);
    pthread_mutex_lock(&pool->lock);
    if (sched_getaffinity(0, sizeof pool->allowed, &pool->allowed) == 0)
        pool->hasher = gettid();
    for (;;) {
        while (!pool->to_hash && !pool->is_closing)
            pthread_cond_wait(&pool->hash_waits, &pool->lock);
        it = pool->to_hash;
        if (!it)
            break;
        pool->to_hash = it->next_to_hash;
        pthread_mutex_unlock(&pool->lock);
        rs3d_hash_ahead(pool, it);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Let the thread that will be woken to hash run anywhere but here, where its waker is not done yet: where processors
 * share no cache a thread is put beside its waker or where it ran last, which is there, too, if the waker was woken by
 * what it did. Harmless where it is refused. With the pool's lock, and while that thread waits. */
static inline void rs3d_keep_away(const rs3d_arrivals *pool)
{
    const int here = sched_getcpu();
    cpu_set_t others = pool->allowed;
    int answer;

    if (!pool->hasher || here < 0 || here >= CPU_SETSIZE)
        return;
    CPU_CLR((size_t)here, &others);
    if (CPU_COUNT(&others)) {
        answer = sched_setaffinity(pool->hasher, sizeof others, &others);
        (void)answer;
    }
}

/* A thread of the pool. */
static inline void *rs3d_arrivals_thread(void *given)
{
    rs3d_arrivals *pool = given;
    struct rs3d_arrival *it = NULL;
    int task;

    rs3d_step_behind(pool);
    while ((task = rs3d_next_task(pool, &it)) != RS3D_TO_END) {
        if (task == RS3D_TO_HELP)
            rs3d_gang_help(&pool->gang, pool->variant, pool->crc_variant);
        else if (rs3d_arrive(pool, it))
            rs3d_tell_ended(pool, it);
    }
    return NULL;
}

static inline int rs3d_arrivals_open(rs3d_arrivals *pool)
{
    pool->first = pool->ended = pool->to_hash = NULL;
    pool->end = &pool->first;
    pool->ended_end = &pool->ended;
    pool->wants_help = 0;
    if (pthread_mutex_init(&pool->lock, NULL) != 0)
        return -1;
    if (pthread_cond_init(&pool->hash_waits, NULL) != 0)
        goto no_hash_waits;
    pool->hasher = pool->is_closing = 0;
    if (rs3d_gang_open(&pool->gang, pool->most_rounds, RS3D_ARRIVALS_ENOUGH, pool->company_ns) == 0)
        return 0;
    pthread_cond_destroy(&pool->hash_waits);
no_hash_waits:
    pthread_mutex_destroy(&pool->lock);
    return -1;
}

/* No thread may be left. */
static inline void rs3d_arrivals_close(rs3d_arrivals *pool)
{
    rs3d_gang_close(&pool->gang);
    pthread_cond_destroy(&pool->hash_waits);
    pthread_mutex_destroy(&pool->lock);
}

static inline void rs3d_begin_arrival(rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    it->next = NULL;
    pthread_mutex_lock(&pool->lock);
    *pool->end = it;
    pool->end = &it->next;
    pthread_mutex_unlock(&pool->lock);
    rs3d_ring(pool);
}

/* Hash all of `body`, MD5 included, before it is said what it is: `it` is begun later, or forsaken. */
static inline void rs3d_begin_ahead(rs3d_arrivals *pool, struct rs3d_arrival *it, const char *body, int64_t length)
{
    it->given = body;
    it->length = length;
    rs3d_start_body(it);
    it->body.wants_md5 = 1; /* whether that is wanted is not known yet */
    it->ahead = (rs3d_body_job){&it->body, (const unsigned char *)body, (size_t)length};
    it->is_ahead = 1;
    it->is_forsaken = 0;
    it->halves_left = 2;
    pthread_mutex_lock(&pool->lock);
    it->next_to_hash = pool->to_hash;
    pool->to_hash = it;
    if (pool->stays_near)
        pool->stays_near--;
    else
        rs3d_keep_away(pool);
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_signal(&pool->hash_waits);
}

/* One that is ahead is not begun: it is told of as one that has ended, cut, when it has been hashed. */
static inline void rs3d_forsake(rs3d_arrivals *pool, struct rs3d_arrival *it)
{
    it->is_forsaken = 1;
    if (rs3d_is_last_half(it)) {
        it->state = RS3D_ARRIVAL_CUT;
        rs3d_tell_ended(pool, it);
    }
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

/* A thread that runs `run`, with every signal blocked: those are the interpreter's. 0, or an error number. */
static inline int rs3d_arrivals_add_thread(rs3d_arrivals *pool, void *(*run)(void *), pthread_t *made)
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
    answer = pthread_create(made, &attributes, run, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return answer;
}

/* `hasher` is NULL where there is none. */
static inline void rs3d_arrivals_end_threads(rs3d_arrivals *pool, const pthread_t *threads, int count,
                                             const pthread_t *hasher)
{
    pthread_mutex_lock(&pool->lock);
    pool->is_closing = 1;
    pthread_cond_signal(&pool->hash_waits);
    pthread_mutex_unlock(&pool->lock);
    close(pool->bell_to);
    pool->bell_to = -1;
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    if (hasher)
        pthread_join(*hasher, NULL);
}

#endif
