"""The stream pipeline: counts activity events, each once, and makes rows and business figures of them.

    GET /pipeline                what waits, what was counted, duplicates, dead letters, the delay from event to row
    GET /pipeline/dead_letters   the newest dead letters, with the reason of each
    POST /admin/events           puts the body into the stream as it is, as an emitter would an event: 202; see `admin`

Any number of instances share the work through one consumer group; each may be killed at any moment. A message goes
through these steps:

    read, or claimed from a consumer that died --> parsed --> looked up: is it counted already? --> its effects
         ^                                           |                                                 |
         |                                 cannot be read: dead letter              applied and acknowledged in one step
         '------- it was not acknowledged, or something changed since the look -----------------------'

An event whose effects cannot be computed holds up nobody: the events around it are counted one by one, it is delivered
again, and after the third time it goes to the dead letters, with the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings
from chaos.resilience.latency import quantile
from targets.playback.admin import AdminGate
from targets.playback.business import WRITE_EVERY_S, Lake
from targets.playback.counting import EffectsOf, sort, step_of
from targets.playback.dates import Calendar, epoch_of
from targets.playback.effects import effects_of
from targets.playback.event_stream import TOTALS, DeadLetter, EventStream, Message, Step
from targets.playback.events_server import NoGroup
from targets.playback.row_maker import RowMaker
from targets.playback.service import Context, application, json_response
from targets.playback.transport import FAILURES

LOG = logging.getLogger("playback")

READ_EVERY_S = 0.05
BATCH_MAX = 200
CLAIM_EVERY_S = 0.5
CLAIM_IDLE_S = 1.0
"""How long a message may be with one consumer. Claiming too early costs work twice, but nothing is counted twice."""

FAILURES_MAX = 3
_BLOCK_S = 0.2
_BATCHES_AT_ONCE = 50
_CONFLICTS_MAX = 5
_DEAD_LETTERS_SHOWN = 20

_READ_SETTINGS = CommandSettings(
    timeout_s=1.0, max_concurrent=4, breaker=BreakerSettings(minimum_calls=5, open_s=0.3, open_max_s=1.0)
)
_APPLY_SETTINGS = CommandSettings(
    timeout_s=2.0, max_concurrent=4, breaker=BreakerSettings(minimum_calls=5, open_s=0.3, open_max_s=1.0)
)
EVENT_BYTES_MAX = 4_096
"""The longest event that may be put into the stream by hand."""

_SHOW_SETTINGS = CommandSettings(timeout_s=0.5, max_concurrent=4, breaker=BreakerSettings(open_s=0.5))


@dataclass(slots=True, kw_only=True)
class Work:
    """What this instance did since it started."""

    counted: int = 0
    duplicates: int = 0
    """Among them messages that another instance was faster with."""
    dead_letters: int = 0
    conflicts: int = 0
    """How often something had changed between look and step, so that a batch was worked out again."""


class Consumer:
    """One consumer of the group: reads, counts, acknowledges. ``effects`` computes what events change."""

    def __init__(
        self, context: Context, stream: EventStream, rows: RowMaker, *, effects: EffectsOf = effects_of
    ) -> None:
        self._now_s = asyncio.get_running_loop().time
        self._name = context.config.instance
        self._stream = stream
        self._rows = rows
        self._effects = effects
        self._epoch = epoch_of(context.config.settings)
        self._reading = context.isolation.guard("events.read", settings=_READ_SETTINGS)
        self._applying = context.isolation.guard("events.apply", settings=_APPLY_SETTINGS)
        self._calendar: Calendar | None = None
        self._claim_at_s = 0.0
        self.work = Work()

    async def step(self) -> bool:
        """Count what waits, up to fifty batches of it; return whether the server answered."""
        for _ in range(_BATCHES_AT_ONCE):
            try:
                messages = await self._next()
                if messages:
                    await self._count(messages)
            except NoGroup:
                # A new server, or one that lost its data: its beginning of time is another one as well.
                self._calendar = None
                return False
            except FAILURES:
                return False
            if len(messages) < BATCH_MAX:
                break
        return True

    async def _next(self) -> list[Message]:
        """Return messages that others left, now and then, and else new ones."""
        async with self._reading():
            if self._calendar is None:
                await self._stream.open_group()
                self._calendar = Calendar(self._epoch, began_s=await self._stream.began_s(self._now_s()))
            if self._now_s() >= self._claim_at_s:
                claimed = await self._stream.claim(self._name, count=BATCH_MAX, idle_s=CLAIM_IDLE_S)
                if claimed:
                    return claimed
                self._claim_at_s = self._now_s() + CLAIM_EVERY_S
            return await self._stream.read(self._name, count=BATCH_MAX, block_s=_BLOCK_S)

    async def _count(self, messages: Sequence[Message]) -> None:
        """Count messages together or, when that is a mistake of ours, each alone."""
        try:
            await self._count_together(messages)
        except FAILURES:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, one event must not stop the others
            for message in messages:
                await self._count_alone(message)

    async def _count_alone(self, message: Message) -> None:
        try:
            await self._count_together([message])
        except FAILURES:
            raise
        except Exception as error:
            async with self._applying():
                times = await self._stream.deliveries(message)
            LOG.exception("message %s failed at delivery %d", message.id, times)
            if times >= FAILURES_MAX:
                reason = f"failed {times} times: {type(error).__name__}: {error}"[:500]
                await self._apply(Step(dead_letters=[DeadLetter(message=message, reason=reason)]))

    async def _count_together(self, messages: Sequence[Message]) -> None:
        """Count messages in one step. Raises CallFailed, and whatever computing their effects raises."""
        assert self._calendar is not None, "messages come after the group was opened"
        batch = sort(messages, self._now_s())
        for _ in range(_CONFLICTS_MAX):
            async with self._applying():
                look = await self._stream.look(batch.events)
            if await self._apply(step_of(batch, look, self._calendar, effects=self._effects)):
                return
            self.work.conflicts += 1
        # The others have made progress meanwhile, and these messages will be claimed.

    async def _apply(self, step: Step) -> bool:
        async with self._applying():
            version = await self._stream.apply(step)
        if version is None:
            return False
        self.work.counted += len(step.counted)
        self.work.duplicates += len(step.duplicates)
        self.work.dead_letters += len(step.dead_letters)
        self._rows.make_soon(step.rows, version)
        return True


class Pipeline:
    """The service: a consumer, a row maker, and the lake's writer."""

    def __init__(self, context: Context, *, effects: EffectsOf = effects_of) -> None:
        servers = context.config.calls["events"]
        if len(servers) != 1:
            raise ValueError(f"the pipeline counts on one server of events; it is told of {len(servers)}.")
        self._now_s = asyncio.get_running_loop().time
        self._stream = EventStream(servers[0].address)
        self._rows = RowMaker(context, self._stream)
        self._consumer = Consumer(context, self._stream, self._rows, effects=effects)
        self._lake = Lake(context, self._stream)
        self._ask = context.isolation.command("events.show", self._totals, fallback=_unknown, settings=_SHOW_SETTINGS)
        self._put = context.isolation.command("events.put", self._put_one, settings=_SHOW_SETTINGS)
        self._letters = context.isolation.command("events.dead_letters", self._dead_letters, settings=_SHOW_SETTINGS)
        self._answered = False
        context.repeat(self._step, period_s=READ_EVERY_S)
        context.repeat(self._lake.write, period_s=context.number("lake_every_s", WRITE_EVERY_S))

    @property
    def ready(self) -> bool:
        """Whether the events' server has answered once."""
        return self._answered

    async def show(self, _: web.Request) -> web.Response:
        """Answer ``GET /pipeline``; what the events' server does not tell is null."""
        durations = self._rows.delays.durations(self._now_s())
        delays = {
            name: quantile(durations, fraction) if durations else None
            for name, fraction in (("p50", 0.5), ("p99", 0.99))
        }
        return json_response(
            {
                **(await self._ask()),
                "here": asdict(self._consumer.work),
                "delay_s": {**delays, "rows": len(durations)},
                "lake": {"files_written": self._lake.files_written},
            }
        )

    async def dead_letters(self, _: web.Request) -> web.Response:
        """Answer ``GET /pipeline/dead_letters``; 503 when the events' server does not tell."""
        letters = await self._letters()
        return json_response(
            [
                {"id": one.message.id, "reason": one.reason, "event": one.message.data.decode(errors="replace")}
                for one in letters
            ]
        )

    async def put(self, request: web.Request) -> web.Response:
        """Answer ``POST /admin/events``: whatever it is, it is for the consumers to find out."""
        body = await request.read()
        if not 1 <= len(body) <= EVENT_BYTES_MAX:
            return json_response({"error": f"an event has 1 to {EVENT_BYTES_MAX} bytes"}, status=400)
        await self._put(body)
        return json_response({"put": len(body)}, status=202)

    async def close(self) -> None:
        """Close the connections."""
        await self._rows.close()
        await self._stream.close()

    async def _step(self) -> bool:
        answered = await self._consumer.step()
        self._answered = self._answered or answered
        return answered

    async def _dead_letters(self) -> Sequence[DeadLetter]:
        return await self._stream.dead_letters(count=_DEAD_LETTERS_SHOWN)

    async def _put_one(self, event: bytes) -> None:
        await self._stream.add([event])

    async def _totals(self) -> dict[str, object]:
        backlog = await self._stream.backlog()
        (totals,) = await self._stream.counts(TOTALS)
        return {
            "backlog": asdict(backlog),
            "totals": {name: totals.get(name, 0) for name in ("counted", "duplicates", "dead_letters")},
        }


def _unknown(_: Exception) -> dict[str, object]:
    return {"backlog": None, "totals": None}


def build(context: Context) -> web.Application:
    """Return the pipeline's application."""
    pipeline = Pipeline(context)
    return application_of(context, pipeline)


def application_of(context: Context, pipeline: Pipeline) -> web.Application:
    """Return the application of a pipeline that was made."""
    app = application(context, ready=lambda: pipeline.ready)
    app.router.add_get("/pipeline", pipeline.show)
    app.router.add_get("/pipeline/dead_letters", pipeline.dead_letters)
    app.router.add_post("/admin/events", AdminGate.of(context).guard(pipeline.put))

    async def close(_: web.Application) -> None:
        await pipeline.close()

    app.on_cleanup.append(close)
    return app
