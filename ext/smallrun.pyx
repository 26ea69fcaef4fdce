# cython: auto_pickle=False
"""Small writes in the committer, from the packets that bring them to log, catalog and outcomes: see smallrun.pyi for
the contract."""
cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from recordfields cimport load_big, put_raw, put_zeros
from smallputrecord cimport (
    BLOB_BYTES, CRC_AT, DISK_BYTES_AT, ETAG_KIND_AT, ETAG_MD5, KEY_BYTES_AT, NUMBER_AT, PUT_BYTES, STORED_BYTES_AT,
    check_put, is_plain_text, put_body, put_made, put_message, put_record, read_put,
)
from smallrecord cimport BLOB_ID_BYTES, BUCKET_AT, HEAD_BYTES, MOST_MUTABLE_BYTES, crc32c, is_sealed, setup_records
from smallremovalrecord cimport (
    REMOVAL_BYTES, is_plain_removal, plain_row, read_plain, removal_body, removal_made, removal_record,
)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT, MSG_CMSG_CLOEXEC, MSG_TRUNC, MSG_CTRUNC, SOL_SOCKET, SCM_RIGHTS
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level, cmsg_type
    Py_ssize_t recvmsg(int, msghdr *, int)
    cmsghdr *CMSG_FIRSTHDR(msghdr *)
    unsigned char *CMSG_DATA(cmsghdr *)
    size_t CMSG_LEN(size_t)

setup_records()

cdef enum:
    # Packets and the head of an operation (rs3d/stores/messages.py).
    OPERATION = 1
    OPERATIONS = 5
    MOST_PACKET_BYTES = 128 << 10
    LENGTH_BYTES = 4
    HEAD_BYTES_OF_OPERATION = 24
    KIND_AT = 1
    COUNTER_AT = 8
    ANSWERED_AT = 16
    IDS_BYTES = 16
    CONTROL_BYTES = 24  # CMSG_SPACE(4)
    # Of the record, beside key and content type: names, numbers and digests take some 760, of a removal some 160.
    MOST_BODY_BYTES = 1024
    INDEX_ENTRY_BYTES = 4

DONE, GENERAL, FULL = 0, 1, 2
EMPTY, OTHER, CLOSED = 0, 1, 2

ctypedef struct message:
    # One that came; its body lies in the batch's memory.
    uint64_t counter, answered_below, sender, epoch, bucket
    size_t at, length
    int kind


@cython.final
cdef class SmallBatch:
    cdef unsigned char *data
    cdef size_t used, room
    cdef message *messages
    cdef Py_ssize_t count, message_room
    cdef int put_kind, removal_kind, blob_kind
    cdef object make
    cdef public Py_ssize_t taken_bytes
    cdef readonly bytes other
    cdef readonly tuple descriptors
    cdef readonly bint is_cut

    def __cinit__(self, int put_kind, int removal_kind, int blob_kind, make):
        self.put_kind, self.removal_kind, self.blob_kind, self.make = put_kind, removal_kind, blob_kind, make

    def __dealloc__(self):
        free(self.data)
        free(self.messages)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self.made(number) for number in range(*index.indices(self.count))]
        if not 0 <= index < self.count:
            raise IndexError("no such message")
        return self.made(index)

    def __iter__(self):
        return iter([self.made(number) for number in range(self.count)])

    cdef object made(self, Py_ssize_t index):
        cdef message *m = &self.messages[index]
        body = PyBytes_FromStringAndSize(<const char *>self.data + m.at, m.length)
        return self.make(m.kind, m.counter, body, m.sender, m.answered_below)

    def take_out(self):
        made = list(self)
        self.used = self.count = 0
        return made

    def clear(self):
        self.used, self.count, self.taken_bytes, self.other, self.descriptors = 0, 0, 0, None, ()

    def add(self, int kind, uint64_t counter, bytes body not None, uint64_t sender, uint64_t answered_below):
        cdef size_t length = PyBytes_GET_SIZE(body)
        if not self.is_small(kind, length):
            raise ValueError("no message of a small write")
        self.make_room(length, 1)
        memcpy(self.data + self.used, PyBytes_AS_STRING(body), length)
        self.note(kind, counter, sender, answered_below, self.used, length)
        self.used += length

    def receive(self, int descriptor, uint64_t sender, Py_ssize_t limit_bytes, Py_ssize_t limit_count):
        cdef iovec piece
        cdef msghdr head
        cdef unsigned char control[CONTROL_BYTES]
        cdef Py_ssize_t length, begun_bytes = self.taken_bytes, begun_count = self.count
        while self.taken_bytes - begun_bytes < limit_bytes and self.count - begun_count < limit_count:
            self.make_room(MOST_PACKET_BYTES, 0)
            piece.iov_base, piece.iov_len = self.data + self.used, MOST_PACKET_BYTES
            put_zeros(<unsigned char *>&head, sizeof(head))
            head.msg_iov, head.msg_iovlen, head.msg_control, head.msg_controllen = &piece, 1, control, CONTROL_BYTES
            length = recvmsg(descriptor, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
            if length < 0:
                if errno == EAGAIN:
                    break
                if errno == EINTR or errno == ECONNRESET:
                    continue  # the latter is told once when a worker dies without having read its answers
                return CLOSED
            if length == 0:
                return CLOSED
            self.taken_bytes += length
            if head.msg_controllen or head.msg_flags & (MSG_TRUNC | MSG_CTRUNC) or not self.take(length, sender):
                self.other = PyBytes_FromStringAndSize(<const char *>self.data + self.used, length)
                self.descriptors = descriptors_in(&head)
                self.is_cut = head.msg_flags & (MSG_TRUNC | MSG_CTRUNC) != 0
                return OTHER
        return EMPTY

    cdef inline bint is_small(self, int kind, size_t length) noexcept:
        return length >= IDS_BYTES and (kind == self.put_kind or kind == self.removal_kind or kind == self.blob_kind)

    cdef bint take(self, size_t length, uint64_t sender) except -1:
        """The packet of that length behind what is used. False where it has anything but small writes, or is cut: then
        nothing was taken."""
        cdef const unsigned char *packet = self.data + self.used
        cdef size_t start = 0
        cdef Py_ssize_t before = self.count
        if packet[0] == OPERATIONS:
            start = 1
        elif packet[0] != OPERATION:
            return False
        while start < length:
            if not self.take_one(packet, length, &start, sender):
                self.count = before
                return False
        if self.count == before:
            return False
        self.used += length
        return True

    cdef bint take_one(self, const unsigned char *packet, size_t length, size_t *at, uint64_t sender) except -1:
        """The operation at `at`, which is moved on. False where it is none of a small write, or cut."""
        cdef size_t start = at[0], bytes = length - start
        if packet[0] == OPERATIONS:
            if bytes < LENGTH_BYTES:
                return False
            start += LENGTH_BYTES
            bytes = load_big(packet + at[0], LENGTH_BYTES)
            if bytes > length - start:
                return False
        at[0] = start + bytes
        if bytes < HEAD_BYTES_OF_OPERATION or not self.is_small(packet[start + KIND_AT], bytes - HEAD_BYTES_OF_OPERATION):
            return False
        self.make_room(0, 1)
        self.note(packet[start + KIND_AT], load_big(packet + start + COUNTER_AT, 8), sender,
                  load_big(packet + start + ANSWERED_AT, 8), self.used + start + HEAD_BYTES_OF_OPERATION,
                  bytes - HEAD_BYTES_OF_OPERATION)
        return True

    cdef void note(self, int kind, uint64_t counter, uint64_t sender, uint64_t answered_below, size_t at,
                   size_t length) noexcept:
        cdef message *m = &self.messages[self.count]
        m.kind, m.counter, m.sender, m.answered_below, m.at, m.length = kind, counter, sender, answered_below, at, length
        m.epoch, m.bucket = load_big(self.data + at, 8), load_big(self.data + at + BUCKET_AT, 8)
        self.count += 1

    cdef int make_room(self, size_t bytes, Py_ssize_t messages) except -1:
        cdef void *grown
        if self.room - self.used < bytes:
            grown = realloc(self.data, 2 * self.used + bytes)
            if grown == NULL:
                raise MemoryError
            self.data, self.room = <unsigned char *>grown, 2 * self.used + bytes
        if self.message_room - self.count < messages:
            grown = realloc(self.messages, (2 * self.count + 64) * sizeof(message))
            if grown == NULL:
                raise MemoryError
            self.messages, self.message_room = <message *>grown, 2 * self.count + 64
        return 0


cdef tuple descriptors_in(msghdr *head):
    """What came beside a packet."""
    cdef cmsghdr *at = CMSG_FIRSTHDR(head)
    if at == NULL or at.cmsg_level != SOL_SOCKET or at.cmsg_type != SCM_RIGHTS:
        return ()
    return tuple([(<int *>CMSG_DATA(at))[i] for i in range((at.cmsg_len - CMSG_LEN(0)) // sizeof(int))])


@cython.final
cdef class SmallBucket:
    cdef readonly bint null, reports_version
    cdef readonly bint is_changed
    cdef readonly int64_t keys, object_bytes

    def __cinit__(self, bint null, bint reports_version):
        self.null, self.reports_version = null, reports_version


@cython.final
cdef class SmallTables:
    cdef object versions, current
    cdef uint32_t versions_seed, current_seed
    cdef bytes mutable

    def __cinit__(self, versions, uint32_t versions_seed, current, uint32_t current_seed, bytes mutable not None):
        if PyBytes_GET_SIZE(mutable) > MOST_MUTABLE_BYTES:
            raise ValueError(f"a mutable part of at most {MOST_MUTABLE_BYTES} bytes")
        self.versions, self.versions_seed, self.current, self.current_seed = versions, versions_seed, current, current_seed
        self.mutable = mutable


cdef class Run:
    cdef object put_row, delete_row, cursor, log, clock, reply
    cdef SmallTables tables
    cdef bytearray buffer
    cdef list offsets
    cdef uint32_t seed, crc, segment, offset
    cdef uint64_t now_ns, last, epoch, open_epoch, bucket_number
    cdef SmallBucket bucket
    cdef dict outcomes
    cdef readonly dict buckets, answered, dead
    cdef readonly uint64_t first_sequence, last_sequence
    cdef readonly Py_ssize_t records, record_bytes, live_bytes, room_bytes, needed_bytes
    cdef readonly bint may_add

    def __init__(self, SmallTables tables not None, transaction, log, clock, uint64_t now_ns, reply, bint may_add):
        self.tables, self.log, self.clock, self.now_ns, self.reply = tables, log, clock, now_ns, reply
        self.put_row, self.delete_row = transaction.put, transaction.delete
        self.cursor = transaction.cursor(tables.versions)
        self.buffer, self.offsets, self.seed, self.segment, self.offset, self.room_bytes = log.batch_end()
        self.buckets, self.answered, self.dead, self.may_add = {}, {}, {}, may_add

    def meet(self, number):
        raise NotImplementedError

    def remembered(self, epoch):
        raise NotImplementedError

    def is_new(self, epoch, blob, segment, number):
        raise NotImplementedError

    def blob(self, key):
        raise NotImplementedError

    def unrefer(self, key, row, sequence):
        raise NotImplementedError

    def put_blob(self, key, stored_bytes, disk_bytes):
        raise NotImplementedError

    def carry_out(self, SmallBatch batch not None, Py_ssize_t begun, list replies not None, Py_ssize_t spare_bytes,
                  set open_epochs not None):
        cdef Py_ssize_t index
        cdef message *m
        cdef bytes outcome
        self.crc, self.last, self.open_epoch = self.log.crc, self.clock.last, 0
        try:
            for index in range(begun, batch.count):
                m = &batch.messages[index]
                if spare_bytes < 0 and index > begun:
                    return DONE
                if m.sender == 0 or m.epoch != m.sender:
                    return GENERAL
                if m.sender != self.open_epoch:
                    if m.sender not in open_epochs:
                        return GENERAL
                    self.open_epoch = m.sender
                if <Py_ssize_t>m.length > self.room_bytes - MOST_BODY_BYTES:
                    self.needed_bytes = m.length + MOST_BODY_BYTES
                    return FULL
                if m.kind == batch.removal_kind:
                    outcome = self.remove(m, batch.data + m.at)
                elif self.may_add:
                    outcome = self.put(m, batch.data + m.at, m.kind == batch.blob_kind)
                else:
                    return GENERAL
                if outcome is None:
                    return GENERAL
                replies.append(self.reply((m.counter, outcome, None)))
                spare_bytes -= m.length + MOST_BODY_BYTES  # at most; how full the batch is, the caller looks
        finally:
            self.log.crc, self.clock.last = self.crc, self.last
        return DONE

    cdef bytes put(self, message *m, const unsigned char *at, bint is_blob):
        """The outcome; None where it has to go the way of PutVersion, and nothing was done."""
        cdef put_message put
        cdef put_made made
        cdef plain_row plain
        cdef const char *why
        cdef SmallBucket bucket = self.bucket_of(m.bucket)
        cdef bytes rows_from, blob = None, released = None
        counter = m.counter
        if bucket is None or counter in self.outcomes_of(m.epoch):
            return None
        if read_put(at, m.length, is_blob, &put) != NULL or not is_plain_text(&put):
            return None
        rows_from = row_key(at, put.key, put.key_bytes)
        found, released_row = self.first_row(rows_from), None
        if found is False:
            return None
        if found is not None:
            if not bucket.null or not self.is_plain(rows_from, found, &plain):
                return None
            if plain.blob != NULL:
                released = PyBytes_FromStringAndSize(<const char *>plain.blob, BLOB_ID_BYTES)
                released_row = self.blob(released)
        if is_blob:
            if put.payload_bytes != BLOB_BYTES:
                return None
            blob = PyBytes_FromStringAndSize(<const char *>put.payload, BLOB_ID_BYTES)
            if not self.is_new(m.epoch, blob, load_big(put.payload, 8), load_big(put.payload + NUMBER_AT, 4)):
                return None
        why = check_put(&put)
        if why != NULL:
            raise ValueError(why.decode("ascii"))
        self.step()
        cdef bytes mutable = self.tables.mutable
        cdef size_t record_bytes = put_body(&put, &made, m.counter, m.answered_below, self.now_ns, bucket.null,
                                            bucket.reports_version, PyBytes_AS_STRING(mutable), PyBytes_GET_SIZE(mutable))
        cdef size_t start = self.append(record_bytes)
        put_record(&put, &made, self.log_at(start), self.last, self.now_ns, bucket.null, bucket.reports_version, self.seed,
                   self.crc, self.segment, self.offset + start, self.tables.versions_seed, self.tables.current_seed)
        self.crc = made.crc
        if found is not None:
            self.go(found[0], &plain, released, released_row)
            bucket.object_bytes -= plain.size
        else:
            bucket.keys += 1
        # The binding takes twice as long to sort out names as places, which are: dupdata, overwrite, append, db.
        self.put_row(PyBytes_FromStringAndSize(<const char *>made.version_key, made.version_key_bytes),
                     PyBytes_FromStringAndSize(<const char *>made.version, sizeof(made.version)),
                     True, True, False, self.tables.versions)
        self.put_row(PyBytes_FromStringAndSize(<const char *>made.current_key, made.current_key_bytes),
                     PyBytes_FromStringAndSize(<const char *>made.current, sizeof(made.current)),
                     True, True, False, self.tables.current)
        if is_blob:
            self.put_blob(blob, load_big(put.payload + STORED_BYTES_AT, 8), load_big(put.payload + DISK_BYTES_AT, 8))
        outcome = PyBytes_FromStringAndSize(<const char *>made.outcome, made.outcome_bytes)
        self.count(bucket, m, counter, outcome, record_bytes)
        bucket.object_bytes += put.size
        self.live_bytes += record_bytes
        return outcome

    cdef bytes remove(self, message *m, const unsigned char *at):
        """The outcome; None where it has to go the way of RemoveVersion, and nothing was done. It is permitted only
        where nothing could forbid it: no lock and no hold is set."""
        cdef removal_made made
        cdef plain_row plain
        cdef SmallBucket bucket = self.bucket_of(m.bucket)
        cdef bytes rows_from, current_key, released = None
        cdef tuple found
        counter = m.counter
        if bucket is None or bucket.reports_version or counter in self.outcomes_of(m.epoch):
            return None
        if not is_plain_removal(at, m.length):
            return None
        rows_from = row_key(at, at + REMOVAL_BYTES, m.length - REMOVAL_BYTES)
        found = self.only_row(rows_from)
        if found is None or not self.is_plain(rows_from, found, &plain):
            return None
        released_row = None
        if plain.blob != NULL:
            released = PyBytes_FromStringAndSize(<const char *>plain.blob, BLOB_ID_BYTES)
            released_row = self.blob(released)
        self.step()
        cdef size_t record_bytes = removal_body(at, m.length, m.counter, m.answered_below, &plain, &made)
        cdef size_t start = self.append(record_bytes)
        removal_record(&made, self.log_at(start), self.last, self.seed, self.crc)
        self.crc = made.crc
        self.go(found[0], &plain, released, released_row)
        current_key = PyBytes_FromStringAndSize(PyBytes_AS_STRING(rows_from), PyBytes_GET_SIZE(rows_from) - 2)
        self.delete_row(current_key, b"", self.tables.current)
        outcome = PyBytes_FromStringAndSize(<const char *>made.outcome, made.outcome_bytes)
        self.count(bucket, m, counter, outcome, record_bytes)
        bucket.keys -= 1
        bucket.object_bytes -= plain.size
        return outcome

    cdef void step(self) noexcept:
        """The next sequence, as `HybridClock.next`."""
        self.last = self.now_ns if self.now_ns > self.last else self.last + 1

    cdef size_t append(self, size_t record_bytes) except? 0:
        """Room for a record. Where it begins in the batch's buffer."""
        cdef size_t start = PyByteArray_GET_SIZE(self.buffer)
        PyByteArray_Resize(self.buffer, start + record_bytes)
        self.offsets.append(self.offset + start)
        return start

    cdef inline unsigned char *log_at(self, size_t start) noexcept:
        return <unsigned char *>PyByteArray_AS_STRING(self.buffer) + start

    cdef int go(self, bytes key, const plain_row *plain, bytes blob, blob_row) except -1:
        """A plain version's row goes, and what only that kept."""
        self.delete_row(key, b"", self.tables.versions)
        self.dead[plain.segment] = self.dead.get(plain.segment, 0) + plain.record_bytes
        if blob_row is not None:
            self.unrefer(blob, blob_row, self.last)
        return 0

    cdef int count(self, SmallBucket bucket, message *m, counter, bytes outcome, size_t record_bytes) except -1:
        self.outcomes[counter] = outcome
        self.answered[m.epoch] = m.answered_below
        bucket.is_changed = True
        if not self.records:
            self.first_sequence = self.last
        self.last_sequence = self.last
        self.records += 1
        self.record_bytes += record_bytes
        self.room_bytes -= record_bytes + INDEX_ENTRY_BYTES
        return 0

    cdef SmallBucket bucket_of(self, uint64_t number):
        """None where its settings, or that it is gone, are for the general way to look at."""
        if number != self.bucket_number or self.bucket is None:
            if number not in self.buckets:
                self.buckets[number] = self.meet(number)
            self.bucket_number, self.bucket = number, self.buckets[number]
        return self.bucket

    cdef dict outcomes_of(self, uint64_t epoch):
        if epoch != self.epoch:
            self.epoch, self.outcomes = epoch, self.remembered(epoch)
        return self.outcomes

    cdef bint is_plain(self, bytes rows_from, tuple found, plain_row *plain) noexcept:
        """`plain` points into the row."""
        cdef bytes key = found[0], sealed = found[1]
        return read_plain(
            self.tables.versions_seed, <const unsigned char *>PyBytes_AS_STRING(rows_from), PyBytes_GET_SIZE(rows_from),
            <const unsigned char *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key),
            <const unsigned char *>PyBytes_AS_STRING(sealed), PyBytes_GET_SIZE(sealed), plain)

    cdef object first_row(self, bytes rows_from):
        """The first row in `versions` of a key whose rows begin so, and its value as it is stored; None where it has none
        and the rows on both sides of its place are sound and on their sides; False where they are not."""
        cdef bint is_there = self.cursor.set_range(rows_from)
        if is_there:
            item = self.cursor.item()
            if begins(item, rows_from):
                return item
            if not self.is_beside(rows_from, item, True):
                return False
        if self.cursor.prev() if is_there else self.cursor.last():
            if not self.is_beside(rows_from, self.cursor.item(), False):
                return False
        return None

    cdef tuple only_row(self, bytes rows_from):
        """`first_row` where it is the key's only one and the rows beside it are sound, so that without it nothing is
        there of the key; None otherwise."""
        cdef object cursor = self.cursor
        if not cursor.set_range(rows_from):
            return None
        if cursor.prev():
            if not self.is_beside(rows_from, cursor.item(), False):
                return None
            cursor.next()
        else:
            cursor.first()
        found = cursor.item()
        if not begins(found, rows_from):
            return None
        if cursor.next():
            item = cursor.item()
            if begins(item, rows_from) or not self.is_beside(rows_from, item, True):
                return None
        return found

    cdef bint is_beside(self, bytes rows_from, tuple item, bint follows) except -1:
        """Whether a row lies on that side of the key's place and is sound."""
        cdef bytes key = item[0], sealed = item[1]
        cdef size_t bytes_there = PyBytes_GET_SIZE(key), wanted = PyBytes_GET_SIZE(rows_from)
        cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(key)
        cdef int order = memcmp(at, PyBytes_AS_STRING(rows_from), bytes_there if bytes_there < wanted else wanted)
        if order == 0:
            order = -1 if bytes_there < wanted else 1
        return (order > 0) == follows and is_sealed(self.tables.versions_seed, at, bytes_there,
                                                    <const unsigned char *>PyBytes_AS_STRING(sealed),
                                                    PyBytes_GET_SIZE(sealed))


cdef bytes row_key(const unsigned char *m, const unsigned char *key, size_t key_bytes):
    """What the rows of a message's key begin with in `versions`; its row's key in `current` is that without the two
    zeros at its end."""
    made = PyBytes_FromStringAndSize(NULL, 8 + key_bytes + 2)
    cdef unsigned char *at = put_raw(<unsigned char *>PyBytes_AS_STRING(made), m + BUCKET_AT, 8)
    put_zeros(put_raw(at, key, key_bytes), 2)
    return made


cdef bint begins(tuple item, bytes rows_from) except -1:
    cdef bytes key = item[0]
    return PyBytes_GET_SIZE(key) >= PyBytes_GET_SIZE(rows_from) and memcmp(
        PyBytes_AS_STRING(key), PyBytes_AS_STRING(rows_from), PyBytes_GET_SIZE(rows_from)) == 0


class _OneRow:
    """A transaction with its cursor, of one row in `versions` at most."""

    def __init__(self):
        self.rows = {}

    def cursor(self, table):
        return self

    def put(self, key, value, dupdata, overwrite, append, table):
        self.rows[table] = key, value

    def delete(self, key, value, table):
        del self.rows[table]

    def set_range(self, key):
        return "versions" in self.rows and self.rows["versions"][0] >= key

    def item(self):
        return self.rows["versions"]

    def first(self):
        return True

    def next(self):
        return False

    prev = last = next


class _Log:
    """The log's end, and a clock."""

    def __init__(self):
        self.buffer, self.crc, self.last = bytearray(), 0, 4

    def batch_end(self):
        return self.buffer, [], 0, 1, 4096, 1 << 20


class _SelfTest(Run):
    def meet(self, number):
        return SmallBucket(True, False)

    def remembered(self, epoch):
        return {}


def selftest():
    """See the .pyi."""
    # 0xE3069283 is the CRC32C of "123456789" (RFC 3720, B.4).
    message = bytearray(PUT_BYTES) + b"k" + b"123456789"
    message[7], message[ETAG_KIND_AT], message[CRC_AT:CRC_AT + 4] = 1, ETAG_MD5, b"\xe3\x06\x92\x83"
    message[KEY_BYTES_AT + 1] = 1
    batch = SmallBatch(1, 2, 3, lambda *fields: fields)
    batch.add(1, 1, bytes(message), 1, 1)
    removal = bytes(7) + b"\x01" + bytes(REMOVAL_BYTES - 8) + b"k"
    batch.add(2, 2, removal, 1, 1)
    if len(batch) != 2 or batch[1] != (2, 2, removal, 1, 1) or batch[:1] != [(1, 1, bytes(message), 1, 1)]:
        raise RuntimeError("smallrun: a message changed")
    transaction, log = _OneRow(), _Log()
    tables = SmallTables("versions", 0, "current", 0, b"\x80")
    run = _SelfTest(tables, transaction, log, log, 3, lambda reply: reply, True)
    cdef list replies = []
    if run.carry_out(batch, 0, replies, -1, {1}) != DONE or len(replies) != 1:
        raise RuntimeError("smallrun: a full batch went on")
    cdef bytearray written = log.buffer
    cdef size_t head_bytes = HEAD_BYTES + load_big(<unsigned char *>PyByteArray_AS_STRING(written) + 24, 4)
    if len(written) != (head_bytes + 9 + 7) & ~7 or written[head_bytes:head_bytes + 9] != b"123456789":
        raise RuntimeError("smallrun: a record was built wrongly")
    if int.from_bytes(written[4:8], "big") != crc32c(0, PyByteArray_AS_STRING(written) + 8, head_bytes - 8):
        raise RuntimeError("smallrun: wrong CRC of a record")
    if replies[0] != (1, b"\x96\x05\xa4null\xc2\xc2\x03\xd9\x20" + b"00" * 16, None):
        raise RuntimeError("smallrun: wrong outcome of a put")
    key, row = transaction.rows["versions"]
    if key != bytes(8) + b"k\0\0" + b"\xff" * 7 + b"\xfa" or len(row) != 174 or transaction.rows["current"][0] != bytes(8) + b"k":
        raise RuntimeError("smallrun: wrong rows")
    if run.carry_out(batch, 1, replies, 1, {1}) != DONE or replies[1] != (2, b"\x94\x06\xa4null\xc2\xc2", None):
        raise RuntimeError("smallrun: wrong outcome of a removal")
    if transaction.rows or run.dead != {1: (head_bytes + 9 + 7) & ~7} or (run.first_sequence, run.last_sequence) != (5, 6):
        raise RuntimeError("smallrun: a version was not removed")
    if run.carry_out(batch, 0, replies, 1, set()) != DONE and run.carry_out(batch, 1, replies, 1, {1}) == GENERAL:
        return 9
    raise RuntimeError("smallrun: what goes the general way was taken")
