"""The settings of a bucket: which exist, and what their texts mean. A setting that does nothing yet does not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rs3d.engine.dedupplan import check_dedup, check_dedup_minimum
from rs3d.engine.etags import EtagAlgorithm
from rs3d.engine.layers import check_cipher, check_compression, check_parity
from rs3d.engine.signing import check_sign
from rs3d.errors import InvalidArgument
from rs3d.types.objects import Pairs

_MAXIMUM_QUOTA: Final = 2**62


def _check_etag(text: str) -> None:
    if text not in {algorithm.value for algorithm in EtagAlgorithm}:
        raise InvalidArgument(name="etag", value=text, reason="must be md5 or sha256")


def _quota_checker(name: str) -> Callable[[str], None]:
    def check(text: str) -> None:
        if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= _MAXIMUM_QUOTA):
            raise InvalidArgument(name=name, value=text, reason="must be a whole number, 0 or more")

    return check


_CHECKS: Final[dict[str, Callable[[str], None]]] = {
    "cipher": check_cipher,
    "compression": check_compression,
    "dedup": check_dedup,
    "dedup_min_object_bytes": check_dedup_minimum,
    "etag": _check_etag,
    "parity": check_parity,
    "sign": check_sign,
    "quota_bytes": _quota_checker("quota_bytes"),
    "quota_objects": _quota_checker("quota_objects"),
}

SETTING_NAMES: Final = tuple(sorted(_CHECKS))


def check_settings(settings: Pairs) -> Pairs:
    """`settings` in order of their names.

    Raises:
        InvalidArgument: unknown or not built, given twice, or with a value it cannot have.
    """
    seen: set[str] = set()
    for name, text in settings:
        check = _CHECKS.get(name)
        if check is None:
            raise InvalidArgument(
                name=name, value=text, reason=f"unknown or not built; settings are {', '.join(SETTING_NAMES)}"
            )
        if name in seen:
            raise InvalidArgument(name=name, value=text, reason="is given twice")
        seen.add(name)
        check(text)
    return tuple(sorted(settings))
