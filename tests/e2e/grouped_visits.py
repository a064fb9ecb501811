"""A locustfile that puts its accounts into groups: each visit is one of two hundred accounts', and says whose group."""

from __future__ import annotations

from chaos.load.visits import Visit, on_schedule

ACCOUNTS = 200


def open_page(visit: Visit) -> None:
    visit.come_as(f"account-{visit.number % ACCOUNTS}")
    visit.request("GET", "/page", timeout_s=5.0)


Visitors = on_schedule(open_page, kind="visit")
