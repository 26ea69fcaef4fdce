"""s3fs and fsspec: the file system that pandas, dask and PyArrow users see."""

from __future__ import annotations

from tests.clients.conftest import Shop

SCRIPT = """
import filecmp, os, urllib.request
import s3fs
fs = s3fs.S3FileSystem(key=os.environ["KEY"], secret=os.environ["SECRET"], endpoint_url=os.environ["ENDPOINT"])
bucket = os.environ["BUCKET"]
with fs.open(f"{bucket}/a/small.txt", "wb") as file:
    file.write(b"0123456789")
with fs.open(f"{bucket}/a/small.txt", "rb") as file:
    file.seek(2)
    assert file.read(3) == b"234"
assert fs.cat_file(f"{bucket}/a/small.txt", start=-3) == b"789"
fs.put(os.environ["LARGE"], f"{bucket}/large")
fs.get(f"{bucket}/large", "back")
assert filecmp.cmp(os.environ["LARGE"], "back", shallow=False)
fs.copy(f"{bucket}/large", f"{bucket}/copy")
assert fs.info(f"{bucket}/copy")["size"] == 200 * 1024 * 1024
assert fs.ls(bucket) == [f"{bucket}/a", f"{bucket}/copy", f"{bucket}/large"]
assert sorted(fs.find(bucket)) == [f"{bucket}/a/small.txt", f"{bucket}/copy", f"{bucket}/large"]
assert urllib.request.urlopen(fs.sign(f"{bucket}/a/small.txt")).read() == b"0123456789"
assert not fs.exists(f"{bucket}/missing")
fs.rm(bucket, recursive=True)
assert not fs.exists(bucket)
print("done")
"""


def test_s3fs_writes_seeks_copies_lists_signs_and_removes(shop: Shop) -> None:
    assert shop.python("s3fs", SCRIPT).endswith("done\n")
