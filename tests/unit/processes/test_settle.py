"""What the guardian does, called directly: with real processes, and a Toxiproxy that never answers."""

import os
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from chaos.processes import guardian, host
from chaos.processes.guardian import heal_leftovers, run_folder_path, settle
from chaos.processes.ledger import LEDGER_NAME, Entry, Ledger, Owner, Undo


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(guardian.tempfile, "gettempdir", lambda: str(tmp_path))


@pytest.fixture
def sleeper():
    """A process in a session of its own that would sleep for long."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def made_folder(run="abc"):
    folder = run_folder_path(run)
    folder.mkdir()
    return folder


def test_a_group_is_killed_when_its_leader_is_the_one_written_down(sleeper):
    told = settle([Entry(undo=Undo.KILL_GROUP, pid=sleeper.pid, start_ticks=host.start_ticks(sleeper.pid))])
    assert told == [f"killed process group {sleeper.pid}"]
    assert sleeper.wait(5) == -signal.SIGKILL


def test_a_pid_that_was_given_to_a_stranger_is_not_touched(sleeper):
    started = host.start_ticks(sleeper.pid)
    assert settle([Entry(undo=Undo.KILL_GROUP, pid=sleeper.pid, start_ticks=started - 1)]) == []
    assert settle([Entry(undo=Undo.RESUME, pid=sleeper.pid, start_ticks=started - 1)]) == []
    assert sleeper.poll() is None


def test_every_process_with_the_runs_mark_is_killed_wherever_it_went():
    run = secrets.token_hex(6)
    environment = {**os.environ, host.RUN_VARIABLE: run}
    with subprocess.Popen(["sh", "-c", "setsid sleep 600 & exec sleep 601"], env=environment) as shell:
        deadline = time.monotonic() + 5
        while len(host.marked_processes(run)) < 2 and time.monotonic() < deadline:
            pass
        assert settle([Entry(undo=Undo.KILL_MARKED, run=run)]) == [f"killed 2 processes of run {run}"]
        assert shell.wait(5) == -signal.SIGKILL
    assert host.marked_processes(run) == []


def test_a_frozen_process_goes_on(sleeper):
    sleeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
    settle([Entry(undo=Undo.RESUME, pid=sleeper.pid, start_ticks=host.start_ticks(sleeper.pid))])
    assert os.waitid(os.P_PID, sleeper.pid, os.WCONTINUED).si_code == os.CLD_CONTINUED


def test_a_toxiproxy_that_does_not_answer_delays_nothing_else(sleeper):
    folder = made_folder()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        told = settle(
            [
                Entry(undo=Undo.KILL_GROUP, pid=sleeper.pid, start_ticks=host.start_ticks(sleeper.pid)),
                *(Entry(undo=Undo.DELETE_TOXIC, url=url, proxy=f"p{i}", toxic="t") for i in range(50)),
                *(Entry(undo=Undo.DELETE_PROXY, url=url, proxy=f"p{i}") for i in range(50)),
                Entry(undo=Undo.REMOVE_FOLDER, folder=str(folder)),
            ]
        )
        assert time.monotonic() - begun < 1.9
    assert sleeper.wait(5) == -signal.SIGKILL
    assert told[1] == f"could NOT undo the toxic t on p0: the Toxiproxy at {url} answered nothing"
    assert not folder.exists()


def test_a_toxiproxy_that_is_gone_is_no_reason_to_stop():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    folder = made_folder()
    settle(
        [
            Entry(undo=Undo.DELETE_PROXY, url=f"http://127.0.0.1:{port}", proxy="p"),
            Entry(undo=Undo.REMOVE_FOLDER, folder=str(folder)),
        ]
    )
    assert not folder.exists()


def test_no_folder_but_a_runs_own_is_ever_removed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    assert settle([Entry(undo=Undo.REMOVE_FOLDER, folder=str(precious))]) == []
    assert precious.exists()


def test_what_a_crashed_run_left_is_found_and_cleaned(sleeper):
    folder = made_folder()
    ledger = Ledger(folder / LEDGER_NAME, Owner(pid=2**22 + 1, start_ticks=1))
    ledger.add(Entry(undo=Undo.REMOVE_FOLDER, folder=str(folder)))
    ledger.add(Entry(undo=Undo.KILL_GROUP, pid=sleeper.pid, start_ticks=host.start_ticks(sleeper.pid)))
    ledger.close()

    assert heal_leftovers() == [f"killed process group {sleeper.pid}", f"removed {folder}"]
    assert heal_leftovers() == []


def test_a_run_that_goes_on_is_left_alone():
    folder = made_folder()
    Ledger(folder / LEDGER_NAME, Owner(pid=os.getpid(), start_ticks=host.start_ticks(os.getpid()))).close()
    assert heal_leftovers() == []
    assert folder.exists()


def test_a_folder_without_an_owner_is_left_alone_until_it_is_old():
    folder = made_folder()
    assert heal_leftovers() == []
    an_hour_ago = folder.stat().st_mtime - 3600
    os.utime(folder, (an_hour_ago, an_hour_ago))
    assert heal_leftovers() == [f"removed {folder}"]


def test_a_link_with_the_name_of_a_run_is_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    run_folder_path("link").symlink_to(elsewhere)
    assert heal_leftovers() == []
    assert Path(elsewhere / "kept").exists()
