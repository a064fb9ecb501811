"""One call to the backend: a request with a deadline, made a second time when the first answer is none or an error.

tries    |-- first, 1.5 s at most --| pause |-- second, on another connection --|
by_s     ----------------------------------------------------------- nothing is sent or waited for beyond ----|
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Generator
from dataclasses import replace

from targets.playback.client_order import ClientConfig
from targets.playback.client_protocol import Answer, HttpRequest, Reply, Request, Wait

Call = Generator[Request, Answer, Reply]

DEADLINE_HEADER = "X-Chaos-Deadline-Ms"
TOO_LATE = "the load started it too late"


def call(
    request: HttpRequest,
    *,
    now_s: float,
    by_s: float,
    config: ClientConfig,
    rng: random.Random,
    problem_with: Callable[[Reply], str] | None = None,
) -> Call:
    """Make the request, and once more when it came to nothing: only for what may be done twice.

    It is not made again after a 4xx, which is our own mistake or an answer, and not after ``by_s``. ``problem_with``
    says what is wrong with an answer ("": nothing). The last reply is returned, with what was wrong in ``error``.
    """
    problem_with = problem_with or problem_of
    reply = Reply(now_s=now_s, error=TOO_LATE)
    for attempt in range(2 if config.retry else 1):
        if attempt:
            woken = yield Wait(until_s=now_s + config.retry_pause_s * (1.0 + 0.5 * rng.random()))
            now_s = woken.now_s
        timeout_s = min(config.play_timeout_s, by_s - now_s)
        if timeout_s <= 0.0:
            break
        headers = {**request.headers, DEADLINE_HEADER: str(round(timeout_s * 1000))}
        # The first try may use a connection that is open; the second must not, for it may be what is broken.
        fresh = request.fresh or attempt > 0
        answer = yield replace(request, headers=headers, timeout_s=timeout_s, fresh=fresh)
        assert isinstance(answer, Reply), "an HttpRequest is answered by a Reply"
        now_s = answer.now_s
        reply = replace(answer, error=problem_with(answer))
        if not reply.error or 400 <= reply.status < 500:
            break
    return replace(reply, now_s=now_s)


def problem_of(reply: Reply) -> str:
    """Return what is wrong with an answer that ought to be JSON, or "" when it is a good one."""
    if not 200 <= reply.status < 300:
        return f"answered {reply.status}" if reply.status else (reply.error or "no answer")
    return "" if fields_of(reply) is not None else "an answer that cannot be read"


def fields_of(reply: Reply) -> dict[str, object] | None:
    """Return the JSON object that an answer is, or None when it is none."""
    try:
        fields = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None
