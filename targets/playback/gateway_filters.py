"""The filters of the API gateway: small steps that each look at one exchange, in four stages, changeable while it runs.

::

    request --> pre --> route --> post --> answer
                 |        |        ^
                 '--------'-- a filter raised --> error

A pre filter refuses by setting ``exchange.answer``: what follows in ``pre`` and ``route`` is left out. A route filter
gets the answer from a service. An error filter may answer for a failure, from what is known without the service; when
none does, the failure is the gateway's answer. Post filters see every exchange at its end, answered or failed; a post
filter that raises is counted, and costs nobody their answer. In a stage the filters go by ``order``, then by name.

Filters are added and taken away at any moment: an exchange goes through those that were there when it began.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from targets.playback.gateway_routes import Route
from targets.playback.validation import Subscriber

LOG = logging.getLogger("playback")

FILTERS_MAX = 64


class Stage(StrEnum):
    """When a filter's turn is."""

    PRE = "pre"
    ROUTE = "route"
    POST = "post"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the caller gets: JSON, nearly always."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request on its way through the gateway, and what the filters found out about it."""

    begun_s: float
    """The moment the request came, in seconds of the event loop."""
    method: str
    path: str
    query: str
    """Both as they are passed on: percent-encoded."""
    headers: Mapping[str, str]
    address: str
    """The client's address, as far as it can be believed."""
    read: Callable[[], Awaitable[bytes]]
    """Reads the body; no filter before the route needs it."""
    subscriber: Subscriber | None = None
    """Who asks; None until the token is verified, and where the route is open to all."""
    route: Route | None = None
    answer: Answer | None = None
    failure: Exception | None = None
    """What was raised on the way, also when an error filter has answered for it."""
    ended_s: float = 0.0
    """When the answer was there; set before the post filters."""


class Filter(Protocol):
    """One step."""

    @property
    def name(self) -> str:
        """What it is called; no other filter of the gateway is called so."""

    @property
    def stage(self) -> Stage:
        """When its turn is."""

    @property
    def order(self) -> int:
        """Its place in the stage: the smaller, the earlier."""

    async def apply(self, exchange: Exchange) -> None:
        """Do it: look, note, refuse or answer. What it raises is the failure of the exchange."""


@dataclass(slots=True)
class FilterCount:
    """How often a filter was used, and how often it raised."""

    runs: int = 0
    failures: int = 0


class FilterChain:
    """The filters of a gateway. ``now`` is the event loop's clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._filters: dict[str, Filter] = {}
        self._counts: dict[str, FilterCount] = {}
        self._stages: Mapping[Stage, tuple[tuple[Filter, FilterCount], ...]] = dict.fromkeys(Stage, ())

    def add(self, *filters: Filter) -> None:
        """Add filters, or put them in the place of those with their names. ValueError when there are too many."""
        if len({*self._filters, *(one.name for one in filters)}) > FILTERS_MAX:
            raise ValueError(f"a gateway has at most {FILTERS_MAX} filters")
        for one in filters:
            self._filters[one.name] = one
            self._counts[one.name] = FilterCount()
        self._arrange()

    def remove(self, name: str) -> None:
        """Take a filter away. KeyError when there is none of this name."""
        del self._filters[name], self._counts[name]
        self._arrange()

    def filters(self) -> list[tuple[Filter, FilterCount]]:
        """Return all filters in the order of their turns."""
        return [entry for stage in Stage for entry in self._stages[stage]]

    def _arrange(self) -> None:
        in_order = sorted(self._filters.values(), key=lambda one: (one.order, one.name))
        self._stages = {
            stage: tuple((one, self._counts[one.name]) for one in in_order if one.stage is stage) for stage in Stage
        }

    async def run(self, exchange: Exchange) -> Answer:
        """Take an exchange through all stages; return its answer, or raise its failure."""
        stages = self._stages
        try:
            for stage in (Stage.PRE, Stage.ROUTE):
                await self._until_answered(stages[stage], exchange)
            _demand_answer(exchange)
        except Exception as failure:  # noqa: BLE001 - whatever it is, somebody waits for an answer
            exchange.failure = failure
            await self._answer_failure(stages[Stage.ERROR], exchange)
        exchange.ended_s = self._now()
        for one, count in stages[Stage.POST]:
            count.runs += 1
            try:
                await one.apply(exchange)
            except Exception:
                count.failures += 1
                LOG.exception("the filter %s failed after the answer", one.name)
        if exchange.answer is not None:
            return exchange.answer
        assert exchange.failure is not None, "it was answered or failed"
        raise exchange.failure

    async def _until_answered(self, filters: tuple[tuple[Filter, FilterCount], ...], exchange: Exchange) -> None:
        for one, count in filters:
            if exchange.answer is not None:
                return
            count.runs += 1
            try:
                await one.apply(exchange)
            except Exception:
                count.failures += 1
                raise

    async def _answer_failure(self, filters: tuple[tuple[Filter, FilterCount], ...], exchange: Exchange) -> None:
        exchange.answer = None
        for one, count in filters:
            count.runs += 1
            try:
                await one.apply(exchange)
            except Exception:  # the failure that is being answered says more
                count.failures += 1
                LOG.exception("the filter %s could not answer for a failure", one.name)
            if exchange.answer is not None:
                return


def _demand_answer(exchange: Exchange) -> None:
    if exchange.answer is None:
        raise NotAnswered(f"no filter has answered {exchange.method} {exchange.path}")


class NotAnswered(Exception):  # noqa: N818 - it names what is wrong
    """All filters were through with a request, and none had answered it: a gateway without a route filter."""
