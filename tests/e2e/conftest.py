"""What several end-to-end tests start."""

import tempfile

import pytest

from tests.e2e.environments import Harness
from tests.e2e.little_target import assert_nothing_left


@pytest.fixture
def harness(tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    marker = f"CHAOS_TEST={tmp_path}"
    monkeypatch.setenv(*marker.split("=", 1))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield Harness(tmp_path / "target", temporary, marker)
    # The environment has been left: nothing has to be waited for.
    assert_nothing_left(marker, temporary, within_s=0.0)
