"""Cache control's memory: the last report of every OCA, and which of them have fallen silent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from targets.playback.oca_map import OCAS_MAX, OcaReport, OcaState


class Taken(Enum):
    """What became of a report."""

    YES = auto()
    WANTS_TITLES = auto()
    """Taken, but its titles are not known here: the OCA is to send them, and is not on the map until it has."""
    OLD = auto()
    """A newer report of the same OCA was here before."""
    FULL = auto()
    """The directory has as many OCAs as it may hold."""


@dataclass(slots=True)
class _Entry:
    heard_s: float
    incarnation: int
    sequence: int
    titles_version: int
    titles: int | None
    state: OcaState | None


class OcaDirectory:
    """The reports of all OCAs. Every method takes the time; nothing here reads a clock.

    ``forget_after_s``: an OCA that has not reported for this long is off the map; None: it stays for ever.
    ``version`` changes exactly when the map does, so a reader that knows the version needs no new copy.
    """

    def __init__(self, *, forget_after_s: float | None, ocas_max: int = OCAS_MAX) -> None:
        self._forget_after_s = forget_after_s
        self._ocas_max = ocas_max
        self._entries: dict[str, _Entry] = {}
        self._map: tuple[OcaState, ...] | None = ()
        self.version = 0

    def take(self, now_s: float, report: OcaReport) -> Taken:
        """Take in a report."""
        self._forget(now_s)
        entry = self._entries.get(report.id)
        if entry is None:
            if len(self._entries) >= self._ocas_max:
                return Taken.FULL
        elif _is_old(entry, report):
            return Taken.OLD
        titles = report.titles
        if titles is None and entry is not None and _same_titles(entry, report):
            titles = entry.titles
        state = None if titles is None else _state(report, titles)
        if state != (entry.state if entry else None):
            self._changed()
        self._entries[report.id] = _Entry(
            heard_s=now_s,
            incarnation=report.incarnation,
            sequence=report.sequence,
            titles_version=report.titles_version,
            titles=titles,
            state=state,
        )
        return Taken.WANTS_TITLES if titles is None else Taken.YES

    def map(self, now_s: float) -> tuple[OcaState, ...]:
        """Return the OCAs that are not silent, by name."""
        self._forget(now_s)
        if self._map is None:
            states = (entry.state for _, entry in sorted(self._entries.items()))
            self._map = tuple(state for state in states if state is not None)
        return self._map

    def silence_s(self, now_s: float) -> Mapping[str, float]:
        """Return, for each OCA known, the seconds since its last report."""
        return {oca: now_s - entry.heard_s for oca, entry in sorted(self._entries.items())}

    def _forget(self, now_s: float) -> None:
        if self._forget_after_s is None:
            return
        silent = [oca for oca, entry in self._entries.items() if now_s - entry.heard_s > self._forget_after_s]
        for oca in silent:
            if self._entries.pop(oca).state is not None:
                self._changed()

    def _changed(self) -> None:
        self.version += 1
        self._map = None


def _is_old(entry: _Entry, report: OcaReport) -> bool:
    newest, given = (entry.incarnation, entry.sequence), (report.incarnation, report.sequence)
    # The same report once more is news only when it brings the titles that were asked for.
    return given < newest or (given == newest and (entry.titles is not None or report.titles is None))


def _same_titles(entry: _Entry, report: OcaReport) -> bool:
    return (entry.incarnation, entry.titles_version) == (report.incarnation, report.titles_version)


def _state(report: OcaReport, titles: int) -> OcaState:
    return OcaState(
        id=report.id,
        url=report.url,
        isp=report.isp,
        load=round(min(max(report.load, 0.0), 1.0), 1),
        accepting=report.accepting,
        routes=report.routes,
        titles=titles,
    )
