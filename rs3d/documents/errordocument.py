"""The document that every refused request is answered with (S3 API reference, *Error responses*)."""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.documents.xmlwriter import element, plain_document


@dataclass(frozen=True, slots=True)
class ErrorDocument:
    """Code, message and where; `extra` holds the elements of particular codes in order, such as (`BucketName`, `b`)."""

    code: str
    message: str
    resource: str = ""
    request_id: str = ""
    host_id: str = ""
    extra: tuple[tuple[str, str], ...] = ()

    def render(self) -> bytes:
        """The document; Resource is left out when empty."""
        pieces = [element("Code", self.code), element("Message", self.message)]
        pieces += [element(name, text) for name, text in self.extra]
        if self.resource:
            pieces.append(element("Resource", self.resource))
        pieces += [element("RequestId", self.request_id), element("HostId", self.host_id)]
        return plain_document("Error", pieces)
