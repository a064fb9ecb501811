"""The Signup API: signing up, logging in, plans and bills, for which the store must be there; playing needs none of it.

    POST /signup           {"email", "password", "plan", "country"} -> 201 the account, "token", "expires_in_s"
    POST /login            {"email", "password"}                    -> 200 the account, "token", "expires_in_s"
    GET  /account          behind the passport                      -> 200 the account
    POST /account/plan     {"plan"}, behind the passport            -> 200 the account, "token", "expires_in_s"
    POST /account/cancel   behind the passport                      -> 200 the account
    GET  /account/invoices behind the passport                      -> 200 {"invoices": [...]}, the latest 100
    GET  /billing          what this instance's billing worker does

400 says what is wrong with a request, 401 that e-mail address or password are wrong (and not which), 403 that the
account was cancelled, 404 that there is none, 409 that an address is taken. (Only a sign-up tells that much.)

503 with Retry-After means: not now. It comes within about a second when the store is away, and at once when too many
log-ins wait for their password to be checked. What was asked for may have been done all the same, if only the answer
was lost; with the header ``Idempotency-Key`` it can be sent again, and is then done once. The token that an answer
brings is verified by its signature: whoever has one keeps playing whatever becomes of this service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256

from aiohttp import web

from chaos.resilience import IsolationError
from targets.playback import tokens
from targets.playback.accounts_client import AccountRecord, AccountsClient
from targets.playback.activity import Kind
from targets.playback.activity_emitter import Activity
from targets.playback.billing import Billing
from targets.playback.passport import HEADER, NoPassport, Passport
from targets.playback.passwords import Hasher, HashSettings, Passwords
from targets.playback.seed_data import SeedData
from targets.playback.service import Context, application, json_response, unavailable
from targets.playback.signup_forms import BadForm, Credentials, SignUpForm, idempotency_key, plan_of
from targets.playback.transport import FAILURES, CallFailed

LOG = logging.getLogger("playback")

TOKEN_LIFETIME_S = 900.0
"""How long a log-in lasts: longer than an outage that nobody shall notice, short enough for a cancelled account."""

Handler = Callable[[web.Request], Awaitable[web.Response]]

_AWAY = "accounts cannot be reached now; if this was to change something, send it again with the same Idempotency-Key"
_BUSY = "too many people are signing up or logging in right now"
_WRONG = "e-mail address or password are wrong"


class SignupApi:
    """The service."""

    def __init__(self, context: Context) -> None:
        self._loop = asyncio.get_running_loop()
        self._keys = tokens.Keyring.from_settings(context.config.settings)
        self._lifetime_s = context.number("token_lifetime_s", TOKEN_LIFETIME_S)
        if not 1 <= self._lifetime_s <= 1e6:
            raise ValueError(f"settings.token_lifetime_s is {self._lifetime_s!r}; from 1 to 1 000 000 is possible.")
        self._countries = frozenset(SeedData.of(context.config).countries)
        # Salts must not repeat when the service is restarted, as everything that comes from the run's seed does.
        self._passwords = Passwords(context, Hasher(HashSettings(), rng=random.SystemRandom()))
        self.activity = Activity(context)
        self._accounts = AccountsClient(context)
        self._billing = Billing(context, self._accounts)
        # Names are unique without chance, for the same reason.
        self._named = 0
        self._start = f"{context.config.instance}-{int(self._loop.time() * 1000):x}"

    def add_routes(self, app: web.Application) -> None:
        """Add the routes to an application."""
        app.router.add_post("/signup", _politely(self._sign_up))
        app.router.add_post("/login", _politely(self._log_in))
        app.router.add_get("/account", _politely(self._account))
        app.router.add_post("/account/plan", _politely(self._change_plan))
        app.router.add_post("/account/cancel", _politely(self._cancel))
        app.router.add_get("/account/invoices", _politely(self._invoices))
        app.router.add_get("/billing", self._show_billing)

    async def _sign_up(self, request: web.Request) -> web.Response:
        form = SignUpForm.from_body(await request.read(), self._countries)
        key = idempotency_key(request.headers, form.email)
        account = self._name("account")
        result = await self._accounts.send(
            {
                "kind": "sign_up",
                "id": f"sign_up/{key or account}",
                "account": account,
                "email": form.email,
                "password_hash": await self._passwords.hash(form.password),
                "plan": form.plan,
                "country": form.country,
                "at_s": self._loop.time(),
                "period": self._billing.period,
            }
        )
        match result:
            case {"refused": "email taken"}:
                return _error(409, "this e-mail address has an account already: log in")
            case {"refused": why}:
                raise CallFailed(f"the ledger refused a sign-up: {why}")
        if result.get("account") != account:
            # The key was used before, and this is what it was used for. Its owner knows the password.
            found = _there(await self._accounts.by_email(form.email))
            self._tell_signed_up(found)
            return await self._checked(found, form.password, status=201)
        record = AccountRecord(id=account, email=form.email, plan=form.plan, country=form.country, cancelled=False)
        self._tell_signed_up(record)
        return self._let_in(record, status=201)

    def _tell_signed_up(self, account: AccountRecord) -> None:
        """Tell of a sign-up, also when it was told before: whoever did the first try may not have heard of its end."""
        # The account's name is the event's id, so it is counted once.
        self.activity.emit(Kind.SIGNED_UP, account.subscriber, event_id=f"signed_up-{account.id}")

    async def _log_in(self, request: web.Request) -> web.Response:
        given = Credentials.from_body(await request.read())
        return await self._checked(await self._accounts.by_email(given.email), given.password, status=200)

    async def _checked(self, found: AccountRecord | None, password: str, *, status: int) -> web.Response:
        """Let in whoever knows the password of an account; that there is none takes as long to find out."""
        right = await self._passwords.verify(None if found is None else found.password_hash, password)
        if found is None or not right:
            return _error(401, _WRONG)
        if found.cancelled:
            return _error(403, "this account was cancelled")
        if self._passwords.outdated(found.password_hash):
            await self._rehash(found, password)
        return self._let_in(found, status=status)

    async def _rehash(self, account: AccountRecord, password: str) -> None:
        """Replace a hash with outdated parameters; if that fails, the next log-in will."""
        with contextlib.suppress(*FAILURES):
            await self._accounts.send(
                {
                    "kind": "rehash",
                    "id": f"rehash/{sha256(account.password_hash.encode()).hexdigest()}",
                    "account": account.id,
                    "old_hash": account.password_hash,
                    "password_hash": await self._passwords.hash(password),
                }
            )

    async def _account(self, request: web.Request) -> web.Response:
        found = await self._accounts.account(_caller(request))
        return _no_account() if found is None else json_response(found.to_json())

    async def _change_plan(self, request: web.Request) -> web.Response:
        account, plan = _caller(request), plan_of(await request.read())
        key = idempotency_key(request.headers, account, plan) or self._name("request")
        result = await self._accounts.send(
            {
                "kind": "change_plan",
                "id": f"change_plan/{key}",
                "account": account,
                "plan": plan,
                "at_s": self._loop.time(),
            }
        )
        if "refused" in result:
            return _refusal(result)
        # A key that was used before has its first result; what counts for the token is the plan of now.
        return self._let_in(_there(await self._accounts.account(account)), status=200)

    async def _cancel(self, request: web.Request) -> web.Response:
        account = _caller(request)
        key = idempotency_key(request.headers, account) or self._name("request")
        result = await self._accounts.send(
            {
                "kind": "cancel",
                "id": f"cancel/{key}",
                "account": account,
                "at_s": self._loop.time(),
                "period": self._billing.period,
            }
        )
        if "refused" in result:
            return _refusal(result)
        cancelled = _there(await self._accounts.account(account))
        # The command's id is the event's: a cancellation that is sent again is told again, and counted once.
        self.activity.emit(Kind.CANCELLED, cancelled.subscriber, event_id=f"cancelled-{account}")
        return json_response(cancelled.to_json())

    async def _invoices(self, request: web.Request) -> web.Response:
        invoices = await self._accounts.invoices(_caller(request))
        return _no_account() if invoices is None else json_response({"invoices": list(invoices)})

    async def _show_billing(self, _: web.Request) -> web.Response:
        return json_response(self._billing.to_json())

    def _let_in(self, account: AccountRecord, *, status: int) -> web.Response:
        """Return an account together with a token for it."""
        token = tokens.issue(account.subscriber, self._keys, now_s=self._loop.time(), lifetime_s=self._lifetime_s)
        return json_response({**account.to_json(), "token": token, "expires_in_s": self._lifetime_s}, status=status)

    def _name(self, kind: str) -> str:
        """Return a name that nothing else ever has."""
        self._named += 1
        return f"{kind}-{self._start}-{self._named}"


def _politely(handler: Handler) -> Handler:
    """Return a handler whose troubles are answers that a person can do something with."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except (BadForm, NoPassport) as error:
            return _error(400, str(error))
        except FAILURES as failure:
            LOG.debug("%s %s: %r", request.method, request.path, failure)
            busy = isinstance(failure, IsolationError) and failure.command == "passwords"
            return unavailable(_BUSY if busy else _AWAY)

    return answer


def _caller(request: web.Request) -> str:
    """Return the account that asks. Raises NoPassport."""
    return Passport.from_header(request.headers.get(HEADER)).subscriber.id


def _there(account: AccountRecord | None) -> AccountRecord:
    """Return an account that must be there, for a command has just found it.

    Raises CallFailed when the replica that was asked does not know of it yet.
    """
    if account is None:
        raise CallFailed("the store does not know an account that it has: the replica asked is behind")
    return account


def _refusal(result: Mapping[str, object]) -> web.Response:
    """Return the answer to a command that the ledger refused."""
    match result.get("refused"):
        case "unknown account":
            return _no_account()
        case "cancelled":
            return _error(403, "this account was cancelled")
        case why:
            raise CallFailed(f"the ledger refused: {why}")


def _no_account() -> web.Response:
    return _error(404, "there is no such account")


def _error(status: int, reason: str) -> web.Response:
    return json_response({"error": reason}, status=status)


def build(context: Context) -> web.Application:
    """Return the Signup API's application."""
    app = application(context)
    api = SignupApi(context)
    api.add_routes(app)
    api.activity.install(app)
    return app
