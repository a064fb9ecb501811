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
    "chaos.topology.model",
    "chaos.experiment.model",
    "chaos.experiment.plan",
    "chaos.faults",
    "chaos.statistics",
    "chaos.verdict",
    "chaos.mutation.model",
    "chaos.mutation.trial",
    "chaos.metastability",
    "chaos.proxy.toxics",
    "chaos.jobs",
    "chaos.gate.together",
)
"""Modules that do no IO, read no clock and hold no randomness of their own."""

IO_MODULES = {
    "socket",
    "subprocess",
    "asyncio.subprocess",
    "aiohttp",
    "requests",
    "threading",
    "select",
    "time",
    "os",
    "toxiproxy",
}


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


def test_pure_modules_do_no_io():
    wrong = [
        f"{name} imports {imported}"
        for path in sources("chaos")
        if (name := module_name(path)).startswith(PURE)
        for imported in imports_of(path)
        if imported in IO_MODULES
    ]
    assert wrong == []


def _calls(path: Path) -> list[tuple[int, str]]:
    return [
        (node.lineno, ast.unparse(node.func))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def test_clocks_are_read_in_one_place():
    """Framework code asks ``chaos.clock``; services and the isolation layer ask their event loop."""
    banned = re.compile(r"^(time\.(time|monotonic|perf_counter|sleep)|datetime\.(now|utcnow)|datetime\.datetime\.now)$")
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {call}"
        for path in sources("chaos", "targets", "locustfiles")
        if path != ROOT / "chaos/clock.py"
        for line, call in _calls(path)
        if banned.match(call)
    ]
    assert wrong == []


def test_services_and_isolation_use_no_threads_and_no_global_randomness():
    banned = re.compile(r"^(random\.(?!Random$|SystemRandom$)\w+|threading\.\w+|asyncio\.to_thread|.*run_in_executor)$")
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {call}"
        for path in sources("targets", "chaos/resilience")
        for line, call in _calls(path)
        if banned.match(call)
    ]
    assert wrong == []


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
