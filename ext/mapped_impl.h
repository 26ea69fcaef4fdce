/* Reading through a file mapping without dying of it.
 *
 * A page of a mapping that cannot be had (the file was truncated, the device reports an error, memory is poisoned)
 * raises SIGBUS in the thread that touches it. Here every touch is guarded: the thread registers the address range that
 * it is about to read and a place to jump back to; the handler jumps only for a fault inside the range registered by the
 * faulting thread, and hands every other SIGBUS to the handler that was there before.
 *
 * Rules that make the jump sound: guarded code holds no lock, allocates nothing, runs without the GIL and leaves through
 * one place; what it changes and is read after the jump is volatile. The handler is installed with SA_NODEFER, so that
 * jumping out leaves no signal blocked and sigsetjmp need not save the mask (that saves a system call).
 */
#ifndef RS3D_MAPPED_IMPL_H
#define RS3D_MAPPED_IMPL_H

#include <stddef.h>
#include <stdint.h>

#define MAPPED_GOOD ((ptrdiff_t)-1)  /* every block agrees */
#define MAPPED_FAULT ((ptrdiff_t)-2) /* a page could not be had; *fault is where it begins in the range */
#define MAPPED_ERROR ((ptrdiff_t)-3) /* errno is set */

/* Install the handler, or put it back in front where somebody replaced it (faulthandler, say). 0, or -1 with errno. */
int mapped_guard(void);

/* CRC32C of each block of [at, at + length) against `expected` (4 little-endian bytes a block): the first bad block's
 * index or one of the above. `at` may be any memory; only faults inside the range are caught. */
ptrdiff_t mapped_check(int variant, const unsigned char *at, size_t length, size_t block,
                       const unsigned char *expected, size_t *fault);

/* Making and dropping a mapping costs some 9 us here and each 64 KiB of page faults 4 us, copying 64 KiB that stay in the
 * second-level cache 2.5 us. Measured on warm files, us a MiB, mapping against reading: 4 KiB 2,200 / 220, 64 KiB 213 /
 * 93, 256 KiB 114 / 89, 1 MiB 83 / 92 (and 108 / 157 out of the processor's cache), 8 MiB 84 / 134. */
enum { READ_BELOW = 512 << 10 };

/* The same for a range of a file: through a mapping, or read piece by piece into a small buffer where that is quicker.
 * *fault is the offset in the range of the first byte that could not be had. */
ptrdiff_t mapped_check_file(int variant, int fd, int64_t offset, size_t length, size_t block,
                            const unsigned char *expected, size_t *fault);

/* Copy out of a mapping: 0 or MAPPED_FAULT; then the bytes before *fault's page may have been copied. */
ptrdiff_t mapped_copy(const unsigned char *at, size_t length, unsigned char *to, size_t *fault);

/* The same, and CRC32C of each block of what was copied against `expected`, as mapped_check: MAPPED_GOOD, the first bad
 * block's index, or MAPPED_FAULT; then the bytes copied are not to be used. */
ptrdiff_t mapped_copy_checked(int variant, const unsigned char *at, size_t length, unsigned char *to, size_t block,
                              const unsigned char *expected, size_t *fault);

/* Map a range of a file for reading. Returns the address of `offset`, or NULL with errno. */
const unsigned char *mapped_open(int fd, int64_t offset, size_t length);
void mapped_close(const unsigned char *at, size_t length);

/* Mappings that are kept, see the .c: register one of mapped_open (a slot, or -1 when all are taken), and let it go before
 * mapped_close. */
enum { MAPPED_HELD_LIMIT = 1024 };
int mapped_hold(const unsigned char *at, size_t length);
void mapped_let_go(int slot);

/* Whether every page of it is in memory, and none was ever replaced by zeros. Never waits. */
int mapped_is_whole(int slot, const unsigned char *at, size_t length);

/* Bytes of the range whose pages are in memory, by whole pages clipped to the range; -1 with errno. */
int64_t mapped_resident(int fd, int64_t offset, int64_t length);

#endif
