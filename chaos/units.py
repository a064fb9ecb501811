"""Values with units, as people write them: durations, percentages, rates; read and written without rounding.

``3s``, ``500ms``, ``2m``, ``1.5h`` are durations, ``99.5%`` is a share, ``30/s`` a rate. Arithmetic is decimal, so that
``99.5%`` is 0.995 and is written as ``99.5%`` again. Every reader raises ValueError with what is allowed.
"""

from __future__ import annotations

import re
from decimal import Decimal

NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,12})?"
DURATION_PATTERN = rf"^{NUMBER} ?(?:ms|s|m|h)$"
PERCENT_PATTERN = rf"^{NUMBER} ?%$"
RATE_PATTERN = rf"^{NUMBER} ?/ ?s$"

_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_SUFFIXED = re.compile(rf"(?P<number>{NUMBER}) ?(?P<suffix>\S.*)?")


def read_duration_s(text: str) -> float:
    """Return the seconds of ``3s``, ``500ms``, ``2m`` or ``1h``."""
    number, suffix = _split(text)
    if number is None or suffix not in _SECONDS:
        raise ValueError("not a duration; write a number with ms, s, m or h, like 500ms or 3s")
    return float(number * _SECONDS[suffix])


def read_percent(text: str) -> float:
    """Return the share of ``99.5%``: 0.995."""
    number, suffix = _split(text)
    if number is None or suffix != "%":
        raise ValueError("not a percentage; write a number with %, like 99.5%")
    return float(number / 100)


def read_rate_per_s(text: str) -> float:
    """Return the events a second of ``30/s``, or of a plain ``30``."""
    number, suffix = _split(text)
    if number is None or suffix.replace(" ", "") not in {"", "/s"}:
        raise ValueError("not a rate; write a number, or a number with /s, like 30/s")
    return float(number)


def read_number(text: str) -> float:
    """Return a plain, unsigned number."""
    number, suffix = _split(text)
    if number is None or suffix:
        raise ValueError("not a plain number; write a number without a unit, like 3 or 0.5")
    return float(number)


def format_duration(seconds: float) -> str:
    """Write seconds as ``3s``, ``500ms`` or ``1m``, exactly, in the largest unit that leaves a short number."""
    number = _decimal(seconds)
    if number == 0:
        return "0s"
    if number < 1:
        return f"{_plain(number * 1000)}ms"
    for suffix in ("h", "m"):
        if number % _SECONDS[suffix] == 0:
            return f"{_plain(number / _SECONDS[suffix])}{suffix}"
    return f"{_plain(number)}s"


def format_percent(share: float) -> str:
    """Write 0.995 as ``99.5%``."""
    return f"{_plain(_decimal(share) * 100)}%"


def format_number(value: float) -> str:
    """Write a number without an exponent and without needless zeros."""
    return _plain(_decimal(value))


def _split(text: str) -> tuple[Decimal | None, str]:
    found = _SUFFIXED.fullmatch(text.strip())
    return (Decimal(found["number"]), found["suffix"] or "") if found else (None, "")


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value))


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
