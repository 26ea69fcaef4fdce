"""A small, strict tree of the XML that clients send.

expat does the parsing. What makes XML dangerous is refused: document types, and with them every entity but the five
predefined; processing instructions; depth, elements and attributes beyond what S3's documents can need. Names are taken
from S3's namespace or from none, as S3 does; a name of another namespace matches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from rs3d.documents.errors import MalformedXML, MaxMessageLengthExceeded

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
XSI_TYPE = "http://www.w3.org/2001/XMLSchema-instance type"

# S3's deepest request document has 7 levels (replication rules).
MAXIMUM_DEPTH = 16
# CompleteMultipartUpload with 10,000 parts of four elements each is the largest.
MAXIMUM_ELEMENTS = 60_000
MAXIMUM_ATTRIBUTES = 4

_PREFIX = NAMESPACE + " "


@dataclass(slots=True)
class Element:
    """One element: its name without S3's namespace, its children, and its text."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def allow(self, *names: str) -> None:
        """Refuse children with other names, and attributes.

        Raises:
            MalformedXML: there are such.
        """
        if self.attributes:
            malformed(f"{self.name} has attributes")
        for child in self.children:
            if child.name not in names:
                malformed(f"{self.name} may not hold {child.name}")

    def one(self, name: str) -> Element:
        """The child `name`, which has to be there exactly once."""
        found = self.optional(name)
        if found is None:
            malformed(f"{self.name} has no {name}")
        return found

    def optional(self, name: str) -> Element | None:
        """The child `name`, or None; there may not be two."""
        found = self.every(name)
        if len(found) > 1:
            malformed(f"{self.name} holds {name} twice")
        return found[0] if found else None

    def every(self, name: str) -> list[Element]:
        """All children `name`, in order."""
        return [child for child in self.children if child.name == name]

    def value(self) -> str:
        """The text of a leaf, exactly as sent."""
        if self.children:
            malformed(f"{self.name} may not hold elements")
        if self.attributes:
            malformed(f"{self.name} has attributes")
        return self.text

    def word(self) -> str:
        """The text of a leaf without white space around it."""
        return self.value().strip()

    def integer(self, minimum: int, maximum: int) -> int:
        """The text of a leaf as a decimal number in a range."""
        text = self.word()
        digits = text[1:] if text.startswith("-") else text
        if not digits.isascii() or not digits.isdigit() or len(digits) > 19:
            malformed(f"{self.name} is not a number")
        number = int(text)
        if not minimum <= number <= maximum:
            malformed(f"{self.name} is not between {minimum} and {maximum}")
        return number

    def boolean(self) -> bool:
        """The text of a leaf as XML Schema's boolean."""
        text = self.word().lower()
        if text not in ("true", "false", "1", "0"):
            malformed(f"{self.name} is not a boolean")
        return text in ("true", "1")


def malformed(reason: str) -> NoReturn:
    """Raise MalformedXML for `reason`."""
    raise MalformedXML(reason)


def read_document(body: bytes, root: str, *, maximum_bytes: int) -> Element:
    """The tree of one document.

    Args:
        body: UTF-8 whatever its XML declaration says, or UTF-16 with its byte order mark.
        root: the name its outermost element must have.
        maximum_bytes: the most that a document of this kind can have.

    Raises:
        MaxMessageLengthExceeded: it is larger.
        MalformedXML: it is not well-formed, is not of this kind, or goes beyond the limits above.
    """
    if len(body) > maximum_bytes:
        raise MaxMessageLengthExceeded(maximum_bytes)
    tree = _TreeBuilder().build(body)
    if tree.name != root:
        malformed(f"the document is {tree.name}, not {root}")
    return tree


class _TreeBuilder:
    def __init__(self) -> None:
        self._parser = expat.ParserCreate("utf-8", " ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.EntityDeclHandler = self._refuse_entity
        self._parser.ProcessingInstructionHandler = self._refuse_instruction
        self._open: list[Element] = []
        self._root: Element | None = None
        self._count = 0

    def build(self, body: bytes) -> Element:
        try:
            self._parser.Parse(body, True)
        except expat.ExpatError as error:
            malformed(f"{expat.ErrorString(error.code)} in line {error.lineno}")
        if self._root is None:
            malformed("the document is empty")
        return self._root

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAXIMUM_ELEMENTS:
            malformed(f"more than {MAXIMUM_ELEMENTS} elements")
        if len(self._open) >= MAXIMUM_DEPTH:
            malformed(f"more than {MAXIMUM_DEPTH} levels")
        if len(attributes) > MAXIMUM_ATTRIBUTES:
            malformed(f"{name} has more than {MAXIMUM_ATTRIBUTES} attributes")
        element = Element(name.removeprefix(_PREFIX), attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)

    def _end(self, name: str) -> None:
        element = self._open.pop()
        if element.children:
            if element.text.strip():
                malformed(f"{element.name} holds text beside elements")
            element.text = ""

    def _text(self, data: str) -> None:
        self._open[-1].text += data

    def _refuse_doctype(self, name: str, system: str | None, public: str | None, internal: bool) -> None:
        malformed("document type declarations are not taken")

    def _refuse_entity(self, *declaration: object) -> None:
        malformed("entity declarations are not taken")

    def _refuse_instruction(self, target: str, data: str) -> None:
        malformed("processing instructions are not taken")
