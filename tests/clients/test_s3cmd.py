"""s3cmd: 100-continue on every upload, list version 1, its own multipart."""

from __future__ import annotations

import filecmp
import urllib.request

from tests.clients.conftest import Shop


def s3cmd(shop: Shop, *words: str) -> str:
    host = shop.endpoint.removeprefix("http://")
    return shop.run(
        "s3cmd",
        [
            "s3cmd",
            f"--host={host}",
            f"--host-bucket={host}",
            "--no-ssl",
            "--no-progress",
            f"--access_key={shop.access_key}",
            f"--secret_key={shop.secret_key}",
            *words,
        ],
    )


def test_s3cmd_puts_gets_copies_lists_signs_and_deletes(shop: Shop) -> None:
    url = f"s3://{shop.bucket}"
    s3cmd(shop, "put", "small.txt", "nasty é+ &name.txt", f"{url}/dir/")
    s3cmd(shop, "put", "--multipart-chunk-size-mb=15", str(shop.large), f"{url}/large")
    s3cmd(shop, "get", f"{url}/large", "back")
    assert filecmp.cmp(shop.large, shop.folder / "back", shallow=False)
    (shop.folder / "partial").write_text((shop.folder / "small.txt").read_text()[:700])
    s3cmd(shop, "get", "--continue", f"{url}/dir/small.txt", "partial")
    assert filecmp.cmp(shop.folder / "small.txt", shop.folder / "partial", shallow=False)
    s3cmd(shop, "cp", f"{url}/dir/small.txt", f"{url}/copied.txt")
    assert "dir/nasty é+ &name.txt" in s3cmd(shop, "ls", "--recursive", url)
    address = s3cmd(shop, "signurl", f"{url}/copied.txt", "+600").strip()
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == (shop.folder / "small.txt").read_bytes()
    s3cmd(shop, "del", "--recursive", "--force", url)
    s3cmd(shop, "rb", url)
