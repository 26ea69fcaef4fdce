"""The page size of list requests. Pure."""

from __future__ import annotations

from rs3d.errors import InvalidArgument


def page_size(query: dict[str, str], name: str, *, default: int = 1000, limit: int = 1000) -> int:
    """The page size that a list asks for, at most `limit`.

    Raises:
        InvalidArgument: not a whole number from 0 to 2³¹ - 1.
    """
    text = query.get(name)
    if text is None or text == "":
        return default
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidArgument(name, text, f"Provided {name} not an integer or within integer range")
    if text.startswith("-") or len(digits) > 10 or int(digits) > 2**31 - 1:
        raise InvalidArgument(name, text, f"Argument {name} must be an integer between 0 and 2147483647")
    return min(int(digits), limit)
