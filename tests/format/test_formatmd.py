"""FORMAT.md's tables are the code's constants."""

from __future__ import annotations

import importlib
import pathlib
import re
import struct

import pytest

import rs3d.format

TEXT = (pathlib.Path(rs3d.format.__file__).parent / "FORMAT.md").read_text()
MARKER = re.compile(r"^<!-- (struct|constants): ([\w.]+) -->$", re.MULTILINE)
CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q"}
STRUCTS = [found[2] for found in MARKER.finditer(TEXT) if found[1] == "struct"]
CONSTANTS = [found[2] for found in MARKER.finditer(TEXT) if found[1] == "constants"]


def rows_behind(kind: str, name: str) -> list[list[str]]:
    """The cells of the table behind a marker, header and rule left out."""
    lines = TEXT.split(f"<!-- {kind}: {name} -->\n", 1)[1].splitlines()
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table[2:]


def packed_format(rows: list[list[str]]) -> str:
    codes = [
        f"{row[1]}s" if row[2] == "bytes" else f"{row[1]}x" if row[2] == "zeros" else CODES[row[2]] for row in rows
    ]
    return ">" + "".join(codes)


def test_there_are_tables_to_check() -> None:
    assert {"rs3d.format.sidecar.HEAD", "rs3d.format.sidecar.PAGE_SEED", "rs3d.format.storemeta.HEAD"} <= set(STRUCTS)
    assert {"rs3d.format.sidecar", "rs3d.stores.layout"} <= set(CONSTANTS)


@pytest.mark.parametrize("name", STRUCTS)
def test_a_structure_has_the_offsets_sizes_and_types_that_are_written(name: str) -> None:
    module, _, constant = name.rpartition(".")
    packed = getattr(importlib.import_module(module), constant)
    assert isinstance(packed, struct.Struct)
    rows = rows_behind("struct", name)
    offset = 0
    for row in rows:
        assert int(row[0]) == offset, row
        if row[2] in CODES:
            assert struct.calcsize(">" + CODES[row[2]]) == int(row[1]), row
        offset += int(row[1])
    assert offset == packed.size
    assert struct.Struct(packed_format(rows)).format == packed.format


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_have_the_values_that_are_written(name: str) -> None:
    module = importlib.import_module(name)
    rows = rows_behind("constants", name)
    assert rows
    for constant, value, _ in rows:
        assert getattr(module, constant.strip("`")) == int(value), constant


def test_magics_and_texts_are_those_of_the_code() -> None:
    from rs3d.crypto import masterkey, sealing
    from rs3d.format import quarantinenote, sidecar, storemeta

    for magic in (sidecar.MAGIC, storemeta.MAGIC, quarantinenote.FIRST_LINE.strip()):
        assert f"`{magic.decode()}`" in TEXT
    assert f"`{masterkey._PREFIX.decode()}`" in TEXT
    assert sealing.OVERHEAD_BYTES == 21 + 16
    for info in ("rs3d master key id", "rs3d master key check", "rs3d seal "):
        assert f"`{info}`" in TEXT


def test_rows_of_pages_are_those_of_the_code() -> None:
    from rs3d.format.sidecar import ROW_BYTES, ROW_SPAN, ROWS_PER_PAGE, Table

    written = {
        row[0]: row[4] for row in (_cells(line) for line in TEXT.splitlines() if re.match(r"\| [12] \w+ \|", line))
    }
    assert written == {f"{table.value} {table.name.lower()}": f"{ROWS_PER_PAGE[table]:,}" for table in Table}
    assert all(ROWS_PER_PAGE[table] * ROW_SPAN[table] == 64 * 1024 * 1024 for table in Table)
    assert (ROW_BYTES[Table.BLOCKS], ROW_BYTES[Table.LEAVES]) == (4, 32)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
