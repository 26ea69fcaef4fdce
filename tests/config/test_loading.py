from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rs3d.config.loading import Override, load
from rs3d.config.schema import SECRET, Schema, Section
from rs3d.errors import ConfigurationError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Storage:
    root: Path | None = None
    inline_limit_bytes: int = 32768


@dataclass(frozen=True, slots=True)
class Cache:
    ttl_seconds: float = 300.0
    colour: Colour = Colour.RED
    domains: tuple[str, ...] = ()
    enabled: bool = False
    token: str = field(default="", metadata={SECRET: True})

    def __post_init__(self) -> None:
        if self.ttl_seconds <= 0:
            raise ConfigurationError(source="cache", key="ttl_seconds", reason="must be positive")


SCHEMA = Schema(
    sections=(Section("storage", Storage), Section("storage.cache", Cache)),
    planned={"storage.compression": "compression", "storage.dedup": "deduplication"},
)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rs3d.toml"
    path.write_text(text)
    return path


def test_a_file_becomes_dataclasses(tmp_path: Path) -> None:
    path = write(tmp_path, '[storage]\nroot = "/srv/x"\n[storage.cache]\ncolour = "blue"\ndomains = ["a", "b"]\n')
    configuration = load(SCHEMA, path=path)
    assert configuration.get(Storage) == Storage(root=Path("/srv/x"))
    assert configuration.get(Cache) == Cache(colour=Colour.BLUE, domains=("a", "b"))


def test_every_value_tells_its_source(tmp_path: Path) -> None:
    path = write(tmp_path, '# one\n[storage]\nroot = "/srv/x"\n')
    environment = {"RS3D_STORAGE__CACHE__TTL_SECONDS": "7"}
    overrides = [Override("storage.inline_limit_bytes", 5, "--inline")]
    configuration = load(SCHEMA, path=path, environment=environment, overrides=overrides)
    sources = {f"{s.section}.{s.key}": s.source for s in configuration.settings()}
    assert sources["storage.root"] == f"{path}:3"
    assert sources["storage.cache.ttl_seconds"] == "environment RS3D_STORAGE__CACHE__TTL_SECONDS"
    assert sources["storage.inline_limit_bytes"] == "--inline"
    assert sources["storage.cache.colour"] == "default"


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, "[storage]\ninline_limit_bytes = 1\n")
    environment = {"RS3D_STORAGE__INLINE_LIMIT_BYTES": "2"}
    assert load(SCHEMA, path=path, environment=environment).get(Storage).inline_limit_bytes == 2
    overrides = [Override("storage.inline_limit_bytes", 3, "--inline")]
    assert load(SCHEMA, path=path, environment=environment, overrides=overrides).get(Storage).inline_limit_bytes == 3


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("RS3D_STORAGE__CACHE__ENABLED", "true", Cache(enabled=True)),
        ("RS3D_STORAGE__CACHE__DOMAINS", "x.example, y.example", Cache(domains=("x.example", "y.example"))),
        ("RS3D_STORAGE__CACHE__COLOUR", "blue", Cache(colour=Colour.BLUE)),
        ("RS3D_STORAGE__CACHE__TOKEN", "12345", Cache(token="12345")),
    ],
)
def test_environment_text_is_read_as_the_field_wants(variable: str, text: str, expected: Cache) -> None:
    assert load(SCHEMA, environment={variable: text}).get(Cache) == expected


def test_an_unknown_key_is_refused_with_file_line_and_nearest_name(tmp_path: Path) -> None:
    path = write(tmp_path, '[storage]\nroot = "/x"\ninline_limit_byte = 4\n')
    with pytest.raises(ConfigurationError) as refused:
        load(SCHEMA, path=path)
    assert refused.value.source == f"{path}:3"
    assert "storage.inline_limit_bytes?" in refused.value.reason


def test_an_unknown_table_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "[storage]\n[storge.cache]\n")
    with pytest.raises(ConfigurationError) as refused:
        load(SCHEMA, path=path)
    assert refused.value.source == f"{path}:2"


def test_an_unknown_variable_is_refused_and_named() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(SCHEMA, environment={"RS3D_STORAGE__ROOTS": "/x"})
    assert refused.value.source == "environment RS3D_STORAGE__ROOTS"
    assert "storage.root?" in refused.value.reason


def test_variables_without_a_double_underscore_are_not_configuration() -> None:
    assert load(SCHEMA, environment={"RS3D_SOCKET": "x", "HOME": "/"}).get(Storage) == Storage()


@pytest.mark.parametrize("text", ['[storage]\ncompression = "zstd:3"\n', "[storage.dedup]\nblock_size = 4\n"])
def test_a_reserved_name_says_which_system_is_missing(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(SCHEMA, path=write(tmp_path, text))
    assert "is not in this build" in refused.value.reason


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[storage]\ninline_limit_bytes = "many"\n', "storage.inline_limit_bytes"),
        ('[storage.cache]\ncolour = "green"\n', "storage.cache.colour"),
        ("[storage.cache]\nttl_seconds = -1\n", "storage.cache.ttl_seconds"),
        ("[storage.cache]\nttl_seconds = nan\n", "storage.cache.ttl_seconds"),
        ("[storage.cache]\nttl_seconds = inf\n", "storage.cache.ttl_seconds"),
        ("[storage.cache]\ndomains = [1]\n", "storage.cache.domains"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(tmp_path: Path, text: str, key: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as refused:
        load(SCHEMA, path=path)
    assert (refused.value.key, refused.value.source) == (key, f"{path}:2")


def test_a_wrong_value_in_the_environment_is_refused_with_its_name() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(SCHEMA, environment={"RS3D_STORAGE__INLINE_LIMIT_BYTES": "many"})
    assert refused.value.source == "environment RS3D_STORAGE__INLINE_LIMIT_BYTES"


@pytest.mark.parametrize("content", [b"[storage\n", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rs3d.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        load(SCHEMA, path=path)
    assert refused.value.source == str(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load(SCHEMA, path=tmp_path / "absent.toml")


def test_secrets_are_not_shown() -> None:
    configuration = load(SCHEMA, environment={"RS3D_STORAGE__CACHE__TOKEN": "hunter2"})
    assert "hunter2" not in repr([s.value for s in configuration.settings()])
