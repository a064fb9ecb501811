"""``chaos run --html`` and ``chaos report`` on a small target, for real: both say the same."""

from __future__ import annotations

import pytest

from tests.e2e.running import chaos

pytestmark = pytest.mark.e2e

SHORT = ("phases.warm_up=1s", "phases.baseline=1s", "phases.fault=2s", "phases.recovery=1s", "recover_within=1s")


def test_the_report_of_a_run_is_the_report_of_its_journal(tmp_path):
    journal, direct, later = (tmp_path / name for name in ("run.jsonl", "direct.html", "later.html"))
    code, output = chaos(
        tmp_path / "tmp", "run", "targets/hello/experiment.yaml", "--seed", "3", "--journal", str(journal),
        "--html", str(direct), *(part for one in SHORT for part in ("--set", one)),
    )  # fmt: skip
    assert code in {0, 1, 4}, output
    code, output = chaos(tmp_path / "tmp", "report", str(journal), "--html", str(later))
    assert code == 0, output
    assert direct.read_bytes() == later.read_bytes()
    page = later.read_text()
    assert "The greeting service becomes slow" in page
    assert 'aria-label="front to greetings: 1 edge, 1 with a fault"' in page
    assert '"title":"availability"' in page


def test_a_report_that_cannot_be_written_is_refused_before_anything_starts(tmp_path):
    code, output = chaos(
        tmp_path / "tmp", "run", "targets/hello/experiment.yaml", "--html", str(tmp_path / "none" / "x.html")
    )
    assert code == 2, output
    assert "there is no folder" in output
    assert "make it, or name a file elsewhere" in output
