"""Starts replicas of the store as processes, for a test that kills them: ``python -m tests.e2e.store_processes``.

Each line of standard input is an instance's configuration as JSON; its process is forked from this one, which has
imported everything, and its process id is the answer. When standard input ends they all end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback

from chaos.topology.model import InstanceConfig
from chaos.topology.wire import config_from_json
from targets.playback import store
from targets.playback.service import serve


def main() -> None:
    """Start what standard input asks for, until it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead, so none stays a zombie
    ours_alive, alive = os.pipe()  # the reading end sees the end of this process, however it comes
    for line in sys.stdin:
        config = config_from_json(line)
        pid = os.fork()
        if pid == 0:
            os.close(alive)
            run(config, ours_alive)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def run(config: InstanceConfig, parent_alive: int) -> None:
    """Run one replica until the parent ends, and end the process."""

    async def until_the_parent_ends() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(parent_alive, stop.set)
        await serve(config, store.build, stop)

    try:
        asyncio.run(until_the_parent_ends())
    except Exception:  # noqa: BLE001 - whatever it is, it must not go on where the parent was
        traceback.print_exc()
    os._exit(0)


if __name__ == "__main__":
    main()
