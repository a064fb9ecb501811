"""How a file is named to people."""

from __future__ import annotations

import contextlib
from pathlib import Path


def shown_file(path: Path) -> str:
    """Return the path as a person in the current folder would type it."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)
