"""rclone as an "Other" provider: list version 1, path style, its own checks of MD5 and times."""

from __future__ import annotations

import filecmp

from tests.clients.conftest import Shop


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
