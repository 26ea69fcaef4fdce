#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mapped_impl.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc_impl.c" /* a kernel is a leaf: it carries its own copy of the CRC rather than import another's */

typedef struct {
    uintptr_t start, end;
    uintptr_t fault;
    sigjmp_buf back;
} guard;

/* Mappings that are kept and read by code that nobody can jump out of (Python, OpenSSL): a page that cannot be had becomes
 * a page of zeros there, and whoever checks what was read finds that it is wrong. A slot is free when `start` is 0. */
typedef struct {
    _Atomic uintptr_t start;
    _Atomic uintptr_t end;
    atomic_int is_broken;
} held_mapping;

static held_mapping held[MAPPED_HELD_LIMIT];
static pthread_mutex_t holding = PTHREAD_MUTEX_INITIALIZER;

/* Initial-exec: a plain offset from the thread pointer. The general model may allocate on first use, which a signal
 * handler must not. */
static __thread guard *volatile active __attribute__((tls_model("initial-exec")));

static struct sigaction previous;
static volatile sig_atomic_t handed_on; /* `previous` is running, on a fault that is not ours */
static pthread_mutex_t installing = PTHREAD_MUTEX_INITIALIZER;

/* In the handler. mmap is a bare system call, hence harmless here. 0: it is not in a mapping that is held. */
static int replaced_by_zeros(uintptr_t address)
{
    const uintptr_t bytes = (uintptr_t)sysconf(_SC_PAGESIZE), page = address & ~(bytes - 1);
    for (int slot = 0; slot < MAPPED_HELD_LIMIT; slot++) {
        const uintptr_t start = atomic_load(&held[slot].start);
        if (!start || address < start || address >= atomic_load(&held[slot].end))
            continue;
        const int kept = errno;
        atomic_store(&held[slot].is_broken, 1);
        void *at = mmap((void *)page, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        errno = kept;
        return at != MAP_FAILED;
    }
    return 0;
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    guard *mine = active;
    const uintptr_t address = (uintptr_t)info->si_addr;
    if (mine && info->si_code > 0 /* raised by the processor, not sent by kill() */ && address >= mine->start &&
        address < mine->end) {
        mine->fault = address;
        active = NULL;
        siglongjmp(mine->back, 1);
    }
    if (info->si_code > 0 && replaced_by_zeros(address))
        return;
    /* Not ours. A previous handler may put its own predecessor back and raise again (faulthandler does), and that may
     * be this one: the second time round, and where there is none, the default action ends the process. */
    if (!handed_on && (previous.sa_flags & SA_SIGINFO) && previous.sa_sigaction) {
        handed_on = 1;
        previous.sa_sigaction(number, info, context);
        handed_on = 0;
        return;
    }
    if (!handed_on && previous.sa_handler == SIG_IGN && info->si_code <= 0)
        return; /* sent by somebody and ignored before: still ignored; a real fault cannot be */
    if (!handed_on && previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        handed_on = 1;
        previous.sa_handler(number);
        handed_on = 0;
        return;
    }
    signal(number, SIG_DFL);
    raise(number);
}

int mapped_guard(void)
{
    struct sigaction now, ours;
    if (sigaction(SIGBUS, NULL, &now) != 0)
        return -1;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigbus)
        return 0;
    int answer = 0;
    pthread_mutex_lock(&installing);
    if (sigaction(SIGBUS, NULL, &now) != 0) {
        answer = -1;
    } else if (!((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigbus)) {
        previous = now;
        memset(&ours, 0, sizeof ours);
        ours.sa_sigaction = on_sigbus;
        ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
        sigemptyset(&ours.sa_mask);
        answer = sigaction(SIGBUS, &ours, NULL);
    }
    pthread_mutex_unlock(&installing);
    return answer;
}

/* Where in the range the page begins that could not be had. */
static size_t faulting_page(const guard *here)
{
    const uintptr_t page = here->fault & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    return page > here->start ? (size_t)(page - here->start) : 0;
}

ptrdiff_t mapped_check(int variant, const unsigned char *at, size_t length, size_t block,
                       const unsigned char *expected, size_t *fault)
{
    guard here = {.start = (uintptr_t)at, .end = (uintptr_t)at + length};
    if (sigsetjmp(here.back, 0)) {
        *fault = faulting_page(&here);
        return MAPPED_FAULT;
    }
    active = &here;
    const ptrdiff_t bad = crc32c_first_bad(variant, at, length, block, expected);
    active = NULL;
    return bad;
}

ptrdiff_t mapped_copy(const unsigned char *at, size_t length, unsigned char *to, size_t *fault)
{
    guard here = {.start = (uintptr_t)at, .end = (uintptr_t)at + length};
    if (sigsetjmp(here.back, 0)) {
        *fault = faulting_page(&here);
        return MAPPED_FAULT;
    }
    active = &here;
    memcpy(to, at, length);
    active = NULL;
    return 0;
}

/* What is copied stays in the nearest cache until it is checked; a shorter one pays for the folds' ends. */
enum { COPIED_AT_ONCE = 16 << 10 };

/* The copy is what is checked, so what is handed out was: the page may change between the two. */
static ptrdiff_t copy_checked(int variant, const unsigned char *at, size_t length, unsigned char *to, size_t block,
                              const unsigned char *expected)
{
    for (ptrdiff_t index = 0; length; index++) {
        size_t left = length < block ? length : block;
        unsigned char found[4];
        uint64_t crc = 0;
        length -= left;
        for (size_t span; left; left -= span, at += span, to += span) {
            span = left < COPIED_AT_ONCE ? left : COPIED_AT_ONCE;
            memcpy(to, at, span);
            crc = crc_update(&crc_poly_32c, variant, crc, to, span);
        }
        store32(found, (uint32_t)crc);
        if (memcmp(found, expected + 4 * index, 4) != 0)
            return index;
    }
    return MAPPED_GOOD;
}

ptrdiff_t mapped_copy_checked(int variant, const unsigned char *at, size_t length, unsigned char *to, size_t block,
                              const unsigned char *expected, size_t *fault)
{
    guard here = {.start = (uintptr_t)at, .end = (uintptr_t)at + length};
    if (sigsetjmp(here.back, 0)) {
        *fault = faulting_page(&here);
        return MAPPED_FAULT;
    }
    active = &here;
    const ptrdiff_t answer = copy_checked(variant, at, length, to, block, expected);
    active = NULL;
    return answer;
}

enum { MINCORE_PAGES = 4096 }; /* 16 MiB a call */

/* Whoever maps so much has use for it all. */
enum { LARGE_FROM = 512 << 10 };

/* No MAP_POPULATE: measured on warm files of 64 KiB to 8 MiB, faulting around (16 pages a fault, or a large folio) beats
 * populating by up to 20 %, and MADV_SEQUENTIAL would also age the pages out of the cache. MADV_HUGEPAGE is for what is
 * not in the cache yet: the fault then reads it in folios of up to 2 MiB instead of pages (and up to 4 MiB ahead), where
 * the file system has them, and sendfile of such a MiB costs 125 us instead of 214. A kernel without them refuses the
 * advice, and all is as before. */
const unsigned char *mapped_open(int fd, int64_t offset, size_t length)
{
    const int64_t page = sysconf(_SC_PAGESIZE), lead = offset % page;
    void *at = mmap(NULL, length + (size_t)lead, PROT_READ, MAP_SHARED, fd, offset - lead);
#if defined(MADV_HUGEPAGE)
    if (at != MAP_FAILED && length >= LARGE_FROM) {
        const int kept = errno;
        madvise(at, length + (size_t)lead, MADV_HUGEPAGE);
        errno = kept;
    }
#endif
    return at == MAP_FAILED ? NULL : (const unsigned char *)at + lead;
}

void mapped_close(const unsigned char *at, size_t length)
{
    const uintptr_t lead = (uintptr_t)at % (uintptr_t)sysconf(_SC_PAGESIZE);
    munmap((void *)((uintptr_t)at - lead), length + lead);
}

int mapped_hold(const unsigned char *at, size_t length)
{
    int found = -1;
    pthread_mutex_lock(&holding);
    for (int slot = 0; slot < MAPPED_HELD_LIMIT && found < 0; slot++) {
        if (atomic_load(&held[slot].start))
            continue;
        found = slot;
        atomic_store(&held[slot].is_broken, 0);
        atomic_store(&held[slot].end, (uintptr_t)at + length);
        atomic_store(&held[slot].start, (uintptr_t)at);
    }
    pthread_mutex_unlock(&holding);
    return found;
}

void mapped_let_go(int slot)
{
    atomic_store(&held[slot].start, 0);
}

int mapped_is_whole(int slot, const unsigned char *at, size_t length)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)at & ~(page - 1);
    const uintptr_t end = (uintptr_t)at + length;
    unsigned char seen[MINCORE_PAGES];
    for (uintptr_t from = start; from < end; from += page * MINCORE_PAGES) {
        const size_t span = end - from < page * MINCORE_PAGES ? end - from : page * MINCORE_PAGES;
        const size_t pages = (span + page - 1) / page;
        unsigned char all = 1;
        if (mincore((void *)from, span, seen) != 0)
            return 0;
        for (size_t i = 0; i < pages; i++)
            all &= seen[i];
        if (!(all & 1))
            return 0;
    }
    return !atomic_load(&held[slot].is_broken);
}

/* See READ_BELOW. The window stays in the processor's second-level cache; larger and smaller ones measured slower. */
enum { WINDOW = 64 << 10 };

/* A file that is too short is called truncated even where a block before the end is bad, as the mapped path has it. */
static ptrdiff_t wrong_or_truncated(int fd, int64_t offset, size_t length, ptrdiff_t index, size_t *fault)
{
    struct stat now;
    if (fstat(fd, &now) != 0)
        return MAPPED_ERROR;
    if (now.st_size >= offset + (int64_t)length)
        return index;
    *fault = now.st_size > offset ? (size_t)(now.st_size - offset) : 0;
    return MAPPED_FAULT;
}

static ptrdiff_t check_by_reading(int variant, int fd, int64_t offset, size_t length, size_t block,
                                  const unsigned char *expected, size_t *fault)
{
    unsigned char window[WINDOW], found[4];
    size_t done = 0, in_block = 0;
    ptrdiff_t index = 0;
    uint64_t crc = 0;
    while (done < length) {
        const size_t want = length - done < WINDOW ? length - done : WINDOW;
        const ssize_t got = pread(fd, window, want, offset + (int64_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno != EIO)
            return MAPPED_ERROR;
        if (got <= 0) {
            *fault = done;
            return MAPPED_FAULT;
        }
        for (size_t at = 0; at < (size_t)got;) {
            const size_t span = block - in_block < (size_t)got - at ? block - in_block : (size_t)got - at;
            crc = crc_update(&crc_poly_32c, variant, crc, window + at, span);
            at += span;
            in_block += span;
            if (in_block == block || done + at == length) {
                store32(found, (uint32_t)crc);
                if (memcmp(found, expected + 4 * index, 4) != 0)
                    return wrong_or_truncated(fd, offset, length, index, fault);
                index++;
                in_block = 0;
                crc = 0;
            }
        }
        done += (size_t)got;
    }
    return MAPPED_GOOD;
}

ptrdiff_t mapped_check_file(int variant, int fd, int64_t offset, size_t length, size_t block,
                            const unsigned char *expected, size_t *fault)
{
    if (length < READ_BELOW)
        return check_by_reading(variant, fd, offset, length, block, expected, fault);
    const unsigned char *at = mapped_open(fd, offset, length);
    if (!at)
        return MAPPED_ERROR;
    const ptrdiff_t answer = mapped_check(variant, at, length, block, expected, fault);
    mapped_close(at, length);
    return answer;
}

/* cachestat(2), Linux 6.5: counts cached pages without a mapping, some 2 µs a MiB where mmap and mincore take 28. C
 * libraries have no wrapper yet; the number is the same on all architectures. */
enum { CACHESTAT = 451 };

typedef struct {
    uint64_t offset, length;
} cachestat_range_t;

typedef struct {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
} cachestat_t;

/* Whether every page of the range is in the page cache; 0 also where the kernel does not say. */
static int all_cached(int fd, int64_t offset, int64_t length, size_t page)
{
    static _Atomic int unknown;
    cachestat_range_t range = {(uint64_t)offset, (uint64_t)length};
    cachestat_t found;
    if (length == 0 || atomic_load_explicit(&unknown, memory_order_relaxed))
        return 0;
    if (syscall(CACHESTAT, fd, &range, &found, 0) != 0) {
        if (errno == ENOSYS)
            atomic_store_explicit(&unknown, 1, memory_order_relaxed);
        return 0;
    }
    return found.cached == (range.offset + range.length - 1) / page - range.offset / page + 1;
}

int64_t mapped_resident(int fd, int64_t offset, int64_t length)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char seen[MINCORE_PAGES];
    int64_t resident = 0;
    if (all_cached(fd, offset, length, page))
        return length;
    const int64_t end = offset + length;
    int64_t start = offset - offset % (int64_t)page;
    while (start < end) {
        const size_t span = (uint64_t)(end - start) < page * MINCORE_PAGES ? (size_t)(end - start)
                                                                          : page * MINCORE_PAGES;
        void *at = mmap(NULL, span, PROT_READ, MAP_SHARED, fd, start);
        if (at == MAP_FAILED)
            return -1;
        const int failed = mincore(at, span, seen), reason = errno;
        munmap(at, span);
        if (failed) {
            errno = reason;
            return -1;
        }
        for (size_t i = 0; i * page < span; i++) {
            const int64_t from = start + (int64_t)(i * page) > offset ? start + (int64_t)(i * page) : offset;
            const int64_t to = start + (int64_t)((i + 1) * page) < end ? start + (int64_t)((i + 1) * page) : end;
            resident += seen[i] & 1 ? to - from : 0;
        }
        start += (int64_t)span;
    }
    return resident;
}
