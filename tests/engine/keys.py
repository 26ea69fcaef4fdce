"""Keys that have broken other stores (PITFALLS D20)."""

from __future__ import annotations

import itertools
import unicodedata

_PIECES = [
    *("a", "A", ".", "..", "/", "//", " ", "+", "%2F", "%", "\\"),
    *("é", "e\u0301", "ß", "日本", "\U0001f600", "~", "\x7f"),
]


def nasty_keys() -> list[str]:
    """Some 600 keys, each once, no two the same bytes, in no order."""
    keys = ["".join(pieces) for pieces in itertools.product(_PIECES, _PIECES)]
    keys += [first + "/" + second for first, second in itertools.product(_PIECES, _PIECES[:10])]
    keys += [chr(code) for code in range(1, 32)]
    keys += ["\x00", "a\x00b", "a\x00", "\x00\x00", "\x01\x00", "a\x01"]
    keys += ["k" * 1024, "k" * 1023, "é" * 512, "/" * 1024, "k" * 479, "k" * 480, "k" * 481, "k" * 511, "k" * 512]
    keys += ["k" * 480 + suffix for suffix in ("\x00", "\x01", "/", "a", "\x7f", "é")]
    keys += [unicodedata.normalize(form, "Å ångström ﬁ") for form in ("NFC", "NFD", "NFKC", "NFKD")]
    keys += ["index.html", "index.html/", "index.htm", "con", "aux.txt", "a.meta", "a.data", "log/1.meta", "null"]
    keys += ["\ufeff", "\uffff", "\U0010ffff", "\u2028", "\u202e", "?versionId=x", "#", "&", "<x>", '"', "'"]
    return list(dict.fromkeys(keys))
