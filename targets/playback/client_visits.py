"""Visits that are no plays: looking around on the home page, searching, and becoming a customer.

A visit goes on to its next step only while it goes well, and its outcome is that of its worst step. An answer that
would be the same for anybody, because what is known of the customer or the country could not be had, is a fallback:

    home page   no row but a stretch of the catalogue, or none at all (the gateway's own page), or ``degraded``
    search      nothing found (the gateway's own answer: what is searched for here is always in the catalogue)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from chaos.samples import SampleOutcome
from targets.playback.client_account import Account, Visit, Visited, visited
from targets.playback.client_protocol import RequestKind

VISIT_LIMIT_S = 5.0
"""What a visit has not got by then, from the moment it was due, it does not get: as for a play's first frame."""

_ROWS_FOR_SOMEBODY = frozenset({"personal", "popular"})
_GOOD = frozenset({SampleOutcome.OK, SampleOutcome.FALLBACK})


def browse(account: Account, *, now_s: float, by_s: float, query: str | None = None) -> Visit:
    """Open the home page, and search for ``query`` there (None: nothing)."""
    page = yield from open_home(account, now_s=now_s, by_s=by_s)
    if query is None or page.outcome not in _GOOD:
        return page
    return _worse(page, (yield from search(account, query, now_s=page.now_s, by_s=by_s)))


def open_home(account: Account, *, now_s: float, by_s: float) -> Visit:
    """Open the home page."""
    page = visited((yield from account.get(RequestKind.HOME, "/home", now_s=now_s, by_s=by_s)))
    if page.outcome is not SampleOutcome.OK:
        return page
    rows = page.fields.get("rows")
    kinds = {row.get("kind") for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()
    if page.fields.get("degraded") or not kinds & _ROWS_FOR_SOMEBODY:
        return replace(page, outcome=SampleOutcome.FALLBACK, reason="a home page for anybody")
    return page


def search(account: Account, query: str, *, now_s: float, by_s: float) -> Visit:
    """Search for ``query``, which something in the catalogue has in its name."""
    path = f"/search?q={quote(query)}"
    found = visited((yield from account.get(RequestKind.SEARCH, path, now_s=now_s, by_s=by_s)))
    if found.outcome is SampleOutcome.OK and not found.fields.get("titles"):
        return replace(found, outcome=SampleOutcome.FALLBACK, reason="nothing found")
    return found


def become_customer(account: Account, form: Mapping[str, str], *, key: str, now_s: float, by_s: float) -> Visit:
    """Sign up with the ``plan`` and ``country`` of ``form``, log in, and open the home page."""
    joined = yield from account.sign_up(plan=form["plan"], country=form["country"], key=key, now_s=now_s, by_s=by_s)
    if joined.outcome is not SampleOutcome.OK:
        return joined
    entered = yield from account.log_in(now_s=joined.now_s, by_s=by_s)
    if entered.outcome is not SampleOutcome.OK:
        return replace(entered, reason=f"log-in after the sign-up: {entered.reason}")
    return _worse(entered, (yield from open_home(account, now_s=entered.now_s, by_s=by_s)))


def _worse(first: Visited, second: Visited) -> Visited:
    """Return the second step, but not as a better one than the first, which was a good one."""
    if second.outcome is SampleOutcome.OK:
        return replace(second, outcome=first.outcome, reason=first.reason)
    return second
