"""Small responses that many operations give."""

from __future__ import annotations

from rs3d.http.messages import Bytes, NoBody, Response


def xml_response(document: bytes, *, status: int = 200) -> Response:
    """A rendered document."""
    return Response(status, [(b"Content-Type", b"application/xml")], Bytes(document))


def empty_response(status: int = 200) -> Response:
    """A response without a body."""
    return Response(status, [], NoBody())
