"""The rows that every batch of small writes changes: see hotrows.pyi for the contract."""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t

from recordfields cimport put_big, put_raw
from smallrecord cimport CRC_BYTES, crc32c, setup_records

cdef enum:
    # FORMAT.md section "Catalog rows".
    COUNTERS_BYTES = 48
    TAIL_BYTES = 40
    SEGMENT_BYTES = 53
    OUTCOME_HEAD_BYTES = 10
    # In the order of the counters.
    OBJECTS = 0
    VERSIONS = 1
    BYTES = 3

setup_records()


cdef class _Table:
    cdef object handle
    cdef uint32_t seed

    def __cinit__(self, handle, uint32_t seed):
        self.handle, self.seed = handle, seed

    cdef int put(self, put_row, bytes key, bytes sealed) except -1:
        """`sealed` has room for the CRC at its end."""
        cdef size_t length = PyBytes_GET_SIZE(sealed) - CRC_BYTES
        cdef unsigned char *value = <unsigned char *>PyBytes_AS_STRING(sealed)
        cdef uint32_t crc = crc32c(self.seed, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        put_big(value + length, crc32c(crc, value, length), CRC_BYTES)
        put_row(key, sealed, True, True, False, self.handle)  # dupdata, overwrite, append, db
        return 0


@cython.final
cdef class HotRows:
    cdef _Table counters, operations, segments, state
    cdef bytes tail_key
    cdef object segment_row, tail

    def __cinit__(self, tables, bytes tail_key not None, segment_row, tail):
        self.counters, self.operations, self.segments, self.state = [_Table(*table) for table in tables]
        self.tail_key, self.segment_row, self.tail = tail_key, segment_row, tail

    def write(self, transaction, known, run, uint32_t segment, uint32_t end, uint32_t crc):
        tail, active = known.tail, known.active
        cdef dict counters = known.counters, outcomes = known.outcomes, answered = run.answered, buckets = run.buckets
        if tail is None or active is None or known.active_number != segment or tail[0] != segment:
            return False
        for number, bucket in buckets.items():
            if bucket is not None and bucket.is_changed and number not in counters:
                return False
        for epoch in answered:
            if epoch not in outcomes:
                return False
        put_row = transaction.put
        for number, bucket in buckets.items():
            if bucket is not None and bucket.is_changed:
                self.put_counters(put_row, number, counters[number], bucket.keys, bucket.object_bytes)
        for epoch, below in answered.items():
            if not self.put_outcomes(put_row, epoch, outcomes[epoch], below):
                transaction.delete(number_key(epoch), b"", self.operations.handle)
                del outcomes[epoch]
        known.active = self.put_segment(put_row, segment, active, run, end)
        known.tail = self.put_tail(put_row, tail, run.last_sequence, end, crc, known.active[5])
        return True

    cdef int put_counters(self, put_row, uint64_t number, list counters, int64_t keys, int64_t object_bytes) except -1:
        sealed = PyBytes_FromStringAndSize(NULL, COUNTERS_BYTES + CRC_BYTES)
        cdef unsigned char *at = <unsigned char *>PyBytes_AS_STRING(sealed)
        cdef int64_t count
        counters[VERSIONS] += keys
        counters[OBJECTS] += keys
        counters[BYTES] += object_bytes
        for count in counters:
            at = put_big(at, <uint64_t>count, 8)
        return self.counters.put(put_row, number_key(number), sealed)

    cdef bint put_outcomes(self, put_row, uint64_t epoch, dict outcomes, uint64_t below) except -1:
        """Those from counter `below` on; they come in the order of their counters. False where none is left."""
        cdef list forgotten = []
        cdef size_t length = 0
        cdef uint64_t counter
        cdef bytes outcome
        for number, outcome in outcomes.items():
            counter = number
            if counter < below and length == 0:
                forgotten.append(number)
            else:
                length += OUTCOME_HEAD_BYTES + PyBytes_GET_SIZE(outcome)
        for number in forgotten:
            del outcomes[number]
        if length == 0:
            return False
        sealed = PyBytes_FromStringAndSize(NULL, length + CRC_BYTES)
        cdef unsigned char *at = <unsigned char *>PyBytes_AS_STRING(sealed)
        for number, outcome in outcomes.items():
            at = put_big(put_big(at, number, 8), PyBytes_GET_SIZE(outcome), 2)
            at = put_raw(at, PyBytes_AS_STRING(outcome), PyBytes_GET_SIZE(outcome))
        self.operations.put(put_row, number_key(epoch), sealed)
        return True

    cdef object put_segment(self, put_row, uint32_t number, before, run, uint32_t end):
        state, first, last, generation, _, records, first_sequence, _, record_bytes, live_bytes = before
        live_bytes += run.live_bytes - run.dead.pop(number, 0)
        row = self.segment_row((
            state, first, last, generation, end, records + run.records, first_sequence or run.first_sequence,
            run.last_sequence, record_bytes + run.record_bytes, live_bytes,
        ))
        sealed = PyBytes_FromStringAndSize(NULL, SEGMENT_BYTES + CRC_BYTES)
        cdef unsigned char *at = put_big(<unsigned char *>PyBytes_AS_STRING(sealed), state, 1)
        cdef int i
        for i in range(1, 6):
            at = put_big(at, <uint32_t>row[i], 4)
        for i in range(6, 10):
            at = put_big(at, <uint64_t>row[i], 8)
        key = PyBytes_FromStringAndSize(NULL, 4)
        put_big(<unsigned char *>PyBytes_AS_STRING(key), number, 4)
        self.segments.put(put_row, key, sealed)
        return row

    cdef object put_tail(self, put_row, before, uint64_t sequence, uint32_t end, uint32_t crc, uint32_t records):
        row = self.tail((before[0], end, crc, sequence, before[4], before[5], records))
        sealed = PyBytes_FromStringAndSize(NULL, TAIL_BYTES + CRC_BYTES)
        cdef unsigned char *at = put_big(<unsigned char *>PyBytes_AS_STRING(sealed), <uint32_t>row[0], 4)
        at = put_big(put_big(put_big(at, end, 4), crc, 4), sequence, 8)
        put_big(put_big(put_big(at, <uint64_t>row[4], 8), <uint64_t>row[5], 8), records, 4)
        self.state.put(put_row, self.tail_key, sealed)
        return row


cdef bytes number_key(uint64_t number):
    made = PyBytes_FromStringAndSize(NULL, 8)
    put_big(<unsigned char *>PyBytes_AS_STRING(made), number, 8)
    return made


class _Put:
    """A transaction that keeps what is put."""

    def __init__(self):
        self.rows = {}

    def put(self, key, value, dupdata, overwrite, append, table):
        self.rows[table] = key, value


class _Fields:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def selftest():
    """See the .pyi."""
    rows, transaction = HotRows([("c", 0), ("o", 0), ("s", 0), ("t", 0)], b"tail", tuple, tuple), _Put()
    known = _Fields(tail=(7, 0, 0, 1, 2, 3, 4), active=(1, 7, 7, 0, 0, 4, 0, 0, 9, 9), active_number=7, counters={5: [0] * 6},
                    outcomes={6: {1: b"a", 2: b"bc"}})
    run = _Fields(buckets={5: _Fields(is_changed=True, keys=1, object_bytes=-2)}, answered={6: 2}, dead={7: 3}, live_bytes=8,
                  records=1, record_bytes=8, first_sequence=10, last_sequence=11)
    if rows.write(transaction, known, run, 8, 4096, 12) or not rows.write(transaction, known, run, 7, 4096, 12):
        raise RuntimeError("hotrows: rows of another segment of the log were taken, or those of this one were not")
    if known.tail != (7, 4096, 12, 11, 2, 3, 5) or known.active != (1, 7, 7, 0, 4096, 5, 10, 11, 17, 14):
        raise RuntimeError("hotrows: a wrong tail or row of a segment")
    if known.counters != {5: [1, 1, 0, -2, 0, 0]} or known.outcomes != {6: {2: b"bc"}} or run.dead:
        raise RuntimeError("hotrows: wrong counters or outcomes")
    expected = {
        "c": (bytes(7) + b"\x05", bytes(7) + b"\x01" + bytes(7) + b"\x01" + bytes(8) + b"\xff" * 7 + b"\xfe" + bytes(16)),
        "o": (bytes(7) + b"\x06", bytes(7) + b"\x02\0\x02bc"),
        "s": (bytes(3) + b"\x07", b"\x01" + bytes(3) + b"\x07" + bytes(3) + b"\x07" + bytes(6) + b"\x10\0" + bytes(3)
              + b"\x05" + bytes(7) + b"\x0a" + bytes(7) + b"\x0b" + bytes(7) + b"\x11" + bytes(7) + b"\x0e"),
        "t": (b"tail", bytes(3) + b"\x07" + bytes(2) + b"\x10\0" + bytes(3) + b"\x0c" + bytes(7) + b"\x0b" + bytes(7)
              + b"\x02" + bytes(7) + b"\x03" + bytes(3) + b"\x05"),
    }
    for table, (key, value) in expected.items():
        whole = <bytes>(key + value)
        crc = crc32c(0, PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole))
        if transaction.rows[table] != (key, value + crc.to_bytes(CRC_BYTES, "big")):
            raise RuntimeError("hotrows: a wrong row")
    return len(expected) + 3
