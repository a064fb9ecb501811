"""The store of record: subscribers, titles, licences and accounts in SQLite, over HTTP, on several replicas.

    GET  /subscribers/{id}   {"id", "plan", "country"}, of the seed or with an account
    GET  /titles/{id}        {"id", "minimum_plan", "licences": {country: ["2026-01-01/..", ...]}}
    GET  /licences           {"version", "titles": [...]}: all titles, for those who keep a copy; ETag is the version
    /accounts, /billing      see `ledger_routes`
    /commands, /leader       see `log_routes`

Every replica is filled from the same seed when it first starts, and answers reads. Accounts are changed by commands in
a log that the replicas agree on, so that each makes the same changes in the same order to its own ledger. A lookup by
primary key takes microseconds, so it is done in the event loop, without a thread.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from aiohttp import web

from chaos.resilience.shedding import PRIORITY_HEADER, Priority
from targets.playback import ledger_routes
from targets.playback.ledger import Ledger
from targets.playback.licences import Licences, Window
from targets.playback.log_routes import RAFT_PATH, add_log_routes, caught_up
from targets.playback.replicated_log import ReplicatedLog, StateMachine
from targets.playback.seed_data import SeedData
from targets.playback.service import Context, application, json_response
from targets.playback.validation import Plan, Subscriber, Title

_SCHEMA = """
CREATE TABLE subscribers (id TEXT PRIMARY KEY, plan TEXT NOT NULL, country TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE titles (id TEXT PRIMARY KEY, minimum_plan TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE licences (title TEXT, country TEXT, "window" TEXT, PRIMARY KEY (title, country, "window")) WITHOUT ROWID;
"""


class Store:
    """The database. Raises sqlite3.Error when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")

    def fill(self, data: SeedData) -> None:
        """Write the seed data in one transaction, unless they are there (the service was restarted)."""
        if self._db.execute("PRAGMA user_version").fetchone()[0]:
            return
        self._db.executescript(f"BEGIN; {_SCHEMA}")
        self._db.executemany(
            "INSERT INTO subscribers VALUES (?, ?, ?)", ((one.id, one.plan, one.country) for one in data.subscribers)
        )
        self._db.executemany("INSERT INTO titles VALUES (?, ?)", ((one.id, one.minimum_plan) for one in data.catalogue))
        self._db.executemany(
            "INSERT INTO licences VALUES (?, ?, ?)",
            (
                (title.id, country, str(window))
                for title in data.catalogue
                for country, windows in title.licences.items()
                for window in windows
            ),
        )
        self._db.execute("PRAGMA user_version = 1")
        self._db.execute("COMMIT")

    def subscriber(self, subscriber: str) -> Subscriber | None:
        """Return a subscriber by id, or None."""
        row = self._db.execute("SELECT plan, country FROM subscribers WHERE id = ?", (subscriber,)).fetchone()
        return None if row is None else Subscriber(id=subscriber, plan=Plan(row[0]), country=row[1])

    def title(self, title: str) -> Title | None:
        """Return a title with its licences, or None."""
        row = self._db.execute("SELECT minimum_plan FROM titles WHERE id = ?", (title,)).fetchone()
        if row is None:
            return None
        rows = self._db.execute('SELECT country, "window" FROM licences WHERE title = ?', (title,))
        return Title(id=title, minimum_plan=Plan(row[0]), licences=_licences(rows))

    def titles(self) -> list[Title]:
        """Return every title with its licences."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for title, country, window in self._db.execute('SELECT title, country, "window" FROM licences'):
            rows.setdefault(title, []).append((country, window))
        return [
            Title(id=title, minimum_plan=Plan(plan), licences=_licences(rows.get(title, ())))
            for title, plan in self._db.execute("SELECT id, minimum_plan FROM titles ORDER BY id")
        ]

    def version(self) -> int:
        """Return the version of the data; it grows with every filling."""
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _licences(rows: Iterable[tuple[str, str]]) -> Licences:
    """Return licences from rows of country and window."""
    windows: dict[str, tuple[Window, ...]] = {}
    for country, window in rows:
        windows[country] = (*windows.get(country, ()), Window.parse(window))
    return windows


def build(context: Context, *, machine: StateMachine | None = None) -> web.Application:
    """Return the store's application, with the database filled; commands go to the ledger, or to ``machine``."""
    folder = Path(context.config.data_dir)
    store = Store(folder / "store.sqlite")
    store.fill(SeedData.of(context.config))
    ledger = Ledger(folder / "ledger.sqlite")
    log = ReplicatedLog(context, machine or ledger, folder / "raft.sqlite")
    snapshots: dict[int, bytes] = {}
    app = application(context, ready=lambda: log.leader is not None, priority=_priority)

    async def subscriber(request: web.Request) -> web.Response:
        asked = request.match_info["id"]
        found = store.subscriber(asked) or (ledger.subscriber(asked) if asked.isprintable() else None)
        return json_response({"error": "no such subscriber"}, status=404) if found is None else _found(found)

    async def title(request: web.Request) -> web.Response:
        found = store.title(request.match_info["id"])
        return json_response({"error": "no such title"}, status=404) if found is None else _found(found)

    async def licences(request: web.Request) -> web.Response:
        version = store.version()
        etag = f'"{version}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        if version not in snapshots:
            snapshots.clear()
            snapshot = {"version": version, "titles": [one.to_json() for one in store.titles()]}
            snapshots[version] = json.dumps(snapshot, separators=(",", ":")).encode()
        return web.Response(body=snapshots[version], content_type="application/json", headers={"ETag": etag})

    async def stop(_: web.Application) -> None:
        await log.close()

    async def close(_: web.Application) -> None:
        ledger.close()
        store.close()

    app.router.add_get("/subscribers/{id}", caught_up(log, subscriber))
    app.router.add_get("/titles/{id}", caught_up(log, title))
    app.router.add_get("/licences", caught_up(log, licences))
    add_log_routes(app, log)
    ledger_routes.add_routes(app, ledger, around=partial(caught_up, log))
    app.on_shutdown.append(stop)
    app.on_cleanup.append(close)
    return app


def _priority(request: web.Request) -> Priority:
    """Return how important a request is: before all others comes what keeps the replicas together."""
    return (
        Priority.CRITICAL if request.path == RAFT_PATH else Priority.from_header(request.headers.get(PRIORITY_HEADER))
    )


def _found(record: Subscriber | Title) -> web.Response:
    return json_response(record.to_json())
