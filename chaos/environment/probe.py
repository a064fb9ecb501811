"""Asking an instance how it is: a connection, or one HTTP request, without an HTTP library.

The runner asks thirty services many times a second while they start. One plain HTTP/1.0 exchange costs a fraction of
what a client library does, and importing none keeps the start of a run short.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence

from chaos.events import BreakerState
from chaos.topology.model import HealthCheck

BODY_BYTES_MAX = 1024 * 1024


async def http_get(host: str, port: int, path: str, *, timeout_s: float) -> tuple[int, bytes]:
    """Return status and body (its first MiB) of ``GET path``; raises as ``http_exchange`` does."""
    return await http_exchange(host, port, "GET", path, timeout_s=timeout_s)


async def http_exchange(
    host: str,
    port: int,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout_s: float,
) -> tuple[int, bytes]:
    """Return status and body (its first MiB) of one request.

    Raises OSError (TimeoutError included) when there is no connection or no answer, ValueError when it is not HTTP.
    """
    lines = {"Host": f"{host}:{port}", "Connection": "close", **(headers or {})}
    if body:
        lines["Content-Length"] = str(len(body))
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"{method} {path} HTTP/1.0\r\n{fields}\r\n".encode() + body)
            # EOF ends the answer: HTTP/1.0 knows no other end that every server keeps to.
            answer = bytearray()
            while len(answer) < BODY_BYTES_MAX and (data := await reader.read(1 << 16)):
                answer += data
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    head, separator, body = bytes(answer).partition(b"\r\n\r\n")
    match head.split(b"\r\n", 1)[0].split(b" ", 2):
        case [version, status, *_] if separator and version.startswith(b"HTTP/") and status.isdigit():
            return int(status), body
        case _:
            raise ValueError(f"{host}:{port} does not answer in HTTP")


async def is_healthy(check: HealthCheck, host: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Return whether the instance passes its health check now."""
    try:
        if check.http_path is not None:
            status, _ = await http_get(host, port, check.http_path, timeout_s=timeout_s)
            return status == 200
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    except (OSError, ValueError):
        return False
    return True


async def isolation_of(instance: str, host: str, port: int, path: str, *, timeout_s: float) -> tuple[BreakerState, ...]:
    """Return the breakers' states that the instance reports; none when it does not answer as it should."""
    try:
        status, body = await http_get(host, port, path, timeout_s=timeout_s)
        return _breakers(instance, json.loads(body)) if status == 200 else ()
    except (OSError, ValueError):
        return ()


def _breakers(instance: str, answer: object) -> tuple[BreakerState, ...]:
    states: list[BreakerState] = []
    for entry in answer if isinstance(answer, Sequence) else ():
        match entry:
            case {
                "command": str(command),
                "state": str(state),
                "calls": int(calls),
                "errors": int(errors),
                "fallbacks": int(fallbacks),
            }:
                states.append(
                    BreakerState(
                        instance=instance,
                        command=command,
                        state=state,
                        calls=calls,
                        errors=errors,
                        fallbacks=fallbacks,
                    )
                )
            case _:
                continue
    return tuple(states)
