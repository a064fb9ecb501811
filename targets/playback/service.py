"""The frame that every service of the target stands in: its context, its server, its background loops, its end.

A service module has one function, ``build(context) -> aiohttp.web.Application``; `serve` does the rest on whatever
event loop is running. Nothing here or in the services reads a clock, starts a thread or opens a socket of its own:
time is the loop's, chance is ``context.rng``, the network is ``context.http``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from chaos.resilience import BreakerChanged, Gradient2Settings, Isolation, Replicas, ReplicaSettings, Switches
from chaos.resilience.events import Event
from chaos.resilience.shedding import Priority, Shedder, SheddingSettings
from chaos.resilience.web import (
    ServiceClient,
    blame_middleware,
    deadline_middleware,
    group_middleware,
    isolation_handler,
    request_context_middleware,
)
from chaos.resilience.web.prometheus import metrics_handler
from chaos.resilience.web.shedding import shedding_middleware
from chaos.resilience.web.stream import hystrix_stream
from chaos.topology.model import InstanceConfig
from targets.playback.transport import CallFailed, new_session

LOG = logging.getLogger("playback")

Build = Callable[["Context"], web.Application]

HURRY_S = 3.0
"""How long after its start a service may say that it is not ready, and hurries to become so. It then serves with
what it has: one that starts into an outage must not wait for the outage's end."""

SWITCHES = {
    "request_cache": "cache",
    "breakers": "breaker",
    "bulkheads": "bulkhead",
    "deadlines": "deadline",
    "retries": "retry",
    "hedging": "hedge",
    "fallbacks": "fallback",
    "failover": "failover",
    "retry_budget": "budget",
    "replica_choice": "choice",
}
"""Protections of all commands, or of one as in ``fallbacks@steering.rank``, and what they switch off."""

SHEDDING = SheddingSettings(adaptive=Gradient2Settings(initial=256, minimum=64, maximum=1024))
"""What a service takes on: far more than it gets here, unless something is badly wrong."""

_FIRST_PAUSE_S = 0.03
_PAUSE_GROWTH = 1.4
_SHUTDOWN_S = 0.3
_BACKLOG = 512
_REQUEST_BODY_MAX = 64 * 1024


class Context:
    """What a service is given: its configuration, its chance, its network, its isolation, its background loops."""

    def __init__(self, config: InstanceConfig) -> None:
        self.config = config
        self.rng = random.Random(f"{config.seed}/{config.instance}")
        default_switches, switches = switches_of(config.disabled)
        self.isolation = Isolation(
            rng=random.Random(f"{config.seed}/{config.instance}/isolation"),
            enabled=self.on("isolation"),
            switches=switches,
            default_switches=default_switches,
        )
        self.isolation.listen(_note_breaker, calls=False)
        self.shedder = Shedder(SHEDDING)
        self._session = new_session()
        self.http = ServiceClient(self._session, enabled=self.isolation.enabled)
        self.now = asyncio.get_running_loop().time
        """The event loop's clock, in seconds: the same for all processes of a machine."""
        self._loops: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception of a background loop that ended by a mistake of ours."""

    def on(self, protection: str) -> bool:
        """Return whether ``protection`` is on in this run."""
        return protection not in self.config.disabled

    def addresses(self, service: str) -> tuple[str, ...]:
        """Return the addresses of the instances of ``service``, each this caller's own way to it."""
        return tuple(called.address for called in self.config.calls[service])

    def instances(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the instances of each service that is called from here."""
        return {service: tuple(one.instance for one in called) for service, called in self.config.calls.items()}

    def replicas(
        self,
        service: str,
        settings: ReplicaSettings | None = None,
        *,
        healthy: Callable[[str], bool] | None = None,
        only: Collection[str] | None = None,
    ) -> Replicas[str]:
        """Return the replicas of ``service``, isolated; ``healthy`` is what else is known of an address.

        ``only`` names some of the instances, for a group of their own. Raises ValueError when there are none such.
        """
        called = [one for one in self.config.calls[service] if only is None or one.instance in only]
        return Replicas(
            service if only is None else f"{service}:{'+'.join(sorted(only))}",
            [one.address for one in called],
            isolation=self.isolation,
            settings=settings,
            names=[one.instance for one in called],
            healthy=healthy,
        )

    def number(self, setting: str, default: float) -> float:
        """Return a setting as a number. Raises ValueError when it is none."""
        value = self.config.settings.get(setting, default)
        if isinstance(value, bool | str):
            raise ValueError(f"settings.{setting} is {value!r}; a number is needed.")  # noqa: TRY004 - it is data
        return value

    def text(self, setting: str) -> str:
        """Return a setting as text. Raises ValueError when it is missing."""
        value = self.config.settings.get(setting)
        if value is None:
            raise ValueError(f"settings.{setting} is missing; {self.config.service} needs it.")
        return str(value)

    def repeat(self, step: Callable[[], Awaitable[bool]], *, period_s: float) -> None:
        """Run ``step`` now and then every ``period_s``, on a schedule of absolute moments.

        Until ``step`` has returned True once it is run sooner, for 3 s at most, with growing pauses: when the target
        starts its services come up in any order, and failures must not open breakers that plays need. A failure of the
        network is for ``step`` to handle; any other exception ends the process.
        """

        async def loop_() -> None:
            loop = asyncio.get_running_loop()
            due_s = loop.time()
            unhurried_s = due_s + HURRY_S
            pause_s = _FIRST_PAUSE_S
            succeeded = False
            while True:
                succeeded = await step() or succeeded
                hurry = not succeeded and loop.time() < unhurried_s
                due_s = max(due_s + (min(pause_s, period_s) if hurry else period_s), loop.time())
                pause_s *= _PAUSE_GROWTH
                await asyncio.sleep(due_s - loop.time())

        task = asyncio.get_running_loop().create_task(loop_())
        task.add_done_callback(self._ended)
        self._loops.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def close(self) -> None:
        """End the background loops and the connections."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self.failed.done():
            self.failed.exception()
        else:
            self.failed.cancel()
        await self._session.close()


def application(
    context: Context,
    *,
    ready: Callable[[], bool] = lambda: True,
    isolated: bool = True,
    shares_answers: bool = False,
    priority: Callable[[web.Request], Priority] | None = None,
) -> web.Application:
    """Return an application with what all services share.

    ``GET /healthz`` is 200, or 503 until ``ready``; ``/isolation``, ``/hystrix.stream`` and ``/metrics`` show the
    states of the commands; a failure of something the service calls becomes 502, 503 or 504. Unless the protection
    ``isolation`` is off, deadlines in the request's header are kept, a service that has too much to do turns requests
    away (but for ``load_shedding`` off), the least important first. A service that calls nobody in order to answer has
    no need of these: ``isolated`` off spares it their cost. ``shares_answers`` gives each request a context of its own,
    for services whose commands have a cache key or a collapser.
    """
    middlewares: list[Middleware] = [blame_middleware(CallFailed), group_middleware] if isolated else []
    if context.config.shared_fd is not None:
        middlewares.insert(0, _admin_asks_one_worker(context.config))
    if isolated and context.isolation.enabled:
        middlewares.append(deadline_middleware)
        if context.on("load_shedding"):
            middlewares.append(shedding_middleware(context.shedder, priority=priority))
        if shares_answers:
            middlewares.append(request_context_middleware)
    app = web.Application(middlewares=middlewares, client_max_size=_REQUEST_BODY_MAX)
    loop = asyncio.get_running_loop()
    ready_s = loop.time() + HURRY_S

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(status=200 if ready() or loop.time() >= ready_s else 503)

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/isolation", isolation_handler(context.isolation))
    app.router.add_get("/hystrix.stream", hystrix_stream(context.isolation, group=context.config.service))
    app.router.add_get("/metrics", metrics_handler(context.isolation))

    async def close_context(_: web.Application) -> AsyncIterator[None]:
        yield
        await context.close()

    app.cleanup_ctx.append(close_context)
    return app


def _admin_asks_one_worker(config: InstanceConfig) -> Middleware:
    """Refuse admin requests at the port that workers share: they would change one of them, and nobody knows which."""
    ports = ", ".join(map(str, config.worker_ports))
    said = f"{config.workers} workers serve this port, each with settings of its own; ask each at its own port: {ports}"

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/admin") and "X-Forwarded-For" not in request.headers and request.transport:
            _, port = request.transport.get_extra_info("sockname")
            if port != config.port:
                return json_response({"error": said}, status=409)
        return await handler(request)

    return refuse


def switches_of(disabled: Sequence[str]) -> tuple[Switches, dict[str, Switches]]:
    """Return what ``disabled`` leaves of the protections of all commands, and of those that it names."""
    off: dict[str, list[str]] = {"": []}
    for entry in disabled:
        protection, _, command = entry.partition("@")
        if protection in SWITCHES:
            off.setdefault(command, []).append(SWITCHES[protection])
    everywhere = off.pop("")
    return Switches.without(*everywhere), {
        command: Switches.without(*everywhere, *protections) for command, protections in off.items()
    }


def _note_breaker(event: Event) -> None:
    if isinstance(event, BreakerChanged):
        LOG.info("breaker %s: %s -> %s", event.breaker, event.before, event.after)


def json_bytes(data: object) -> bytes:
    """Return ``data`` as compact JSON."""
    return json.dumps(data, separators=(",", ":")).encode()


def json_or_none(body: bytes) -> object:
    """Return a request's body parsed; None, which is no form that anybody accepts, when it is no JSON."""
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed


def json_response(data: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return ``data`` as a compact JSON response."""
    return web.Response(body=json_bytes(data), status=status, headers=headers, content_type="application/json")


def unavailable(reason: str, *, retry_after_s: int = 1) -> web.Response:
    """Return the answer of a service that cannot answer: 503, with the time after which to try again."""
    return json_response({"error": reason}, status=503, headers={"Retry-After": str(retry_after_s)})


async def serve(
    config: InstanceConfig, build: Build, stop: asyncio.Event, *, started: Callable[[], None] = lambda: None
) -> None:
    """Run a service until ``stop`` is set or one of its background loops fails, whose exception comes out.

    One of several workers listens at its part of the instance's port beside its own. ``started`` is called when the
    ports accept. Raises OSError when the port is taken.
    """
    context = Context(config)
    try:
        app = build(context)
    except BaseException:
        await context.close()
        raise
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S, keepalive_timeout=75.0)
    try:
        await runner.setup()
        await web.TCPSite(runner, config.host, config.port, reuse_address=True, backlog=_BACKLOG).start()
        if config.shared_fd is not None:
            await web.SockSite(runner, socket.socket(fileno=config.shared_fd), backlog=_BACKLOG).start()
        started()
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait((stopping, context.failed), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if context.failed.done():
            context.failed.result()
    finally:
        await runner.cleanup()
