# cython: auto_pickle=False
"""Sealing and opening a blob in frames: AES-256-GCM or ChaCha20-Poly1305 over 64 KiB of plaintext at a time.

    blob    = frame 0 | frame 1 | ... | final frame
    frame   = ciphertext (as long as its plaintext) | tag (16)
    nonce   = prefix (7, random, one a blob) | frame number (u32 BE) | finality (1 for the last frame, else 0)
    AAD     = "rs3d/fr1" (8) | algorithm (u8) | frame number (u32 BE) | finality (u8) | blob id (1-255)

Every frame but the last has exactly 65,536 bytes of plaintext; the last has 1 to 65,536, and an empty blob is one empty
final frame. So the sealed length follows from the plain length, and the other way round, and a range reads its frames
only.

This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizar: Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance, CRYPTO 2015): position and finality are part of each nonce, hence a frame moved, dropped,
repeated or cut off does not open. The AAD adds the blob's id: a frame of another blob does not open even under the same
key and prefix. A data key is random and used for one blob, so a nonce can repeat only if one sealer
sealed one position twice; FrameSealer counts by itself, forwards, and takes numbers before it drops the GIL. GCM's
limit of 2**32 invocations a key is the counter's own; 2**32 frames are 256 TiB.

The AEAD itself is a library's, in one of three ways:
* libcrypto: the system's OpenSSL, bound at run time; the whole loop runs without the GIL in one go;
* libgcrypt: likewise, from 1.10 on;
* cryptography: that package's own OpenSSL through `encrypt_into`; the GIL is dropped and taken again at every frame,
  which is a wait at every frame while another thread computes (measured: a MiB takes twice as long then).
Which is fastest depends on the processor. OpenSSL uses VAES only in its AVX-512 form, and only from 3.1 on; so with
AVX-512 it is libcrypto, or the package where libcrypto is older. libgcrypt uses VAES with AVX2: it is the default where
there is VAES without AVX-512 (Zen 3, Alder Lake), and runs AES-GCM and ChaCha20-Poly1305 1.3 to 1.6 times as fast there
as OpenSSL, even 4.0 (perf/kernel_benches/gcm.py). In all other cases libcrypto is the default where it is there.
"""
import enum
import importlib
import importlib.util

cimport cython

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.string cimport memset

from bufview cimport Py_buffer, PyBuffer_Release, open_readable, open_writable
from variant cimport RS3D_CPU_AVX512, RS3D_CPU_VAES, getenv, rs3d_cpu_features

cdef extern from "gcm_impl.h":
    enum:
        RS3D_FRAME_BYTES
        RS3D_TAG_BYTES
        RS3D_KEY_BYTES
        RS3D_PREFIX_BYTES
        RS3D_NONCE_BYTES
        RS3D_BLOB_ID_LIMIT
        RS3D_AES_256_GCM
        RS3D_CHACHA20_POLY1305
    ctypedef struct rs3d_frames:
        int algorithm
        unsigned char key[32]
        size_t aad_bytes
    void rs3d_frames_init(rs3d_frames *f, int algorithm, const unsigned char *key, const unsigned char *prefix,
                          const unsigned char *blob_id, size_t blob_id_bytes) nogil
    void rs3d_frames_wipe(rs3d_frames *f) nogil
    void rs3d_frame_names(const rs3d_frames *f, unsigned int frame, int final, unsigned char *nonce,
                          unsigned char *aad) nogil
    enum:
        RS3D_BY_LIBCRYPTO
        RS3D_BY_LIBGCRYPT
    int rs3d_libgcrypt_load()
    int rs3d_libcrypto_load()
    unsigned long rs3d_libcrypto_version()
    int rs3d_frames_seal(int library, const rs3d_frames *f, unsigned int first, int ends, const unsigned char *data,
                         size_t data_bytes, unsigned char *out) nogil
    int rs3d_frames_open(int library, const rs3d_frames *f, unsigned int first, int ends, const unsigned char *data,
                         size_t data_bytes, unsigned char *out, unsigned int *bad) nogil
    Py_ssize_t rs3d_frame_resident(int fd, unsigned int frame, unsigned char *sealed, size_t bytes) nogil

FRAME_BYTES = RS3D_FRAME_BYTES
TAG_BYTES = RS3D_TAG_BYTES
KEY_BYTES = RS3D_KEY_BYTES
PREFIX_BYTES = RS3D_PREFIX_BYTES
BLOB_ID_LIMIT_BYTES = RS3D_BLOB_ID_LIMIT
SEALED_FRAME_BYTES = RS3D_FRAME_BYTES + RS3D_TAG_BYTES
FRAME_LIMIT = 1 << 32

cdef enum:
    BY_PACKAGE = 2

# In the order of RS3D_BY_LIBCRYPTO, RS3D_BY_LIBGCRYPT, BY_PACKAGE.
cdef tuple NAMES = ("libcrypto", "libgcrypt", "cryptography")


class Algorithm(enum.IntEnum):
    AES_256_GCM = RS3D_AES_256_GCM
    CHACHA20_POLY1305 = RS3D_CHACHA20_POLY1305


class FrameForged(Exception):
    def __init__(self, frame):
        super().__init__(f"frame {frame} is not what was sealed at this position of this blob")
        self.frame = frame


# ------------------------------------------------------------------------------------------------ which library


cdef object _aead_module():
    return importlib.import_module("cryptography.hazmat.primitives.ciphers.aead")


cdef object _invalid_tag = None


cdef object _invalid_tag_error():
    """What the package raises for a frame that does not open. Looked up once: an import statement costs 2 us each."""
    global _invalid_tag
    if _invalid_tag is None:
        _invalid_tag = importlib.import_module("cryptography.exceptions").InvalidTag
    return _invalid_tag


cdef object _runnable():
    found = []
    if rs3d_libcrypto_load() == 0:
        found.append("libcrypto")
    if rs3d_libgcrypt_load() == 0:
        found.append("libgcrypt")
    if importlib.util.find_spec("cryptography") is not None:
        found.append("cryptography")
    return tuple(found)


cdef int _variant_called(str wanted) except -1:
    runnable = _runnable()
    if wanted not in NAMES:
        raise ValueError(f"kernel gcm has no variant {wanted!r}; it has {', '.join(NAMES)}")
    if wanted not in runnable:
        raise RuntimeError(f"kernel gcm: {wanted} is not usable here; there is {', '.join(runnable) or 'nothing'}")
    return NAMES.index(wanted)


cdef int _first_variant() except -1:
    """The one that the environment demands, else the fastest here; the module's docstring says why."""
    cdef const char *demanded = getenv(b"RS3D_KERNEL_GCM")
    cdef unsigned cpu = rs3d_cpu_features()
    if demanded != NULL and demanded[0] != 0:
        return _variant_called((<bytes>demanded).decode("utf-8", "replace"))
    runnable = _runnable()
    if not runnable:
        raise RuntimeError("kernel gcm: there is neither libcrypto.so.3, libgcrypt.so.20 nor the package cryptography")
    if cpu & RS3D_CPU_AVX512:
        if rs3d_libcrypto_version() < 0x30100000 and "cryptography" in runnable:
            return BY_PACKAGE
    elif cpu & RS3D_CPU_VAES and "libgcrypt" in runnable:
        return RS3D_BY_LIBGCRYPT
    return _variant_called(runnable[0])


cdef int active = _first_variant()


def variants():
    return _runnable()


def variant():
    return NAMES[active]


def use_variant(str name not None):
    global active
    active = _variant_called(name)


# ------------------------------------------------------------------------------------------------ lengths


def frame_count(long long plain_bytes):
    if plain_bytes < 0 or plain_bytes > <long long>RS3D_FRAME_BYTES << 32:
        raise ValueError(f"{plain_bytes} bytes cannot be sealed as one blob")
    return max(1, (plain_bytes + RS3D_FRAME_BYTES - 1) // RS3D_FRAME_BYTES)


def sealed_length(long long plain_bytes):
    return plain_bytes + frame_count(plain_bytes) * RS3D_TAG_BYTES


def plain_length(long long sealed_bytes):
    cdef long long frames = (sealed_bytes + SEALED_FRAME_BYTES - 1) // SEALED_FRAME_BYTES
    cdef long long plain = sealed_bytes - frames * RS3D_TAG_BYTES
    # The last comparison also refuses an empty final frame after full ones, which no sealer makes.
    if sealed_bytes < RS3D_TAG_BYTES or frames > FRAME_LIMIT or sealed_length(plain) != sealed_bytes:
        raise ValueError(f"no blob has a sealed length of {sealed_bytes} bytes")
    return plain


cdef int _refuse_overlap(Py_buffer *a, Py_buffer *b) except -1:
    cdef const char *start_a = <const char *>a.buf
    cdef const char *start_b = <const char *>b.buf
    if start_a < start_b + b.len and start_b < start_a + a.len:
        raise ValueError("input and output overlap")
    return 0


# ------------------------------------------------------------------------------------------------ sealing, opening


cdef class _Frames:
    """What sealer and opener share: the keyed names of frames."""
    cdef rs3d_frames frames
    cdef object aead  # the package's object, made when first needed; unused by libcrypto

    def __cinit__(self, algorithm, key, prefix, blob_id, *rest):
        cdef Py_buffer k, p, b
        algorithm = Algorithm(algorithm)
        open_readable(key, &k)
        try:
            open_readable(prefix, &p)
            try:
                open_readable(blob_id, &b)
                try:
                    if k.len != RS3D_KEY_BYTES:
                        raise ValueError(f"the key has {k.len} bytes, not {RS3D_KEY_BYTES}")
                    if p.len != RS3D_PREFIX_BYTES:
                        raise ValueError(f"the nonce prefix has {p.len} bytes, not {RS3D_PREFIX_BYTES}")
                    if not 0 < b.len <= RS3D_BLOB_ID_LIMIT:
                        raise ValueError(f"the blob id has {b.len} bytes, not 1 to {RS3D_BLOB_ID_LIMIT}")
                    rs3d_frames_init(&self.frames, algorithm, <const unsigned char *>k.buf,
                                     <const unsigned char *>p.buf, <const unsigned char *>b.buf, b.len)
                finally:
                    PyBuffer_Release(&b)
            finally:
                PyBuffer_Release(&p)
        finally:
            PyBuffer_Release(&k)

    def __dealloc__(self):
        rs3d_frames_wipe(&self.frames)

    @property
    def algorithm(self):
        return Algorithm(self.frames.algorithm)

    cdef object package_aead(self):
        if self.aead is None:
            module = _aead_module()
            made = module.AESGCM if self.frames.algorithm == RS3D_AES_256_GCM else module.ChaCha20Poly1305
            self.aead = made(self.frames.key[:RS3D_KEY_BYTES])
        return self.aead

    cdef tuple names(self, unsigned int frame, bint final):
        cdef unsigned char nonce[RS3D_NONCE_BYTES]
        cdef unsigned char aad[512]
        rs3d_frame_names(&self.frames, frame, final, nonce, aad)
        return nonce[:RS3D_NONCE_BYTES], aad[:self.frames.aad_bytes]


@cython.final
cdef class FrameSealer(_Frames):
    cdef readonly long long next_frame
    cdef readonly bint ended

    def __init__(self, algorithm, key, prefix, blob_id):
        pass

    def seal(self, plaintext, out):
        return self.run(plaintext, out, False)

    def seal_end(self, plaintext, out):
        return self.run(plaintext, out, True)

    cdef object run(self, plaintext, out, bint ends):
        cdef Py_buffer data, sealed
        cdef long long count, first = self.next_frame
        cdef Py_ssize_t needed
        cdef int status, library = active
        if self.ended:
            raise ValueError("this blob's final frame was sealed already, or sealing it failed")
        open_readable(plaintext, &data)
        try:
            open_writable(out, &sealed)
            try:
                count = (data.len + RS3D_FRAME_BYTES - 1) // RS3D_FRAME_BYTES
                if ends:
                    if data.len == 0 and first > 0:
                        raise ValueError("only an empty blob ends with an empty frame: keep its last bytes for the end")
                    count = max(count, 1)
                elif data.len % RS3D_FRAME_BYTES:
                    raise ValueError(f"{data.len} bytes are not whole frames of {RS3D_FRAME_BYTES}")
                if count > FRAME_LIMIT - first:
                    raise ValueError("a blob has at most 2**32 frames")
                needed = data.len + count * RS3D_TAG_BYTES
                if sealed.len < needed:
                    raise ValueError(f"the output has {sealed.len} bytes, {needed} are needed")
                _refuse_overlap(&data, &sealed)
                if count == 0:
                    return 0
                # Taken with the GIL held: two threads in here by mistake get different frame numbers, never one nonce.
                # Should sealing fail, the numbers are spent and the sealer is of no further use.
                self.next_frame = first + count
                self.ended = True
                if library != BY_PACKAGE:
                    with nogil:
                        status = rs3d_frames_seal(library, &self.frames, <unsigned int>first, ends,
                                                  <const unsigned char *>data.buf, data.len,
                                                  <unsigned char *>sealed.buf)
                    if status != 0:
                        raise RuntimeError(f"{NAMES[library]} could not seal")
                else:
                    self.seal_by_package(plaintext, out, first, count, ends)
                self.ended = ends
                return needed
            finally:
                PyBuffer_Release(&sealed)
        finally:
            PyBuffer_Release(&data)

    cdef int seal_by_package(self, plaintext, out, long long first, long long count, bint ends) except -1:
        cdef long long i, at
        aead = self.package_aead()
        with memoryview(plaintext) as given, memoryview(out) as taken, \
                given.cast("B") as data, taken.cast("B") as sealed:
            for i in range(count):
                at = i * RS3D_FRAME_BYTES
                bytes_here = min(RS3D_FRAME_BYTES, len(data) - at)
                nonce, aad = self.names(<unsigned int>(first + i), ends and i == count - 1)
                with data[at:at + bytes_here] as source, \
                        sealed[i * SEALED_FRAME_BYTES:i * SEALED_FRAME_BYTES + bytes_here + RS3D_TAG_BYTES] as target:
                    aead.encrypt_into(nonce, source, aad, target)
        return 0


@cython.final
cdef class FrameOpener(_Frames):
    cdef readonly long long plain_bytes
    cdef readonly long long frame_count

    def __cinit__(self, algorithm, key, prefix, blob_id, long long plain_bytes):
        self.frame_count = frame_count(plain_bytes)
        self.plain_bytes = plain_bytes

    def __init__(self, algorithm, key, prefix, blob_id, plain_bytes):
        pass

    def frame_span(self, long long offset, long long length):
        cdef long long first, end
        if offset < 0 or length < 1 or length > self.plain_bytes - offset:
            raise ValueError(f"{length} bytes at {offset} are not within a blob of {self.plain_bytes}")
        first = offset // RS3D_FRAME_BYTES
        end = (offset + length - 1) // RS3D_FRAME_BYTES + 1
        start = first * SEALED_FRAME_BYTES
        stop = min(end * SEALED_FRAME_BYTES, sealed_length(self.plain_bytes))
        return first, start, stop - start, offset - first * RS3D_FRAME_BYTES

    def open(self, sealed, out, long long first_frame=0):
        cdef Py_buffer data, plain
        cdef long long count, whole
        cdef Py_ssize_t needed
        cdef bint ends
        cdef int status, library = active
        cdef unsigned int bad = 0
        open_readable(sealed, &data)
        try:
            open_writable(out, &plain)
            try:
                count = (data.len + SEALED_FRAME_BYTES - 1) // SEALED_FRAME_BYTES
                if first_frame < 0 or count < 1 or first_frame + count > self.frame_count:
                    raise ValueError(
                        f"{data.len} bytes from frame {first_frame} are not within {self.frame_count} frames")
                ends = first_frame + count == self.frame_count
                whole = count * <long long>SEALED_FRAME_BYTES
                if ends:
                    whole = sealed_length(self.plain_bytes) - first_frame * SEALED_FRAME_BYTES
                if data.len != whole:
                    raise ValueError(f"{count} frames from frame {first_frame} have {whole} bytes, not {data.len}")
                needed = data.len - count * RS3D_TAG_BYTES
                if plain.len < needed:
                    raise ValueError(f"the output has {plain.len} bytes, {needed} are needed")
                _refuse_overlap(&data, &plain)
                if library != BY_PACKAGE:
                    with nogil:
                        status = rs3d_frames_open(library, &self.frames, <unsigned int>first_frame, ends,
                                                  <const unsigned char *>data.buf, data.len,
                                                  <unsigned char *>plain.buf, &bad)
                    if status > 0:
                        raise FrameForged(bad)
                    if status < 0:
                        raise RuntimeError(f"{NAMES[library]} could not open")
                else:
                    self.open_by_package(<const unsigned char *>data.buf, data.len, <unsigned char *>plain.buf,
                                         first_frame, count, ends)
                return needed
            finally:
                PyBuffer_Release(&plain)
        finally:
            PyBuffer_Release(&data)

    def open_resident(self, int fd, out, long long first_frame=0):
        cdef Py_buffer plain
        cdef long long count, i
        cdef bint opened
        open_writable(out, &plain)
        try:
            count = (plain.len + RS3D_FRAME_BYTES - 1) // RS3D_FRAME_BYTES
            if first_frame < 0 or count < 1 or first_frame + count > self.frame_count:
                raise ValueError(f"{plain.len} bytes from frame {first_frame} are not within {self.frame_count} frames")
            i = min(count * RS3D_FRAME_BYTES, self.plain_bytes - first_frame * RS3D_FRAME_BYTES)
            if plain.len != i:
                raise ValueError(f"{count} frames from frame {first_frame} have {i} bytes, not {plain.len}")
            # One frame at a time: what was read is in the nearest cache when it is opened, and the caller's code stays
            # in the next.
            sealed = PyByteArray_FromStringAndSize(NULL, SEALED_FRAME_BYTES)
            try:
                if active == BY_PACKAGE:
                    opened = self.open_each_by_package(fd, <unsigned char *>PyByteArray_AS_STRING(sealed),
                                                       <unsigned char *>plain.buf, first_frame, plain.len)
                else:
                    opened = self.open_each(fd, <unsigned char *>PyByteArray_AS_STRING(sealed),
                                            <unsigned char *>plain.buf, first_frame, plain.len)
            except FrameForged:
                memset(plain.buf, 0, plain.len)
                raise
            return opened
        finally:
            PyBuffer_Release(&plain)

    cdef bint open_each(self, int fd, unsigned char *sealed, unsigned char *out, long long first,
                        Py_ssize_t length) except -1:
        cdef Py_ssize_t at = 0, bytes_here
        cdef unsigned int frame = <unsigned int>first, bad = 0
        cdef int status = 0, library = active
        cdef bint resident = True
        with nogil:
            while at < length:
                bytes_here = min(<Py_ssize_t>RS3D_FRAME_BYTES, length - at) + RS3D_TAG_BYTES
                resident = rs3d_frame_resident(fd, frame, sealed, bytes_here) == bytes_here
                if not resident:
                    break
                status = rs3d_frames_open(library, &self.frames, frame, frame + 1 == self.frame_count, sealed,
                                          bytes_here, out + at, &bad)
                if status != 0:
                    break
                at += RS3D_FRAME_BYTES
                frame += 1
        if status > 0:
            raise FrameForged(bad)
        if status < 0:
            raise RuntimeError(f"{NAMES[library]} could not open")
        return resident

    cdef bint open_each_by_package(self, int fd, unsigned char *sealed, unsigned char *out, long long first,
                                   Py_ssize_t length) except -1:
        cdef Py_ssize_t at = 0, bytes_here
        cdef long long frame = first
        while at < length:
            bytes_here = min(<Py_ssize_t>RS3D_FRAME_BYTES, length - at) + RS3D_TAG_BYTES
            if rs3d_frame_resident(fd, <unsigned int>frame, sealed, bytes_here) != bytes_here:
                return False
            self.open_by_package(sealed, bytes_here, out + at, frame, 1, frame + 1 == self.frame_count)
            at += RS3D_FRAME_BYTES
            frame += 1
        return True

    cdef int open_by_package(self, const unsigned char *sealed, Py_ssize_t sealed_bytes, unsigned char *out,
                             long long first, long long count, bint ends) except -1:
        cdef long long i
        cdef Py_ssize_t at, bytes_here, done = 0
        forged = _invalid_tag_error()
        decrypt_into = self.package_aead().decrypt_into
        for i in range(count):
            at = <Py_ssize_t>i * (RS3D_FRAME_BYTES + RS3D_TAG_BYTES)
            bytes_here = min(<Py_ssize_t>(RS3D_FRAME_BYTES + RS3D_TAG_BYTES), sealed_bytes - at)
            nonce, aad = self.names(<unsigned int>(first + i), ends and i == count - 1)
            source = PyMemoryView_FromMemory(<char *>sealed + at, bytes_here, PyBUF_READ)
            target = PyMemoryView_FromMemory(<char *>out + done, bytes_here - RS3D_TAG_BYTES, PyBUF_WRITE)
            done += bytes_here - RS3D_TAG_BYTES
            try:
                decrypt_into(nonce, source, aad, target)
            except forged:
                memset(out, 0, done)
                raise FrameForged(first + i) from None
        return 0


# ------------------------------------------------------------------------------------------------ self test

# Sealed by an independent library (pycryptodomex), see tests/oracles/gcm.py: key 00 01 .. 1f, prefix 40 .. 46,
# blob id "blob-0", plaintext "rs3d\n", one final frame.
cdef dict KNOWN = {
    RS3D_AES_256_GCM: "815bcd5d811a67a0f7388faaedf399ed0d9230c2d5",
    RS3D_CHACHA20_POLY1305: "68b700c4bb4b9d48e99913e8460e7eb89fa7f62ba5",
}


def selftest():
    global active
    cdef int before = active
    cdef int checks = 0
    try:
        for name in variants():
            use_variant(name)
            for algorithm, known in KNOWN.items():
                checks += _check_known_frame(name, algorithm, known)
    finally:
        active = before
    return checks


cdef int _check_known_frame(str name, algorithm, str known) except -1:
    key, prefix, blob_id = bytes(range(32)), bytes(range(0x40, 0x47)), b"blob-0"
    sealed, plain = bytearray(5 + RS3D_TAG_BYTES), bytearray(5)
    FrameSealer(algorithm, key, prefix, blob_id).seal_end(b"rs3d\n", sealed)
    if sealed.hex() != known:
        raise RuntimeError(f"kernel gcm ({name}): {Algorithm(algorithm).name} sealed a known frame wrongly")
    opener = FrameOpener(algorithm, key, prefix, blob_id, 5)
    opener.open(sealed, plain)
    if plain != b"rs3d\n":
        raise RuntimeError(f"kernel gcm ({name}): {Algorithm(algorithm).name} opened a known frame wrongly")
    sealed[7] ^= 1
    try:
        opener.open(sealed, plain)
    except FrameForged:
        return 3
    raise RuntimeError(f"kernel gcm ({name}): {Algorithm(algorithm).name} opened a forged frame")
