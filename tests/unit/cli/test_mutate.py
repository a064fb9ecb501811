"""``chaos mutate`` before anything is started: the list, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cli.mutate import mutate
from chaos.cli.options import collect_experiments
from chaos.errors import UsageError
from chaos.mutation.model import Fate, Judged, Mutant
from chaos.mutation.parser import load_mutants
from chaos.reports.mutation import mutation_document, mutation_markdown

LIST = "experiments/mutants.yaml"


def run(*arguments):
    return CliRunner().invoke(mutate, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_shipped_list_has_forty_mutants_and_more_and_names_who_should_notice_each():
    done = run("experiments", "--list")
    assert done.exit_code == 0
    *_, last = done.output.strip().splitlines()
    number, _, rest = last.partition(" ")
    assert int(number) >= 40
    assert rest == f"mutants in {LIST}"


def test_the_list_may_be_narrowed_to_the_mutants_whose_names_fit():
    done = run("experiments", "--list", "--only", "fallbacks@store.*")
    total = len(load_mutants(Path(LIST))[0].mutants)
    _, *rows, last = done.output.strip().splitlines()
    assert [row.split()[0] for row in rows] == ["fallbacks@store.subscriber", "fallbacks@store.title"]
    assert last == f"2 of the {total} mutants in {LIST}"


def test_a_list_in_a_usual_terminal_has_the_whole_names_of_protections_and_experiments():
    done = run("experiments", "--list")  # 80 columns, as wherever there is no terminal
    words = {word.strip(",") for line in done.output.splitlines() for word in line.split()}
    mutants = load_mutants(Path(LIST))[0].mutants
    assert {name for mutant in mutants for name in mutant.disable} <= words
    assert {path.stem for mutant in mutants for path in mutant.noticed_by} <= words


KINDS = {
    "isolation",
    "deadlines",
    "bulkheads",
    "breakers",
    "fallbacks",
    "failover",
    "retry_budget",
    "replica_choice",
    "hedging",
    "load_shedding",
    "client_failover",
    "client_probe",
    "client_retry",
    "client_checksum",
    "static_answers",
    "static_ranking",
    "stale_map",
    "health_filtering",
    "key_grace",
}


def test_the_shipped_list_has_all_kinds_of_protection_and_explains_two_survivors_at_most():
    listed, topology = load_mutants(Path(LIST))
    kinds = {name.partition("@")[0] for mutant in listed.mutants for name in mutant.disable}
    assert kinds >= KINDS
    assert kinds <= set(topology.protections)
    assert sum(bool(mutant.survives) for mutant in listed.mutants) <= 2


def test_a_list_of_mutants_is_no_experiment():
    assert Path(LIST) not in collect_experiments([Path("experiments")])


def test_a_pattern_that_fits_no_mutant_is_refused():
    with pytest.raises(UsageError, match=r"no mutant of .* fits"):
        run("experiments", "--only", "nothing@*")


@pytest.mark.parametrize("options", [[], ["--list"]])
def test_what_a_list_sets_must_be_a_key_of_its_experiments_and_listing_says_so_too(tmp_path, options: list[str]):
    experiment = Path("experiments/steering_latency.yaml").resolve()
    (tmp_path / "mutants.yaml").write_text(
        f"target: {Path('targets/playback').resolve()}\nset: {{phases.faulty: 2s}}\n"
        f"mutants: [{{disable: [isolation], noticed_by: [{experiment.with_suffix('')}]}}]\n"
    )
    with pytest.raises(UsageError, match="faulty"):
        run(tmp_path, *options)


@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_a_file_that_could_not_be_written_is_refused_before_the_runs(option: str):
    with pytest.raises(UsageError, match="there is no folder nowhere"):
        run("experiments", option, "nowhere/mutants")


def judged(fate: Fate, **changes: object) -> Judged:
    made = Mutant(disable=("fallbacks@rank",), noticed_by=(), title="Nothing stands in.", survives="")
    return Judged(**{"mutant": made, "fate": fate, "runs": 1, **changes})


def test_the_document_and_the_table_name_the_killer_and_explain_survivors():
    both = [judged(Fate.KILLED, by="slow", reason="too slow | too late"), judged(Fate.SURVIVED)]
    document = mutation_document(both, 3)
    assert (document["score"], document["mutants_listed"]) == (0.5, 3)
    assert [one["fate"] for one in document["mutants"]] == ["killed", "survived"]
    assert document["mutants"][0]["killed_by"] == "slow"
    rows = mutation_markdown(both).splitlines()
    assert rows[2] == "| `fallbacks@rank` | killed | slow | too slow / too late |"
    assert rows[3] == "| `fallbacks@rank` | survived | - | no experiment is meant to notice it |"
