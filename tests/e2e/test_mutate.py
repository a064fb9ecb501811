"""``chaos mutate`` for real: a mutant is killed by its experiment, and a survivor is explained."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chaos.environment import Backend, Environment
from chaos.mutation.parser import load_mutants
from tests.e2e.running import chaos, read_json

pytestmark = pytest.mark.e2e

HELLO = Path("targets/hello").resolve()


def test_a_mutant_is_killed_and_a_survivor_named_and_the_score_decides(tmp_path):
    made = tmp_path / "mutants.yaml"
    made.write_text(
        f"target: {HELLO}\n"
        "set: {phases.baseline: 3s, phases.fault: 4s, phases.recovery: 5s, verdict.max_taken: 100%}\n"
        "mutants:\n"
        f"  - {{disable: [isolation], noticed_by: ['{HELLO / 'experiment'}']}}\n"
        "  - {disable: [isolation@nobody], survives: Nobody of that name is there.}\n"
    )
    document, table = tmp_path / "mutants.json", tmp_path / "mutants.md"
    code, output = chaos(
        tmp_path / "tmp", "mutate", str(made), "--json", str(document), "--markdown", str(table),
    )  # fmt: skip
    assert code == 1, output
    assert "Mutation score 50.0%: 1 of 2 killed" in output
    assert "isolation@nobody survived: Nobody of that name is there." in output
    found = read_json(document)
    assert found["score"] == 0.5
    killed, survived = found["mutants"]
    assert (killed["fate"], killed["killed_by"], killed["runs"]) == ("killed", "experiment", 1)
    assert (survived["fate"], survived["runs"]) == ("survived", 0)
    assert "| `isolation` | killed | experiment |" in table.read_text()


async def test_every_command_in_the_shipped_list_is_one_that_the_target_has():
    listed, topology = load_mutants(Path("experiments"))
    named = {command for mutant in listed.mutants for name in mutant.disable if (command := name.partition("@")[2])}
    there: set[str] = set()
    async with Environment(topology, emit=lambda _: None, backend=Backend.EMBEDDED) as environment:
        await environment.start_target(seed=1)
        async with asyncio.timeout(20):
            while not named <= there:  # a service that is busy is not waited for
                states = await environment.isolation_states()
                there |= {part for one in states for part in (one.command, one.command.partition("[")[0])}
