"""A plain, signed GET or HEAD of one object: recognised and proven in one pass over a received head.

`read` takes what clients send by far the most, and only that: GET or HEAD in HTTP/1.1, a target of unreserved
characters and slashes (its canonical form is itself) without a query, no body, the fields Host, Authorization,
x-amz-date, x-amz-content-sha256, x-amz-checksum-mode: ENABLED and such as change nothing (User-Agent, Accept,
Accept-Encoding, Accept-Language, Content-Type, Content-Length: 0, Connection: keep-alive, x-amz-user-agent, amz-sdk-*),
none of the first six twice, Host and every x-amz-* field signed, a timestamp of the scope's day and at most 15 minutes
from now, and a signature that holds. For everything else it answers None: it refuses nothing, the long way decides.

Loop-safe: two microseconds; holds the GIL. Variants `shani` and `scalar`; `RS3D_KERNEL_PLAINREAD` demands one. Sources:
RFC 9112; S3 API reference, "Authenticating Requests: Using the Authorization Header"; FIPS 180-4; RFC 2104.
Oracle: the long way itself, `rs3d.http.heads` and `rs3d.access` (`tests/kernels/test_plainread.py`).
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
