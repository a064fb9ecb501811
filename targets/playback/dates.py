"""Dates for a target without a wall clock: what day it is, and when another one begins.

The setting ``epoch_date`` is the date at which a run begins, and the event loop's time says how long ago that was.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Final

from chaos.topology.model import Scalar

EPOCH_DATE: Final = "2026-01-01"
"""The date at which a run begins, unless the setting ``epoch_date`` says another."""


class Calendar:
    """Moment ``began_s`` of the loop's time is midnight of ``epoch`` (UTC); what was before it counts as at it."""

    def __init__(self, epoch: dt.date, *, began_s: float) -> None:
        self._epoch = dt.datetime.combine(epoch, dt.time())
        self._began_s = began_s

    @classmethod
    def of(cls, settings: Mapping[str, Scalar], *, began_s: float) -> Calendar:
        """Return the calendar of a run with these settings. Raises ValueError when ``epoch_date`` is no date."""
        return cls(epoch_of(settings), began_s=began_s)

    def minute(self, at_s: float) -> tuple[str, str]:
        """Return the date (``2026-01-01``) and the minute (``00:07``) of a moment."""
        moment = self._moment(at_s)
        return moment.date().isoformat(), moment.strftime("%H:%M")

    def date(self, at_s: float) -> dt.date:
        """Return the date of a moment."""
        return self._moment(at_s).date()

    def begin_s(self, date: dt.date) -> float:
        """Return the moment on the loop's clock, in seconds, at which ``date`` begins."""
        return self._began_s + (dt.datetime.combine(date, dt.time()) - self._epoch).total_seconds()

    def _moment(self, at_s: float) -> dt.datetime:
        return self._epoch + dt.timedelta(seconds=max(0.0, math.floor(at_s - self._began_s)))


def epoch_of(settings: Mapping[str, Scalar]) -> dt.date:
    """Return the date at which a run with these settings begins. Raises ValueError when ``epoch_date`` is none."""
    text = str(settings.get("epoch_date", EPOCH_DATE))
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"settings.epoch_date is {text!r}; a date such as {EPOCH_DATE} is needed.") from error
