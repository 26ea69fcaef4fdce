"""A plain, signed request for one object: recognised and proven in one pass over the received bytes.

`read` and `write` take what clients send by far the most, and only that: HTTP/1.1, a target of unreserved characters
and slashes (its canonical form is itself) without a query, the fields Host, Authorization, x-amz-date,
x-amz-content-sha256, and such as change nothing (User-Agent, Accept, Accept-Encoding, Accept-Language,
Connection: keep-alive, x-amz-user-agent, amz-sdk-*), none that matters twice, Host and every x-amz-* field signed, a
timestamp of the scope's day and at most 15 minutes from now, and a signature that holds. `read` takes GET and HEAD
without a body, perhaps with x-amz-checksum-mode: ENABLED; `write` takes PUT with a Content-Length, perhaps with a
Content-Type of printable ASCII, perhaps of a part (`?partNumber=…&uploadId=…`), perhaps with one checksum of CRC32,
CRC32C, CRC64NVME or SHA256 (and x-amz-sdk-checksum-algorithm, where it says the same) and Expect: 100-continue, and
DELETE without a body. For everything else they answer None: they refuse nothing, the long way decides. What was claimed
of the body's bytes is not checked here.

Loop-safe: two microseconds; holds the GIL. Variants `shani` and `scalar`; `RS3D_KERNEL_PLAINREQUEST` demands one.
Sources: RFC 9112; S3 API reference, "Authenticating Requests: Using the Authorization Header"; FIPS 180-4; RFC 2104.
Oracle: the long way itself, `rs3d.http.heads` and `rs3d.access` (`tests/kernels/test_plainrequest.py`).
"""

from typing import Any

class Signer:
    """Who signs with a certain beginning of an Authorization header. Immutable; holds its signing key."""

    def __init__(self, signing_key: bytes, scope: bytes, signed: tuple[bytes, ...], owner: object) -> None:
        """Args:
        signing_key: of the scope, as `sigv4.signing_key` derives it.
        scope: `YYYYMMDD/REGION/s3/aws4_request`.
        signed: the signed header names in lower case, in order.
        owner: whatever the caller wants back.

        Raises:
            ValueError: the key is longer than 64 bytes.
        """

    @property
    def owner(self) -> Any:
        """What the signer was made with."""

def read(
    buffer: bytes | bytearray | memoryview,
    start: int,
    end: int,
    signers: dict[bytes, Signer],
    now_s: int,
    most_fields: int,
) -> tuple[bool, bytes, Signer, int, bool, bytes] | bytes | None:
    """Read the head at `buffer[start:end]`.

    Args:
        signers: by the Authorization value up to and with `Signature=`.
        now_s: wall clock, seconds since 1970.
        most_fields: heads with more are not taken.

    Returns:
        (is HEAD, target, signer, position behind the head, whether checksums are asked for, Host); or, when the signer
        is not known, the bytes that would name it in `signers`; or None where the long way has to look.
    """

def write(
    buffer: bytes | bytearray | memoryview,
    start: int,
    end: int,
    signers: dict[bytes, Signer],
    now_s: int,
    most_fields: int,
) -> (
    tuple[bool, bytes, Signer, int, int, bytes | None, bytes, bytes, tuple[int, bytes] | None, bytes | None, bool]
    | bytes
    | None
):
    """Read the request at `buffer[start:end]`.

    Args:
        signers, now_s, most_fields: as for `read`.

    Returns:
        (is DELETE, path, signer, position behind the head, position behind the body, which is beyond `end` where not
        all of it has arrived, Content-Type, x-amz-content-sha256, Host, part number (1 to 10,000) and upload id of a
        part, else None, the checksum as `rs3d.stores.smallput.BODY` has it, code and digest, 33 bytes, or None, whether
        the client waits for 100 Continue); or as `read`.
    """

def variant() -> str:
    """The variant in use."""

def variants() -> tuple[str, ...]:
    """Names of the variants that this machine can run, widest first."""

def use_variant(name: str) -> None:
    """Use another variant from now on.

    Raises:
        ValueError: there is no such variant. RuntimeError: this machine cannot run it.
    """

def selftest() -> int:
    """Prove a good signature and refuse a wrong and an old one, in every variant; the number of known answers.

    Raises:
        RuntimeError: one of them is wrong.
    """
