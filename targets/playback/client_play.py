"""Asking for a play: the request that brings the ticket, or a refusal, or nothing in time."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass

from targets.playback.client_account import Account
from targets.playback.client_call import TOO_LATE
from targets.playback.client_order import ClientConfig, PlayOrder
from targets.playback.client_protocol import Answer, Failed, HttpRequest, Refused, Reply, Request, RequestKind, Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of asking, and when."""

    now_s: float
    result: Ticket | Refused | Failed


def ask_for_play(
    account: Account, order: PlayOrder, config: ClientConfig, now_s: float
) -> Generator[Request, Answer, Asked]:
    """Ask for the play of ``order`` in the name of ``account``; an answer that is no ticket is as good as none."""
    headers = {"Content-Type": "application/json"}
    if order.key:
        headers["Idempotency-Key"] = order.key
    request = HttpRequest(
        kind=RequestKind.PLAY,
        address=order.elb,
        method="POST",
        path="/play",
        headers=headers,
        body=json.dumps({"title": order.title, "device": order.device}).encode(),
        timeout_s=0.0,
        fresh=True,
    )
    by_s = order.scheduled_s + config.start_limit_s
    reply = yield from account.ask(request, now_s=now_s, by_s=by_s, problem_with=_problem_of)
    return Asked(now_s=reply.now_s, result=_result_of(reply))


def _result_of(reply: Reply) -> Ticket | Refused | Failed:
    if reply.status == 403:
        return Refused(now_s=reply.now_s, reason=_refusal(reply.body))
    if reply.error:
        return Failed(now_s=reply.now_s, reason=reply.error)
    return Ticket.from_json(reply.body)


def _problem_of(reply: Reply) -> str:
    """Return what is wrong with an answer; a refusal has nothing wrong about it."""
    if reply.status == 403:
        return ""
    if reply.status != 200:
        problem = f"answered {reply.status}" if reply.status else (reply.error or "no answer")
        return problem if problem == TOO_LATE else f"play: {problem}"
    try:
        Ticket.from_json(reply.body)
    except ValueError as error:
        return str(error)
    return ""


def _refusal(body: bytes) -> str:
    try:
        return str(json.loads(body)["refused"])
    except (ValueError, KeyError, TypeError):
        return "unknown"
