# cython: auto_pickle=False
"""SHA-256 of a body's blocks, the tree over them, proofs; and SHA-256 of many messages at once.

    leaf  = SHA-256(block)          blocks of 1 MiB, the last one shorter; an empty body is one empty block
    node  = SHA-256(01 | left | right)
    root  = SHA-256(02 | leaf count (u64 BE) | length (u64 BE) | top)

Each level pairs its hashes from the left; an odd one at the end is promoted as it is. So the tree over n leaves is the
one of RFC 6962: left of the root are the largest power of two of leaves that is less than n. The top of one leaf is
that leaf.

A leaf has no prefix, unlike RFC 6962's: the payload hash that S3 clients sign is then the leaf of a small body. What
the prefix is for, that no node can be passed off as a leaf, the root's header does: it binds the number of leaves, and
with it the depth at which each leaf lies, and the length in bytes. `verify` derives the path's shape from these
numbers, never from the proof.

Appending keeps a frontier: the tops of the perfect subtrees so far, one for each bit set in the number of leaves. A new
leaf joins equal neighbours as a carry does in binary addition; at the end the frontier is folded from the right.
"""
cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memcmp

from bufview cimport GIL_FREE_BYTES, Py_buffer, PyBuffer_Release, open_readable
from variant cimport (
    RS3D_CPU_AVX2, RS3D_CPU_AVX512, RS3D_CPU_SHA, RS3D_CPU_SSE41, RS3D_CPU_SSSE3,
    initial_variant, runnable_variants, variant_index,
)

cdef extern from "merkle_impl.h":
    enum:
        RS3D_SHA_AVX512
        RS3D_SHA_SHANI
        RS3D_SHA_AVX2
        RS3D_SHA_SCALAR
    ctypedef struct rs3d_message:
        const unsigned char *data
        uint64_t bytes
    ctypedef struct rs3d_sha256:
        uint64_t bytes
    void rs3d_sha256_many(int variant, const rs3d_message *messages, size_t count, unsigned char *out) nogil
    void rs3d_sha256_start(rs3d_sha256 *s) nogil
    void rs3d_sha256_update(int variant, rs3d_sha256 *s, const unsigned char *data, size_t bytes) nogil
    void rs3d_sha256_end(int variant, rs3d_sha256 *s, unsigned char *out) nogil

LEAF_BYTES = 1 << 20
HASH_BYTES = 32

cdef enum:
    HASH = 32
    LEVELS = 64

# In the order of the numbers above.
cdef tuple VARIANTS = (
    ("avx512", RS3D_CPU_AVX512 | RS3D_CPU_AVX2 | RS3D_CPU_SHA | RS3D_CPU_SSE41 | RS3D_CPU_SSSE3),
    ("shani", RS3D_CPU_SHA | RS3D_CPU_SSE41 | RS3D_CPU_SSSE3),
    ("avx2", RS3D_CPU_AVX2),
    ("scalar", 0),
)
cdef int active = initial_variant("merkle", VARIANTS)


def variant():
    return VARIANTS[active][0]


def variants():
    return runnable_variants(VARIANTS)


def use_variant(str name not None):
    global active
    active = variant_index("merkle", VARIANTS, name)


# ------------------------------------------------------------------------------------------------ many messages


cdef bytes _hash_messages(const rs3d_message *messages, size_t count, uint64_t total):
    """Digests of `count` messages; `total` bytes decide whether dropping the GIL is worth it."""
    cdef bytes digests = bytes(count * HASH)
    cdef unsigned char *out = digests
    cdef int how = active
    if total >= GIL_FREE_BYTES:
        with nogil:
            rs3d_sha256_many(how, messages, count, out)
    else:
        rs3d_sha256_many(how, messages, count, out)
    return digests


cdef rs3d_message *_new_messages(size_t count) except NULL:
    cdef rs3d_message *messages = <rs3d_message *>malloc((count + 1) * sizeof(rs3d_message))
    if messages == NULL:
        raise MemoryError()
    return messages


def sha256(data):
    cdef Py_buffer view
    cdef rs3d_message message
    open_readable(data, &view)
    try:
        message.data = <const unsigned char *>view.buf
        message.bytes = view.len
        return _hash_messages(&message, 1, view.len)
    finally:
        PyBuffer_Release(&view)


def sha256_many(buffers):
    cdef list owners = list(buffers)
    cdef size_t count = len(owners), opened = 0, i
    cdef uint64_t total = 0
    cdef rs3d_message *messages = _new_messages(count)
    cdef Py_buffer *views = <Py_buffer *>malloc((count + 1) * sizeof(Py_buffer))
    try:
        if views == NULL:
            raise MemoryError()
        for i in range(count):
            open_readable(owners[i], &views[i])
            opened += 1
            messages[i].data = <const unsigned char *>views[i].buf
            messages[i].bytes = views[i].len
            total += views[i].len
        return _hash_messages(messages, count, total)
    finally:
        for i in range(opened):
            PyBuffer_Release(&views[i])
        free(views)
        free(messages)


def sha256_spans(data, ends):
    cdef Py_buffer view
    cdef tuple cuts = tuple(ends)
    cdef size_t count = len(cuts), i
    cdef Py_ssize_t start = 0, end
    cdef rs3d_message *messages = _new_messages(count)
    try:
        open_readable(data, &view)
        try:
            for i in range(count):
                end = cuts[i]
                if end < start or end > view.len:
                    raise ValueError(f"span {i} ends at {end}, not between {start} and {view.len}")
                messages[i].data = <const unsigned char *>view.buf + start
                messages[i].bytes = end - start
                start = end
            return _hash_messages(messages, count, start)
        finally:
            PyBuffer_Release(&view)
    finally:
        free(messages)


cdef bytes _leaves(const unsigned char *data, Py_ssize_t length, Py_ssize_t block_bytes):
    """Leaves of `length` bytes; an empty body has one."""
    cdef size_t count = max(1, (length + block_bytes - 1) // block_bytes), i
    cdef rs3d_message *messages = _new_messages(count)
    try:
        for i in range(count):
            messages[i].data = data + i * block_bytes
            messages[i].bytes = min(block_bytes, length - <Py_ssize_t>i * block_bytes)
        return _hash_messages(messages, count, length)
    finally:
        free(messages)


cdef int _check_block_bytes(Py_ssize_t block_bytes) except -1:
    if block_bytes < 1:
        raise ValueError(f"blocks of {block_bytes} bytes")
    return 0


def leaves(data, Py_ssize_t block_bytes=LEAF_BYTES):
    cdef Py_buffer view
    _check_block_bytes(block_bytes)
    open_readable(data, &view)
    try:
        return _leaves(<const unsigned char *>view.buf, view.len, block_bytes)
    finally:
        PyBuffer_Release(&view)


def check_leaves(data, expected, Py_ssize_t block_bytes=LEAF_BYTES):
    cdef Py_buffer wanted
    cdef bytes found = leaves(data, block_bytes)
    cdef const unsigned char *computed = found
    cdef size_t i
    open_readable(expected, &wanted)
    try:
        if wanted.len != len(found):
            raise ValueError(f"{wanted.len} bytes of leaves were expected, the data has {len(found)}")
        for i in range(<size_t>len(found) // HASH):
            if memcmp(computed + i * HASH, <const unsigned char *>wanted.buf + i * HASH, HASH) != 0:
                return i
        return -1
    finally:
        PyBuffer_Release(&wanted)


# ------------------------------------------------------------------------------------------------ the tree


cdef void _join(unsigned char *out, const unsigned char *left, const unsigned char *right) noexcept nogil:
    """out = node(left, right); `out` may be one of them."""
    cdef rs3d_sha256 s
    cdef unsigned char mark = 1
    rs3d_sha256_start(&s)
    rs3d_sha256_update(active, &s, &mark, 1)
    rs3d_sha256_update(active, &s, left, HASH)
    rs3d_sha256_update(active, &s, right, HASH)
    rs3d_sha256_end(active, &s, out)


cdef bytes _crown(uint64_t leaf_count, uint64_t length_bytes, const unsigned char *top):
    """The root over a top."""
    cdef unsigned char message[49]
    cdef unsigned char out[HASH]
    cdef rs3d_sha256 s
    cdef int i
    message[0] = 2
    for i in range(8):
        message[1 + i] = (leaf_count >> (56 - 8 * i)) & 0xff
        message[9 + i] = (length_bytes >> (56 - 8 * i)) & 0xff
    memcpy(message + 17, top, HASH)
    rs3d_sha256_start(&s)
    rs3d_sha256_update(active, &s, message, 49)
    rs3d_sha256_end(active, &s, out)
    return out[:HASH]


cdef bytearray _level_of(leaves):
    """A copy of the leaves to work on."""
    level = bytearray(leaves)
    if len(level) == 0 or len(level) % HASH:
        raise ValueError(f"{len(level)} bytes are not one or more leaves of {HASH}")
    return level


cdef size_t _climb(unsigned char *level, size_t count) noexcept nogil:
    """Replace a level by the one above it; returns its size."""
    cdef size_t pairs = count // 2, i
    for i in range(pairs):
        _join(level + i * HASH, level + 2 * i * HASH, level + (2 * i + 1) * HASH)
    if count & 1:
        memcpy(level + pairs * HASH, level + (count - 1) * HASH, HASH)
    return pairs + (count & 1)


def node(left, right):
    cdef bytes a = bytes(left), b = bytes(right)
    cdef unsigned char out[HASH]
    if len(a) != HASH or len(b) != HASH:
        raise ValueError(f"hashes of {len(a)} and {len(b)} bytes, not {HASH}")
    _join(out, a, b)
    return out[:HASH]


def root(leaves, uint64_t length_bytes):
    cdef bytearray level = _level_of(leaves)
    cdef unsigned char *hashes = level
    cdef size_t count = len(level) // HASH
    cdef uint64_t leaf_count = count
    with nogil:
        while count > 1:
            count = _climb(hashes, count)
    return _crown(leaf_count, length_bytes, hashes)


def prove(leaves, Py_ssize_t index):
    cdef bytearray level = _level_of(leaves)
    cdef unsigned char *hashes = level
    cdef size_t count = len(level) // HASH, at, sibling
    if index < 0 or <size_t>index >= count:
        raise ValueError(f"there is no leaf {index} among {count}")
    at = index
    path = bytearray()
    while count > 1:
        sibling = at ^ 1
        if sibling < count:
            path += hashes[sibling * HASH:(sibling + 1) * HASH]
        count = _climb(hashes, count)
        at //= 2
    return bytes(path)


def verify(root, leaf, uint64_t index, uint64_t leaf_count, uint64_t length_bytes, proof):
    cdef bytes wanted = bytes(root), path = bytes(proof), start = bytes(leaf)
    cdef const unsigned char *steps = path
    cdef size_t used = 0, available = len(path) // HASH
    cdef unsigned char top[HASH]
    cdef uint64_t at = index, count = leaf_count
    if len(wanted) != HASH or len(start) != HASH or len(path) % HASH or index >= leaf_count:
        return False
    memcpy(top, <const unsigned char *>start, HASH)
    while count > 1:
        if at ^ 1 < count:
            if used == available:
                return False
            if at & 1:
                _join(top, steps + used * HASH, top)
            else:
                _join(top, top, steps + used * HASH)
            used += 1
        at >>= 1
        count = (count >> 1) + (count & 1)
    return used == available and _crown(leaf_count, length_bytes, top) == wanted


@cython.final
cdef class TreeAppender:
    cdef rs3d_sha256 block            # the block being filled
    cdef unsigned char frontier[LEVELS * HASH]
    cdef int depth                    # subtrees in the frontier
    cdef readonly uint64_t leaf_count
    cdef readonly uint64_t length_bytes
    cdef readonly Py_ssize_t block_bytes
    cdef bint busy                    # a thread is inside, perhaps without the GIL
    cdef readonly bint ended

    def __cinit__(self, Py_ssize_t block_bytes=LEAF_BYTES):
        _check_block_bytes(block_bytes)
        self.block_bytes = block_bytes
        rs3d_sha256_start(&self.block)

    def __init__(self, block_bytes=LEAF_BYTES):
        pass

    cdef void plant(self, const unsigned char *leaf) noexcept:
        """Add a leaf: carry over as many equal subtrees as the count has trailing ones."""
        cdef uint64_t carry = self.leaf_count
        memcpy(self.frontier + self.depth * HASH, leaf, HASH)
        while carry & 1:
            _join(self.frontier + (self.depth - 1) * HASH, self.frontier + (self.depth - 1) * HASH,
                  self.frontier + self.depth * HASH)
            self.depth -= 1
            carry >>= 1
        self.depth += 1
        self.leaf_count += 1

    cdef bytes end_block(self):
        cdef unsigned char leaf[HASH]
        rs3d_sha256_end(active, &self.block, leaf)
        rs3d_sha256_start(&self.block)
        self.plant(leaf)
        return leaf[:HASH]

    cdef int fill(self, const unsigned char *data, Py_ssize_t length) except -1:
        with nogil:
            rs3d_sha256_update(active, &self.block, data, length)
        return 0

    cdef int enter(self) except -1:
        if self.busy:
            raise RuntimeError("another thread is appending to this tree")
        if self.ended:
            raise ValueError("this tree has ended")
        self.busy = True
        return 0

    def update(self, data):
        cdef Py_buffer view
        cdef const unsigned char *at
        cdef Py_ssize_t left, taken, whole
        self.enter()
        try:
            open_readable(data, &view)
            try:
                at = <const unsigned char *>view.buf
                left = view.len
                done = bytearray()
                if self.block.bytes:
                    taken = min(left, self.block_bytes - <Py_ssize_t>self.block.bytes)
                    self.fill(at, taken)
                    at += taken
                    left -= taken
                    if <Py_ssize_t>self.block.bytes == self.block_bytes:
                        done += self.end_block()
                whole = left - left % self.block_bytes
                if whole:
                    done += self.append_whole(at, whole)
                    at += whole
                    left -= whole
                if left:
                    self.fill(at, left)
                self.length_bytes += view.len
                return bytes(done)
            except MemoryError:
                self.ended = True  # part of the data went in, its leaves were not handed out
                raise
            finally:
                PyBuffer_Release(&view)
        finally:
            self.busy = False

    cdef bytes append_whole(self, const unsigned char *data, Py_ssize_t length):
        cdef bytes found = _leaves(data, length, self.block_bytes)
        cdef const unsigned char *hashes = found
        cdef size_t i
        for i in range(<size_t>len(found) // HASH):
            self.plant(hashes + i * HASH)
        return found

    def end(self):
        cdef unsigned char top[HASH]
        cdef int i
        cdef bytes last = b""
        self.enter()
        try:
            if self.block.bytes or self.leaf_count == 0:
                last = self.end_block()
            memcpy(top, self.frontier + (self.depth - 1) * HASH, HASH)
            for i in range(self.depth - 2, -1, -1):
                _join(top, self.frontier + i * HASH, top)
            self.ended = True
            return last, _crown(self.leaf_count, self.length_bytes, top)
        finally:
            self.busy = False


# ------------------------------------------------------------------------------------------------ self test

# FIPS 180-4 examples: SHA-256 of "abc", of nothing, and of the two-block message.
cdef tuple KNOWN = (
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
)
# Root over seven blocks of 100 bytes, computed by tests/oracles/merkle.py: promotion happens on two levels.
cdef str KNOWN_ROOT = "5cee044e8823401da1e205420605a894c04f0008d3bb54421af575300521bd72"


def selftest():
    global active
    cdef int before = active
    cdef int checks = 0
    body = bytes(range(256)) * 3
    try:
        for name in variants():
            use_variant(name)
            for message, known in KNOWN:
                if sha256_many([message] * 9).hex() != known * 9:
                    raise RuntimeError(f"kernel merkle ({name}): a wrong SHA-256 of a known message")
                checks += 1
            appender = TreeAppender(100)
            table = appender.update(body[:650])
            last, top = appender.end()
            if top.hex() != KNOWN_ROOT or root(table + last, 650).hex() != KNOWN_ROOT:
                raise RuntimeError(f"kernel merkle ({name}): a wrong root of a known tree")
            checks += 2
    finally:
        active = before
    return checks
