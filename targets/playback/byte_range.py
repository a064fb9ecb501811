"""Which part of a body a request asks for: the Range header of RFC 9110, section 14. Pure.

    byte_range(None, 1000)              None: all of it
    byte_range("bytes=500-", 1000)      range(500, 1000)
    byte_range("bytes=-100", 1000)      range(900, 1000)
    byte_range("bytes=2000-", 1000)     NotSatisfiable: answered with 416

A header that is not understood, and one that asks for several parts, is ignored, as the RFC allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class NotSatisfiable(Exception):  # noqa: N818 - it names what the answer is called
    """The body has nothing of what was asked for."""


def byte_range(header: str | None, size_bytes: int) -> range | None:
    """Return the positions that ``header`` asks for in a body of ``size_bytes``; None: all. Raises NotSatisfiable."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None:
        return None
    first, last = found.groups()
    if first:
        begin, end = int(first), int(last) + 1 if last else size_bytes
        if last and end <= begin:
            return None  # not a range at all
    elif last:
        begin, end = max(0, size_bytes - int(last)), size_bytes
    else:
        return None
    end = min(end, size_bytes)
    if begin >= end:
        raise NotSatisfiable
    return range(begin, end)


def asked_range(headers: Mapping[str, str], size_bytes: int) -> range | None:
    """Return the positions that a request's headers ask for; None: all. Raises NotSatisfiable.

    With If-Range a part is wanted only of the same version; what has no ETag here cannot promise that.
    """
    return None if "If-Range" in headers else byte_range(headers.get("Range"), size_bytes)


def content_range(part: range | None, size_bytes: int) -> str:
    """Return the header that says which part an answer is; None: that there was nothing of what was asked for."""
    positions = "*" if part is None else f"{part.start}-{part.stop - 1}"
    return f"bytes {positions}/{size_bytes}"
