"""Tables of a family: any name, each with the dataclass that its selector names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from rs3d.config.loading import from_tree, load
from rs3d.config.schema import Family, Schema, Section
from rs3d.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Keys:
    default: str = "local"


@dataclass(frozen=True, slots=True)
class Ring:
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Remote:
    url: str
    timeout_s: float = 5.0


SCHEMA = Schema(
    sections=(Section("keys", Keys),),
    families=(Family("keys.providers", "type", {"ring": Ring, "remote": Remote}),),
)


def loaded(tmp_path: Path, text: str, **environment: str) -> dict[str, object]:
    path = tmp_path / "rs3d.toml"
    path.write_text(text)
    return load(SCHEMA, path=path, environment=environment).family("keys.providers")


def test_each_table_has_the_dataclass_of_its_type(tmp_path: Path) -> None:
    text = '[keys.providers.one]\ntype = "ring"\nfile = "/x"\n[keys.providers.two]\ntype = "remote"\nurl = "u"\n'
    assert loaded(tmp_path, text) == {"one": Ring(Path("/x")), "two": Remote("u")}
    assert loaded(tmp_path, "") == {}


def test_the_environment_goes_before_the_file_and_children_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "rs3d.toml"
    path.write_text('[keys.providers.two]\ntype = "remote"\nurl = "u"\n')
    configuration = load(SCHEMA, path=path, environment={"RS3D_KEYS__PROVIDERS__TWO__TIMEOUT_S": "9"})
    assert configuration.family("keys.providers") == {"two": Remote("u", 9.0)}
    assert from_tree(SCHEMA, configuration.tree).family("keys.providers") == {"two": Remote("u", 9.0)}
    shown = {(s.section, s.key): (s.value, s.source) for s in configuration.settings()}
    assert shown["keys.providers.two", "timeout_s"] == ("9.0", "environment RS3D_KEYS__PROVIDERS__TWO__TIMEOUT_S")
    assert shown["keys.providers.two", "url"] == ("u", f"{path}:3")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[keys.providers.one]\nfile = "/x"\n', "must be one of ring, remote"),
        ('[keys.providers.one]\ntype = "vault"\n', "not 'vault'"),
        ('[keys.providers.one]\ntype = "ring"\nurl = "u"\n', "no such setting"),
        ('[keys.providers.one]\ntype = "ring"\nfil = "u"\n', "did you mean keys.providers.one.file"),
        ('[keys.providers.one]\ntype = "remote"\nurl = "u"\ntimeout_s = "soon"\n', "expected float"),
        ('[keys.providers]\ntype = "ring"\n', "no such setting"),
    ],
)
def test_what_does_not_fit_is_refused_naming_file_and_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        loaded(tmp_path, text)
    assert "rs3d.toml:" in caught.value.source


def test_a_type_that_needs_a_value_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="url"):
        loaded(tmp_path, '[keys.providers.one]\ntype = "remote"\n')
