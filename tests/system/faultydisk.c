/* A disk that fails or dawdles, put before the C library by LD_PRELOAD: what files below one directory do is in the
 * hands of a control block that a test maps and changes while the daemon runs. Nothing is done while `where` is 0. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { LOG = 1, BLOBS = 2, CATALOG = 4, CLASSES = 3 };
enum { WRITES = 1, SYNCS = 2 };

/* The layout is that of `_CONTROL` in faultydisk.py. */
struct control {
    uint32_t where;       /* classes of files, or 0: no fault */
    uint32_t calls;       /* WRITES, SYNCS or both */
    uint32_t error;       /* errno to fail with; 0: none */
    uint32_t shortened;   /* 1: a write puts half of its bytes */
    uint32_t per_million; /* how many of the calls are hit */
    uint32_t delay_us;    /* a call that is hit waits so long first */
    uint32_t hit[CLASSES];
};

static struct control *control;
static char root[4096];
static size_t root_bytes;
static __thread uint64_t chance;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTYDISK_CONTROL"), *below = getenv("FAULTYDISK_ROOT");
    if (!path || !below || strlen(below) >= sizeof root)
        return;
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0)
        return;
    void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (page == MAP_FAILED)
        return;
    strcpy(root, below);
    root_bytes = strlen(root);
    control = page;
}

static int class_of(int descriptor)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= (ssize_t)root_bytes)
        return -1;
    path[length] = 0;
    if (strncmp(path, root, root_bytes))
        return -1;
    static const char *const names[CLASSES] = {"/log", "/blobs", "/catalog"};
    for (int class = 0; class < CLASSES; class++)
        if (!strncmp(path + root_bytes, names[class], strlen(names[class])))
            return class;
    return -1;
}

/* Whether this call is hit; it has waited then. */
static int is_hit(int descriptor, uint32_t call)
{
    if (!control || !control->where || !(control->calls & call))
        return 0;
    int class = class_of(descriptor);
    if (class < 0 || !(control->where & (1u << class)))
        return 0;
    if (!chance)
        chance = ((uint64_t)getpid() << 32) ^ (uintptr_t)&chance ^ (uint64_t)time(NULL) ^ 1;
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    if (chance % 1000000 >= control->per_million)
        return 0;
    __atomic_add_fetch(&control->hit[class], 1, __ATOMIC_RELAXED);
    if (control->delay_us)
        usleep(control->delay_us);
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITE(name, last)                                                                                              \
    ssize_t name(int descriptor, const void *data, size_t count, last offset)                                          \
    {                                                                                                                  \
        if (is_hit(descriptor, WRITES)) {                                                                              \
            if (control->error) {                                                                                      \
                errno = (int)control->error;                                                                           \
                return -1;                                                                                             \
            }                                                                                                          \
            if (control->shortened && count > 1)                                                                       \
                count /= 2;                                                                                            \
        }                                                                                                              \
        return REAL(name)(descriptor, data, count, offset);                                                            \
    }

#define WRITE_VECTOR(name, last)                                                                                       \
    ssize_t name(int descriptor, const struct iovec *parts, int count, last offset)                                    \
    {                                                                                                                  \
        if (is_hit(descriptor, WRITES)) {                                                                              \
            if (control->error) {                                                                                      \
                errno = (int)control->error;                                                                           \
                return -1;                                                                                             \
            }                                                                                                          \
            if (control->shortened && count > 0 && parts[0].iov_len > 1) {                                             \
                struct iovec half = {parts[0].iov_base, parts[0].iov_len / 2};                                         \
                return REAL(name)(descriptor, &half, 1, offset);                                                       \
            }                                                                                                          \
        }                                                                                                              \
        return REAL(name)(descriptor, parts, count, offset);                                                           \
    }

#define SYNC(name)                                                                                                     \
    int name(int descriptor)                                                                                           \
    {                                                                                                                  \
        if (is_hit(descriptor, SYNCS) && control->error) {                                                             \
            errno = (int)control->error;                                                                               \
            return -1;                                                                                                 \
        }                                                                                                              \
        return REAL(name)(descriptor);                                                                                 \
    }

WRITE(pwrite, off_t)
WRITE(pwrite64, off64_t)
WRITE_VECTOR(pwritev, off_t)
WRITE_VECTOR(pwritev64, off64_t)
SYNC(fsync)
SYNC(fdatasync)
