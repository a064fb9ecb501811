"""In what a control differs from its experiment, in words."""

from __future__ import annotations

from collections.abc import Sequence


def deviation(disabled: Sequence[str], changed: Sequence[str]) -> str:
    """Return in words what is different in a control: ``without isolation and client_retry``."""
    words = [f"without {names(disabled)}"] if disabled or not changed else []
    return " and ".join([*words, *([f"with {names(changed)}"] if changed else [])])


def names(many: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    if len(many) < 2:
        return "".join(many) or "nothing"
    return f"{', '.join(many[:-1])} and {many[-1]}"
