"""Being told to stop (SIGINT, SIGTERM) before a command has signal handlers of its own."""

from __future__ import annotations

import signal


class ToldToStopError(BaseException):
    """SIGINT or SIGTERM came before a run had handlers of its own.

    Not KeyboardInterrupt: when that passes through an ``exec`` (the making of a dataclass, say), Python ends itself by
    SIGINT in the end, although it was caught.
    """


_told: list[int] = []


def obey_signals() -> None:
    """Have SIGINT and SIGTERM raise ToldToStopError wherever the main thread is."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def stop_if_told() -> None:
    """Raise ToldToStopError if a signal has come; to be called when other handlers are about to take over.

    What is raised while Python runs a weak reference's callback or a ``__del__`` is printed and lost, and imports are
    full of these: without this a run would begin although it had been told to stop.
    """
    if _told:
        raise ToldToStopError


def _stop(number: int, _frame: object) -> None:
    _told.append(number)
    raise ToldToStopError
