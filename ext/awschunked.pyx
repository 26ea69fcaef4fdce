"""The aws-chunked framing of S3 uploads: see awschunked.pyi for the contract and awschunked_impl.h for the grammar."""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext, PyCapsule_SetDestructor
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t
from libc.string cimport memset

from bufview cimport GIL_FREE_BYTES, Py_buffer, PyBuffer_Release, check_span, open_readable, open_writable

from collections import namedtuple

cdef extern from "awschunked_impl.h" nogil:
    enum:
        AWS_SIGNATURE, AWS_TRAILERS_MAX, AWS_PIECES_MAX, AT_END, AWS_FINE
    ctypedef int aws_state
    ctypedef int aws_error
    ctypedef struct aws_piece:
        size_t offset
        size_t length
        uint64_t chunk_bytes
        unsigned char *signature
        int ends_chunk
    ctypedef struct aws_scanner:
        aws_state state
        aws_error error
        int is_signed
        uint64_t decoded
        uint64_t offset
        size_t trailer_bytes
        unsigned char *trailers
    size_t aws_scan(aws_scanner *, unsigned char *, size_t, int, aws_piece *, int, int *, size_t *)

TRAILERS_BYTES_MAX = AWS_TRAILERS_MAX
PIECES_MAX = AWS_PIECES_MAX

# In the order of aws_error.
cdef tuple REASONS = (
    "",
    "a chunk size of 1 to 16 hexadecimal digits is expected",
    "the chunk sizes reach 2^63",
    "a chunk of a signed body has no chunk-signature",
    "a chunk of an unsigned body has an extension",
    "the only chunk extension known is chunk-signature",
    "a chunk-signature is 64 lower-case hexadecimal digits (SigV4A is not supported)",
    "a chunk header does not end in CRLF",
    "a chunk's data is not followed by CRLF",
    "trailer lines end in CRLF and hold no bare CR, LF or NUL",
    "the trailers are longer than 8 KiB",
)


class ChunkedError(ValueError):
    def __init__(self, offset, reason):
        super().__init__(f"aws-chunked body, byte {offset}: {reason}")
        self.offset = offset
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.offset, self.reason)


Piece = namedtuple("Piece", ("offset", "length", "chunk_bytes", "signature", "ends_chunk"))
Scan = namedtuple("Scan", ("consumed", "payload_bytes", "pieces"))
Piece.__module__ = Scan.__module__ = __name__


cdef void let_go(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef class ChunkScanner:
    cdef aws_scanner scanner
    cdef bint busy

    def __cinit__(self, str framing not None):
        if framing not in ("signed", "unsigned"):
            raise ValueError(f"framing {framing!r} is neither 'signed' nor 'unsigned'")
        memset(&self.scanner, 0, sizeof(self.scanner))
        self.scanner.is_signed = framing == "signed"

    cdef object run(self, Py_buffer *view, Py_ssize_t start, Py_ssize_t end, bint compact, bint wants_pieces):
        cdef aws_piece pieces[AWS_PIECES_MAX]
        cdef int found = 0, index
        cdef size_t consumed, payload = 0, base
        cdef unsigned char *at
        if end < 0:
            end = view.len
        check_span("body", view.len, start, end - start)
        if self.busy:
            raise RuntimeError("a ChunkScanner serves one thread at a time")
        at = <unsigned char *>view.buf + start
        if end - start < GIL_FREE_BYTES:
            consumed = aws_scan(&self.scanner, at, end - start, compact, pieces if wants_pieces else NULL,
                                AWS_PIECES_MAX, &found, &payload)
        else:
            self.busy = True
            with nogil:
                consumed = aws_scan(&self.scanner, at, end - start, compact, pieces if wants_pieces else NULL,
                                    AWS_PIECES_MAX, &found, &payload)
            self.busy = False
        self.check()
        base = start
        report = []
        for index in range(found):
            signature = None
            if self.scanner.is_signed:
                signature = PyBytes_FromStringAndSize(<char *>pieces[index].signature, AWS_SIGNATURE)
            report.append(Piece(base + pieces[index].offset, pieces[index].length, pieces[index].chunk_bytes, signature,
                                pieces[index].ends_chunk != 0))
        return Scan(consumed, payload, report)

    def scan(self, body, Py_ssize_t start=0, Py_ssize_t end=-1):
        cdef Py_buffer view
        open_readable(body, &view)
        try:
            return self.run(&view, start, end, False, True)
        finally:
            PyBuffer_Release(&view)

    def compact(self, body, Py_ssize_t start=0, Py_ssize_t end=-1):
        cdef Py_buffer view
        open_writable(body, &view)
        try:
            return self.run(&view, start, end, True, self.scanner.is_signed != 0)
        finally:
            PyBuffer_Release(&view)

    def lend(self):
        capsule = PyCapsule_New(&self.scanner, b"rs3d.aws_scanner", NULL)
        PyCapsule_SetContext(capsule, <void *>self)
        Py_INCREF(self)
        PyCapsule_SetDestructor(capsule, let_go)
        return capsule

    def check(self):
        if self.scanner.error != AWS_FINE:
            raise ChunkedError(self.scanner.offset, REASONS[self.scanner.error])

    @property
    def finished(self):
        return self.scanner.state == AT_END

    @property
    def decoded_bytes(self):
        return self.scanner.decoded

    @property
    def stream_offset(self):
        return self.scanner.offset

    @property
    def trailers(self):
        if self.scanner.state != AT_END:
            raise ValueError("the trailers are complete only when the scanner is finished")
        return PyBytes_FromStringAndSize(<char *>self.scanner.trailers, self.scanner.trailer_bytes)


def selftest():
    cdef bytes signature = b"0123456789abcdef" * 4
    cdef bytes body = b"5;chunk-signature=" + signature + b"\r\nhello\r\n00;chunk-signature=" + signature + b"\r\nx:y\r\n\r\n"
    checks = 0
    for step in (1, 7, len(body)):
        scanner = ChunkScanner("signed")
        payload, ends = b"", []
        for at in range(0, len(body), step):
            part = bytearray(body[at:at + step])
            found = scanner.compact(part)
            payload += bytes(part[:found.payload_bytes])
            ends += [piece.signature for piece in found.pieces if piece.ends_chunk]
        if payload != b"hello" or ends != [signature] * 2 or not scanner.finished or scanner.trailers != b"x:y\r\n":
            raise RuntimeError(f"kernel awschunked: a body fed by {step} bytes is read wrongly")
        checks += 1
    for bad, offset in ((b"5\r\nhello\n", 8), (b"-5\r\n", 0), (b"5;a=b\r\n", 1), (b"8000000000000000\r\n", 15)):
        try:
            ChunkScanner("unsigned").scan(bad)
        except ChunkedError as error:
            if error.offset != offset:
                raise RuntimeError(f"kernel awschunked: {bad} fails at {error.offset}") from None
        else:
            raise RuntimeError(f"kernel awschunked: {bad} is accepted")
        checks += 1
    return checks
