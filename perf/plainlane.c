/* The lane of loadclient.py for requests whose answers are looked at no further than their heads: see plainlane.py.
 *
 * One epoll loop, one request in flight on each connection. No allocation, and no Python, between two requests: on a
 * machine that it shares with the servers, what the client costs is taken from them, and most from the quickest. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

enum {
    LANE_DONE,    /* all that were sent are answered, and no more are: time is up, or requests are over */
    LANE_MORE,    /* all requests that there were have been sent; some may be unanswered */
    LANE_CLOSED,  /* connection `at` was closed before its answer began */
    LANE_CUT,     /* it was closed within its answer */
    LANE_CHUNKED, /* its answer comes in chunks, which this lane does not know */
    LANE_WRONG,   /* its answer has another status, length or form */
    LANE_SILENT,  /* nothing came from anywhere for `patience_ms` */
    LANE_FAILED,  /* errno tells */
};
enum { LANE_HEAD_BYTES = 16384, LANE_EVENTS = 64 };

struct lane_request {
    const char *head, *body;
    int64_t head_bytes, body_bytes;
    int64_t length; /* of the answer's body, or what its head says of it; -1 is not checked */
    int32_t status, is_head;
};

struct lane_link {
    int32_t fd, is_busy, is_second_try, is_watched_for_room;
    const struct lane_request *request;
    int64_t sent, head_filled, body_left, received, started_ns;
    char head[LANE_HEAD_BYTES];
};

struct lane {
    const struct lane_request *const *requests; /* `count` of them, of which `next` is the next to be sent */
    int64_t count, next;
    double *latencies_s; /* `answered` of them; with room for the answers to all requests, and one of each link */
    int64_t answered, body_bytes;
    struct lane_link *links;
    int64_t deadline_ns; /* by CLOCK_MONOTONIC; what is sent by then is answered */
    int32_t link_count, epoll_fd, patience_ms;
    int32_t at; /* the link that something happened to */
};

enum { LANE_DROPPED_BYTES = 1 << 20 }; /* of an answer's body, at once */

static int64_t lane_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int lane_watch(struct lane *lane, struct lane_link *link, int op, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = (uint32_t)(link - lane->links)};
    return epoll_ctl(lane->epoll_fd, op, link->fd, &event);
}

/* Send what the socket takes of the link's request. */
static int lane_send(struct lane *lane, struct lane_link *link)
{
    const struct lane_request *r = link->request;
    const int64_t all = r->head_bytes + r->body_bytes;
    while (link->sent < all) {
        struct iovec parts[2];
        int count = 0;
        if (link->sent < r->head_bytes)
            parts[count++] = (struct iovec){(void *)(r->head + link->sent), (size_t)(r->head_bytes - link->sent)};
        const int64_t of_body = link->sent > r->head_bytes ? link->sent - r->head_bytes : 0;
        if (of_body < r->body_bytes)
            parts[count++] = (struct iovec){(void *)(r->body + of_body), (size_t)(r->body_bytes - of_body)};
        const struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        const ssize_t sent = sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            link->sent += sent;
        } else if (errno == EAGAIN) {
            if (link->is_watched_for_room)
                return 0;
            link->is_watched_for_room = 1;
            return lane_watch(lane, link, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
        } else if (errno == EPIPE || errno == ECONNRESET) {
            link->sent = all; /* closed meanwhile: who receives hears of it, too, and knows what that means */
        } else if (errno != EINTR) {
            return -1;
        }
    }
    if (!link->is_watched_for_room)
        return 0;
    link->is_watched_for_room = 0;
    return lane_watch(lane, link, EPOLL_CTL_MOD, EPOLLIN);
}

static int lane_begin(struct lane *lane, struct lane_link *link)
{
    link->sent = link->head_filled = link->received = 0;
    link->body_left = -1;
    return lane_send(lane, link);
}

/* A field's value in a head that ends with an empty line; NULL where it is not there. `name` is lower case, and has the
 * line's end before it and the colon behind. */
static const char *lane_field(const char *head, size_t head_bytes, const char *name)
{
    const size_t name_bytes = strlen(name);
    for (const char *at = head; (at = memchr(at, '\r', (size_t)(head + head_bytes - at))) != NULL; at++)
        if ((size_t)(head + head_bytes - at) > name_bytes && strncasecmp(at, name, name_bytes) == 0)
            return at + name_bytes;
    return NULL;
}

/* What the head of an answer says. The number of body bytes that came with it goes to `received`. */
static int lane_read_head(struct lane_link *link, const struct lane_request *r, size_t head_bytes)
{
    const char *value;
    int64_t length = -1;
    int status = 0;
    for (int i = 9; i < 12; i++)
        status = 10 * status + (link->head[i] - '0');
    if (head_bytes < 13 || status != r->status)
        return LANE_WRONG;
    if ((value = lane_field(link->head, head_bytes, "\r\ncontent-length:")) != NULL) {
        for (length = 0; *value == ' '; value++) {}
        for (; *value >= '0' && *value <= '9' && length < INT64_MAX / 16; value++)
            length = 10 * length + (*value - '0');
        if (*value != '\r')
            return LANE_WRONG;
    }
    if (r->length >= 0 && length != r->length && (length >= 0 || r->is_head))
        return LANE_WRONG;
    if (r->is_head || status == 204 || status == 304)
        link->body_left = 0;
    else if (length >= 0)
        link->body_left = length;
    else
        return lane_field(link->head, head_bytes, "\r\ntransfer-encoding: chunked") ? LANE_CHUNKED : LANE_WRONG;
    link->received = link->head_filled - (int64_t)head_bytes;
    link->body_left -= link->received;
    return link->body_left < 0 ? LANE_WRONG : LANE_DONE;
}

/* Take what has arrived. LANE_DONE also where the answer goes on; it is whole when `body_left` is 0. Of the body the
 * kernel counts the bytes and drops them: copying them would cost more than a server takes to send them, and of two
 * that share one processor with the client both would be as fast as that. */
static int lane_receive(struct lane_link *link, const struct lane_request *r)
{
    for (;;) {
        const int in_head = link->body_left < 0;
        char *to = in_head ? link->head + link->head_filled : NULL;
        const size_t room = in_head ? (size_t)(LANE_HEAD_BYTES - link->head_filled) : LANE_DROPPED_BYTES;
        if (!room)
            return LANE_WRONG;
        const ssize_t count = recv(link->fd, to, room, MSG_DONTWAIT | (in_head ? 0 : MSG_TRUNC));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && errno == EAGAIN)
            return LANE_DONE;
        if (count < 0 && errno != ECONNRESET)
            return LANE_FAILED;
        if (count <= 0)
            return in_head && !link->head_filled && !link->is_second_try ? LANE_CLOSED : LANE_CUT;
        if (in_head) {
            link->head_filled += count;
            const char *end = memmem(link->head, (size_t)link->head_filled, "\r\n\r\n", 4);
            if (end == NULL)
                continue;
            const int answer = lane_read_head(link, r, (size_t)(end + 4 - link->head));
            if (answer != LANE_DONE)
                return answer;
        } else {
            link->received += count;
            link->body_left -= count;
            if (link->body_left < 0)
                return LANE_WRONG;
        }
        if (link->body_left == 0)
            return LANE_DONE;
    }
}

/* The next request for a link that has none. */
static int lane_next(struct lane *lane, struct lane_link *link, int64_t now_ns)
{
    if (now_ns >= lane->deadline_ns || lane->next >= lane->count)
        return 0;
    link->request = lane->requests[lane->next++];
    link->is_busy = 1;
    link->is_second_try = 0;
    link->started_ns = now_ns;
    return lane_begin(lane, link);
}

/* Link `at` has a new connection. The request that it had is sent once more, its time goes on. */
int lane_connected(struct lane *lane)
{
    struct lane_link *link = &lane->links[lane->at];
    link->is_watched_for_room = 0;
    link->is_second_try = link->is_busy;
    if (lane_watch(lane, link, EPOLL_CTL_ADD, EPOLLIN) != 0 || (link->is_busy && lane_begin(lane, link) != 0))
        return LANE_FAILED;
    return LANE_DONE;
}

/* Go on until something happens that the caller has to see to. Links that have no request are given one first. */
int lane_run(struct lane *lane)
{
    struct epoll_event events[LANE_EVENTS];
    int64_t busy = 0;
    for (int i = 0; i < lane->link_count; i++) {
        struct lane_link *link = &lane->links[i];
        if (!link->is_busy && lane_next(lane, link, lane_now_ns()) != 0)
            return LANE_FAILED;
        busy += link->is_busy;
    }
    while (busy) {
        const int count = epoll_wait(lane->epoll_fd, events, LANE_EVENTS, lane->patience_ms);
        if (count == 0)
            return LANE_SILENT;
        if (count < 0 && errno != EINTR)
            return LANE_FAILED;
        for (int i = 0; i < count; i++) {
            struct lane_link *link = &lane->links[events[i].data.u32];
            if (!link->is_busy) { /* closed after its last answer: nobody asks it anything */
                if (lane_watch(lane, link, EPOLL_CTL_DEL, 0) != 0)
                    return LANE_FAILED;
                continue;
            }
            lane->at = (int32_t)(link - lane->links);
            if (events[i].events & EPOLLOUT && lane_send(lane, link) != 0)
                return LANE_FAILED;
            if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                continue;
            const int answer = lane_receive(link, link->request);
            if (answer != LANE_DONE)
                return answer;
            if (link->body_left != 0)
                continue;
            const int64_t now_ns = lane_now_ns();
            lane->latencies_s[lane->answered++] = (double)(now_ns - link->started_ns) * 1e-9;
            lane->body_bytes += link->received > link->request->body_bytes ? link->received : link->request->body_bytes;
            link->is_busy = 0;
            busy--;
            if (lane_next(lane, link, now_ns) != 0)
                return LANE_FAILED;
            if (link->is_busy)
                busy++;
            else if (now_ns < lane->deadline_ns)
                return LANE_MORE;
        }
    }
    return LANE_DONE;
}
