"""Every sample of a run, kept so that any window of it can be measured at once.

Samples live in columns, one set for each kind, about 70 bytes each; an index by second (once by the moment an
attempt was due, once by the moment its outcome was known) finds a window without looking at the rest::

    kind "play"   row        0      1      2      3  ...
                  scheduled  0.02   0.91   1.10   0.97
                  ended      0.08   1.40   1.12   3.97
                  outcome    ok     ok     ok     failed
    by scheduled  second 0: rows 0, 1, 3      second 1: row 2
    by ended      second 0: row 0             second 1: rows 1, 2      second 3: row 3
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from chaos.groups import Group
from chaos.samples import LAG_KIND, SURGE_FIELD, Sample, SampleOutcome
from chaos.statistics.quantiles import quantile
from chaos.topology.model import Measure, Metric

LAG_FIELD = "lag_s"
"""Value of a sample: how late the load generator started the attempt, in seconds."""


class Moment(StrEnum):
    """By which of its two moments a sample belongs to a window."""

    SCHEDULED = "scheduled"
    """When the attempt was due: what a verdict goes by, so that a slow failure counts where it began."""
    ENDED = "ended"
    """When the outcome was known: what live figures and guards go by, since the future is not known yet."""


_OUTCOMES = tuple(SampleOutcome)
_CODE = {outcome: code for code, outcome in enumerate(_OUTCOMES)}
_OK, _FALLBACK, _FAILED = (
    _CODE[SampleOutcome.OK],
    _CODE[SampleOutcome.FALLBACK],
    _CODE[SampleOutcome.FAILED],
)


class Tally:
    """How many samples of each outcome."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = [0] * len(_OUTCOMES)

    def count(self, code: int) -> None:
        """Count one outcome by its code."""
        self._counts[code] += 1

    def merge(self, other: Tally) -> None:
        """Add the counts of ``other``."""
        for code, number in enumerate(other._counts):
            self._counts[code] += number

    @property
    def good(self) -> int:
        """Answers, full ones and by fallback."""
        return self._counts[_OK] + self._counts[_FALLBACK]

    @property
    def fallback(self) -> int:
        """Answers by fallback."""
        return self._counts[_FALLBACK]

    @property
    def failed(self) -> int:
        """Failures."""
        return self._counts[_FAILED]

    @property
    def counted(self) -> int:
        """Successes and failures; a refusal is an answer and neither of them."""
        return self.good + self.failed

    @property
    def refused(self) -> int:
        """Refusals."""
        return self.total - self.counted

    @property
    def total(self) -> int:
        """All samples, refusals too."""
        return sum(self._counts)

    def as_mapping(self) -> dict[str, int]:
        """Return outcome -> number, without the outcomes that did not occur."""
        return {_OUTCOMES[code].value: number for code, number in enumerate(self._counts) if number}


class _Second:
    """The rows that belong to one second, and their tally."""

    __slots__ = ("rows", "tally")

    def __init__(self) -> None:
        self.rows = array("I")
        self.tally = Tally()


class _Columns:
    """All samples of one kind."""

    __slots__ = ("fields", "outcomes", "seconds", "times")

    def __init__(self) -> None:
        self.times = {moment: array("d") for moment in Moment}
        self.outcomes = bytearray()
        self.fields: dict[str, array[float]] = {}
        self.seconds: dict[Moment, dict[int, _Second]] = {moment: {} for moment in Moment}

    def add(self, scheduled_s: float, ended_s: float, outcome: int, values: Mapping[str, float]) -> None:
        row = len(self.outcomes)
        self.outcomes.append(outcome)
        for moment, at_s in ((Moment.SCHEDULED, scheduled_s), (Moment.ENDED, ended_s)):
            self.times[moment].append(at_s)
            seconds = self.seconds[moment]
            number = math.floor(at_s)
            second = seconds.get(number)
            if second is None:
                second = seconds[number] = _Second()
            second.rows.append(row)
            second.tally.count(outcome)
        for name, value in values.items():
            column = self.fields.get(name)
            if column is None:
                column = self.fields[name] = array("d")
            if len(column) < row:  # samples before this one had no such value
                column.extend([math.nan] * (row - len(column)))
            column.append(value)

    def tally(self, moment: Moment, start_s: float, end_s: float) -> Tally:
        result = Tally()
        for second, whole in self._touched(moment, start_s, end_s):
            if whole:
                result.merge(second.tally)
            else:
                for row in self._inside(second, moment, start_s, end_s):
                    result.count(self.outcomes[row])
        return result

    def rows(self, moment: Moment, start_s: float, end_s: float) -> Iterator[int]:
        for second, whole in self._touched(moment, start_s, end_s):
            yield from second.rows if whole else self._inside(second, moment, start_s, end_s)

    def values(self, name: str, moment: Moment, start_s: float, end_s: float, *, good_only: bool) -> Iterator[float]:
        """Yield the finite values of a field in the window."""
        column = self.fields.get(name)
        if column is None:
            return
        for row in self.rows(moment, start_s, end_s):
            if row >= len(column) or (good_only and self.outcomes[row] not in (_OK, _FALLBACK)):
                continue
            value = column[row]
            if math.isfinite(value):
                yield value

    def _touched(self, moment: Moment, start_s: float, end_s: float) -> Iterator[tuple[_Second, bool]]:
        """Yield each second that overlaps the window, and whether it lies in it as a whole."""
        seconds = self.seconds[moment]
        for number in range(math.floor(start_s), math.ceil(end_s)):
            second = seconds.get(number)
            if second is not None:
                yield second, start_s <= number and number + 1 <= end_s

    def _inside(self, second: _Second, moment: Moment, start_s: float, end_s: float) -> Iterator[int]:
        times = self.times[moment]
        return (row for row in second.rows if start_s <= times[row] < end_s)


class SampleStore:
    """All samples of one run. Times are seconds since ``origin_s``, the monotonic moment the schedule began.

    Windows are half-open, ``[start_s, end_s)``. An attempt belongs to the window in which it was *scheduled*; only
    a RATE counts what *ended* in the window. Quantiles are exact (see ``statistics.quantile``).
    """

    def __init__(self, origin_s: float) -> None:
        self.origin_s = origin_s
        self._kinds: dict[str, _Columns] = {}
        self._groups: dict[Group, SampleStore] = {}

    def of(self, group: Group) -> SampleStore:
        """Return the samples of one group, as a store of their own, which grows with this one."""
        return self._groups.setdefault(group, SampleStore(self.origin_s))

    def judged(self, metric: Metric) -> SampleStore:
        """Return the samples by which a rule on this metric is judged.

        Where accounts are in groups, those of the experiment group: the faults fall on nobody else. But a rate is that
        of all, since chance decides how many arrivals fall into a group; and so is a kind that is in no group.
        """
        if metric.measure is Measure.RATE or not self.has_groups(metric.of):
            return self
        return self.of(Group.EXPERIMENT)

    def has_groups(self, kind: str) -> bool:
        """Return whether any sample of ``kind`` was one of a group's."""
        return any(store.has(kind) for store in self._groups.values())

    def has(self, kind: str) -> bool:
        """Return whether there is any sample of ``kind``."""
        return kind in self._kinds

    def add(self, samples: Iterable[Sample]) -> None:
        """Take in samples in any order. Raises ValueError for a sample whose moments are not numbers."""
        for sample in samples:
            scheduled_s, ended_s = sample.scheduled_s - self.origin_s, sample.ended_s - self.origin_s
            if not (math.isfinite(scheduled_s) and math.isfinite(ended_s)):
                raise ValueError(f"a sample of kind {sample.kind!r} has no moment: {sample!r}")
            columns = self._kinds.get(sample.kind)
            if columns is None:
                columns = self._kinds[sample.kind] = _Columns()
            columns.add(scheduled_s, ended_s, _CODE[sample.outcome], sample.values)
            if sample.group is not None:
                self.of(sample.group).add([replace(sample, group=None)])

    def __len__(self) -> int:
        return sum(len(columns.outcomes) for columns in self._kinds.values())

    def tally(self, kind: str, start_s: float, end_s: float, *, by: Moment = Moment.SCHEDULED) -> Tally:
        """Return how many samples of ``kind`` in the window had which outcome."""
        columns = self._kinds.get(kind)
        return columns.tally(by, start_s, end_s) if columns else Tally()

    def counts(self, start_s: float, end_s: float, *, by: Moment = Moment.ENDED) -> dict[str, dict[str, int]]:
        """Return kind -> outcome -> number for the window, as a ``Tick`` carries it.

        By the moment of the end, unless asked otherwise. The generator's own lag samples are not attempts and
        are left out.
        """
        tallies = {kind: columns.tally(by, start_s, end_s) for kind, columns in self._kinds.items() if kind != LAG_KIND}
        return {kind: tally.as_mapping() for kind, tally in tallies.items() if tally.total}

    def measure(self, metric: Metric, start_s: float, end_s: float, *, by: Moment = Moment.SCHEDULED) -> float | None:
        """Return the metric over the window, in its plain unit, or None where nothing could be measured.

        ``by`` is ``Moment.ENDED`` for live figures and guards. A RATE goes by the moment of the end anyway, and is 0
        where nothing ended: silence is a measurement of a rate, and of nothing else.
        """
        if end_s <= start_s:
            return None
        match metric.measure:
            case Measure.SHARE:
                tally = self.tally(metric.of, start_s, end_s, by=by)
                return tally.good / tally.counted if tally.counted else None
            case Measure.FALLBACK_SHARE:
                tally = self.tally(metric.of, start_s, end_s, by=by)
                return tally.fallback / tally.good if tally.good else None
            case Measure.RATE:
                return self.tally(metric.of, start_s, end_s, by=Moment.ENDED).good / (end_s - start_s)
            case Measure.QUANTILE:
                wanted = 0.5 if metric.quantile is None else metric.quantile
                return quantile(self.values(metric, start_s, end_s, by=by), wanted)
            case Measure.RATIO:
                return self._ratio(metric, start_s, end_s, by)

    def values(self, metric: Metric, start_s: float, end_s: float, *, by: Moment = Moment.SCHEDULED) -> list[float]:
        """Return the metric's field of every good sample in the window (what a QUANTILE is taken of)."""
        columns = self._kinds.get(metric.of)
        if columns is None or metric.field is None:
            return []
        return list(columns.values(metric.field, by, start_s, end_s, good_only=True))

    def live_values(
        self, metrics: Mapping[str, Metric], now_s: float, window_s: float = 1.0
    ) -> dict[str, float | None]:
        """Return each metric over the last ``window_s`` seconds, by what ended in them, as a ``Tick`` carries it."""
        return {name: self.measure(one, now_s - window_s, now_s, by=Moment.ENDED) for name, one in metrics.items()}

    def live_groups(
        self, metrics: Mapping[str, Metric], names: Iterable[str], now_s: float, window_s: float = 1.0
    ) -> dict[str, dict[str, float | None]] | None:
        """Return for each group what ``live_values`` returns, of these metrics; None where there are no groups.

        Metrics that are judged by everybody's samples are left out.
        """
        own = {name: metrics[name] for name in names if self.judged(metrics[name]) is not self}
        return {group.value: self.of(group).live_values(own, now_s, window_s) for group in Group} if own else None

    def series(
        self, metric: Metric, start_s: float, end_s: float, *, by: Moment = Moment.SCHEDULED
    ) -> list[tuple[float, float | None]]:
        """Return (start of the second, value) for each second from ``start_s``; a last part of one is left out."""
        seconds = math.floor(end_s - start_s + 1e-6)
        return [(start_s + i, self.measure(metric, start_s + i, start_s + i + 1, by=by)) for i in range(seconds)]

    def start_lag_p99_s(self, start_s: float, end_s: float) -> float | None:
        """Return the p99 of how late the load generator started what was due in the window; None without samples."""
        lags = (
            lag
            for columns in self._kinds.values()
            for lag in columns.values(LAG_FIELD, Moment.SCHEDULED, start_s, end_s, good_only=False)
        )
        return quantile(lags, 0.99)

    def offered(self, start_s: float, end_s: float) -> int | None:
        """Return how many arrivals an open generator had scheduled in the window.

        None when no sample of the run carries the generator's lag: then the load is a closed one (its users wait
        for answers), and fewer attempts may be the system's doing.
        """
        carriers = self._lag_carriers()
        if not carriers:
            return None
        return sum(
            sum(1 for _ in columns.values(LAG_FIELD, Moment.SCHEDULED, start_s, end_s, good_only=False))
            for columns in carriers
        )

    def surged(self, start_s: float, end_s: float) -> int:
        """Return how many arrivals of surges, due in the window, the generator has really started."""
        return sum(
            sum(1 for _ in columns.values(SURGE_FIELD, Moment.SCHEDULED, start_s, end_s, good_only=False))
            for columns in self._lag_carriers()
        )

    def _lag_carriers(self) -> Sequence[_Columns]:
        own = self._kinds.get(LAG_KIND)
        if own is not None:
            return [own]
        return [columns for columns in self._kinds.values() if LAG_FIELD in columns.fields]

    def ratio_parts(
        self, metric: Metric, start_s: float, end_s: float, *, by: Moment = Moment.SCHEDULED
    ) -> tuple[float, float]:
        """Return the two sums that a RATIO is the quotient of; (0, 0) where there are no samples."""
        columns = self._kinds.get(metric.of)
        if columns is None or metric.field is None:
            return 0.0, 0.0
        below = math.fsum(
            value for name in metric.per for value in columns.values(name, by, start_s, end_s, good_only=False)
        )
        return math.fsum(columns.values(metric.field, by, start_s, end_s, good_only=False)), below

    def _ratio(self, metric: Metric, start_s: float, end_s: float, by: Moment) -> float | None:
        above, below = self.ratio_parts(metric, start_s, end_s, by=by)
        return above / below if below else None
