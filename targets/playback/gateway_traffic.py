"""What passes through the API gateway: for each route its rate, its answers and how long they took, lately. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from chaos.resilience.latency import LatencyWindow, quantile

WINDOW_S = 10
_SAMPLES_MAX = 500


@dataclass(slots=True)
class _Second:
    number: int
    answers: dict[str, int] = field(default_factory=dict)


class RouteTraffic:
    """The last ``WINDOW_S`` whole seconds of one route, and the one that is not over yet."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_S + 1)
        self._latency = LatencyWindow(WINDOW_S, buckets=WINDOW_S, samples_max=_SAMPLES_MAX)
        self.total = 0

    def record(self, now_s: float, answer: str, duration_s: float) -> None:
        """Take in one exchange that ended now; ``answer`` is its kind, such as ``2xx``."""
        number = int(now_s)
        if not self._seconds or self._seconds[-1].number < number:
            self._seconds.append(_Second(number))
        answers = self._seconds[-1].answers
        answers[answer] = answers.get(answer, 0) + 1
        self.total += 1
        self._latency.record(now_s, duration_s)

    def rate_per_s(self, now_s: float, answer: str | None = None) -> float:
        """Return how many there were in a second, in the whole seconds before this one; of one kind, or of all."""
        return sum(answers.get(answer, 0) if answer else sum(answers.values()) for answers in self._past(now_s)) / (
            WINDOW_S
        )

    def to_json(self, now_s: float) -> dict[str, object]:
        """Return the figures: rates per second, latencies in milliseconds (null where nothing passed)."""
        kinds = sorted({kind for answers in self._past(now_s) for kind in answers})
        durations = self._latency.durations(now_s)
        return {
            "total": self.total,
            "rate_per_s": round(self.rate_per_s(now_s), 2),
            "answers_per_s": {kind: round(self.rate_per_s(now_s, kind), 2) for kind in kinds},
            "latency_p50_ms": round(quantile(durations, 0.5) * 1000, 2) if durations else None,
            "latency_p99_ms": round(quantile(durations, 0.99) * 1000, 2) if durations else None,
        }

    def _past(self, now_s: float) -> list[dict[str, int]]:
        current = int(now_s)
        return [one.answers for one in self._seconds if current - WINDOW_S <= one.number < current]


class Traffic:
    """The figures of all routes; ``plays`` is the path whose good answers are stream starts."""

    def __init__(self, plays: str = "/play") -> None:
        self._plays = plays
        self._routes: dict[str, RouteTraffic] = {}

    def record(self, now_s: float, route: str, status: int | None, duration_s: float) -> None:
        """Take in an exchange: its route's path, the status it was answered with (None: it failed), its duration."""
        kind = "failed" if status is None else f"{status // 100}xx"
        self._routes.setdefault(route, RouteTraffic()).record(now_s, kind, duration_s)

    def to_json(self, now_s: float) -> dict[str, object]:
        """Return the figures of every route, and the stream starts a second that this gateway has let through."""
        plays = self._routes.get(self._plays)
        return {
            "window_s": WINDOW_S,
            "sps": round(plays.rate_per_s(now_s, "2xx"), 2) if plays else 0.0,
            "routes": {path: self._routes[path].to_json(now_s) for path in sorted(self._routes)},
        }
