"""The load of the chaos runs: what `Load` does, and copies, versions, aborted uploads and lists, each answer held
against what was acknowledged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections import defaultdict
from typing import Any

from rs3d.testing import MiniProcess
from tests.system.load import ABSENT, KeyHistory, Load


class MixedLoad(Load):
    """A `Load` with multipart uploads over two buckets: `bucket`, and `bucket`-versions, which has versioning enabled.

    A writer alone uses the keys below its own number, so what it reads between its own calls is exactly known.
    """

    def __init__(self, server: MiniProcess, bucket: str, *, writers: int, seed: int = 1) -> None:
        super().__init__(server, bucket, writers=writers, seed=seed, multipart=True)
        self.versions_bucket = f"{bucket}-versions"
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._acknowledged_versions: dict[str, dict[str, str]] = defaultdict(dict)
        self._attempted_versions: dict[str, set[str]] = defaultdict(set)

    def make_buckets(self, client: Any) -> None:
        """Both buckets, before the load begins."""
        client.create_bucket(Bucket=self._bucket)
        client.create_bucket(Bucket=self.versions_bucket)
        client.put_bucket_versioning(Bucket=self.versions_bucket, VersioningConfiguration={"Status": "Enabled"})

    def _one(self, client: Any, chance: random.Random, key: str) -> None:
        dice = chance.random()
        if dice < 0.15:
            self._put_version(client, chance, key)
        elif dice < 0.18:
            self._remove_version(client, chance, key)
        elif dice < 0.28:
            self._copy(client, chance, key)
        elif dice < 0.36:
            self._list(client, key)
        elif dice < 0.44:
            self._read(client, chance, key)
        elif dice < 0.46:
            self._abandon_upload(client, key)
        else:
            self.counts["put, delete or complete"] += 1
            super()._one(client, chance, key)

    def _put_version(self, client: Any, chance: random.Random, key: str) -> None:
        self.counts["put of a version"] += 1
        body = self._body(chance)
        digest = hashlib.sha256(body).hexdigest()
        self._attempted_versions[key].add(digest)
        answer = client.put_object(Bucket=self.versions_bucket, Key=key, Body=body)
        self._acknowledged_versions[key][answer["VersionId"]] = digest

    def _remove_version(self, client: Any, chance: random.Random, key: str) -> None:
        known = self._acknowledged_versions[key]
        if not known:
            return
        self.counts["removal of a version"] += 1
        version = chance.choice(sorted(known))
        # From here on its absence is legal as well: no longer acknowledged, still attempted.
        del known[version]
        client.delete_object(Bucket=self.versions_bucket, Key=key, VersionId=version)

    def _copy(self, client: Any, chance: random.Random, key: str) -> None:
        target = f"{key.partition('/')[0]}/{chance.randrange(25)}"
        source = self._histories.get(key)
        if source is None or len(source.possible) != 1 or ABSENT in source.possible or target == key:
            return
        self.counts["copy"] += 1
        (digest,) = source.possible
        history = self._histories.setdefault(target, KeyHistory())
        history.attempt(digest)
        client.copy_object(Bucket=self._bucket, Key=target, CopySource={"Bucket": self._bucket, "Key": key})
        history.acknowledge(digest)

    def _abandon_upload(self, client: Any, key: str) -> None:
        self.counts["aborted upload"] += 1
        upload = client.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=1, Body=os.urandom(100_000))
        # A client that lost the answer asks again, and is told that there is no such upload any more.
        with contextlib.suppress(client.exceptions.NoSuchUpload):
            client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)

    def _list(self, client: Any, key: str) -> None:
        self.counts["list"] += 1
        prefix = key.partition("/")[0] + "/"
        listed = {entry["Key"] for entry in self._listed(client, prefix)}
        for name, history in list(self._histories.items()):
            if not name.startswith(prefix) or len(history.possible) != 1:
                continue
            if (ABSENT in history.possible) == (name in listed):
                self.problems.append(f"list: {name} is {'in' if name in listed else 'not in'} {prefix}")

    def _listed(self, client: Any, prefix: str) -> list[Any]:
        return list(client.list_objects_v2(Bucket=self._bucket, Prefix=prefix).get("Contents", []))

    def _read(self, client: Any, chance: random.Random, key: str) -> None:
        history = self._histories.get(key)
        if history is None or ABSENT in history.possible:
            return
        self.counts["read"] += 1
        whole = client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        found = hashlib.sha256(whole).hexdigest()
        if found not in history.possible:
            self.problems.append(f"read: {key} holds {found}, possible {history.possible}")
        if whole and len(history.possible) == 1:
            self._read_range(client, chance, key, whole)

    def _read_range(self, client: Any, chance: random.Random, key: str, whole: bytes) -> None:
        self.counts["range"] += 1
        first = chance.randrange(len(whole))
        last = min(len(whole) - 1, first + chance.randrange(200_000))
        answer = client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={first}-{last}")
        if answer["Body"].read() != whole[first : last + 1]:
            self.problems.append(f"range: bytes {first} to {last} of {key} are wrong")

    def verify(self, client: Any) -> int:
        """As `Load.verify`; every acknowledged version too, and no version that nobody tried to make."""
        number = super().verify(client)
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for page in client.get_paginator("list_object_versions").paginate(Bucket=self.versions_bucket):
            for entry in page.get("Versions", []):
                name, version = entry["Key"], entry["VersionId"]
                answer = client.get_object(Bucket=self.versions_bucket, Key=name, VersionId=version)
                found[name][version] = hashlib.sha256(answer["Body"].read()).hexdigest()
        for name, versions in self._acknowledged_versions.items():
            for version, digest in versions.items():
                assert found[name].get(version) == digest, f"version {version} of {name}: {found[name].get(version)}"
        for name, versions in found.items():
            unknown = set(versions.values()) - self._attempted_versions[name]
            assert not unknown, f"{name} has versions that nobody put: {unknown}"
        return number + sum(map(len, found.values()))
