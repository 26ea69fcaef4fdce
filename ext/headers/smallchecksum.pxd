"""The checksums that a small put may bring, by their codes (rs3d/format/rows.py CHECKSUM_ALGORITHMS): those that cost
next to nothing beside the body's other hashes. Each is of the full object. Textual, like variant.pxd."""

cdef enum:
    CHECKSUM_CRC32 = 1
    CHECKSUM_CRC32C = 2
    CHECKSUM_CRC64NVME = 3
    CHECKSUM_SHA256 = 5
    MOST_CHECKSUM_BYTES = 32
    CHECKSUM_BYTES = 1 + MOST_CHECKSUM_BYTES  # in a message: the code, or 0; then the digest and zeros
    TYPE_FULL_OBJECT = 1  # rs3d/format/rows.py CHECKSUM_TYPES


cdef inline size_t checksum_bytes(int code) noexcept nogil:
    """Of its digest; 0 where a small put has no such checksum."""
    if code == CHECKSUM_CRC32 or code == CHECKSUM_CRC32C:
        return 4
    if code == CHECKSUM_CRC64NVME:
        return 8
    return 32 if code == CHECKSUM_SHA256 else 0


cdef inline const char *checksum_name(int code) noexcept nogil:
    """As S3 writes it in documents; in headers it is in lower case."""
    if code == CHECKSUM_CRC32:
        return "CRC32"
    if code == CHECKSUM_CRC32C:
        return "CRC32C"
    return "CRC64NVME" if code == CHECKSUM_CRC64NVME else "SHA256"


cdef inline bint is_checksum(const unsigned char *m) noexcept nogil:
    """Whether these CHECKSUM_BYTES of a message are a checksum, or say that there is none."""
    cdef size_t i, length = checksum_bytes(m[0])
    if m[0] and not length:
        return False
    for i in range(length, MOST_CHECKSUM_BYTES):
        if m[1 + i]:
            return False
    return True
