"""The shelter of a run: a folder of its own, the ledger in it, and the guardian that cleans up whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
from pathlib import Path

import chaos
from chaos import clock
from chaos.errors import EnvironmentFailure
from chaos.processes import host
from chaos.processes.guardian import GUARDIAN_PROGRAM, LIMIT_S, clean_up, run_folder_path
from chaos.processes.ledger import LEDGER_NAME, Entry, Ledger, Owner, Undo

_GUARDIAN_START = (
    f"import sys; sys.path.append({str(Path(chaos.__file__).parents[1])!r}); "
    f"from {GUARDIAN_PROGRAM} import main; main()"
)
"""It needs the standard library and this package alone; without ``site`` (-S) it starts in half the time."""


class Shelter:
    """Everything that must not outlive a run is written down here; ``close`` undoes what is left of it.

    Raises EnvironmentFailure when the folder cannot be made.
    """

    def __init__(self) -> None:
        self.run = secrets.token_hex(6)
        """The run's id; all its processes carry it in the variable CHAOS_RUN."""
        self.folder: Path = run_folder_path(self.run)
        # The guardian first: from here on the folder cannot be left behind, killed as we may be.
        self._guardian = subprocess.Popen(
            [sys.executable, "-S", "-P", "-c", _GUARDIAN_START, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, host.RUN_VARIABLE: self.run},
            start_new_session=True,
        )
        try:
            self.folder.mkdir(mode=0o700)
            own_pid = os.getpid()
            self._ledger = Ledger(self.folder / LEDGER_NAME, Owner(pid=own_pid, start_ticks=host.start_ticks(own_pid)))
        except OSError as error:
            self._let_guardian_act()
            self._guardian.wait()
            raise EnvironmentFailure(
                f"cannot make the run's folder {self.folder}: {error.strerror}; "
                "TMPDIR may name another place, on a disk with some room"
            ) from error
        self._ledger.add(Entry(undo=Undo.KILL_MARKED, run=self.run))

    def promise(self, entry: Entry) -> int:
        """Write down what has to be undone, before it is done; returns the number for ``kept``."""
        return self._ledger.add(entry)

    def promise_kill(self, pid: int) -> int:
        """Write down a process group that has to be killed."""
        return self._ledger.add(Entry(undo=Undo.KILL_GROUP, pid=pid, start_ticks=host.start_ticks(pid)))

    def kept(self, number: int) -> None:
        """Note that what was promised is undone."""
        self._ledger.done(number)

    async def close(self) -> None:
        """Have the guardian undo what is left and remove the folder. May be called twice."""
        self._ledger.close()
        self._let_guardian_act()
        deadline_s = clock.monotonic_s() + LIMIT_S + 1.5  # a moment more, for killing and for removing
        while self._guardian.poll() is None and clock.monotonic_s() < deadline_s:  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.002)
        if self._guardian.poll() is None:
            self._guardian.kill()
            self._guardian.wait()
        if self._guardian.returncode != 0:
            # The guardian did not live to do its work, so we do it.
            await asyncio.to_thread(clean_up, [self.folder])

    def _let_guardian_act(self) -> None:
        assert self._guardian.stdin is not None
        with contextlib.suppress(OSError):
            self._guardian.stdin.close()
