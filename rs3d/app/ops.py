"""The pages of the ops listener: `/health/live`, `/health/ready`, `/metrics`. Plain HTTP, no authentication, nothing
secret:
counts and states, never a bucket's or a key's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rs3d.http.messages import Bytes, Handler, NoBody, Request, Response


@dataclass(frozen=True, slots=True)
class Health:
    """What the daemon says of itself. `code` is a word for machines, `detail` a sentence for people."""

    code: str
    detail: str
    ready: bool


OK = Health("ok", "serving", ready=True)

METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PLAIN_TYPE = b"text/plain; charset=utf-8"


def ops_handler(*, health: Callable[[], Health], metrics: Callable[[], str]) -> Handler:
    """The handler of the ops listener. Both callables are quick and do not block."""

    async def handle(request: Request) -> Response:
        path = request.head.target.partition(b"?")[0]
        if request.head.method not in ("GET", "HEAD"):
            return _text(405, "only GET and HEAD\n", request)
        if path == b"/health/live":
            return _text(200, "live\n", request)
        if path == b"/health/ready":
            state = health()
            return _text(200 if state.ready else 503, f"{state.code}: {state.detail}\n", request)
        if path == b"/metrics":
            return _text(200, metrics(), request, METRICS_TYPE)
        return _text(404, "there are /health/live, /health/ready and /metrics\n", request)

    return handle


def _text(status: int, text: str, request: Request, content_type: bytes = PLAIN_TYPE) -> Response:
    data = text.encode()
    body = NoBody(len(data)) if request.head.method == "HEAD" else Bytes(data)
    headers = [(b"Content-Type", content_type), (b"Cache-Control", b"no-store")]
    if status == 405:
        headers.append((b"Allow", b"GET, HEAD"))
    return Response(status=status, headers=headers, body=body)
