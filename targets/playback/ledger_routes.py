"""What the store answers about accounts: the ledger's reads over HTTP. Commands go through the log.

    GET /accounts/by-email?email=   the account with its password's hash: for checking a log-in, and nobody else
    GET /accounts/{id}              {"account", "email", "plan", "country", "signed_up_at_s", "cancelled_at_s"}
    GET /accounts/{id}/invoices     {"invoices": [{"account", "period", "amount_cents", "at_s", "charged_by"}]}
    GET /billing/due?period=&limit= {"due": [{"account", "plan", "period"}], "backlog"}
    GET /billing/totals             {"applied", "accounts", "active", "invoices", "charged_cents", "missing"}

404 for an account that does not exist, 400 for a question that is none.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from chaos.resilience.web import Handler
from targets.playback.ledger import Ledger
from targets.playback.ledger_commands import EMAIL_LENGTH_MAX, PERIOD_MAX
from targets.playback.ledger_tables import Account
from targets.playback.service import json_response

DUE_MAX = 500
"""The most accounts that one answer names as due."""


INVOICES_MAX = 100
"""The latest so many invoices of an account are shown."""


def add_routes(app: web.Application, ledger: Ledger, *, around: Callable[[Handler], Handler] | None = None) -> None:
    """Add the ledger's reads to a store's application.

    ``around`` is put around each of them: for a store of several replicas, what makes a read wait until the replica has
    come as far in the log as its caller asks.
    """

    async def by_email(request: web.Request) -> web.Response:
        email = request.query.get("email", "")
        if not 1 <= len(email) <= EMAIL_LENGTH_MAX or not email.isprintable():
            return _wrong(f"email must be a printable text of 1 to {EMAIL_LENGTH_MAX} characters")
        found = ledger.account_by_email(email)
        return _unknown() if found is None else json_response({**found.to_json(), "password_hash": found.password_hash})

    async def account(request: web.Request) -> web.Response:
        found = _asked(request)
        return _unknown() if found is None else json_response(found.to_json())

    async def invoices(request: web.Request) -> web.Response:
        found = _asked(request)
        if found is None:
            return _unknown()
        return json_response(
            {"invoices": [invoice.to_json() for invoice in ledger.invoices(found.id, latest=INVOICES_MAX)]}
        )

    async def due(request: web.Request) -> web.Response:
        try:
            period = _whole(request, "period", 0, PERIOD_MAX)
            limit = _whole(request, "limit", 1, DUE_MAX)
        except ValueError as error:
            return _wrong(str(error))
        listed = [one.to_json() for one in ledger.due(period, limit)]
        return json_response({"due": listed, "backlog": ledger.backlog(period)})

    async def totals(_: web.Request) -> web.Response:
        return json_response(ledger.totals())

    def _asked(request: web.Request) -> Account | None:
        account = request.match_info["id"]
        return ledger.account(account) if account.isprintable() else None

    for path, handler in (
        ("/accounts/by-email", by_email),
        ("/accounts/{id}", account),
        ("/accounts/{id}/invoices", invoices),
        ("/billing/due", due),
        ("/billing/totals", totals),
    ):
        app.router.add_get(path, handler if around is None else around(handler))


def _whole(request: web.Request, name: str, minimum: int, maximum: int) -> int:
    text = request.query.get(name, "")
    digits = text.isascii() and text.isdigit() and len(text) <= 16
    if not digits or not minimum <= int(text) <= maximum:
        raise ValueError(f"{name} is {text[:40]!a}; it must be a whole number from {minimum} to {maximum}")
    return int(text)


def _unknown() -> web.Response:
    return json_response({"error": "no such account"}, status=404)


def _wrong(reason: str) -> web.Response:
    return json_response({"error": reason}, status=400)
