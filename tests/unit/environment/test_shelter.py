"""The shelter of a run: its folder is gone with it, whether the guardian lived to remove it or not."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from chaos.environment.shelter import Shelter
from chaos.processes import host


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


async def test_the_guardian_removes_the_folder():
    shelter = Shelter()
    assert shelter.folder.is_dir()
    await shelter.close()
    assert not shelter.folder.exists()


async def test_without_a_guardian_the_shelter_removes_it_itself():
    shelter = Shelter()
    deadline_s = time.monotonic() + 5.0
    while not (guardians := host.marked_processes(shelter.run)) and time.monotonic() < deadline_s:
        pass  # until it is a process of its own
    os.kill(guardians[0], signal.SIGKILL)
    await shelter.close()
    await shelter.close()
    assert not shelter.folder.exists()
