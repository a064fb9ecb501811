"""A small target for tests: services of the standard library alone, so that each test starts one in half a second."""

from __future__ import annotations

import os
import time
from pathlib import Path

from chaos.processes import host
from chaos.topology.model import HealthCheck, Service, Topology

MODULE = "little_service"

SOURCE = """
import asyncio, json, os, signal, socket, sys

print("imported", flush=True)
moods = []


def main(config):
    if config.settings.get("exits") == config.instance:
        print("the cupboard is bare")
        sys.exit(7)
    asyncio.run(serve(config))


async def serve(config):
    async def answer(reader, writer):
        request = await reader.readuntil(b"\\r\\n\\r\\n")
        path = request.split()[1].decode()
        if path == "/isolation":
            entry = {"command": "c", "state": "closed", "calls": 1, "errors": 0, "fallbacks": 0}
            body = json.dumps([{**entry, "command": config.instance}])
        elif path == "/exit":
            print("leaving by myself", flush=True)
            os._exit(5)
        elif path.startswith("/call/"):
            called = {one.instance: one.address for some in config.calls.values() for one in some}
            address, port = called[path.removeprefix("/call/")].split(":")
            other_reader, other_writer = await asyncio.open_connection(address, int(port))
            other_writer.write(b"GET /whoami HTTP/1.0\\r\\n\\r\\n")
            body = (await other_reader.read()).partition(b"\\r\\n\\r\\n")[2].decode()
            other_writer.close()
        elif path == "/sulk":
            moods.append("no longer healthy")
            body = "[]"
        else:
            body = json.dumps([config.instance, os.getpid(), config.seed, list(config.disabled), dict(config.settings)])
        unwell = config.settings.get("unhealthy") == config.instance or (moods and path != "/sulk")
        status = "503 Not" if unwell else "200 OK"
        writer.write(f"HTTP/1.1 {status}\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
        await writer.drain()
        writer.close()

    stopping = asyncio.Event()
    if config.settings.get("stubborn") == config.instance:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    server = await asyncio.start_server(answer, config.host, config.port)
    if config.shared_fd is not None:
        shared = await asyncio.start_server(answer, sock=socket.socket(fileno=config.shared_fd))
    print(config.instance, "serves", flush=True)
    open("visited", "a").write("x")
    await stopping.wait()
    print("stopped as asked", flush=True)
    server.close()
"""


def little_topology(folder: Path, *, preload: str | None = MODULE, backs: int = 3, **changes: object) -> Topology:
    """Write the service's module into ``folder`` and return a topology of two fronts that call some backs."""
    folder.mkdir(exist_ok=True)
    (folder / f"{MODULE}.py").write_text(SOURCE)
    health = HealthCheck(http_path="/healthz", timeout_s=10.0)
    services = {
        "front": Service(
            name="front",
            python=f"{MODULE}:main",
            instances=({}, {}),
            calls=("back",),
            health=health,
            isolation_path="/isolation",
        ),
        "back": Service(name="back", python=f"{MODULE}:main", instances=({"zone": "a"},) * backs, health=health),
    }
    fields: dict[str, object] = {
        "name": "little",
        "file": folder / "topology.yaml",
        "services": services,
        "clients": {"users": ("front",)},
        "preload": preload,
        "settings": {"colour": "blue"},
    }
    return Topology(**{**fields, **changes})  # type: ignore[arg-type]


def processes_with(variable: str) -> list[str]:
    """Return the living processes whose environment holds ``NAME=value``, as ``pid command``; not this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if variable.encode() in (entry / "environ").read_bytes().split(b"\0") and host.is_alive(
                int(entry.name), None
            ):
                found.append(f"{entry.name} {(entry / 'cmdline').read_bytes().decode().replace(chr(0), ' ')}")
        except OSError:
            continue
    return found


def assert_nothing_left(variable: str, temporary: Path, *, within_s: float) -> None:
    """Wait until no process with the variable lives and ``temporary`` is empty; fail after ``within_s``."""
    deadline_s = time.monotonic() + within_s
    while (left := [*processes_with(variable), *map(str, temporary.iterdir())]) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert left == []
