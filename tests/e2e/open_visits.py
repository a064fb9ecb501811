"""A locustfile with an open schedule, for the smallest targets: every visit opens a page once, when it is due.

Where there are several pages, they are opened in turn.
"""

from __future__ import annotations

from chaos.load.visits import Visit, on_schedule


def open_page(visit: Visit) -> None:
    visit.request("GET", "/", timeout_s=1.0, service=visit.services[visit.number % len(visit.services)])


Visitors = on_schedule(open_page)
