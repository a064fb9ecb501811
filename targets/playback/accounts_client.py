"""The accounts in the store, as the Signup API sees them: commands through the log, and reads, each isolated.

Every command carries an id of its own, under which the store's ledger keeps its first result. So a command whose answer
was lost may be sent again, to the same replica or another one, and that is done here within the time of the call:
whoever calls gets the result of one and the same effect.

Every replica of the store answers reads, and one may be behind. So each read names the newest place in the log that
this client has heard of: a replica that has not come that far refuses, and another one is asked. What a command of
this client has written, its next read finds.

Billing has a Command of its own, with few permits, so that it does not take those of sign-ups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from chaos.resilience import BreakerSettings, CommandSettings, ReplicaSettings, RetrySettings
from chaos.resilience.web import Rejected, Reply
from targets.playback.service import Context
from targets.playback.transport import CallFailed, json_of
from targets.playback.validation import Plan, Subscriber

_REPLICA_SETTINGS = ReplicaSettings(attempts=3, attempt_timeout_s=0.5, breaker=BreakerSettings(open_s=1.0))
_COMMAND_SETTINGS = CommandSettings(
    timeout_s=1.1, max_concurrent=64, retry=RetrySettings(attempts=2), breaker=BreakerSettings(open_s=1.0)
)
_READ_SETTINGS = CommandSettings(
    timeout_s=0.8, max_concurrent=64, retry=RetrySettings(attempts=2), breaker=BreakerSettings(open_s=1.0)
)
_BILLING_SETTINGS = CommandSettings(timeout_s=1.1, max_concurrent=2, breaker=BreakerSettings(open_s=1.0))


APPLIED_AT_LEAST = "X-Applied-At-Least"
"""Header of a read: the index in the store's log that must have been applied by who answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """An account as the store tells of it; the password's hash only when it was asked for."""

    id: str
    email: str
    plan: Plan
    country: str
    cancelled: bool
    password_hash: str = ""

    @property
    def subscriber(self) -> Subscriber:
        """What a token says about it."""
        return Subscriber(id=self.id, plan=self.plan, country=self.country)

    def to_json(self) -> dict[str, object]:
        """Return what its owner gets to see."""
        return {
            "account": self.id,
            "email": self.email,
            "plan": self.plan,
            "country": self.country,
            "cancelled": self.cancelled,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DueCharge:
    """A charge that is to be made."""

    account: str
    plan: Plan
    period: int


class AccountsClient:
    """The store's accounts. Every method raises one of `transport.FAILURES` when the store does not answer in time."""

    def __init__(self, context: Context) -> None:
        self._http = context.http
        self._newest = 0
        self._store = context.replicas("store", _REPLICA_SETTINGS)
        self._send = context.isolation.command("accounts.command", self._post, settings=_COMMAND_SETTINGS)
        self._read = context.isolation.command("accounts.read", self._get, settings=_READ_SETTINGS)
        self._charge = context.isolation.command("billing.charge", self._post, settings=_BILLING_SETTINGS)
        self._ask_due = context.isolation.command("billing.due", self._get, settings=_BILLING_SETTINGS)

    async def send(self, command: Mapping[str, object]) -> Mapping[str, object]:
        """Return the result of a command: its effect's, or ``{"refused": why}``."""
        return self._result(await self._send(command))

    async def by_email(self, email: str) -> AccountRecord | None:
        """Return the account with an e-mail address and its password's hash, or None."""
        return await self._found("/accounts/by-email", {"email": email})

    async def account(self, account: str) -> AccountRecord | None:
        """Return an account by its id, or None."""
        return await self._found(f"/accounts/{quote(account, safe='')}", {})

    async def invoices(self, account: str) -> Sequence[object] | None:
        """Return an account's invoices, or None for an account that does not exist."""
        try:
            parsed = json_of(await self._read(f"/accounts/{quote(account, safe='')}/invoices", {}))
        except Rejected as rejected:
            _must_be_missing(rejected)
            return None
        match parsed:
            case {"invoices": [*invoices]}:
                return invoices
            case _:
                raise CallFailed("the store's answer holds no invoices")

    async def charge(self, command: Mapping[str, object]) -> Mapping[str, object]:
        """Return the result of a billing worker's command."""
        return self._result(await self._charge(command))

    async def due(self, period: int, limit: int) -> tuple[list[DueCharge], int]:
        """Return charges that are to be made up to a period, and how many accounts are due altogether."""
        try:
            parsed = json_of(await self._ask_due("/billing/due", {"period": str(period), "limit": str(limit)}))
        except Rejected as rejected:
            raise CallFailed(str(rejected)) from rejected
        match parsed:
            case {"due": [*listed], "backlog": int(backlog)}:
                return [_due(one) for one in listed], backlog
            case _:
                raise CallFailed("the store's answer says nothing of what is due")

    async def _found(self, path: str, params: Mapping[str, str]) -> AccountRecord | None:
        try:
            return _account(json_of(await self._read(path, params)))
        except Rejected as rejected:
            _must_be_missing(rejected)
            return None

    async def _post(self, command: Mapping[str, object]) -> Reply:
        try:
            return await self._store.call(lambda address: self._http.post(f"http://{address}/commands", json=command))
        except Rejected as rejected:  # our commands are well formed: it is no store that says otherwise
            raise CallFailed(f"the store took no {command.get('kind')} command: status {rejected.status}") from rejected

    async def _get(self, path: str, params: Mapping[str, str]) -> Reply:
        headers = {APPLIED_AT_LEAST: str(self._newest)}
        return await self._store.call(
            lambda address: self._http.get(f"http://{address}{path}", params=params, headers=headers)
        )

    def _result(self, reply: Reply) -> Mapping[str, object]:
        match json_of(reply):
            case {"index": int(index), **rest}:
                self._newest = max(self._newest, index)
                return {"index": index, **{str(key): value for key, value in rest.items()}}
            case _:
                raise CallFailed("the store's answer is no result of a command")


def _must_be_missing(rejected: Rejected) -> None:
    """Accept a 404. Raises CallFailed for anything else that the store rejected."""
    if rejected.status != 404:
        raise CallFailed(str(rejected)) from rejected


def _account(data: object) -> AccountRecord:
    match data:
        case {
            "account": str(account),
            "email": str(email),
            "plan": str(plan),
            "country": str(country),
            "cancelled_at_s": cancelled_at_s,
            **rest,
        } if plan in set(Plan):
            password_hash = rest.get("password_hash")
            return AccountRecord(
                id=account,
                email=email,
                plan=Plan(plan),
                country=country,
                cancelled=cancelled_at_s is not None,
                password_hash=password_hash if isinstance(password_hash, str) else "",
            )
        case _:
            raise CallFailed("the store's answer is no account")


def _due(data: object) -> DueCharge:
    match data:
        case {"account": str(account), "plan": str(plan), "period": int(period)} if plan in set(Plan):
            return DueCharge(account=account, plan=Plan(plan), period=period)
        case _:
            raise CallFailed("the store's answer names no charge that is due")
