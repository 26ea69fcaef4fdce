"""rclone as an "Other" provider: list version 1, path style, its own checks of MD5 and times."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path

from rs3d.format.dump import dump_file, render
from rs3d.testing import MiniProcess
from tests.clients.conftest import Shop
from tests.system.clients import s3_client
from tests.system.test_rebuild import command


def rclone(shop: Shop, *words: str) -> str:
    return shop.run(
        "rclone",
        ["rclone", "--config", str(shop.folder / "none.conf"), "--s3-chunk-size", "8M", *words],
        RCLONE_CONFIG_R_TYPE="s3",
        RCLONE_CONFIG_R_PROVIDER="Other",
        RCLONE_CONFIG_R_ENDPOINT=shop.endpoint,
        RCLONE_CONFIG_R_ACCESS_KEY_ID=shop.access_key,
        RCLONE_CONFIG_R_SECRET_ACCESS_KEY=shop.secret_key,
    )


def test_rclone_copies_checks_ranges_and_purges(shop: Shop) -> None:
    remote = f"r:{shop.bucket}"
    (shop.folder / "src" / "deep").mkdir(parents=True)
    (shop.folder / "src" / "deep" / "nasty é+ &name.txt").write_text("nasty")
    (shop.folder / "src" / "large").symlink_to(shop.large)
    rclone(shop, "copy", "--copy-links", "src", remote)
    rclone(shop, "check", "--copy-links", "--download", "src", remote)
    rclone(shop, "check", "--copy-links", "src", remote)
    rclone(shop, "copyto", f"{remote}/large", "back")
    assert filecmp.cmp(shop.large, shop.folder / "back", shallow=False)
    with shop.large.open("rb") as file:
        file.seek(1_000_000)
        expected = file.read(16).hex()
    rclone(shop, "copyto", "--s3-copy-cutoff", "5M", f"{remote}/large", f"{remote}/copy")
    ranged = shop.run(
        "rclone",
        ["sh", "-c", f"rclone cat --offset 1000000 --count 16 {remote}/copy | od -An -tx1 | tr -d ' \\n'"],
        RCLONE_CONFIG_R_TYPE="s3",
        RCLONE_CONFIG_R_PROVIDER="Other",
        RCLONE_CONFIG_R_ENDPOINT=shop.endpoint,
        RCLONE_CONFIG_R_ACCESS_KEY_ID=shop.access_key,
        RCLONE_CONFIG_R_SECRET_ACCESS_KEY=shop.secret_key,
        RCLONE_CONFIG=str(shop.folder / "none.conf"),
    )
    assert ranged.endswith(expected)
    assert rclone(shop, "link", f"{remote}/copy").splitlines()[-1].startswith(shop.endpoint)
    rclone(shop, "purge", remote)


def test_rclone_syncs_a_compressed_and_encrypted_bucket_both_ways_and_all_hashes_hold(
    shop: Shop, daemon: MiniProcess
) -> None:
    """Without rclone's own crypt and compress: it is the server that seals, and rclone sees its own MD5s."""
    command(daemon, "bucket", "set", shop.bucket, "compression=zstd:3")
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3_client(daemon).put_bucket_encryption(Bucket=shop.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    source, remote = shop.folder / "tree", f"r:{shop.bucket}"
    files = plant(source)
    parts = ("--s3-upload-cutoff", "8M")
    rclone(shop, "sync", *parts, "tree", remote)
    assert matching(rclone(shop, "check", "tree", remote)) == len(files)
    (source / "deep" / "3").write_bytes(b"changed")
    (source / "deep" / "4").unlink()
    rclone(shop, "sync", *parts, "tree", remote)
    assert matching(rclone(shop, "check", "tree", remote)) == len(files) - 1
    rclone(shop, "sync", remote, "back")
    assert matching(rclone(shop, "check", "--download", "tree", remote)) == len(files) - 1
    assert contents_of(shop.folder / "back") == contents_of(source)
    recipes = recipes_of(daemon.directory)
    assert any("compress" in recipe and "encrypt" in recipe for recipe in recipes), recipes
    assert not lies_in_the_clear(daemon.directory)


MARKER = b"what rclone wrote must not lie on the disk as it was"


def plant(folder: Path) -> list[Path]:
    """Texts, noise, nothing at all, and one file of several parts."""
    (folder / "deep").mkdir(parents=True)
    made = [folder / "empty", folder / "parts", folder / "noise", *(folder / "deep" / str(at) for at in range(20))]
    made[0].write_bytes(b"")
    made[1].write_bytes(MARKER * 400_000)
    made[2].write_bytes(random.Random(1).randbytes(300_000))
    for at, path in enumerate(made[3:]):
        path.write_bytes(MARKER * (1 + 400 * at))
    return made


def matching(told: str) -> int:
    """How many files `rclone check` found alike. Fails when a hash could not be compared."""
    assert "0 differences found" in told and "could not be checked" not in told, told
    return int(re.findall(r"(\d+) matching files", told)[-1])


def recipes_of(store: Path) -> list[str]:
    """What `rs3d dump` says of every sidecar."""
    return ["\n".join(render(dump_file(data, path.name))) for path, data in files_of(store, "blobs/*/*.meta")]


def contents_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def lies_in_the_clear(store: Path) -> bool:
    return any(MARKER in data for _, data in files_of(store, "**/*"))


def files_of(store: Path, pattern: str) -> Iterator[tuple[Path, bytes]]:
    """All that stay: those of objects that were replaced or deleted are unlinked behind the answer, perhaps now."""
    for path in store.glob(pattern):
        if path.is_file():
            with contextlib.suppress(FileNotFoundError):
                yield path, path.read_bytes()
