"""A customer's account as their device knows it: sign up, log in, cancel, and requests in its name.

Each is a generator of requests, as the playback client is, and takes as long as ``by_s`` at the most. A token that has
expired (401) is replaced once, by logging in again, when the device knows the password::

    account = Account(elb, client_ip="10.0.0.1", config=config, rng=rng, email="ann@example.com", password="...")
    visited = yield from account.sign_up(plan="basic", country="country-01", key="k-1", now_s=now_s, by_s=now_s + 5)
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace

from chaos.samples import SampleOutcome
from targets.playback.client_call import Call, call, fields_of
from targets.playback.client_order import ClientConfig
from targets.playback.client_protocol import Answer, HttpRequest, Reply, Request, RequestKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited:
    """What came of something a person wanted: the outcome, and why when it is not a full answer."""

    now_s: float
    outcome: SampleOutcome
    reason: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)
    """The answer's JSON object, if there was one."""


Visit = Generator[Request, Answer, Visited]


class Account:
    """One account on one device; ``token`` is what it is logged in with (empty: not yet)."""

    def __init__(
        self,
        elb: str,
        *,
        client_ip: str,
        config: ClientConfig,
        rng: random.Random,
        name: str = "",
        token: str = "",
        email: str = "",
        password: str = "",
    ) -> None:
        self._elb = elb
        self._config = config
        self._rng = rng
        self._email = email
        self._password = password
        self.name = name or email
        """By what it is known for as long as it exists: a subscriber's id, or the e-mail address of a new one."""
        self.client_ip = client_ip
        """Where its device is."""
        self.token = token
        """Changes with each log-in."""

    def sign_up(self, *, plan: str, country: str, key: str, now_s: float, by_s: float) -> Visit:
        """Make the account; ``key`` is the sign-up's own, so that its second try makes no second account."""
        form = {"email": self._email, "password": self._password, "plan": plan, "country": country}
        request = self._post(RequestKind.SIGN_UP, "/signup", form, key=key)
        return (yield from self._enter(request, now_s, by_s))

    def log_in(self, *, now_s: float, by_s: float) -> Visit:
        """Get a new token for e-mail address and password."""
        request = self._post(RequestKind.LOG_IN, "/login", {"email": self._email, "password": self._password})
        return (yield from self._enter(request, now_s, by_s))

    def cancel(self, *, key: str, now_s: float, by_s: float) -> Visit:
        """End the account; ``key`` as for a sign-up."""
        request = self._post(RequestKind.CANCEL, "/account/cancel", {}, key=key)
        return visited((yield from self.ask(request, now_s=now_s, by_s=by_s)))

    def ask(
        self, request: HttpRequest, *, now_s: float, by_s: float, problem_with: Callable[[Reply], str] | None = None
    ) -> Call:
        """Make a request in the account's name; log in again, once, when its token is no longer taken."""
        reply = yield from self._call(self._signed(request), now_s, by_s, problem_with)
        if reply.status != 401 or not self._email:
            return reply
        entered = yield from self.log_in(now_s=reply.now_s, by_s=by_s)
        if entered.outcome is not SampleOutcome.OK:
            return replace(reply, now_s=entered.now_s)
        return (yield from self._call(self._signed(request), entered.now_s, by_s, problem_with))

    def get(self, kind: RequestKind, path: str, *, now_s: float, by_s: float) -> Call:
        """GET a page in the account's name."""
        request = HttpRequest(kind=kind, address=self._elb, method="GET", path=path, timeout_s=0.0)
        return (yield from self.ask(request, now_s=now_s, by_s=by_s))

    def _enter(self, request: HttpRequest, now_s: float, by_s: float) -> Visit:
        """Make a request whose good answer brings a token."""
        entered = visited((yield from self._call(request, now_s, by_s, None)))
        token = entered.fields.get("token")
        if entered.outcome is not SampleOutcome.OK:
            return entered
        if not isinstance(token, str):
            return replace(entered, outcome=SampleOutcome.FAILED, reason="an answer without a token")
        self.token = token
        return entered

    def _call(
        self, request: HttpRequest, now_s: float, by_s: float, problem_with: Callable[[Reply], str] | None
    ) -> Call:
        headers = {**request.headers, "X-Forwarded-For": self.client_ip}
        return (
            yield from call(
                replace(request, headers=headers),
                now_s=now_s,
                by_s=by_s,
                config=self._config,
                rng=self._rng,
                problem_with=problem_with,
            )
        )

    def _post(self, kind: RequestKind, path: str, form: Mapping[str, str], *, key: str = "") -> HttpRequest:
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        body = json.dumps(form).encode()
        return HttpRequest(
            kind=kind, address=self._elb, method="POST", path=path, headers=headers, body=body, timeout_s=0.0
        )

    def _signed(self, request: HttpRequest) -> HttpRequest:
        return replace(request, headers={**request.headers, "Authorization": f"Bearer {self.token}"})


def visited(reply: Reply) -> Visited:
    """Return what an answer means to whoever asked.

    403 (a cancelled account) and 409 (an address that has an account) are answers: the system said no, as it should. To
    somebody who knows the right password 401 is a failure like any other.
    """
    if not reply.error:
        return Visited(now_s=reply.now_s, outcome=SampleOutcome.OK, fields=fields_of(reply) or {})
    outcome = SampleOutcome.REFUSED if reply.status in {403, 409} else SampleOutcome.FAILED
    return Visited(now_s=reply.now_s, outcome=outcome, reason=reply.error)
