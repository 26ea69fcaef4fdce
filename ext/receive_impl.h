/* Bytes of a socket into memory, for as long as they come. */
#ifndef RS3D_RECEIVE_IMPL_H
#define RS3D_RECEIVE_IMPL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>

#include "socketwait.h"

/* Why a receiving ended; an error of the socket is -1 with errno. */
enum { RS3D_RECEIVE_DONE, RS3D_RECEIVE_END, RS3D_RECEIVE_SLOW, RS3D_RECEIVE_STOPPED };

/* One receiving: what it is to do, and, up to date whenever the function below returns, how far it came. */
struct rs3d_receiving {
    int socket_fd, stop_fd;
    char *data;
    int64_t length;      /* bytes wanted */
    int64_t patience_ns; /* what all waits may take together */
    int64_t received, waited_ns;
    const int *stop;     /* set by another thread: rs3d_set_stop */
};

static inline int rs3d_receive(struct rs3d_receiving *it)
{
    while (it->received < it->length) {
        ssize_t moved;

        if (__atomic_load_n(it->stop, __ATOMIC_ACQUIRE))
            return RS3D_RECEIVE_STOPPED;
        moved = recv(it->socket_fd, it->data + it->received, (size_t)(it->length - it->received), MSG_DONTWAIT);
        if (moved > 0) {
            it->received += moved;
        } else if (moved == 0) {
            return RS3D_RECEIVE_END;
        } else if (errno == EAGAIN) {
            int answer = rs3d_wait_for_socket(it->socket_fd, POLLIN, it->stop_fd, it->patience_ns, &it->waited_ns);
            if (answer != 0)
                return answer < 0 ? -1 : RS3D_RECEIVE_SLOW;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return RS3D_RECEIVE_DONE;
}

#endif
