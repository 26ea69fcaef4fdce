"""s5cmd: many workers, large parts, wildcards."""

from __future__ import annotations

import filecmp
import urllib.request

from tests.clients.conftest import Shop


def s5cmd(shop: Shop, *words: str) -> str:
    return shop.run("s5cmd", ["s5cmd", "--endpoint-url", shop.endpoint, *words])


def test_s5cmd_copies_lists_presigns_and_removes(shop: Shop) -> None:
    url = f"s3://{shop.bucket}"
    s5cmd(shop, "cp", "small.txt", f"{url}/dir/small.txt")
    s5cmd(shop, "cp", "--part-size", "16", str(shop.large), f"{url}/large")
    s5cmd(shop, "cp", "--part-size", "16", f"{url}/large", "back")
    assert filecmp.cmp(shop.large, shop.folder / "back", shallow=False)
    s5cmd(shop, "cp", f"{url}/dir/small.txt", f"{url}/copied.txt")
    assert s5cmd(shop, "cat", f"{url}/copied.txt") == (shop.folder / "small.txt").read_text()
    listed = s5cmd(shop, "ls", f"{url}/*")
    assert "dir/small.txt" in listed and "copied.txt" in listed
    address = s5cmd(shop, "presign", f"{url}/copied.txt").strip()
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == (shop.folder / "small.txt").read_bytes()
    s5cmd(shop, "rm", f"{url}/*")
    s5cmd(shop, "rb", url)
