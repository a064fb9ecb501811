"""A run may be started from any folder."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e.running import FAST, ROOT

pytestmark = pytest.mark.e2e


@pytest.mark.alone
def test_an_experiment_runs_from_another_folder(tmp_path):
    """The target's modules and the locustfile's imports are found from where the files are."""
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "run", str(ROOT / "experiments/gateway_kill.yaml"), "--seed", "2", *FAST],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
