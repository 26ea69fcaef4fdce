"""The storage engine: S3's objects, versions, uploads and buckets over a catalog, a committer and a blob store.

`StorageEngine` is the back end of the S3 layer and a library of its own. Everything runs under Trio. Calls that touch
only the catalog are plain methods (a Trio checkpoint alone costs 4.4 µs); calls that commit, or read or write blobs,
are coroutines.

    import trio
    from rs3d.engine import StorageEngine

    async def main() -> None:
        async with StorageEngine.open("data") as engine:
            await engine.create_bucket("my-bucket")
            await engine.put_object("my-bucket", "hello.txt", b"Hello, World!")
            print(await engine.get_object("my-bucket", "hello.txt"))
            await engine.delete_object("my-bucket", "hello.txt")
            await engine.delete_bucket("my-bucket")

    trio.run(main)

Bodies may be bytes or any `rs3d.types.body.BodySource`; large objects are read piece by piece:

    async with await engine.open_object("my-bucket", "big.bin", range="bytes=0-99") as reader:
        async for piece in reader.pieces():
            ...

Multipart, with any number of parts in flight at once:

    upload_id = await engine.create_multipart_upload("my-bucket", "large-file.bin")
    part = await engine.upload_part("my-bucket", "large-file.bin", upload_id, 1, data)
    await engine.complete_multipart_upload(
        "my-bucket", "large-file.bin", upload_id, CompleteRequest(parts=(CompletedPart(number=1, etag=part.etag),)))

The calls (request and result types are in `requests` and `results`; every error is in `rs3d.errors`):

    objects     put_object(bucket, key, body, request) · get_object(bucket, key, …) -> bytes · open_object(bucket,
    key, …) -> ObjectReader ·
                head_object(bucket, key, …) [plain] · object_attributes(bucket, key, …) [plain] · copy_object(bucket,
                key, request) · delete_object(bucket, key, request) · delete_objects(bucket, items, …) ·
                object_tags(bucket, key, version) [plain] · set_object_tags(bucket, key, tags, version)
    multipart   create_multipart_upload(bucket, key, request) -> str · upload_part(bucket, key, upload_id, number,
    body, checks) ·
                upload_part_copy(bucket, key, upload_id, number, request) · complete_multipart_upload(bucket, key,
                upload_id, request) · abort_multipart_upload(bucket, key, upload_id) · upload(bucket, key, upload_id)
                [plain]
    lists       list_objects(bucket, request) · list_object_versions(bucket, request) · list_multipart_uploads(bucket,
    request) ·
                list_parts(bucket, key, upload_id, request) · list_buckets(request)     [all plain]
    buckets     create_bucket(name, request) · bucket(name) [plain] · bucket_status(name) [plain] ·
    change_bucket(name, change) ·
                set_versioning(name, versioning) · delete_bucket(name)
    identities  identity_generation() · credentials(access_key) · user(name) · users() · access_keys(user)     [all
    plain] ·
                create_user(request) · remove_user(name) · create_key(request) · set_key_status(access_key, status) ·
                remove_key(access_key)

May import ranks 0 to 6. Where the truth is written: the S3 API reference for behaviour, rs3d/format/FORMAT.md for
bytes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rs3d.engine.configuration import EngineConfig, EngineDeps
    from rs3d.engine.engine import StorageEngine

_HOMES = {"EngineConfig": "configuration", "EngineDeps": "configuration", "StorageEngine": "engine"}


def __getattr__(name: str) -> object:
    # The engine is imported when it is first asked for: the supervisor and the committer only read its configuration.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"rs3d.engine.{home}"), name)
    return found


__all__ = ["EngineConfig", "EngineDeps", "StorageEngine"]
