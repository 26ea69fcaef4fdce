/* Pieces of several bodies, hashed side by side by whichever of their threads needs a digest first. */
#ifndef RS3D_BODYGANG_IMPL_H
#define RS3D_BODYGANG_IMPL_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "bodyhash_impl.h"

enum {
    RS3D_GANG_LANES = 32, /* pieces of one round at most: one that ends early leaves its lane to another */
    RS3D_GANG_ROUNDS = 64 /* more at once than any machine has use for */
};

/* A piece to be hashed, its body's only one: neither is touched until it has `ended`. Its memory is the caller's. */
typedef struct rs3d_piece {
    rs3d_body_job job;
    int goes_on; /* its body's next piece is received as soon as this one has ended: it counts as coming from then on */
    int ended;
    struct rs3d_piece *next;
} rs3d_piece;

typedef struct {
    pthread_mutex_t lock; /* over all that follows, and `ended` of pieces is set under it */
    pthread_cond_t changed;     /* a round has ended, or one that waited for company need not */
    rs3d_piece *first, **end;   /* announced, in order */
    int announced;              /* pieces in that list */
    int most_rounds;            /* at once */
    int hashing;                /* threads that are at rounds */
    int coming;                 /* pieces that are being received, to be announced soon */
    int in_vain;                /* of these, as many as somebody has waited for long enough */
    int enough;                 /* pieces that wait for no more company */
    int64_t company_ns;         /* the longest that they wait for it */
    uint64_t rounds, pieces;
} rs3d_gang;

/* What comes during a round need not wait for its end where there is a core free: `most_rounds` says how many there are.
 * More take processors from each other, and from the rounds their company. */
static inline int rs3d_gang_open(rs3d_gang *g, int most_rounds, int enough, int64_t company_ns)
{
    g->first = NULL;
    g->end = &g->first;
    g->most_rounds = most_rounds;
    g->enough = enough;
    g->company_ns = company_ns;
    g->announced = g->hashing = g->coming = g->in_vain = 0;
    g->rounds = g->pieces = 0;
    if (pthread_mutex_init(&g->lock, NULL) != 0)
        return -1;
    if (pthread_cond_init(&g->changed, NULL) != 0) {
        pthread_mutex_destroy(&g->lock);
        return -1;
    }
    return 0;
}

/* No piece may be left. */
static inline void rs3d_gang_close(rs3d_gang *g)
{
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

/* Whether nothing is announced that waits for a round. */
static inline int rs3d_gang_is_idle(rs3d_gang *g)
{
    int answer;

    pthread_mutex_lock(&g->lock);
    answer = !g->first;
    pthread_mutex_unlock(&g->lock);
    return answer;
}

typedef struct {
    int coming;
    uint64_t rounds, pieces; /* that have ended */
} rs3d_gang_counts;

static inline rs3d_gang_counts rs3d_gang_count(rs3d_gang *g)
{
    rs3d_gang_counts counts;

    pthread_mutex_lock(&g->lock);
    counts = (rs3d_gang_counts){g->coming, g->rounds, g->pieces};
    pthread_mutex_unlock(&g->lock);
    return counts;
}

/* Whether `piece`, which was announced, has been hashed. */
static inline int rs3d_gang_has_ended(rs3d_gang *g, const rs3d_piece *piece)
{
    int answer;

    pthread_mutex_lock(&g->lock);
    answer = piece->ended;
    pthread_mutex_unlock(&g->lock);
    return answer;
}

/* As if all rounds that may be were under way, after those that are: none begins until rs3d_gang_resume. */
static inline void rs3d_gang_pause(rs3d_gang *g)
{
    pthread_mutex_lock(&g->lock);
    while (g->hashing)
        pthread_cond_wait(&g->changed, &g->lock);
    g->hashing = g->most_rounds;
    pthread_mutex_unlock(&g->lock);
}

static inline void rs3d_gang_resume(rs3d_gang *g)
{
    pthread_mutex_lock(&g->lock);
    g->hashing = 0;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

/* Whether those that are announced had better wait for more. With the lock held. */
static inline int rs3d_gang_lacks_company(const rs3d_gang *g)
{
    return g->announced < g->enough && g->coming > g->in_vain;
}

/* `change` pieces more are being received. With the lock held. */
static inline void rs3d_gang_change_coming(rs3d_gang *g, int change)
{
    g->coming += change;
    if (g->in_vain > g->coming)
        g->in_vain = g->coming;
    if (g->first && !rs3d_gang_lacks_company(g))
        pthread_cond_broadcast(&g->changed);
}

/* The same without the lock. */
static inline void rs3d_gang_count_coming(rs3d_gang *g, int change)
{
    pthread_mutex_lock(&g->lock);
    rs3d_gang_change_coming(g, change);
    pthread_mutex_unlock(&g->lock);
}

/* Whoever announces a piece calls rs3d_gang_hash for it later. Its body's tables have room for it. `came` of those that
 * were counted as coming are this one. */
static inline void rs3d_gang_announce(rs3d_gang *g, rs3d_piece *piece, int came)
{
    piece->ended = 0;
    piece->next = NULL;
    pthread_mutex_lock(&g->lock);
    *g->end = piece;
    g->end = &piece->next;
    g->announced++;
    rs3d_gang_change_coming(g, -came);
    pthread_mutex_unlock(&g->lock);
}

/* Whether a round with it has ended; without the lock. */
static inline int rs3d_gang_has_hashed(const rs3d_piece *piece)
{
    return __atomic_load_n(&piece->ended, __ATOMIC_ACQUIRE);
}

/* One round of what has been announced, with the lock held, and given up meanwhile. */
static inline void rs3d_gang_round(rs3d_gang *g, int variant, int crc_variant)
{
    rs3d_piece *taken[RS3D_GANG_LANES];
    rs3d_body_job jobs[RS3D_GANG_LANES];
    rs3d_md5_job scratch[RS3D_GANG_LANES];
    size_t count = 0;

    while (g->first && count < RS3D_GANG_LANES) {
        jobs[count] = g->first->job;
        taken[count++] = g->first;
        g->first = g->first->next;
    }
    if (!g->first)
        g->end = &g->first;
    g->announced -= (int)count;
    g->hashing++;
    pthread_mutex_unlock(&g->lock);
    rs3d_body_update_many(variant, crc_variant, jobs, count, scratch);
    pthread_mutex_lock(&g->lock);
    for (size_t i = 0; i < count; i++) {
        g->coming += taken[i]->goes_on;
        __atomic_store_n(&taken[i]->ended, 1, __ATOMIC_RELEASE);
    }
    g->hashing--;
    g->rounds++;
    g->pieces += count;
    pthread_cond_broadcast(&g->changed);
}

/* Hash what has been announced, if anything has and a round may begin. */
static inline void rs3d_gang_help(rs3d_gang *g, int variant, int crc_variant)
{
    pthread_mutex_lock(&g->lock);
    if (g->first && g->hashing < g->most_rounds)
        rs3d_gang_round(g, variant, crc_variant);
    pthread_mutex_unlock(&g->lock);
}

/* Wait for company, with the lock held and given up meanwhile, until the clock says `until`. */
static inline void rs3d_gang_await_company(rs3d_gang *g, const struct timespec *until)
{
    if (pthread_cond_clockwait(&g->changed, &g->lock, CLOCK_MONOTONIC, until) != 0)
        g->in_vain = g->coming;
}

/* Hash what has been announced, or wait for who does, until that includes `piece`. A piece that is in none of the
 * rounds is still in the list. Alone, a piece takes the processor two thirds more than one of four: so a round waits
 * for those that are being received, but not longer than `company_ns`, and not again for who has not come by then. */
static inline void rs3d_gang_hash(rs3d_gang *g, rs3d_piece *piece, int variant, int crc_variant)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)((until.tv_nsec + g->company_ns) / 1000000000);
    until.tv_nsec = (long)((until.tv_nsec + g->company_ns) % 1000000000);
    pthread_mutex_lock(&g->lock);
    while (!piece->ended) {
        if (!g->first || g->hashing == g->most_rounds)
            pthread_cond_wait(&g->changed, &g->lock);
        else if (rs3d_gang_lacks_company(g))
            rs3d_gang_await_company(g, &until);
        else
            rs3d_gang_round(g, variant, crc_variant);
    }
    pthread_mutex_unlock(&g->lock);
}

#endif
