/* Waiting for a socket in a thread that another thread may stop. */
#ifndef RS3D_SOCKETWAIT_H
#define RS3D_SOCKETWAIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <time.h>

static inline int64_t rs3d_monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Another thread's word that waiting and moving bytes is to end: a flag that is looked at before each call. It makes
 * stop_fd readable afterwards. */
static inline void rs3d_set_stop(int *stop)
{
    __atomic_store_n(stop, 1, __ATOMIC_RELEASE);
}

/* Wait until `events` (poll.h), an end or an error of the socket, or until `stop_fd` is readable; all waits together at
 * most `patience_ns`, of which `*waited_ns` are spent and go on being counted. 0, or 1 when the time is up, or -1 with
 * errno. */
static inline int rs3d_wait_for_socket(int socket_fd, short events, int stop_fd, int64_t patience_ns,
                                       int64_t *waited_ns)
{
    struct pollfd watched[2] = {{.fd = socket_fd, .events = events}, {.fd = stop_fd, .events = POLLIN}};
    int64_t left_ns = patience_ns - *waited_ns, begun_ns;
    struct timespec most = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
    int ready;

    if (left_ns <= 0)
        return 1;
    begun_ns = rs3d_monotonic_ns();
    ready = ppoll(watched, 2, &most, NULL);
    *waited_ns += rs3d_monotonic_ns() - begun_ns;
    if (ready < 0)
        return errno == EINTR ? 0 : -1;
    return ready == 0;
}

#endif
