"""Requests that the runner makes of one process on a fault's behalf; errors say what was asked."""

from __future__ import annotations

from pathlib import Path

from chaos.environment.layout import filled
from chaos.environment.probe import http_exchange
from chaos.errors import EnvironmentFailure
from chaos.faults.base import Request
from chaos.topology.model import InstanceConfig

BODY_SHOWN = 200
"""Characters of an answer's body in an error."""


async def answer_of(config: InstanceConfig, request: Request, *, folder: Path) -> bytes:
    """Return the body that the process with this ``config`` answers with at its port, when its status is a 2xx.

    ``folder`` is the topology's, for the placeholders. Raises EnvironmentFailure for any other answer, and for none
    within ``request.timeout_s``.
    """
    user = f"a request to {config.instance}"
    path = filled(request.path, config, folder=folder, user=user)
    authorization = filled(request.authorization, config, folder=folder, user=user)
    said = f"{request.method} {path} of {config.instance}"
    if not authorization.isprintable() or not path.isprintable() or " " in path:
        raise EnvironmentFailure(f"{said} is no request: a setting that was put in has a blank or a line break in it")
    headers = {"Authorization": authorization} if authorization else {}
    if request.json:
        headers["Content-Type"] = "application/json"
    try:
        status, body = await http_exchange(
            config.host,
            config.port,
            request.method,
            path,
            headers=headers,
            body=request.json.encode(),
            timeout_s=request.timeout_s,
        )
    except TimeoutError as error:
        raise EnvironmentFailure(f"{said} had no answer within {request.timeout_s:g} s") from error
    except (OSError, ValueError) as error:
        raise EnvironmentFailure(f"{said} had no answer: {error}") from error
    if not 200 <= status < 300:
        shown = body.decode(errors="replace").strip()[:BODY_SHOWN]
        raise EnvironmentFailure(f"{said} was answered with {status}{f': {shown}' if shown else ''}")
    return body
