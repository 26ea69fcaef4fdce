/* Sockets that wait, and the parts of files that are on their way out through some of them. One thread at a time. */
#ifndef RS3D_PARKEDSOCKETS_IMPL_H
#define RS3D_PARKEDSOCKETS_IMPL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "socketwait.h"

/* errno has no word of its own for it: the file was shorter than what was to be sent of it. */
#define RS3D_FILE_ENDED ENODATA

#define RS3D_PARKED_EVENTS 64

enum { RS3D_NOT_SENDING, RS3D_SENDING, RS3D_SENT };

/* A file on its way to a socket. */
struct rs3d_sending_file {
    int state, file_fd, error;
    int next_sent;        /* a socket's number, or -1 */
    int64_t offset, left; /* of the file, in bytes */
    int64_t moved;        /* bytes sent since that was asked last */
    int64_t begun_ns, ended_ns;
};

struct rs3d_parked {
    int epoll_fd, nudge_fd;
    int is_nudged;
    int sending;                  /* how many are in that state */
    int first_sent, last_sent;    /* those that ended, and nobody has asked how */
    int64_t linger_ns;            /* how long an end may wait for something else to be told with */
    int capacity;
    struct rs3d_sending_file *files; /* by the socket's number */
};

/* What `rs3d_parked_wait` found beside sockets. */
enum { RS3D_WAIT_FOUND, RS3D_WAIT_OTHERS, RS3D_WAIT_TIME, RS3D_WAIT_BUDGET };

static inline int rs3d_parked_control(struct rs3d_parked *q, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.fd = fd}};

    return epoll_ctl(q->epoll_fd, operation, fd, &event);
}

/* 0, or -1 with errno; `close` is due after both. */
static inline int rs3d_parked_open(struct rs3d_parked *q)
{
    q->first_sent = q->last_sent = -1;
    q->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    q->nudge_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->epoll_fd < 0 || q->nudge_fd < 0)
        return -1;
    return rs3d_parked_control(q, EPOLL_CTL_ADD, q->nudge_fd, EPOLLIN);
}

static inline void rs3d_parked_close(struct rs3d_parked *q)
{
    if (q->epoll_fd >= 0)
        close(q->epoll_fd);
    if (q->nudge_fd >= 0)
        close(q->nudge_fd);
    q->epoll_fd = q->nudge_fd = -1;
    free(q->files);
    q->files = NULL;
    q->capacity = q->sending = 0;
    q->first_sent = q->last_sent = -1;
}

static inline void rs3d_parked_nudge(struct rs3d_parked *q)
{
    uint64_t one = 1;

    if (q->is_nudged)
        return;
    q->is_nudged = 1;
    while (write(q->nudge_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static inline void rs3d_parked_take_nudge(struct rs3d_parked *q)
{
    uint64_t count;

    q->is_nudged = 0;
    while (read(q->nudge_fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

static inline struct rs3d_sending_file *rs3d_parked_file(struct rs3d_parked *q, int fd)
{
    return fd < q->capacity && q->files[fd].state != RS3D_NOT_SENDING ? &q->files[fd] : NULL;
}

static inline int rs3d_parked_make_room(struct rs3d_parked *q, int fd)
{
    int wanted = q->capacity ? q->capacity : 64;
    struct rs3d_sending_file *more;

    while (wanted <= fd)
        wanted *= 2;
    if (wanted == q->capacity)
        return 0;
    more = realloc(q->files, (size_t)wanted * sizeof *more);
    if (more == NULL)
        return -1;
    memset(more + q->capacity, 0, (size_t)(wanted - q->capacity) * sizeof *more);
    q->files = more;
    q->capacity = wanted;
    return 0;
}

/* ------------------------------------------------------------------------------------------- sending */

static inline void rs3d_parked_end(struct rs3d_parked *q, int fd, int error)
{
    struct rs3d_sending_file *it = &q->files[fd];

    rs3d_parked_control(q, EPOLL_CTL_MOD, fd, EPOLLIN);
    it->state = RS3D_SENT;
    it->error = error;
    it->ended_ns = rs3d_monotonic_ns();
    it->next_sent = -1;
    if (q->last_sent >= 0)
        q->files[q->last_sent].next_sent = fd;
    else
        q->first_sent = fd;
    q->last_sent = fd;
    q->sending--;
}

/* One that ended is nobody's concern any more. */
static inline void rs3d_parked_unlist(struct rs3d_parked *q, int fd)
{
    int before = -1;

    for (int other = q->first_sent; other != fd; other = q->files[other].next_sent)
        before = other;
    if (before >= 0)
        q->files[before].next_sent = q->files[fd].next_sent;
    else
        q->first_sent = q->files[fd].next_sent;
    if (q->last_sent == fd)
        q->last_sent = before;
    q->files[fd].state = RS3D_NOT_SENDING;
}

/* What the socket takes at once, at most `most` bytes. A socket that took less than it was given is full: asking it
   again would cost the kernel the pages it has collected for it. Returns the bytes sent. */
static inline int64_t rs3d_parked_part(struct rs3d_parked *q, int fd, int64_t most)
{
    struct rs3d_sending_file *it = &q->files[fd];
    off_t from = it->offset;
    ssize_t moved = sendfile(fd, it->file_fd, &from, (size_t)(it->left < most ? it->left : most));

    if (moved > 0) {
        it->offset += moved;
        it->left -= moved;
        it->moved += moved;
        if (it->left == 0)
            rs3d_parked_end(q, fd, 0);
        return moved;
    }
    if (moved == 0)
        rs3d_parked_end(q, fd, RS3D_FILE_ENDED);
    else if (errno != EAGAIN && errno != EINTR)
        rs3d_parked_end(q, fd, errno);
    return 0;
}

/* Head and file to a socket, as much as it takes; the rest of the file is sent in turns. Bytes sent, or -1 with errno.
   When that is fewer than the head has, nothing is left to the turns. */
static inline int64_t rs3d_parked_begin(struct rs3d_parked *q, int fd, const char *head, size_t head_bytes, int file_fd,
                                        int64_t offset, int64_t length)
{
    off_t from = offset;
    ssize_t sent, moved;

    do
        sent = send(fd, head, head_bytes, MSG_DONTWAIT | MSG_NOSIGNAL | (length ? MSG_MORE : 0));
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EAGAIN ? 0 : -1;
    if ((size_t)sent < head_bytes || !length)
        return sent;
    do
        moved = sendfile(fd, file_fd, &from, (size_t)length);
    while (moved < 0 && errno == EINTR);
    if (moved < 0 && errno != EAGAIN)
        return -1;
    if (moved == 0) {
        errno = RS3D_FILE_ENDED;
        return -1;
    }
    if (moved < 0)
        moved = 0;
    if (moved == length)
        return sent + moved;
    if (rs3d_parked_make_room(q, fd) != 0 || rs3d_parked_control(q, EPOLL_CTL_MOD, fd, EPOLLOUT) != 0)
        return -1;
    q->files[fd] = (struct rs3d_sending_file){.state = RS3D_SENDING,
                                              .file_fd = file_fd,
                                              .next_sent = -1,
                                              .offset = offset + moved,
                                              .left = length - moved,
                                              .begun_ns = rs3d_monotonic_ns()};
    q->sending++;
    return sent + moved;
}

/* Nothing more is sent to it, nor told of it. */
static inline void rs3d_parked_forget(struct rs3d_parked *q, int fd)
{
    struct rs3d_sending_file *it = rs3d_parked_file(q, fd);

    if (it == NULL)
        return;
    if (it->state == RS3D_SENT) {
        rs3d_parked_unlist(q, fd);
    } else {
        it->state = RS3D_NOT_SENDING;
        q->sending--;
    }
}

/* The next socket from `fd` on that is being sent to, or -1; and what it took since that was asked last. */
static inline int rs3d_parked_next_moved(struct rs3d_parked *q, int fd, int64_t *moved)
{
    while (fd < q->capacity && q->files[fd].state != RS3D_SENDING)
        fd++;
    if (fd >= q->capacity)
        return -1;
    *moved = q->files[fd].moved;
    q->files[fd].moved = 0;
    return fd;
}

/* ------------------------------------------------------------------------------------------- turns */

struct rs3d_parked_turn {
    int most;          /* sockets to look at, up to RS3D_PARKED_EVENTS */
    int64_t budget;    /* bytes that may still be sent */
    int events;        /* how many there were */
    int found;         /* sockets that are not being sent to, about which there was something */
    int sockets[RS3D_PARKED_EVENTS];
};

/* What is ready: files go on, everything else is put down. 0, or -1 with errno. */
static inline int rs3d_parked_turn(struct rs3d_parked *q, struct rs3d_parked_turn *turn)
{
    struct epoll_event events[RS3D_PARKED_EVENTS];

    do
        turn->events = epoll_wait(q->epoll_fd, events, turn->most, 0);
    while (turn->events < 0 && errno == EINTR);
    if (turn->events < 0)
        return -1;
    for (int i = 0; i < turn->events; i++) {
        int fd = events[i].data.fd;
        struct rs3d_sending_file *it = rs3d_parked_file(q, fd);

        if (fd == q->nudge_fd)
            rs3d_parked_take_nudge(q);
        else if (it == NULL || it->state != RS3D_SENDING)
            turn->sockets[turn->found++] = fd;
        else if (turn->budget > 0) /* else it is told of again in the next turn */
            turn->budget -= rs3d_parked_part(q, fd, turn->budget);
    }
    return 0;
}

/* Wait for a loop's epoll to be readable: 1, 0 when it was not in that time, or -1 with errno. */
static inline int rs3d_parked_sleep(int loop_fd, int64_t ns)
{
    struct pollfd watched = {.fd = loop_fd, .events = POLLIN};
    struct timespec most = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

    return ppoll(&watched, 1, &most, NULL);
}

/* Turns, for as long as nothing but files is about; see parkedsockets.pyi. One of the words above, or -1. */
static inline int rs3d_parked_wait(struct rs3d_parked *q, struct rs3d_parked_turn *turn, int loop_fd,
                                   int64_t patience_ns, int *slept)
{
    int64_t end_ns = rs3d_monotonic_ns() + patience_ns;

    for (;;) {
        int64_t left_ns = end_ns - rs3d_monotonic_ns(), most_ns = left_ns;
        int ready;

        if (left_ns <= 0) {
            rs3d_parked_nudge(q);
            return RS3D_WAIT_TIME;
        }
        if (q->first_sent >= 0) {
            int64_t linger_ns = q->files[q->first_sent].ended_ns + q->linger_ns - (end_ns - left_ns);
            if (linger_ns <= 0)
                return RS3D_WAIT_FOUND;
            most_ns = linger_ns < left_ns ? linger_ns : left_ns;
        }
        ready = rs3d_parked_sleep(loop_fd, 0);
        if (ready == 0) {
            *slept = 1;
            ready = rs3d_parked_sleep(loop_fd, most_ns);
        }
        if (ready < 0)
            return errno == EINTR ? RS3D_WAIT_OTHERS : -1;
        if (ready == 0)
            continue;
        if (rs3d_parked_turn(q, turn) != 0)
            return -1;
        if (turn->found)
            return RS3D_WAIT_FOUND;
        if (turn->events == 0)
            return RS3D_WAIT_OTHERS;
        if (turn->budget <= 0) {
            rs3d_parked_nudge(q);
            return RS3D_WAIT_BUDGET;
        }
    }
}

#endif
