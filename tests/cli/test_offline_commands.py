from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from rs3d.cli.main import main
from rs3d.cli.output import print_result
from rs3d.testing import running_server


@pytest.fixture
def store(tmp_path: Path) -> Path:
    async def fill() -> None:
        async with running_server(tmp_path / "store") as server:
            await server.engine.create_bucket("kept")
            await server.engine.put_object("kept", "large", b"x" * 100_000)

    trio.run(fill)
    return tmp_path / "store"


def test_check_finds_a_store_clean_and_then_what_was_damaged(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--data", str(store), "--deep", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clean"]
    assert report["blobs"] == 1
    blob = next((store / "blobs").rglob("*.data"))
    content = bytearray(blob.read_bytes())
    content[5000] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(content)
    assert main(["check", "--data", str(store), "--deep", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["clean"]
    assert any(finding["severity"] == "error" for finding in report["findings"])


def test_a_catalog_is_rebuilt_from_the_log(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (store / "catalog").iterdir():
        file.unlink()
    assert main(["check", "--data", str(store), "--rebuild"]) == 0
    assert "clean" in capsys.readouterr().out

    async def read() -> bytes:
        async with running_server(store) as server:
            return await server.engine.get_object("kept", "large")

    assert trio.run(read) == b"x" * 100_000


def test_the_catalogs_map_is_made_larger(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--data", str(store), "--map-bytes", str(128 << 30), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["map_bytes"] == 128 << 30 > told["before"]
    assert main(["check", "--data", str(store)]) == 0
    assert main(["check", "--data", str(store), "--map-bytes", "4097"]) == 1
    assert "64 MiB or more" in capsys.readouterr().err


@pytest.mark.parametrize("pattern", ["store.meta", "log/*.meta", "blobs/*/*.meta"])
def test_dump_prints_every_kind_of_file(store: Path, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted(store.glob(pattern))[0]
    assert main(["dump", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    assert main(["dump", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_a_directory_that_does_not_exist_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--data", str(tmp_path / "absent")]) == 1
    assert "there is no such directory" in capsys.readouterr().err


def test_a_wrong_address_leaves_no_store_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mini", str(tmp_path / "new"), "--listen", "nowhere"]) == 78
    assert "'nowhere' is not HOST:PORT" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_names_for_people_have_no_unit_where_the_value_is_a_date(capsys: pytest.CaptureFixture[str]) -> None:
    print_result([{"created_ns": 1_000_000_000, "free_bytes": 2048, "age_s": 3}])
    assert capsys.readouterr().out.split("\n")[:2] == [
        "created               free bytes  age s",
        "1970-01-01 00:00:01Z  2.0 KiB     3",
    ]


def test_a_file_that_is_none_of_ours_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader")
    assert main(["dump", str(path)]) == 1
    assert "PROBLEM" in capsys.readouterr().out
    assert main(["dump", str(tmp_path / "absent")]) != 0


def test_config_show_tells_value_and_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rs3d.toml"
    path.write_text('[storage]\nroot = "/srv/rs3d"\n')
    monkeypatch.setenv("RS3D_DAEMON__WORKERS", "3")
    assert main(["config", "show", "--config", str(path), "--json"]) == 0
    rows = {f"{row['section']}.{row['key']}": row for row in json.loads(capsys.readouterr().out)}
    assert rows["storage.root"] == {
        "section": "storage",
        "key": "root",
        "value": "/srv/rs3d",
        "source": f"{path}:2",
    }
    assert rows["daemon.workers"]["source"] == "environment RS3D_DAEMON__WORKERS"
    assert rows["s3.region"]["source"] == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[storage]\nrot = "/x"\n', "rs3d.toml:2: storage.rot: there is no such setting; did you mean storage.root?"),
        ('[storage]\ncompression = "zstd:99"\n', "rs3d.toml:2: storage.compression: must be off, lz4"),
        ("[storage.dedup]\nblock_size = 5000\n", "rs3d.toml:2: storage.dedup.block_size: chunks of fixed size are"),
        ('[storage.dedup]\nalgorithm = "rabin"\n', "rs3d.toml:2: storage.dedup.algorithm: must be fixed or content"),
        ("[storage.dedup]\nmin_object_size = -1\n", "rs3d.toml:2: storage.dedup.min_object_size: must be a whole"),
        ("[storage.zerocopy]\ndirect_io_threshold = 100\n", "rs3d.toml:2: storage.zerocopy.direct_io_threshold"),
        ("[storage.cache]\nttl_seconds = 300\n", "is not in this build"),
        ("[http]\nhead_bytes = 1000000\n", "rs3d.toml:2: http.head_bytes: at most"),
        ('[server]\ntls_listen = ["127.0.0.1:1"]\n', "rs3d.toml:2: server.tls_listen: needs tls_certificate"),
        ("[engine]\nregion = 'x'\n", "engine.region: there is no such setting"),
        ('[server]\nlisten = ["here"]\n', "rs3d.toml:2: server.listen: 'here' is not HOST:PORT"),
        ('[ops]\nlisten = ["::1:9001"]\n', "rs3d.toml:2: ops.listen: '::1:9001' is not HOST:PORT"),
        ("[daemon]\nworkers = -1\n", "rs3d.toml:2: daemon.workers: must be 0 to 128"),
    ],
)
def test_config_check_names_file_line_and_key(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rs3d.toml"
    path.write_text(text)
    assert main(["config", "check", "--config", str(path)]) == 78
    assert said in capsys.readouterr().err


def test_config_check_tells_a_bad_file_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[storage]\nroot = "/srv"\n[s3]\nregoin = "x"\n')
    assert main(["config", "check", "--config", str(path), "--json"]) == 78
    told = json.loads(capsys.readouterr().out)
    assert told["valid"] is False and told["error"]["source"] == f"{path}:4"
    assert told["error"]["key"] == "s3.regoin" and "region" in told["error"]["reason"]


def test_mini_wants_a_directory_or_a_temporary_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mini"]) == 78
    assert main(["mini", "somewhere", "--ephemeral"]) == 78
    assert "--ephemeral" in capsys.readouterr().err
