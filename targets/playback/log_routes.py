"""The HTTP routes of a service that keeps a replicated log.

    POST /commands   {"id": "<idempotency key>", "kind": "...", ...}
                     200, the state machine's result and "index", its place in the log: it is in there for good
                     400, not a command; 503 and Retry-After, there is no leader and nothing was done
                     504, the outcome is unknown: repeat it with the same id
    GET  /leader     {"leader": an instance or null, "term", "role", "applied"}, as this replica knows it
    POST /raft       a message between replicas

Every replica takes commands, and passes them on to the leader. Whoever wants to read what a command has written sends
its index along with the read, as ``X-Applied-At-Least``: the replica waits until it is there, for a short time.
"""

from __future__ import annotations

import json
from typing import NoReturn

from aiohttp import web

from chaos.resilience import Deadline
from chaos.resilience.web import Handler
from targets.playback.replicated_log import FORWARDED, NoLeader, ReplicatedLog, Undecided
from targets.playback.service import json_response, unavailable

RAFT_PATH = "/raft"

APPLIED_AT_LEAST = "X-Applied-At-Least"
"""Header of a read: the index in the log that must be applied where it is answered."""

READ_WAIT_S = 0.3
"""How long a read waits for a replica that is behind; half of what its caller's deadline leaves, where that is less, so
that the caller can ask another replica."""

_ID_LENGTH_MAX = 128
_KIND_LENGTH_MAX = 64
_DEPTH_MAX = 16
_INDEX_DIGITS_MAX = 15


def add_log_routes(app: web.Application, log: ReplicatedLog) -> None:
    """Add the routes of ``log`` to ``app``."""

    async def commands(request: web.Request) -> web.Response:
        try:
            command = command_from_json(await request.read())
            return json_response(await log.propose(command, forwarded_by=request.headers.get(FORWARDED)))
        except ValueError as error:
            return json_response({"error": str(error)}, status=400)
        except NoLeader as error:
            return unavailable(str(error))
        except Undecided as error:
            return json_response({"error": str(error)}, status=504)

    async def leader(_: web.Request) -> web.Response:
        return json_response(log.status())

    async def raft(request: web.Request) -> web.Response:
        try:
            return json_response({"messages": log.receive(await request.read())})
        except (ValueError, RecursionError) as error:
            return json_response({"error": str(error)}, status=400)
        except NoLeader as error:
            return unavailable(str(error))

    app.router.add_post("/commands", commands)
    app.router.add_get("/leader", leader)
    app.router.add_post(RAFT_PATH, raft)


def caught_up(log: ReplicatedLog, handler: Handler) -> Handler:
    """Return ``handler``, for reads that may ask for an index: 503 where it is not applied in time, 400 for none."""

    async def handle(request: web.Request) -> web.StreamResponse:
        wanted = request.headers.get(APPLIED_AT_LEAST)
        if wanted is not None:
            if not (wanted.isascii() and wanted.isdigit() and len(wanted) <= _INDEX_DIGITS_MAX):
                error = f"{APPLIED_AT_LEAST} is {wanted[:40]!r}; it is an index in the log, a whole number"
                return json_response({"error": error}, status=400)
            deadline = Deadline.current()
            wait_s = READ_WAIT_S if deadline is None else min(READ_WAIT_S, deadline.remaining_s() / 2)
            if not await log.wait_applied(int(wanted), wait_s):
                return unavailable(f"this replica has not applied {wanted} yet")
        return await handler(request)

    return handle


def command_from_json(body: bytes) -> dict[str, object]:
    """Read a command. Raises ValueError, with what is allowed, for anything else."""
    try:
        data = json.loads(body, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"a command is nested at most {_DEPTH_MAX} deep") from None
    match data:
        case {"id": str(key), "kind": str(kind)} if (
            0 < len(key) <= _ID_LENGTH_MAX and 0 < len(kind) <= _KIND_LENGTH_MAX
        ):
            _check_depth(data, _DEPTH_MAX)
            json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no text that a database takes
            return dict(data)
        case _:
            raise ValueError(
                'a command is {"id": "...", "kind": "...", ...}, '
                f"with an id of 1 to {_ID_LENGTH_MAX} characters and a kind of 1 to {_KIND_LENGTH_MAX}"
            )


def _check_depth(value: object, left: int) -> None:
    # Every replica parses the command again: one that only just fits here must not be too deep there.
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if left == 0 and inner:
        raise ValueError(f"a command is nested at most {_DEPTH_MAX} deep")
    for one in inner:
        _check_depth(one, left - 1)


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")
