"""The playback client on asyncio: the same sans-IO client that Locust drives, over aiohttp.

Time is the running loop's and the network comes from a factory of sessions, so it plays on a simulated loop as well::

    await AsyncioPlayer(aiohttp.ClientSession).play(PlaybackClient(order, config, rng=random.Random(7), tell=print))

``PlayOrder.scheduled_s`` is a moment of the loop's clock here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Self, TypeVar, assert_never

import aiohttp

from targets.playback.client import PlaybackClient
from targets.playback.client_protocol import (
    Answer,
    HttpRequest,
    ProbeAll,
    Probed,
    Reply,
    Request,
    SendAside,
    Wait,
    Woken,
)

REPORT_EVERY_S = 0.5
"""How often a session tells what has been watched, while a request or a wait goes on."""

ASIDE_MAX = 8
"""Requests beside the session that are under way at a time; one more is not sent at all."""

_NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError, ValueError)

Result = TypeVar("Result")


class AsyncioPlayer:
    """Plays sessions, each as a device of its own: with a session (and so connections) from ``new_session``."""

    def __init__(self, new_session: Callable[[], aiohttp.ClientSession]) -> None:
        self._new_session = new_session

    async def play(self, client: PlaybackClient) -> None:
        """Play one session to its end; what happens goes to the client's ``tell``. May be cancelled at any moment."""
        loop = asyncio.get_running_loop()
        reporting = loop.create_task(_keep_reporting(client))
        try:
            await self.carry_through(client.run(loop.time()))
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
            client.report(loop.time())

    async def carry_through(self, steps: Generator[Request, Answer, Result]) -> Result:
        """Do what a generator of requests (a visit, say) wants done, as one device; return what it returns."""
        async with self._new_session() as session, _Aside(session) as aside:
            try:
                request = next(steps)
                while True:
                    if isinstance(request, SendAside):
                        aside.send(request.request)
                        answer: Answer = Woken(now_s=asyncio.get_running_loop().time())
                    else:
                        answer = await _carry_out(session, request)
                    request = steps.send(answer)
            except StopIteration as end:
                result: Result = end.value
                return result
            finally:
                steps.close()


class _Aside:
    """What is sent beside a session: nobody waits for it but the end, and that only as long as its own time limits."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._sending: set[asyncio.Task[Reply]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for task in self._sending:
                task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def send(self, request: HttpRequest) -> None:
        if len(self._sending) < ASIDE_MAX:
            task = asyncio.get_running_loop().create_task(_http(self._session, request))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)


async def _keep_reporting(client: PlaybackClient) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(REPORT_EVERY_S)
        client.report(loop.time())


async def _carry_out(session: aiohttp.ClientSession, request: HttpRequest | ProbeAll | Wait) -> Answer:
    loop = asyncio.get_running_loop()
    match request:
        case HttpRequest():
            return await _http(session, request)
        case ProbeAll():
            return await _probe(session, request)
        case Wait(until_s=until_s):
            await asyncio.sleep(max(0.0, until_s - loop.time()))
            return Woken(now_s=loop.time())
        case _:
            assert_never(request)


async def _http(session: aiohttp.ClientSession, request: HttpRequest) -> Reply:
    loop = asyncio.get_running_loop()
    headers = dict(request.headers)
    if request.fresh:
        headers["Connection"] = "close"  # nothing of it is kept, so the next one cannot be on the same connection
    try:
        async with asyncio.timeout(request.timeout_s):
            status, body = await _exchange(
                session, request.method, request.address + request.path, headers, request.body
            )
    except _NO_ANSWER as error:
        return Reply(now_s=loop.time(), error=type(error).__name__)
    return Reply(now_s=loop.time(), status=status, body=body)


async def _exchange(
    session: aiohttp.ClientSession, method: str, place: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    async with session.request(
        method, f"http://{place}", headers=headers, data=body or None, allow_redirects=False
    ) as response:
        return response.status, await response.read()


async def _probe(session: aiohttp.ClientSession, probe: ProbeAll) -> Probed:
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    async def ask(address: str) -> float | None:
        try:
            status, _ = await _exchange(session, "GET", address + probe.path, {}, b"")
        except _NO_ANSWER:
            return None
        return loop.time() - began_s if status == 200 else None

    asking = [loop.create_task(ask(address)) for address in probe.addresses]
    try:
        await _wait_for_good_one(asking, began_s + probe.timeout_s)
        grace_s = min(probe.grace_s, began_s + probe.timeout_s - loop.time())
        if grace_s > 0.0:
            await asyncio.wait(asking, timeout=grace_s)
    finally:
        for task in asking:
            task.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
    latencies_s = tuple(None if isinstance(answer, BaseException) else answer for answer in answers)
    return Probed(now_s=loop.time(), latencies_s=latencies_s)


async def _wait_for_good_one(asking: list[asyncio.Task[float | None]], until_s: float) -> None:
    """Return when a task has ended with a latency, when all have ended, or at ``until_s``."""
    loop = asyncio.get_running_loop()
    pending = set(asking)
    while pending and (left_s := until_s - loop.time()) > 0.0:
        done, pending = await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if any(task.result() is not None for task in done):
            return
