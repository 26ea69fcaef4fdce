"""The session's watch over secrets (`conftest.py`) knows them, and would find them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from rs3d.rio.keys import EncryptionKey
from rs3d.telemetry.logs import fields
from tests.s3.wire.client import Caller
from tests.s3.wire.secrecy import Secrecy, forms


def test_s10_the_secrets_of_a_session_are_known(secrecy: Secrecy, root: Caller, anna: Caller, bucket: str) -> None:
    before = len(secrecy)
    sealed = root.put(f"/{bucket}/sealed", b"x" * 100, ("x-amz-server-side-encryption", "AES256"))
    assert sealed.status == 200
    assert len(secrecy) > before


@pytest.mark.parametrize("form", range(7))
@pytest.mark.parametrize("where", ["message", "field"])
def test_s10_a_secret_in_the_log_is_found_in_any_form(tmp_path: Path, form: int, where: str) -> None:
    watch = Secrecy(tmp_path / "log")
    log = logging.getLogger("elsewhere")  # not what the session's own watch reads
    with watch.watching("elsewhere"):
        raw = b"0123456789abcdefghijklmnopqrstuv" if form == 0 else bytes(range(100, 132))
        EncryptionKey(raw)
        text = f"b'{forms(raw)[form]}'" if form == 6 else forms(raw)[form]
        log.debug("told %s", text if where == "message" else "", extra=fields(told=text if where == "field" else ""))
    assert watch.leaks()
