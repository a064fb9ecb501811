"""How a figure is written for people: ``99.53 %``, ``28.4 /s``, ``812 ms``."""

from __future__ import annotations

import math

from chaos.topology.model import Unit

NOTHING = "-"
"""Stands where nothing was measured."""

_EXTRA_DIGITS_MAX = 4


def figure(value: float | None, unit: Unit | str, *, apart_from: float | None = None) -> str:
    """Return ``value`` with its unit, rounded to what a reader can use.

    A share is a fraction here and percent there. With ``apart_from`` (a limit), digits are added until the two
    are not written alike although they differ: 99.496 % must not read "99.5 %" beside a limit of 99.5 %.
    """
    if value is None or math.isnan(value):
        return NOTHING
    kind = Unit(unit)
    text = _write(value, kind, 0)
    if apart_from is None or apart_from == value:
        return text
    for extra in range(1, _EXTRA_DIGITS_MAX + 1):
        if text != _write(apart_from, kind, extra - 1):
            break
        text = _write(value, kind, extra)
    return text


def _write(value: float, unit: Unit, extra: int) -> str:
    match unit:
        case Unit.PERCENT:
            return f"{_percent(value * 100.0, 2 + extra)} %"
        case Unit.SECONDS:
            return _duration(value, extra)
        case Unit.PER_SECOND:
            return f"{_trim(value, (1 if abs(value) >= 1 else 2) + extra)} /s"
        case Unit.PLAIN:
            return f"{value:.{3 + extra}g}" if abs(value) < 1000 else _trim(value, extra)


def _percent(percent: float, digits: int) -> str:
    """Not quite all is never written as all, nor a little as nothing: 99.9996 % stays below 100."""
    for more in range(_EXTRA_DIGITS_MAX):
        text = _trim(percent, digits + more)
        if (text == "100" and percent != 100.0) or (text == "0" and percent != 0.0):
            continue
        return text
    return text


def _duration(seconds: float, extra: int) -> str:
    size = abs(seconds)
    if size == 0:
        return "0 s"
    if size < 0.0095:
        return f"{_trim(seconds * 1000, 1 + extra)} ms"
    if size < 0.9995:
        return f"{_trim(seconds * 1000, extra)} ms"
    return f"{_trim(seconds, (2 if size < 9.995 else 1) + extra)} s"


def _trim(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def plural(noun: str, count: int) -> str:
    """Return ``1 play`` or ``3 plays``; kinds of samples are named by the user, so only regular plurals."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{count} {noun[:-1]}ies"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"
