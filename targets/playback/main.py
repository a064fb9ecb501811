"""The entry point of every service: ``run(config)`` picks the service by its name and runs it until SIGTERM.

The module imports all services, so that one process can import it once and fork them all.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Mapping

from chaos.topology.model import InstanceConfig
from targets.playback import (
    cache_control,
    discovery_api,
    elb,
    gateway,
    oca,
    origin,
    pipeline,
    play_api,
    playback_apps,
    signup_api,
    steering,
    store,
    transcoder,
    valkey,
)
from targets.playback.service import Build, serve

new_event_loop: Callable[[], asyncio.AbstractEventLoop] | None
try:
    from uvloop import new_event_loop
except ImportError:  # uvloop is not there on every platform; asyncio's own loop does the same, slower
    new_event_loop = None

SERVICES: Mapping[str, Build] = {
    "elb": elb.build,
    "gateway": gateway.build,
    "play_api": play_api.build,
    "playback_apps": playback_apps.build,
    "steering": steering.build,
    "cache_control": cache_control.build,
    "store": store.build,
    "signup_api": signup_api.build,
    "discovery_api": discovery_api.build,
    "pipeline": pipeline.build,
    "transcoder": transcoder.build,
    "origin": origin.build,
    "oca": oca.build,
}


def run(config: InstanceConfig) -> None:
    """Run the instance that ``config`` describes; returns after SIGTERM or SIGINT.

    The services ``cache`` and ``events`` turn into Valkey servers. Ends the process with a message for a service that
    is none of this target's.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if config.service in valkey.SETTINGS:
        valkey.become_server(config)
    build = SERVICES.get(config.service)
    if build is None:
        sys.exit(f"playback has no service {config.service!r}; there are {', '.join([*valkey.SETTINGS, *SERVICES])}.")
    # What was imported before the fork is never garbage: keep the collector from walking, and so copying, it.
    gc.freeze()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_until_told_to_stop(config, build))


async def _until_told_to_stop(config: InstanceConfig, build: Build) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(config, build, stop)
