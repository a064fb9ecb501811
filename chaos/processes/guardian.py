"""The guardian: a small process that outlives the runner by a moment and undoes what is left of the run.

It is a program (``guardian_main.py``) in a session of its own. Its standard input is a pipe whose other end only the
runner holds; however the runner ends, the pipe does too. Then the guardian carries out what
``ledger.py`` says is still to be undone - first it kills, then it heals an external Toxiproxy, last it removes the
run's folder - and ends. After a run that ended well there is only the folder to remove. It takes at most ``LIMIT_S``,
even when that Toxiproxy does not answer, and ignores Ctrl-C and the like.

For the case that the guardian was killed as well, the next run (and ``chaos heal``) calls ``heal_leftovers``.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import tempfile
import urllib.parse
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from chaos import clock
from chaos.processes import host
from chaos.processes.ledger import LEDGER_NAME, Entry, Undo, read_ledger
from chaos.proxy import token

GUARDIAN_PROGRAM = "chaos.processes.guardian_main"
LIMIT_S = 1.8
"""Seconds that everything may take together."""
_KILL_LIMIT_S = 0.6
_REQUEST_LIMIT_S = 0.5
_UNCLAIMED_AFTER_S = 60.0
"""Age from which a run's folder without a readable owner counts as left behind."""


def run_folder_path(run: str) -> Path:
    """Return the folder of the run with this id; the user's number keeps users of one machine apart."""
    return Path(tempfile.gettempdir()) / f"{_folder_prefix()}{run}"


def guard(folder: str) -> None:
    """Settle the ledger of the run in ``folder`` and remove the folder; the runner is gone."""
    _, entries = read_ledger(Path(folder) / LEDGER_NAME)
    settle(entries)
    _remove_folder(Path(folder))  # Also when the runner died between making it and writing it down.


def settle(entries: Iterable[Entry], *, limit_s: float = LIMIT_S) -> list[str]:
    """Undo everything in ``entries``, in order, within ``limit_s`` seconds; return what was undone, in words.

    What is gone already is passed over. What fails is reported in words too, and does not stop the rest.
    """
    deadline_s = clock.monotonic_s() + limit_s
    apis: dict[str, _Api] = {}
    told: list[str] = []
    for entry in entries:
        match entry.undo:
            case Undo.KILL_GROUP:
                told += _kill_group(entry)
            case Undo.KILL_MARKED:
                told += _kill_marked(entry.run)
            case Undo.RESUME:
                if host.is_alive(entry.pid, entry.start_ticks):
                    os.kill(entry.pid, signal.SIGCONT)
                    told.append(f"let process {entry.pid} go on")
            case Undo.DELETE_TOXIC | Undo.ENABLE_PROXY | Undo.DELETE_PROXY:
                api = apis.setdefault(entry.url, _Api(entry.url, deadline_s))
                told += api.undo(entry)
            case Undo.REMOVE_FOLDER:
                told += _remove_folder(Path(entry.folder))
    for api in apis.values():
        api.close()
    return told


def heal_leftovers() -> list[str]:
    """Clean up after runs whose runner and guardian were both killed; return what was done, in words.

    Runs that are still going on are left alone.
    """
    told: list[str] = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{_folder_prefix()}*")):
        try:
            status = folder.lstat()
        except OSError:
            continue  # Its own guardian was quicker.
        if status.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
            continue  # Only what we could have made ourselves is ours to remove.
        owner, entries = read_ledger(folder / LEDGER_NAME)
        run = folder.name.removeprefix(_folder_prefix())
        if owner is not None and host.is_alive(owner.pid, owner.start_ticks):
            continue
        guarded = any(_is_guardian(pid) for pid in host.marked_processes(run))
        if guarded or (owner is None and _age_s(status.st_mtime) < _UNCLAIMED_AFTER_S):
            continue
        told += settle(entries)
        told += _remove_folder(folder)
    return told


class _Api:
    """The HTTP API of one Toxiproxy. Once it has not answered, it is not asked again: time is short."""

    def __init__(self, url: str, deadline_s: float) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._connection: http.client.HTTPConnection | None = None
        self._answers = True

    def undo(self, entry: Entry) -> list[str]:
        """Send the request that undoes ``entry``; return what happened, in words."""
        proxy, toxic = (urllib.parse.quote(name, safe="") for name in (entry.proxy, entry.toxic))
        if entry.undo is Undo.DELETE_TOXIC:
            what, status = (
                f"toxic {entry.toxic} on {entry.proxy}",
                self._send("DELETE", f"/proxies/{proxy}/toxics/{toxic}"),
            )
        elif entry.undo is Undo.ENABLE_PROXY:
            what, status = f"closed proxy {entry.proxy}", self._send("POST", f"/proxies/{proxy}", b'{"enabled": true}')
        else:
            what, status = f"proxy {entry.proxy}", self._send("DELETE", f"/proxies/{proxy}")
        if status == 404:
            return []
        if status is not None and status < 300:
            return [f"undid the {what} at {self._url}"]
        return [f"could NOT undo the {what}: the Toxiproxy at {self._url} answered {status or 'nothing'}"]

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _send(self, method: str, path: str, body: bytes | None = None) -> int | None:
        left_s = min(_REQUEST_LIMIT_S, self._deadline_s - clock.monotonic_s())
        if not self._answers or left_s <= 0:
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
        except (OSError, http.client.HTTPException, ValueError):
            self._answers = False
            return None


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


def _is_guardian(pid: int) -> bool:
    try:
        return GUARDIAN_PROGRAM.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _age_s(modified_s: float) -> float:
    return datetime.fromisoformat(clock.wall_clock_iso()).timestamp() - modified_s


def _folder_prefix() -> str:
    return f"chaos-{os.getuid()}-"
