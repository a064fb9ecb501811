"""A command has the types of its function: ``tests/types/commands.py``, as a type checker sees it."""

from __future__ import annotations

import sys
from pathlib import Path

from mypy import api

ROOT = Path(__file__).resolve().parents[3]


def test_types_survive_and_wrong_calls_are_found(tmp_path):
    arguments = ["--strict", "--cache-dir", str(tmp_path), "--config-file", str(ROOT / "pyproject.toml")]
    version = ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"]
    found, mistakes, status = api.run([*arguments, *version, str(ROOT / "tests/types/commands.py")])
    assert status == 0, found + mistakes
