"""The guardian: a small process that outlives the runner by a moment and undoes what is left of the run.

It is a program (``guardian_main.py``) in a session of its own. Its standard input is a pipe whose other end only the
runner holds; however the runner ends, the pipe does too. Then the guardian carries out what
``ledger.py`` says is still to be undone - first it kills, then it heals an external Toxiproxy - removes the
run's folder, and ends. After a run that ended well there is only the folder to remove. It ignores Ctrl-C and the like.

A Toxiproxy that is gone holds nothing any more. What one that is still there refuses, or does not answer within
``LIMIT_S``, stays written down: of the folder the ledger is kept. The next runs try it again, and ``chaos heal`` does.
They also clean up (``heal_leftovers``) when the guardian was killed as well.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import tempfile
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from chaos import clock
from chaos.processes import host
from chaos.processes.ledger import LEDGER_NAME, Entry, Undo, read_ledger
from chaos.proxy import token

GUARDIAN_PROGRAM = "chaos.processes.guardian_main"
LIMIT_S = 5.0
"""Seconds that a Toxiproxy may take for all that has to be undone at it."""
GIVEN_UP_AFTER_S = 7 * 24 * 3600.0
"""Age from which a ledger that still cannot be carried out is removed, so that it is not tried for ever."""
_KILL_LIMIT_S = 0.6
_UNCLAIMED_AFTER_S = 60.0
"""Age from which a run's folder without a readable owner counts as left behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """What could not be undone at a Toxiproxy that is still there. Its text says so, and what to do next."""

    url: str
    status: int | None
    """What it answered to the first of them; None: nothing in time."""
    entries: tuple[Entry, ...]

    def __str__(self) -> str:
        first, *others = self.entries
        more = f" and {len(others)} more" if others else ""
        answered = "did not answer in time" if self.status is None else f"answered {self.status}"
        if self.status == http.HTTPStatus.UNAUTHORIZED:
            then = f"set {token.VARIABLE} to its token, and `chaos heal` tries again"
        else:
            then = "`chaos heal` tries again; when that Toxiproxy ends, nothing is left of it"
        return f"could NOT undo the {_what(first)}{more}: the Toxiproxy at {self.url} {answered}; {then}"


class Settled(NamedTuple):
    """What came of carrying out ledgers."""

    undone: list[str]
    """What was done, in words."""
    left: list[Unsettled]


def run_folder_path(run: str) -> Path:
    """Return the folder of the run with this id; the user's number keeps users of one machine apart."""
    return Path(tempfile.gettempdir()) / f"{_folder_prefix()}{run}"


def clean_up(folders: Iterable[Path], *, limit_s: float = LIMIT_S) -> Settled:
    """Settle the ledgers of the runs with these folders, and remove the folders; the runners are gone.

    Of a run whose ledger could not be settled the ledger stays, until it is ``GIVEN_UP_AFTER_S`` old.
    """
    ledgers = {folder: read_ledger(folder / LEDGER_NAME)[1] for folder in folders}
    undone, left = settle((entry for entries in ledgers.values() for entry in entries), limit_s=limit_s)
    unsettled = {entry for one in left for entry in one.entries}
    for folder, entries in ledgers.items():
        undone += _remove_folder(folder) if unsettled.isdisjoint(entries) else _keep_ledger(folder)
    return Settled(undone, left)


def settle(entries: Iterable[Entry], *, limit_s: float = LIMIT_S) -> Settled:
    """Undo everything in ``entries``, in order; each Toxiproxy may take ``limit_s`` seconds for what is its own.

    What is gone already is passed over. What fails does not stop the rest.
    """
    apis: dict[str, _Api] = {}
    undone: list[str] = []
    for entry in entries:
        match entry.undo:
            case Undo.KILL_GROUP:
                undone += _kill_group(entry)
            case Undo.KILL_MARKED:
                undone += _kill_marked(entry.run)
            case Undo.RESUME:
                if host.is_alive(entry.pid, entry.start_ticks):
                    os.kill(entry.pid, signal.SIGCONT)
                    undone.append(f"let process {entry.pid} go on")
            case Undo.DELETE_TOXIC | Undo.ENABLE_PROXY | Undo.DELETE_PROXY:
                if entry.url not in apis:
                    apis[entry.url] = _Api(entry.url, clock.monotonic_s() + limit_s)
                undone += apis[entry.url].undo(entry)
    for api in apis.values():
        api.close()
    return Settled(undone, [left for api in apis.values() if (left := api.unsettled()) is not None])


def heal_leftovers(*, limit_s: float = LIMIT_S) -> Settled:
    """Clean up after runs whose runner and guardian were both killed, and after those that left something undone.

    Runs that are still going on are left alone. Each Toxiproxy may take ``limit_s`` seconds.
    """
    abandoned: list[Path] = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{_folder_prefix()}*")):
        try:
            status = folder.lstat()
        except OSError:
            continue  # Its own guardian was quicker.
        if status.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
            continue  # Only what we could have made ourselves is ours to remove.
        owner, _ = read_ledger(folder / LEDGER_NAME)
        run = folder.name.removeprefix(_folder_prefix())
        if owner is not None and host.is_alive(owner.pid, owner.start_ticks):
            continue
        guarded = any(_is_guardian(pid) for pid in host.marked_processes(run))
        if guarded or (owner is None and _age_s(status.st_mtime) < _UNCLAIMED_AFTER_S):
            continue
        abandoned.append(folder)
    return clean_up(abandoned, limit_s=limit_s)


class _Api:
    """The HTTP API of one Toxiproxy. Once it is gone, or has not answered, it is not asked again: time is short."""

    def __init__(self, url: str, deadline_s: float) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._connection: http.client.HTTPConnection | None = None
        self._gone = False
        self._silent = False
        self._left: list[tuple[Entry, int | None]] = []

    def undo(self, entry: Entry) -> list[str]:
        """Send the request that undoes ``entry``; return what was undone, in words."""
        proxy, toxic = (urllib.parse.quote(name, safe="") for name in (entry.proxy, entry.toxic))
        match entry.undo:
            case Undo.DELETE_TOXIC:
                status = self._send("DELETE", f"/proxies/{proxy}/toxics/{toxic}")
            case Undo.ENABLE_PROXY:
                status = self._send("POST", f"/proxies/{proxy}", b'{"enabled": true}')
            case _:
                status = self._send("DELETE", f"/proxies/{proxy}")
        if self._gone or status == http.HTTPStatus.NOT_FOUND:
            return []
        if status is not None and status < 300:
            return [f"undid the {_what(entry)} at {self._url}"]
        self._left.append((entry, status))
        return []

    def unsettled(self) -> Unsettled | None:
        """Return what could not be undone; None when there is nothing left, as at a Toxiproxy that is gone."""
        if self._gone or not self._left:
            return None
        return Unsettled(url=self._url, status=self._left[0][1], entries=tuple(entry for entry, _ in self._left))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _send(self, method: str, path: str, body: bytes | None = None) -> int | None:
        left_s = self._deadline_s - clock.monotonic_s()
        if self._gone or self._silent or left_s <= 0:
            return None
        try:
            if self._connection is None:
                address = urllib.parse.urlsplit(self._url)
                self._connection = http.client.HTTPConnection(address.hostname or "", address.port or 80)
            self._connection.timeout = left_s
            if self._connection.sock is not None:
                self._connection.sock.settimeout(left_s)
            headers = {
                **token.headers(token.from_environment()),
                **({"Content-Type": "application/json"} if body else {}),
            }
            self._connection.request(method, path, body, headers)
            with self._connection.getresponse() as response:
                response.read(1 << 20)
                return response.status
        except ConnectionRefusedError:
            self._gone = True
        except (OSError, http.client.HTTPException, ValueError):
            self._silent = True
        return None


def _what(entry: Entry) -> str:
    match entry.undo:
        case Undo.DELETE_TOXIC:
            return f"toxic {entry.toxic} on {entry.proxy}"
        case Undo.ENABLE_PROXY:
            return f"closed proxy {entry.proxy}"
        case _:
            return f"proxy {entry.proxy}"


def _kill_group(entry: Entry) -> list[str]:
    # Without its leader a group's number may belong to strangers; what is left of ours carries the run's mark.
    if not host.is_alive(entry.pid, entry.start_ticks):
        return []
    try:
        os.killpg(entry.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return []
    return [f"killed process group {entry.pid}"]


def _kill_marked(run: str) -> list[str]:
    """Kill the run's processes until none is left: one may have started another while we looked."""
    deadline_s = clock.monotonic_s() + _KILL_LIMIT_S
    killed: set[int] = set()
    while (alive := host.marked_processes(run)) and clock.monotonic_s() < deadline_s:
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            except (ProcessLookupError, PermissionError):
                continue
        clock.sleep_blocking(0.01)
    return [f"killed {len(killed)} processes of run {run}"] if killed else []


def _remove_folder(folder: Path) -> list[str]:
    if not folder.name.startswith(_folder_prefix()) or not folder.exists():
        return []
    shutil.rmtree(folder, ignore_errors=True)
    return [f"could NOT remove {folder}"] if folder.exists() else [f"removed {folder}"]


def _keep_ledger(folder: Path) -> list[str]:
    """Remove all of the folder but the ledger, or with it when it is too old."""
    try:
        if _age_s((folder / LEDGER_NAME).stat().st_mtime) > GIVEN_UP_AFTER_S:
            said = f"gave up on a ledger that could not be carried out for {GIVEN_UP_AFTER_S / 86_400:g} days"
            return [said, *_remove_folder(folder)]
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LEDGER_NAME:
                path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass  # Another process cleans up as well, and was quicker.
    return []


def _is_guardian(pid: int) -> bool:
    try:
        return GUARDIAN_PROGRAM.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _age_s(modified_s: float) -> float:
    return datetime.fromisoformat(clock.wall_clock_iso()).timestamp() - modified_s


def _folder_prefix() -> str:
    return f"chaos-{os.getuid()}-"
