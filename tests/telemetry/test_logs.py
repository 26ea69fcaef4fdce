from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from rs3d.telemetry import logs
from rs3d.telemetry.logs import LogFormat, LogLevel, fields


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield io.StringIO()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in before:
        root.addHandler(handler)
    root.setLevel(level)


def set_up(stream: io.StringIO, form: LogFormat = LogFormat.TEXT, level: LogLevel = LogLevel.INFO) -> logging.Logger:
    logs.set_up("worker-0", level=level, form=form, stream=stream)
    return logging.getLogger("rs3d.test")


def test_a_text_line_has_process_logger_message_and_fields(stream: io.StringIO) -> None:
    set_up(stream).info("request", extra=fields(status=200, key="a b"))
    assert stream.getvalue() == 'info worker-0 rs3d.test: request status=200 key="a b"\n'


def test_a_json_line_parses(stream: io.StringIO) -> None:
    set_up(stream, LogFormat.JSON).warning("slow", extra=fields(seconds=1.5))
    line = json.loads(stream.getvalue())
    assert (line["level"], line["message"], line["seconds"], line["process"]) == ("warning", "slow", 1.5, "worker-0")


def test_the_request_id_is_on_every_line_of_the_request(stream: io.StringIO) -> None:
    log = set_up(stream, LogFormat.JSON)
    token = logs.request_id.set("0123456789abcdef")
    log.info("request")
    logs.request_id.reset(token)
    log.info("other")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["request"] == "0123456789abcdef"
    assert "request" not in second


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: AWS4-HMAC-SHA256 Credential=AK/x, Signature=deadbeefdeadbeef00",
        "GET /b/k?X-Amz-Signature=deadbeefdeadbeef00&x=1",
        "secret_key = deadbeefdeadbeef00",
        "{'secretKey': 'deadbeefdeadbeef00'}",
    ],
)
def test_signatures_and_secrets_are_hidden(stream: io.StringIO, text: str) -> None:
    set_up(stream).info(text)
    assert "deadbeef" not in stream.getvalue()


def test_a_known_secret_is_hidden_wherever_it_stands(stream: io.StringIO) -> None:
    logs.hide("correct-horse-battery")
    log = set_up(stream)
    try:
        raise ValueError("bad correct-horse-battery value")
    except ValueError:
        log.exception("failed", extra=fields(value="correct-horse-battery"))
    assert "correct-horse" not in stream.getvalue()


def test_a_traceback_stays_on_one_bounded_line(stream: io.StringIO) -> None:
    log = set_up(stream)
    try:
        raise ValueError("x" * 100_000)
    except ValueError:
        log.exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert len(stream.getvalue()) <= logs.MAXIMUM_LINE_CHARACTERS + 1


def test_a_long_json_line_still_parses(stream: io.StringIO) -> None:
    set_up(stream, LogFormat.JSON).error("big", extra=fields(value="y" * 100_000))
    assert json.loads(stream.getvalue())["cut"] is True


def test_a_forged_line_end_is_escaped(stream: io.StringIO) -> None:
    set_up(stream).info("key %s", "a\ninfo worker-0 forged")
    assert stream.getvalue().count("\n") == 1


def test_a_repeating_warning_is_held_back_and_counted() -> None:
    limit = logs.RateLimit(interval_s=10, burst=1)

    def record(at_s: float) -> logging.LogRecord:
        made = logging.LogRecord("rs3d", logging.WARNING, "file.py", 7, "disk", None, None)
        made.created = at_s
        return made

    assert [limit.filter(record(at_s)) for at_s in (0, 1, 2)] == [True, False, False]
    last = record(10.5)
    assert limit.filter(last)
    assert getattr(last, "rs3d_fields") == {"held_back": 2}  # noqa: B009


def test_information_is_not_rate_limited() -> None:
    limit = logs.RateLimit()
    record = logging.LogRecord("rs3d", logging.INFO, "file.py", 7, "request", None, None)
    assert limit.filter(record)
    assert limit.filter(record)
