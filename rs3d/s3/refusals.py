"""The document of a request that failed, logged when that is the server's fault."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from rs3d.documents.errordocument import ErrorDocument
from rs3d.errors import RequestError, RetryLater
from rs3d.http.messages import Head
from rs3d.s3.errors import Rendered, describe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as a client sees it."""

    rendered: Rendered
    body: bytes
    """The Error document."""


def refusal_document(error: Exception, head: Head | None, request_id: str, host_id: str) -> Refusal:
    """What `error` becomes. An unexpected one is logged with its traceback; the client learns the request id only.

    Args:
        head: of the request; None when it could not be read.
    """
    rendered = describe(error)
    if rendered.code.status >= 500 and not isinstance(error, RetryLater | RequestError):
        log.error("request failed", exc_info=error, extra={"request_id": request_id})
    document = ErrorDocument(
        code=rendered.code.code,
        message=rendered.message,
        resource="" if head is None else head.target.partition(b"?")[0].decode("latin-1"),
        request_id=request_id,
        host_id=host_id,
        extra=rendered.extra,
    )
    return Refusal(rendered, document.render())
