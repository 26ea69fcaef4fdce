"""Who makes a request: the claim in its signature, proven with the secret of its access key.

Anonymous requests are refused here; CORS preflights and POST forms, which carry their proof elsewhere, do not come by.
"""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.access.authorization import find_claim
from rs3d.access.errors import InvalidAccessKeyId
from rs3d.access.sigv2 import find_presigned_v2, verify_v2
from rs3d.access.sigv4 import SigningKeys, VerifiedSignature, verify
from rs3d.engine.engine import StorageEngine
from rs3d.engine.results import Credentials
from rs3d.errors import AccessDenied
from rs3d.http.messages import Head
from rs3d.s3.configuration import RegionCheck, S3Config
from rs3d.types.identities import Identity


@dataclass(slots=True)
class Authenticator:
    """Proves signatures; keeps signing keys of the day. One a process, used by one task at a time."""

    engine: StorageEngine
    config: S3Config
    keys: SigningKeys

    def authenticate(self, head: Head, bucket_of_host: str, *, now_ns: int) -> tuple[Identity, VerifiedSignature]:
        """The identity behind `head`, by header or presigned URL.

        Args:
            head: of the request.
            bucket_of_host: the bucket where the host names it (Version 2 signs it), else empty.
            now_ns: wall clock.

        Raises:
            AccessDenied: the request is anonymous.
            InvalidAccessKeyId, SignatureDoesNotMatch and everything `find_claim` raises.
        """
        old = find_presigned_v2(head.target, now_ns=now_ns)
        if old is not None:
            credentials = self.credentials(old.access_key)
            signature = verify_v2(old, head.method, head.target, head.headers, credentials.secret, bucket_of_host)
            return credentials.identity, signature
        region = self.config.region if self.config.region_check is RegionCheck.STRICT else None
        claim = find_claim(head.target, head.headers, now_ns=now_ns, required_region=region)
        if claim is None:
            raise AccessDenied(action="any action", resource="the store", reason="the request is anonymous")
        credentials = self.credentials(claim.access_key)
        key = self.keys.signing_key(claim.access_key, credentials.generation, credentials.secret, claim.scope)
        return credentials.identity, verify(claim, head.method, head.target, head.headers, key)

    def credentials(self, access_key: str) -> Credentials:
        """The active key `access_key`.

        Raises:
            InvalidAccessKeyId: there is none.
        """
        found = self.engine.credentials(access_key)
        if found is None:
            raise InvalidAccessKeyId(access_key)
        return found
