"""The embedded proxy server: Toxiproxy's API and toxics in one Python process.

    python -m chaos.proxy.embedded --host 127.0.0.1 --port 8474 [--config proxies.json] [--seed 7]

It runs until SIGTERM or SIGINT. With port 0 it takes a free port; the first line on standard output says which.
(``chaos proxy`` is the same for people; this way in is the lighter one, for programs.)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from chaos.errors import ChaosError, EnvironmentFailure, UsageError
from chaos.proxy.addresses import address_text, is_loopback
from chaos.proxy.api import API_VERSION, BODY_MAX_BYTES, Api
from chaos.proxy.problems import CannotBindError, ProxyError
from chaos.proxy.proxies import Limits, ProxyCollection

_OWN_DESCRIPTORS = 100
"""File descriptors that are kept for listeners and the API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What the program's arguments say."""

    host: str
    port: int
    config: Path | None
    seed: int | None = None
    """Decides every random choice: which connections a toxic hits, how long each jitter is. None: another each time."""
    token: str = ""
    """The API answers only those who know it; empty: everybody."""
    allow_anyone: bool = False
    """Whether the API may listen on an address that others can reach without asking them for a token."""
    proxies_max: int = Limits().proxies
    connections_max: int | None = None
    """None: as many as the system has file descriptors for."""
    body_max_bytes: int = BODY_MAX_BYTES
    """The longest request that the API takes."""


async def serve(settings: ServerSettings, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set; ``ready`` is called with the API's URL.

    Raises EnvironmentFailure when the API or a proxy cannot listen, and UsageError for a configuration that is wrong
    or not safe.
    """
    if not (settings.token or settings.allow_anyone or is_loopback(settings.host)):
        raise UsageError(
            f"--host {settings.host} lets everybody on the network break the connections behind this proxy; "
            "give them a --token, listen on 127.0.0.1, or say --allow-anyone"
        )
    seed = settings.seed if settings.seed is not None else random.SystemRandom().getrandbits(63)
    connections_max = settings.connections_max or _connections_possible()
    proxies = ProxyCollection(seed, Limits(proxies=settings.proxies_max, connections=connections_max))
    api = Api(proxies, token=settings.token, body_max_bytes=settings.body_max_bytes)
    runner = web.AppRunner(api.application(), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        if settings.config is not None:
            await _populate(api, settings.config)
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            raise EnvironmentFailure(
                f"cannot listen on {settings.host}:{settings.port} for the API: {error}; "
                "choose another port, or 0 for a free one"
            ) from None
        ready(f"http://{address_text((settings.host, runner.addresses[0][1]))}")
        await stop.wait()
    finally:
        proxies.stop()
        await runner.cleanup()


async def _populate(api: Api, config: Path) -> None:
    try:
        await api.populate_from(config.read_bytes())  # noqa: ASYNC240 - once, before anything is served
    except OSError as error:
        raise UsageError(f"cannot read --config {config}: {error.strerror}") from None
    except CannotBindError as error:
        raise EnvironmentFailure(f"cannot make the proxies of --config {config}: {error}") from None
    except ProxyError as error:
        raise UsageError(f"cannot make the proxies of --config {config}: {error}") from None


async def _until_told_to_stop(settings: ServerSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, ready=_say_ready, stop=stop)


def run(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT; raises as ``serve`` does."""
    _raise_file_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_until_told_to_stop(settings))


def _say_ready(url: str) -> None:
    sys.stdout.write(f"embedded proxy with the API of Toxiproxy {API_VERSION}: {url}\n")
    sys.stdout.flush()


def _raise_file_limit() -> None:
    """Allow as many open connections as the system lets us; each takes two file descriptors."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - absent on some systems

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _connections_possible() -> int:
    """Return how many connections this process has file descriptors for: two for each, and some for itself."""
    try:
        import resource  # noqa: PLC0415 - absent on some systems
    except ImportError:
        return Limits().connections
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (min(soft, 1_000_000) - _OWN_DESCRIPTORS) // 2)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - absent on some systems; asyncio's own loop serves as well, slower
    except ImportError:
        return None
    return uvloop.new_event_loop


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m chaos.proxy.embedded", description="A TCP proxy with the API and the toxics of Toxiproxy 2.12."
    )
    parser.add_argument("--host", default="127.0.0.1", help="where the API listens (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8474, help="port of the API, 0 for a free one (default: 8474)")
    parser.add_argument("--config", type=Path, help="JSON file with the proxies to make at the start")
    parser.add_argument("--seed", type=int, help="seed of every random choice (default: another each time)")
    given = parser.parse_args(arguments)
    settings = ServerSettings(host=given.host, port=given.port, config=given.config, seed=given.seed)
    try:
        run(settings)
    except ChaosError as error:
        sys.stderr.write(f"embedded proxy: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
