"""Logging: stdlib loggers, one line an event on stderr, as text or JSON, with the request's id, without secrets.

Call it as `log.info("message constant", extra=fields(bucket=…, status=…))`: the message stays greppable, the values
are fields.
"""

from __future__ import annotations

import contextvars
import enum
import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("rs3d_request_id", default="")
"""Set by whoever handles a request; every line logged meanwhile carries it."""

operation: contextvars.ContextVar[str] = contextvars.ContextVar("rs3d_operation", default="")
"""The S3 operation that the request turned out to be, set by whoever routes it; the label of its metrics."""

LogValue = str | int | float | bool | None

_FIELDS: Final = "rs3d_fields"

MAXIMUM_LINE_CHARACTERS: Final = 8192
"""Bounds a line, traceback included; journald cuts at 48 KiB, and nobody reads more."""

_PATTERNS: Final = (
    re.compile(r"(Signature=)[0-9A-Fa-f]{8,}"),
    re.compile(r"(X-Amz-Signature=)[0-9A-Fa-f]+", re.IGNORECASE),
    re.compile(r"(X-Amz-Security-Token=)[^&\s\"]+", re.IGNORECASE),
    re.compile(r"(server-side-encryption-customer-key['\"]?\s*[:=]\s*b?['\"]?)[A-Za-z0-9+/=]{20,}", re.IGNORECASE),
    re.compile(r"(secret[_ -]?(?:access[_ -]?)?key['\"]?\s*[:=]\s*['\"]?)[^'\"\s,}]+", re.IGNORECASE),
)
_HIDDEN: Final = "(hidden)"
_SHORTEST_SECRET: Final = 8
"""Shorter values would hide half of the log."""

_known_secrets: set[str] = set()


class LogFormat(enum.Enum):
    TEXT = "text"
    JSON = "json"


class LogLevel(enum.Enum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def fields(**values: LogValue) -> dict[str, Mapping[str, LogValue]]:
    """The `extra` argument of a logging call: these values become fields of the line."""
    return {_FIELDS: values}


def hide(secret: str) -> None:
    """Never write this value in a log line of this process, whatever logs it."""
    if len(secret) >= _SHORTEST_SECRET:
        _known_secrets.add(secret)


def redact(text: str) -> str:
    """`text` without signatures, tokens, keys and every value given to `hide`."""
    for secret in _known_secrets:
        if secret in text:
            text = text.replace(secret, _HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{_HIDDEN}", text)
    return text


class LineFormatter(logging.Formatter):
    """One line a record, whatever is in it: line ends are escaped, length is bounded."""

    def __init__(self, process: str, form: LogFormat) -> None:
        super().__init__()
        self._process = process
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, LogValue] = dict(getattr(record, _FIELDS, {}))
        request = request_id.get()
        if request:
            values["request"] = request
        if record.exc_info and record.exc_info[0] is not None:
            values["traceback"] = self.formatException(record.exc_info)
        message = record.getMessage()
        if self._form is LogFormat.JSON:
            line = self._json(record, message, values)
        else:
            pairs = "".join(f" {name}={_text(value)}" for name, value in values.items())
            line = f"{record.levelname.lower()} {self._process} {record.name}: {message}{pairs}"
        return redact(line).replace("\r", "\\r").replace("\n", "\\n")[:MAXIMUM_LINE_CHARACTERS]

    def _json(self, record: logging.LogRecord, message: str, values: Mapping[str, LogValue]) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        head = {"time": stamp, "level": record.levelname.lower(), "process": self._process, "logger": record.name}
        line = json.dumps({**head, "message": message, **values}, ensure_ascii=False, default=str)
        if len(line) > MAXIMUM_LINE_CHARACTERS:  # a cut line would not parse
            short = {name: str(value)[:512] for name, value in list(values.items())[:16] if name != "traceback"}
            line = json.dumps({**head, "message": message[:1024], **short, "cut": True}, ensure_ascii=False)
        return line


def _text(value: LogValue) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' "=\n') else text


class RateLimit(logging.Filter):
    """Lets the warnings and errors of one place pass `burst` times in `interval_s`, and counts what it held back."""

    def __init__(self, interval_s: float = 10.0, burst: int = 20) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._burst = burst
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        place = (record.pathname, record.lineno)
        began_at, count = self._seen.get(place, (float("-inf"), 0))
        if record.created - began_at < self._interval_s:
            self._seen[place] = (began_at, count + 1)
            return count < self._burst
        self._seen[place] = (record.created, 1)
        if count > self._burst:
            values = dict(getattr(record, _FIELDS, {}))
            setattr(record, _FIELDS, {**values, "held_back": count - self._burst})
        return True


def set_up(process: str, *, level: LogLevel, form: LogFormat, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to `stream` (stderr). May be called again after a reload."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(process, form))
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.value.upper())
    # Other people's loggers tell of every connection at DEBUG; below INFO they would drown ours, and some print
    # headers.
    for name in ("httpx", "httpcore", "botocore", "boto3", "urllib3", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
