"""Lists of mutants: what is read, and what is said about wrong ones, with the line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from chaos.errors import UsageError
from chaos.mutation.parser import load_mutants

TOPOLOGY = """
name: shop
services:
  front: {command: [front], port: 7000}
clients: {users: {calls: [front]}}
protections: {fallbacks: Something else answers., deadlines: Calls are cut off.}
metrics:
  availability: {title: Availability, measure: share, of: request, unit: "%"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    (tmp_path / "slow.yaml").write_text("title: slow")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "dead.yml").write_text("title: dead")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "mutants.yaml").write_text(textwrap.dedent(text))
    return folder


def problems_of(folder: Path) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load_mutants(folder)
    return [f"{one.line}: {one.key}: {one.message}" for one in caught.value.problems]


def test_a_whole_list_is_read(folder):
    listed, topology = load_mutants(
        write(
            folder,
            """\
            target: topology.yaml
            set: {phases.warm_up: 2s}
            mutants:
              - {disable: [fallbacks@rank], noticed_by: [slow, deep/dead.yml]}
              - disable: [deadlines, fallbacks]
                survives: |
                  It is only
                  work that is lost.
            """,
        )
    )
    assert topology.name == "shop"
    assert listed.changes == {"phases.warm_up": "2s"}
    first, second = listed.mutants
    assert (first.name, first.title) == ("fallbacks@rank", "rank: Something else answers.")
    assert first.noticed_by == (folder / "slow.yaml", folder / "deep" / "dead.yml")
    assert (second.name, second.noticed_by) == ("deadlines + fallbacks", ())
    assert second.survives == "It is only work that is lost."
    assert load_mutants(folder / "mutants.yaml")[0] == listed


def test_every_mistake_is_told_with_its_line(folder):
    write(
        folder,
        """\
        target: topology.yaml
        mutants:
          - {disable: [fallback@rank], noticed_by: [slow]}
          - {disable: [deadlines], noticed_by: [slwo]}
          - {disable: [fallbacks]}
          - {disable: [deadlines], survives: why}
          - {noticed_by: [slow], because: x}
        """,
    )
    said = problems_of(folder)
    assert "3: mutants.0.disable" in said[0]
    assert "did you mean 'fallbacks'" in said[0]
    assert said[1].startswith("4: mutants.1.noticed_by: there is no experiment")
    assert said[2].startswith("5: mutants.2.noticed_by: missing; the experiments that should fail")
    assert said[3] == "6: mutants.3.disable: deadlines stands in the list twice"
    assert any("unknown key" in one for one in said[4:])
    assert any("mutants.4.disable: missing" in one for one in said[4:])


def test_a_folder_without_a_list_and_a_target_that_is_not_there_are_told(folder):
    with pytest.raises(UsageError, match=r"mutants\.yaml"):
        load_mutants(folder)
    write(folder, "target: nowhere\nmutants: [{disable: [deadlines], survives: why}]\n")
    assert "there is no" in problems_of(folder)[0]
