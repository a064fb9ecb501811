"""The pytest plugin up to the moment at which something would be started: what it collects, marks, orders and costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.pytest_plugin import is_experiment

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
HELLO = ROOT / "targets/hello"
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch) -> pytest.Pytester:
    """A project with two experiments, a YAML file that is none, and a test of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini(INI)
    pytester.makepyfile(test_own="def test_own(): pass")
    folder = pytester.mkdir("experiments")
    text = (HELLO / "experiment.yaml").read_text().replace("target: .", f"target: {HELLO}")
    text = text.replace("locustfile: ", f"locustfile: {HELLO}/")
    (folder / "slow.yaml").write_text(f"{text}tags: [edge, slow]\n")
    (folder / "dead.yaml").write_text(
        text.replace("kind: latency", "kind: kill")
        .replace("    latency_ms: 2000\n", "")
        .replace("    from: front\n", "")
        + "tags: [crash]\n"
    )
    (folder / "other.yaml").write_text("target: none of ours\n")
    (pytester.mkdir("deploy") / "values.yaml").write_text("replicas: 2\n")
    return pytester


def collected(project: pytest.Pytester, *arguments: str) -> list[str]:
    result = project.runpytest_subprocess("-p", "chaos.pytest_plugin", "--collect-only", "-q", *arguments)
    return [line for line in result.outlines if "::" in line]


def test_a_folder_that_is_named_gives_its_experiments_and_nothing_else(project: pytest.Pytester):
    assert collected(project, "experiments") == ["experiments/dead.yaml::dead", "experiments/slow.yaml::slow"]


def test_a_plain_pytest_collects_no_experiment(project: pytest.Pytester):
    assert collected(project) == ["test_own.py::test_own"]


def test_testpaths_name_folders_too(project: pytest.Pytester):
    project.makeini(f"{INI}testpaths = experiments test_own.py\n")
    assert len(collected(project)) == 3


def test_tags_are_markers_even_where_markers_are_strict(project: pytest.Pytester):
    assert collected(project, "experiments", "--strict-markers", "-m", "edge") == ["experiments/slow.yaml::slow"]


def test_a_tag_that_pytest_has_a_meaning_of_its_own_for_is_no_marker(project: pytest.Pytester):
    file = project.path / "experiments/slow.yaml"
    file.write_text(file.read_text().replace("tags: [edge, slow]", "tags: [edge, xfail, skip, _slow]"))
    assert collected(project, "experiments", "--strict-markers", "-m", "edge") == ["experiments/slow.yaml::slow"]
    assert collected(project, "experiments", "-m", "xfail or skip") == []


def test_controls_are_tests_of_their_own(project: pytest.Pytester):
    assert collected(project, "experiments", "--chaos-control", "-k", "slow") == [
        "experiments/slow.yaml::slow",
        "experiments/slow.yaml::slow-control",
    ]


def test_the_quick_form_puts_those_on_one_start_together_and_controls_last(project: pytest.Pytester):
    names = [one.partition("::")[2] for one in collected(project, "experiments", "--chaos-control", "--chaos-quick")]
    assert names == ["dead", "slow", "dead-control", "slow-control"]


def test_a_mistake_in_a_file_is_a_collection_error_with_its_line(project: pytest.Pytester):
    file = project.path / "experiments/slow.yaml"
    file.write_text(file.read_text().replace("service: greetings", "service: greeting"))
    result = project.runpytest_subprocess("-p", "chaos.pytest_plugin", "experiments")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*slow.yaml:*: faults.0.service: *did you mean 'greetings'?*"])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("target: x\nsteady_state: []\n", True),
        ("# a comment\r\nsteady_state :\r\n  - a >= 1\r\ntarget : x\r\n", True),
        ("target: x\n", False),
        ("steady_state: []\n", False),
        ("spec:\n  target: x\n  steady_state: []\n", False),
        ("", False),
        ("\x00\xff", False),
    ],
)
def test_an_experiment_is_known_by_two_keys_at_the_top(tmp_path: Path, text: str, is_one: bool):
    file = tmp_path / "a.yaml"
    file.write_bytes(text.encode("latin-1"))
    assert is_experiment(file) is is_one
    assert not is_experiment(tmp_path / "none.yaml")


def test_loading_the_plugin_imports_nothing_but_itself():
    code = (
        "import sys, pytest; before = set(sys.modules); import chaos.pytest_plugin; "
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "['chaos', 'chaos.pytest_plugin']"


def test_a_session_without_experiments_imports_none_of_the_rest(project: pytest.Pytester):
    project.makepyfile(
        test_own="""
        import sys

        def test_own():
            heavy = {"chaos.suite", "chaos.gate", "aiohttp", "rich", "ruamel.yaml", "click", "locust"}
            assert heavy & set(sys.modules) == set()
        """
    )
    result = project.runpytest_subprocess("-p", "chaos.pytest_plugin", "-p", "no:locust", "test_own.py", "deploy")
    result.assert_outcomes(passed=1)
