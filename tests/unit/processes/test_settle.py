"""What the guardian does, called directly: with real processes, and Toxiproxies that do not obey."""

import json
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cli.heal import heal
from chaos.errors import EnvironmentFailure
from chaos.processes import guardian, host
from chaos.processes.guardian import clean_up, heal_leftovers, run_folder_path, settle
from chaos.processes.ledger import LEDGER_NAME, Entry, Ledger, Owner, Undo
from chaos.proxy import token
from tests.processes import started, wait_until_ended
from tests.unit.proxy.running import running


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(guardian.tempfile, "gettempdir", lambda: str(tmp_path))


@pytest.fixture
def sleeper():
    """A process in a session of its own that would sleep for long."""
    with started(["sleep", "600"], start_new_session=True) as process:
        yield process


def listening():
    return socket.create_server(("127.0.0.1", 0))


def url_of(server):
    return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent():
    """A Toxiproxy that takes connections and says nothing."""
    with listening() as server:
        yield url_of(server)


@pytest.fixture
def gone():
    """A Toxiproxy that ended."""
    with listening() as server:
        return url_of(server)


@pytest.fixture
def slow():
    """A Toxiproxy that takes a second for one request."""

    def serve(server):
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            time.sleep(1.0)
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with listening() as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield url_of(server)
        thread.join()


def made_folder(run="abc"):
    folder = run_folder_path(run)
    folder.mkdir()
    return folder


def left_behind(*entries, run="abc"):
    """Return the folder of a run that was killed together with its guardian, with these entries in its ledger."""
    folder = made_folder(run)
    ledger = Ledger(folder / LEDGER_NAME, Owner(pid=2**22 + 1, start_ticks=1))
    for entry in entries:
        ledger.add(entry)
    ledger.close()
    return folder


def make_proxy(url, name):
    body = json.dumps({"name": name, "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"}).encode()
    asked = urllib.request.Request(f"{url}/proxies", body, token.headers("open sesame"))
    urllib.request.urlopen(asked, timeout=5).close()


def test_a_group_is_killed_when_its_leader_is_the_one_written_down(sleeper):
    settled = settle([Entry(undo=Undo.KILL_GROUP, pid=sleeper.pid, start_ticks=host.start_ticks(sleeper.pid))])
    assert settled.undone == [f"killed process group {sleeper.pid}"]
    assert sleeper.wait(5) == -signal.SIGKILL


def test_a_pid_that_was_given_to_a_stranger_is_not_touched(sleeper):
    started = host.start_ticks(sleeper.pid)
    assert settle([Entry(undo=Undo.KILL_GROUP, pid=sleeper.pid, start_ticks=started - 1)]) == ([], [])
    assert settle([Entry(undo=Undo.RESUME, pid=sleeper.pid, start_ticks=started - 1)]) == ([], [])
    assert sleeper.poll() is None


def test_every_process_with_the_runs_mark_is_killed_wherever_it_went():
    run = secrets.token_hex(6)
    environment = {**os.environ, host.RUN_VARIABLE: run}
    with subprocess.Popen(["sh", "-c", "setsid sleep 600 & exec sleep 601"], env=environment) as shell:
        try:
            deadline = time.monotonic() + 5
            while len(host.marked_processes(run)) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert settle([Entry(undo=Undo.KILL_MARKED, run=run)]).undone == [f"killed 2 processes of run {run}"]
            assert shell.wait(5) == -signal.SIGKILL
            assert host.marked_processes(run) == []
        finally:
            wait_until_ended(lambda: host.marked_processes(run), within_s=0.0)


def test_a_frozen_process_goes_on(sleeper):
    sleeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
    settle([Entry(undo=Undo.RESUME, pid=sleeper.pid, start_ticks=host.start_ticks(sleeper.pid))])
    assert os.waitid(os.P_PID, sleeper.pid, os.WCONTINUED).si_code == os.CLD_CONTINUED


def test_a_toxiproxy_that_does_not_answer_has_one_limit_for_all_and_delays_no_killing(sleeper, silent):
    entries = [
        Entry(undo=Undo.KILL_GROUP, pid=sleeper.pid, start_ticks=host.start_ticks(sleeper.pid)),
        *(Entry(undo=Undo.DELETE_TOXIC, url=silent, proxy=f"p{i}", toxic="t") for i in range(50)),
        *(Entry(undo=Undo.DELETE_PROXY, url=silent, proxy=f"p{i}") for i in range(50)),
    ]
    begun = time.monotonic()
    settled = settle(entries, limit_s=0.3)
    assert time.monotonic() - begun < 1.0
    assert sleeper.wait(5) == -signal.SIGKILL
    assert settled.undone == [f"killed process group {sleeper.pid}"]
    (left,) = settled.left
    assert left.entries == tuple(entries[1:])
    expected = (
        f"could NOT undo the toxic t on p0 and 99 more: the Toxiproxy at {silent} did not answer in time; "
        "`chaos heal` tries again; when that Toxiproxy ends, nothing is left of it"
    )
    assert str(left) == expected


def test_a_toxiproxy_that_is_slow_has_the_time_that_it_needs(slow):
    folder = left_behind(Entry(undo=Undo.DELETE_PROXY, url=slow, proxy="p"))
    undone, left = clean_up([folder])
    assert (undone, left) == ([f"undid the proxy p at {slow}", f"removed {folder}"], [])


def test_a_toxiproxy_that_is_gone_holds_nothing_any_more(gone):
    folder = left_behind(Entry(undo=Undo.DELETE_PROXY, url=gone, proxy="p"))
    assert clean_up([folder]) == ([f"removed {folder}"], [])
    assert not folder.exists()


def test_what_a_silent_toxiproxy_may_still_hold_stays_written_down_without_data_and_logs(silent):
    folder = left_behind(Entry(undo=Undo.DELETE_PROXY, url=silent, proxy="p"))
    (folder / "logs").mkdir()
    (folder / "logs" / "front-1.log").touch()
    (folder / "launcher.log").touch()
    for _ in range(2):  # every run tries it again, and leaves it as it is
        undone, (left,) = heal_leftovers(limit_s=0.1)
        assert (undone, left.status) == ([], None)
        assert [path.name for path in folder.iterdir()] == [LEDGER_NAME]


def test_what_could_not_be_undone_for_a_week_is_given_up(silent):
    folder = left_behind(Entry(undo=Undo.DELETE_PROXY, url=silent, proxy="p"))
    days_ago = time.time() - 8 * 24 * 3600
    os.utime(folder / LEDGER_NAME, (days_ago, days_ago))
    undone, left = heal_leftovers(limit_s=0.1)
    said = "gave up on a ledger that could not be carried out for 7 days"
    assert (undone, len(left)) == ([said, f"removed {folder}"], 1)
    assert heal_leftovers() == ([], [])


def test_one_silent_toxiproxy_does_not_keep_what_another_run_left_elsewhere(silent, gone):
    kept = left_behind(Entry(undo=Undo.DELETE_PROXY, url=silent, proxy="p"), run="a")
    removed = left_behind(Entry(undo=Undo.DELETE_PROXY, url=gone, proxy="p"), run="b")
    heal_leftovers(limit_s=0.1)
    assert (kept.exists(), removed.exists()) == (True, False)


def test_chaos_heal_without_the_token_says_so_fails_and_can_be_tried_again_with_it(monkeypatch):
    with running("--token", "open sesame") as server:
        left_behind(
            *(Entry(undo=Undo.DELETE_PROXY, url=server.url, proxy=name) for name in ("a.b-1", "a.b-2")),
            Entry(undo=Undo.ENABLE_PROXY, url=server.url, proxy="a.b-1"),
        )
        make_proxy(server.url, "a.b-1")
        monkeypatch.delenv(token.VARIABLE, raising=False)
        with pytest.raises(EnvironmentFailure) as caught:
            CliRunner().invoke(heal, catch_exceptions=False)
        assert caught.value.exit_code == 3
        expected = (
            f"could NOT undo the closed proxy a.b-1 and 2 more: the Toxiproxy at {server.url} answered 401; "
            "set CHAOS_PROXY_TOKEN to its token, and `chaos heal` tries again"
        )
        assert caught.value.details == (expected,)
        monkeypatch.setenv(token.VARIABLE, "open sesame")
        again = CliRunner().invoke(heal, catch_exceptions=False)
        assert (again.exit_code, again.output.splitlines()[:2]) == (
            0,
            [f"undid the closed proxy a.b-1 at {server.url}", f"undid the proxy a.b-1 at {server.url}"],
        )
        assert "nothing to heal" in CliRunner().invoke(heal, catch_exceptions=False).output


def test_no_folder_but_a_runs_own_is_ever_removed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    assert clean_up([precious]) == ([], [])
    assert precious.exists()


def test_what_a_crashed_run_left_is_found_and_cleaned(sleeper):
    folder = left_behind(Entry(undo=Undo.KILL_GROUP, pid=sleeper.pid, start_ticks=host.start_ticks(sleeper.pid)))
    assert heal_leftovers().undone == [f"killed process group {sleeper.pid}", f"removed {folder}"]
    assert heal_leftovers() == ([], [])


def test_a_run_that_goes_on_is_left_alone():
    folder = made_folder()
    Ledger(folder / LEDGER_NAME, Owner(pid=os.getpid(), start_ticks=host.start_ticks(os.getpid()))).close()
    assert heal_leftovers() == ([], [])
    assert folder.exists()


def test_a_folder_without_an_owner_is_left_alone_until_it_is_old():
    folder = made_folder()
    assert heal_leftovers() == ([], [])
    an_hour_ago = folder.stat().st_mtime - 3600
    os.utime(folder, (an_hour_ago, an_hour_ago))
    assert heal_leftovers() == ([f"removed {folder}"], [])


def test_a_link_with_the_name_of_a_run_is_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    run_folder_path("link").symlink_to(elsewhere)
    assert heal_leftovers() == ([], [])
    assert Path(elsewhere / "kept").exists()
