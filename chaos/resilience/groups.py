"""The group of the request in progress: whether it belongs to an experiment, or to the control group beside it.

It travels along with the work as the deadline does: in a context variable within a process, in ``GROUP_HEADER``
between processes. So a proxy deep behind the edge can tell an experiment's requests from everybody else's. It changes
nothing in the service itself, and needs no isolation: it is passed on when all protections are off.
"""

from __future__ import annotations

from contextvars import ContextVar

GROUP_HEADER = "X-Chaos-Group"
"""Name of the HTTP header."""

GROUPS = frozenset({"experiment", "control"})
"""What the header may say; anything else is not passed on."""

_group: ContextVar[str] = ContextVar("group", default="")

current_group = _group.get
"""Returns the group of the request in progress; empty where it has none."""


def set_group(header: str | None) -> None:
    """Make what a request's header says the group of this task, and of those that it starts."""
    _group.set(header if header in GROUPS else "")
