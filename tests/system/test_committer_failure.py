"""A committer process that ends by an error nobody foresaw: its successor answers what it left, nothing is lost."""

from __future__ import annotations

from pathlib import Path

from rs3d.admin.client import AdminClient
from rs3d.stores.check import assert_files_reachable
from rs3d.testing import MiniProcess
from tests.system.clients import s3_client

BROKEN_ONCE = """
import os, pathlib, sys
if sys.argv[0].endswith("committer.py") or "rs3d.daemon.committer" in sys.orig_argv:
    from rs3d.stores import committerservice
    genuine = committerservice.compact
    def compact(*arguments, **named):
        armed = pathlib.Path(os.environ["FAIL_ONCE"])
        if armed.exists():
            armed.unlink()
            raise ZeroDivisionError("a bug")
        yield from genuine(*arguments, **named)
    committerservice.compact = compact
"""


def test_a_committer_that_fails_comes_back_and_answers_what_it_left(tmp_path: Path) -> None:
    patch = tmp_path / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(BROKEN_ONCE)
    environment = {"PYTHONPATH": str(patch), "FAIL_ONCE": str(tmp_path / "armed")}
    with MiniProcess(tmp_path / "data", environment=environment) as server:
        client = s3_client(server, attempts=5)
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="k", Body=b"before")
        before = server.children()["committer"]
        (tmp_path / "armed").touch()
        with AdminClient(Path(server.directory) / "admin.sock") as admin:
            admin.call("compact", {})
        assert not (tmp_path / "armed").exists()
        assert server.children()["committer"] != before
        assert "ZeroDivisionError: a bug" in server.output
        client.put_object(Bucket="kept", Key="k2", Body=b"after")
        assert client.get_object(Bucket="kept", Key="k")["Body"].read() == b"before"
    assert_files_reachable(str(tmp_path / "data"))
