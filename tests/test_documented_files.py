"""YAML blocks of the documents are read as (a part of) the file that they belong to; quoted files are the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.experiment.tables import EXPERIMENT
from chaos.fields import Table
from chaos.mutation.parser import LIST
from chaos.topology.tables import TOPOLOGY
from chaos.yamlfile import parse_yaml
from tests.documents import DOCUMENTS, ROOT, blocks, ran


@dataclass(frozen=True, kw_only=True)
class Form:
    """A kind of file that YAML blocks are parts of, and what the rest of such a file may be."""

    noun: str
    table: Table
    file_name: str
    command: tuple[str, ...]
    rest: dict[str, str]


FORMS = (
    Form(
        noun="an experiment",
        table=EXPERIMENT,
        file_name="part.yaml",
        command=("validate",),
        rest={
            "title": "A part of a document",
            "target": "../targets/playback",
            "load": "{locustfile: ../locustfiles/playback.py, rate: 30/s}",
            "faults": "[{kind: latency, service: steering, latency_ms: 100}]",
            "steady_state": "[playback_availability >= 99%]",
            "recover_within": "5s",
        },
    ),
    Form(
        noun="a topology",
        table=TOPOLOGY,
        file_name="topology.yaml",
        command=("validate",),
        rest={
            "name": "shop",
            "clients": "{users: {calls: [front]}}",
            "services": "{front: {command: [front]}}",
        },
    ),
    Form(
        noun="a list of mutants",
        table=LIST,
        file_name="part.yaml",
        command=("mutate", "--list"),
        rest={
            "target": "../targets/playback",
            "mutants": "[{disable: [isolation], noticed_by: [steering_latency]}]",
        },
    ),
)

WITH_NEW_FAULTS = """
import chaos.faults.registry as registry
made = [one for one in list(globals().values()) if isinstance(one, type) and "kind" in vars(one)]
registry.FAULTS = {**registry.FAULTS, **{one.kind: one for one in made}}
from chaos.cli.main import main
main()
"""
"""Behind Python blocks with classes of faults: what adding their rows to the table comes to, and ``chaos``."""


def yaml_blocks() -> list[tuple[Path, str]]:
    return [(document, block) for document in DOCUMENTS for block in blocks(document, "yaml")]


def keys_of(block: str) -> list[str]:
    return [entry.key for entry in parse_yaml(block, source="a block").entries]


@pytest.mark.parametrize(
    ("document", "block"), yaml_blocks(), ids=[f"{path.name}-{'-'.join(keys_of(text))}" for path, text in yaml_blocks()]
)
def test_a_yaml_block_is_read_as_a_part_of_the_one_file_that_has_its_keys(tmp_path: Path, document: Path, block: str):
    keys = keys_of(block)
    forms = [form for form in FORMS if set(keys) <= set(form.table.fields)]
    assert len(forms) == 1, (
        f"{document.name}: {keys} must be keys of exactly one of {', '.join(form.noun for form in FORMS)}; correct the "
        "block, add a key that tells which file it is from, or add the new kind of file to FORMS"
    )
    form = forms[0]
    folder = tmp_path / "experiments"
    folder.mkdir()
    for path in [*(ROOT / "experiments").iterdir(), ROOT / "targets", ROOT / "locustfiles"]:
        (tmp_path / path.relative_to(ROOT)).symlink_to(path)
    (folder / "locustfile.py").touch()
    file = folder / form.file_name
    file.write_text(block + "".join(f"{key}: {value}\n" for key, value in form.rest.items() if key not in keys))
    new_faults = [text for text in blocks(document, "python") if "kind: ClassVar" in text]
    program = ("-c", "".join(new_faults) + WITH_NEW_FAULTS) if new_faults else ("-m", "chaos")
    done = ran(*program, *form.command, str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_quoted_yaml_files_are_the_files():
    quoted = blocks(ROOT / "README.md", "yaml")
    for path in ("experiments/steering_latency.yaml", "targets/hello/topology.yaml"):
        assert (ROOT / path).read_text() in quoted, f"README.md quotes {path} as it was"
