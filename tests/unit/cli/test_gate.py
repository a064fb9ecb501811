"""``chaos gate`` up to the moment at which something would be started."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from chaos.cli.gate import chosen, gate, left_out_notes, quick_options
from chaos.errors import UsageError
from chaos.gate.forms import QUICK_FAULT_S, QUICK_RATE_PER_S, QUICK_TOGETHER, Quick, entries_of
from chaos.gate.gate import repeated
from chaos.yamlfile import load_yaml
from tests.unit.gate.building import EXPERIMENTS, shipped

ROOT = EXPERIMENTS.parent

JOBS = shipped("gateway_kill", "oca_outage", "cache_outage", control=True)


def names(*tags: str, without: tuple[str, ...] = ()) -> list[str]:
    return [job.experiment.file.stem for job in chosen(JOBS, tags, without) if not job.is_control]


def test_tags_choose_experiments_and_their_controls():
    assert set(names()) == {"cache_outage", "gateway_kill", "oca_outage"}
    assert names("gateway") == ["gateway_kill"]
    assert set(names("gateway", "oca")) == {"gateway_kill", "oca_outage"}
    assert set(names(without=("oca",))) == {"gateway_kill", "cache_outage"}
    assert names("isolation", without=("cache",)) == ["gateway_kill"]
    assert [job.is_control for job in chosen(JOBS, ("gateway",), ())] == [False, True]


def test_a_tag_that_nobody_has_is_a_mistake_and_so_is_a_choice_of_nothing():
    with pytest.raises(UsageError, match="has the tag 'gatewy', did you mean 'gateway'"):
        chosen(JOBS, ("gatewy",), ())
    with pytest.raises(UsageError, match="no experiment is left"):
        chosen(JOBS, ("gateway",), ("isolation",))


def test_what_is_not_usual_about_the_quick_form_is_in_its_replay():
    assert quick_options(QUICK_RATE_PER_S, QUICK_FAULT_S, QUICK_TOGETHER) == Quick()
    unusual = ("--quick", "--quick-rate", "45.5/s", "--quick-fault", "2.5s", "--quick-together", "1")
    assert quick_options(45.5, 2.5, 1).options == unusual


@pytest.mark.parametrize(
    "option", [("--quick-rate", f"{QUICK_RATE_PER_S:g}/s"), ("--quick-fault", "2s"), ("--quick-together", "1")]
)
def test_what_is_about_the_quick_form_is_refused_without_it(option: tuple[str, str]):
    with pytest.raises(UsageError, match=f"{option[0]}: is about the quick form; add --quick"):
        CliRunner().invoke(gate, [str(EXPERIMENTS), *option], catch_exceptions=False)


def test_rules_that_were_left_out_are_told_with_the_number_of_experiments():
    entries = entries_of(JOBS, Quick())
    (note,) = left_out_notes(entries)
    assert "sps >= 95% of baseline (3 experiments)" in note
    assert left_out_notes(entries_of(JOBS, None)) == []


def test_a_search_is_left_to_the_full_form_and_not_made_for_a_baseline():
    jobs = shipped("play/retry_storm", control=True)
    quick = entries_of(jobs, Quick())
    *_, note = left_out_notes(quick)
    assert "the search for the load that the system no longer recovers from (1 experiment)" in note
    assert not any(entry.job.searches or entry.again.searches for entry in quick)
    (full,) = entries_of(jobs, None)
    assert full.job.searches
    assert not full.control.searches
    assert left_out_notes([full]) == []
    assert [(one.job.searches, one.again.searches) for (one,) in repeated([[full]], 2)] == [(False, False)] * 2


@pytest.mark.parametrize("name", [".github/workflows/resilience.yml", "docs/examples/gitlab-ci.yml"])
def test_the_pipelines_are_yaml_and_their_commands_are_accepted(name: str):
    file = ROOT / name
    load_yaml(file)
    text = re.sub(r"\\?\n +(--)", r" \1", file.read_text())
    commands = re.findall(r"^ *\.venv/bin/chaos gate (.*)$", text, re.MULTILINE)
    assert len(commands) == 2, "the quick form and the full one"
    for command in commands:
        words = shlex.split(command)
        assert {"--junit", "--journal", "--html"} <= set(words)
        gate.make_context("gate", words, parent=click.Context(click.Group("chaos")))
    for action in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"actions/[a-z-]+@v[0-9]+", action)
