"""The house rules that a machine can check: layers, clocks, randomness, sizes, words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "chaos.errors",
        "chaos.events",
        "chaos.clock",
        "chaos.groups",
        "chaos.samples",
        "chaos.units",
        "chaos.yamlfile",
        "chaos.fields",
        "chaos.kinds",
    ),
    ("chaos.statistics",),
    (
        "chaos.topology",
        "chaos.experiment",
        "chaos.faults",
        "chaos.proxy.toxics",
        "chaos.verdict",
        "chaos.mutation",
        "chaos.metastability",
        "chaos.jobs",
    ),
    ("chaos.environment", "chaos.machine", "chaos.processes", "chaos.proxy", "chaos.load", "chaos.reports"),
    ("chaos.runner", "chaos.suite", "chaos.standing", "chaos.searching", "chaos.beside"),
    ("chaos.gate",),
    ("chaos.cli", "chaos.__main__", "chaos.pytest_plugin", "chaos.pytest_experiments"),
)
"""From the bottom to the top; a module imports its own layer and those below."""

PURE = (
    "chaos.errors",
    "chaos.events",
    "chaos.fields",
    "chaos.groups",
    "chaos.kinds",
    "chaos.samples",
    "chaos.units",
    "chaos.statistics",
    "chaos.topology",
    "chaos.experiment",
    "chaos.faults",
    "chaos.proxy.toxics",
    "chaos.verdict",
    "chaos.mutation",
    "chaos.metastability",
    "chaos.jobs",
    "chaos.gate.together",
)
"""Modules and packages that do no IO, read no clock and hold no randomness of their own."""

READERS = ("chaos.topology.parser", "chaos.experiment.parser", "chaos.experiment.target", "chaos.mutation.parser")
"""The modules of pure packages that are not: they read the files that people write, or have them read."""

COMPUTING = re.compile(
    "__future__|abc|array|collections|dataclasses|decimal|difflib|enum|fnmatch|functools|hashlib|itertools|json|math|re|"
    "statistics|types|typing"
)
"""What pure modules may import as a whole: nothing in it reaches outside."""

PARTS = (
    "asyncio.gather",
    "http.HTTPStatus",
    "inspect.get_annotations",
    "pathlib.Path",
    "pathlib.PurePath",
    "random.Random",
)
"""What pure modules may use of those that reach outside otherwise."""

OPENING = {"chaos.yamlfile.load_yaml", "chaos.yamlfile.is_there"}
"""What they may not use of ``chaos.yamlfile``: the rest are nodes, and a parser of texts."""

REACHING = {"open", "print", "input", "exec", "eval", "compile", "breakpoint", "__import__"}
"""Builtins that pure modules do not call."""

ON_DISK = re.compile(
    "absolute|chmod|cwd|exists|expanduser|glob|hardlink_to|home|is_(dir|file|mount|symlink)|iterdir|lstat|mkdir|open|owner|"
    "(read|write)_(bytes|text)|readlink|rename|resolve|rglob|rmdir|samefile|stat|symlink_to|unlink|walk"
)
"""Methods of a ``Path`` that look at the disk; pure modules call nothing of such a name."""

LOCUSTS_OWN = (
    "chaos.load.dispatcher",
    "chaos.load.http",
    "chaos.load.plugin",
    "chaos.load.station",
    "chaos.load.visit",
    "chaos.load.visits",
)
"""Modules that run in Locust's processes alone."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(module: str, packages: tuple[str, ...]) -> bool:
    """Whether it is one of these, or in one, or a name in one."""
    return any(module == one or module.startswith(one + ".") for one in packages)


def known_names(tree: ast.AST) -> dict[str, str]:
    """What is imported, by the name that it has in the module: ``monotonic`` may be ``time.monotonic``."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def whole_name(node: ast.AST, known: dict[str, str]) -> str | None:
    """The name of something imported, from its module on; None for everything else."""
    if isinstance(node, ast.Attribute):
        before = whole_name(node.value, known)
        return None if before is None else f"{before}.{node.attr}"
    return known.get(node.id) if isinstance(node, ast.Name) else None


def uses_of(path: Path) -> list[tuple[int, str]]:
    """Every import, and every use of a part of what is imported, by its whole name, however the module calls it."""
    tree = ast.parse(path.read_text())
    known = known_names(tree)
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Attribute) and (name := whole_name(node, known)):
            found.append((node.lineno, name))
    return found


def calls_of(path: Path) -> list[tuple[int, str]]:
    return [
        (node.lineno, ast.unparse(node.func))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def layer_of(module: str) -> int | None:
    best: tuple[int, int] | None = None
    for level, members in enumerate(LAYERS):
        for member in members:
            if (module == member or module.startswith(member + ".")) and (best is None or len(member) > best[0]):
                best = (len(member), level)
    return None if best is None else best[1]


def test_every_module_of_the_framework_has_a_layer():
    unplaced = [
        module_name(path)
        for path in sources("chaos")
        if layer_of(module_name(path)) is None
        and module_name(path) != "chaos"
        and not module_name(path).startswith("chaos.resilience")
    ]
    assert unplaced == []


def test_imports_point_down():
    wrong = []
    for path in sources("chaos"):
        name = module_name(path)
        level = layer_of(name)
        if level is None:
            continue
        for imported in imports_of(path):
            other = layer_of(imported)
            if other is not None and other > level:
                wrong.append(f"{name} imports {imported}, which is above it")
    assert wrong == []


def test_the_framework_never_imports_a_target():
    wrong = [
        f"{module_name(path)} imports {imported}"
        for path in sources("chaos")
        for imported in imports_of(path)
        if imported.split(".")[0] in {"targets", "locustfiles"}
    ]
    assert wrong == []


def test_resilience_stands_alone():
    """It imports nothing of the rest, and importing it brings in no command line, Locust, YAML or aiohttp."""
    wrong = [
        f"{module_name(path)} imports {imported}"
        for path in sources("chaos/resilience")
        for imported in imports_of(path)
        if imported.startswith("chaos.") and not imported.startswith("chaos.resilience")
    ]
    assert wrong == []
    heavy = {"click", "locust", "ruamel", "rich", "requests", "gevent", "aiohttp"}
    code = f"import sys, chaos.resilience; print(sorted({heavy!r} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"


def test_targets_use_only_resilience_and_the_bottom_layer():
    allowed = ("chaos.resilience", "chaos.topology.model", "chaos.topology.wire", *LAYERS[0])
    wrong = [
        f"{module_name(path)} imports {imported}"
        for path in sources("targets")
        for imported in imports_of(path)
        if imported.startswith("chaos.") and not any(imported == ok or imported.startswith(ok + ".") for ok in allowed)
    ]
    assert wrong == []


def is_pure(module: str) -> bool:
    return within(module, PURE) and not within(module, READERS)


def may_be_used(name: str) -> bool:
    if COMPUTING.fullmatch(name.partition(".")[0]) or is_pure(name) or within(name, PARTS):
        return True
    return any(within(part, (name,)) for part in PARTS) or (within(name, ("chaos.yamlfile",)) and name not in OPENING)


def outward_calls(path: Path) -> list[tuple[int, str]]:
    """Calls that reach for a file, the terminal or a random number that no seed decides."""
    tree = ast.parse(path.read_text())
    known = known_names(tree)
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        unseeded = whole_name(node.func, known) == "random.Random" and not given
        handed_on = any(whole_name(value, known) == "random.Random" for value in given)
        builtin = isinstance(node.func, ast.Name) and node.func.id in REACHING
        on_disk = isinstance(node.func, ast.Attribute) and ON_DISK.fullmatch(node.func.attr)
        if unseeded or handed_on or builtin or on_disk:
            found.append((node.lineno, ast.unparse(node)))
    return found


def test_pure_modules_do_no_io_read_no_clock_and_hold_no_randomness():
    """They import what only computes and what is pure itself, and single parts of a few others.

    A ``Path`` is a value to them: put together and taken apart, never looked up. A ``Random`` is handed in or made of a
    seed. ``gather`` waits for what others do: faults and toxics work on a world and on bytes that are handed in.
    """
    pure = [path for path in sources("chaos") if is_pure(module_name(path))]
    assert {name for name in PURE if not any(within(module_name(path), (name,)) for path in pure)} == set()
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {said}"
        for path in pure
        for line, said in [*(use for use in uses_of(path) if not may_be_used(use[1])), *outward_calls(path)]
    ]
    assert wrong == []


def test_clocks_are_read_in_one_place():
    """Framework code asks ``chaos.clock``; services and the isolation layer ask their event loop."""
    banned = re.compile(r"time(\..*)?|datetime\.(datetime\.(now|utcnow|today)|date\.today)")
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources("chaos", "targets", "locustfiles")
        if path != ROOT / "chaos/clock.py"
        for line, name in uses_of(path)
        if banned.fullmatch(name)
    ]
    wrong += [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources("chaos/resilience", "targets")
        for line, name in uses_of(path)
        if within(name, ("chaos.clock",))
    ]
    assert wrong == []


def test_services_and_isolation_use_no_threads_and_no_global_randomness():
    banned = re.compile(
        r"random\.(?!(Random|SystemRandom)\b).*|(threading|_thread|concurrent\.futures)(\..*)?|asyncio\.to_thread"
        r"|.*\brun_in_executor"
    )
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources("targets", "chaos/resilience")
        for line, name in [*uses_of(path), *calls_of(path)]
        if banned.fullmatch(name)
    ]
    assert wrong == []


def test_only_the_control_imports_toxiproxy_python():
    importing = {
        module_name(path)
        for path in sources("chaos", "targets", "locustfiles", "benchmarks")
        if any(within(imported, ("toxiproxy",)) for imported in imports_of(path))
    }
    assert importing == {"chaos.proxy.control"}


def test_only_locusts_processes_import_locust():
    """Nor what runs in them, nor gevent; and no command or pytest plugin brings it in with what it imports."""
    wrong = [
        f"{module_name(path)} imports {imported}"
        for path in sources("chaos", "targets", "benchmarks")
        if module_name(path) not in LOCUSTS_OWN and path.name != "locustfile.py"
        for imported in imports_of(path)
        if within(imported, ("locust", "gevent", "geventhttpclient", *LOCUSTS_OWN))
    ]
    assert wrong == []
    code = (
        "import sys, chaos.pytest_plugin, chaos.pytest_experiments; from chaos.cli.main import cli\n"
        "for name in cli.list_commands(None): cli.get_command(None, name)\n"
        "print(sorted({'locust', 'gevent', 'geventhttpclient'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"


def test_servers_bind_to_loopback():
    """Whatever listens names its address, and the address is not "every interface"."""
    listening = re.compile(r"(^|\.)(start_server|create_server|TCPSite|run_app|bind)$")
    wrong = []
    for path in sources("chaos", "targets", "locustfiles", "benchmarks"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and listening.search(ast.unparse(node.func))):
                continue
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            flat = [part for value in given for part in getattr(value, "elts", [value])]
            constants = {part.value for part in flat if isinstance(part, ast.Constant)}
            in_a_pair = bool(node.args) and isinstance(node.args[0], ast.Tuple)
            named = (
                in_a_pair
                or len(node.args) >= 2
                or any(keyword.arg in {"host", "sock", "path"} for keyword in node.keywords)
            )
            if constants & {"0.0.0.0", "::", ""} or not (named or ast.unparse(node.func).endswith("bind")):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert wrong == []


@pytest.mark.parametrize("path", sources("chaos", "targets", "locustfiles"), ids=module_name)
def test_a_module_says_its_idea_and_stays_small(path: Path):
    text = path.read_text()
    if not text.strip():
        return
    assert ast.get_docstring(ast.parse(text)), "the first sentence of the docstring names the module's one idea"
    assert len(text.splitlines()) <= 450, "one module, one idea: split it"


def test_nothing_is_left_unfinished():
    words = re.compile("TO" + "DO|FIX" + "ME|X" + "XX|NotImplemented" + "Error")
    wrong = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in sources("chaos", "targets", "locustfiles", "benchmarks", "tests")
        for match in words.finditer(path.read_text())
    ]
    assert wrong == []
