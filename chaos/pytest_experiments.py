"""Experiments as pytest's tests: what is collected of a file, and how one after the other is run.

    held          passed
    violated      failed, with the verdict's sentences as the message
    inconclusive  skipped, with its reasons (failed under --chaos-strict)
    error         failed: the environment's doing, in words

Inconclusive is skipped because that is what it is: nothing was tested, neither with a good end nor a bad one. An
expected failure (xfail) would say that somebody knew. All tests of a session share one suite, so that those in a row on
the same target share its start; an interruption heals, and the end of the session stops everything.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from chaos.cli.run import jobs_of
from chaos.environment import Backend
from chaos.errors import Outcome, UsageError
from chaos.gate.forms import Entry, Quick, entries_of, one_by_one, quick_backend
from chaos.gate.gate import Gate, SilentTable
from chaos.jobs import Job
from chaos.reports.gate import GateRow, recovery_in_words, rule_in_words, worst_rule
from chaos.suite import SuiteOptions
from chaos.verdict.model import Verdict


class ExperimentError(Exception):
    """An experiment that did not hold; the message is the verdict's sentences."""


@dataclass(slots=True)
class Running:
    """What a session keeps: the event loop, and the gate with the target that is up."""

    seed: int
    quick: Quick | None
    runner: asyncio.Runner
    gate: Gate | None = None

    def run(self, number: int, entry: Entry, backend: Backend) -> GateRow:
        """Run one entry; Ctrl-C heals what it had broken, and goes on as KeyboardInterrupt."""
        if self.gate is None:
            self.gate = Gate(SuiteOptions(backend=backend), (), table=SilentTable())
        return self.runner.run(self.gate.run_entry(number, entry))

    def close(self) -> None:
        """Stop the target and the load, whatever runs of them."""
        try:
            if self.gate is not None:
                self.runner.run(self.gate.close())
        finally:
            self.runner.close()


_KEY = pytest.StashKey[Running]()


def running_of(config: pytest.Config) -> Running:
    """Return what the session keeps; made when it is first asked for, and closed when the session ends."""
    found = config.stash.get(_KEY, None)
    if found is None:
        seed = config.getoption("chaos_seed")
        found = config.stash[_KEY] = Running(
            seed=seed if seed is not None else random.SystemRandom().randrange(1, 1_000_000),
            quick=Quick() if config.getoption("chaos_quick") else None,
            runner=asyncio.Runner(),
        )
        config.add_cleanup(found.close)
    return found


class ExperimentFile(pytest.File):
    """A file that is an experiment: one test, and one more for its control where that is asked for."""

    def collect(self) -> Iterator[ExperimentItem]:
        """Read the file; mistakes in it are an error of the collection, with their lines."""
        config = self.config
        running = running_of(config)
        control = bool(config.getoption("chaos_control"))
        jobs = jobs_of((self.path,), seed=running.seed, control=control, settings=(), how=[], proxy=Backend.AUTO)
        (entry,) = entries_of(jobs, running.quick)
        for tag in _markers(entry):
            config.addinivalue_line("markers", f"{tag}: experiments with this tag")
        alone = replace(entry, control=None, control_again=None)
        yield self._item(entry.job.experiment.file.stem, alone)
        if entry.control is not None and entry.control_again is not None:
            changed = replace(alone, job=entry.control, again=entry.control_again)
            yield self._item(f"{entry.job.experiment.file.stem}-control", changed)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """Say what is wrong in the file, and nothing of how we found out."""
        if isinstance(excinfo.value, UsageError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args)

    def _item(self, name: str, entry: Entry) -> ExperimentItem:
        item = ExperimentItem.from_parent(self, name=name, entry=entry)
        for tag in _markers(entry):
            item.add_marker(getattr(pytest.mark, tag))
        return item


_OF_PYTEST = frozenset({"skip", "skipif", "xfail", "parametrize", "usefixtures", "filterwarnings"})
"""Markers that mean something to pytest itself: a tag of that name must not skip an experiment, or excuse it."""


def _markers(entry: Entry) -> list[str]:
    """Return the tags that are markers too: all but pytest's own, and those that cannot be one."""
    return [tag for tag in entry.job.experiment.tags if tag not in _OF_PYTEST and not tag.startswith("_")]


class ExperimentItem(pytest.Item):
    """One run of an experiment, or of its control."""

    def __init__(self, *, entry: Entry, **more: Any) -> None:
        super().__init__(**more)
        self.entry = entry

    def runtest(self) -> None:
        """Run it, and say what came of it as a test does."""
        running = running_of(self.config)
        backend = Backend.AUTO
        if running.quick is not None:
            backend = quick_backend(_jobs(self.session.items), Backend.AUTO)
        number = self.session.items.index(self) + 1 if self in self.session.items else 1
        row = running.run(number, self.entry, backend)
        verdict = row.verdict
        self.user_properties += [("seed", verdict.seed), ("replay", verdict.replay), ("outcome", verdict.outcome.value)]
        message = "\n".join(
            [verdict.experiment, *(f"- {reason}" for reason in row.reasons), f"Replay: {verdict.replay}"]
        )
        if self.entry.job.is_control and verdict.outcome is Outcome.HELD:
            raise ExperimentError(f"the control did not fail: {_without(verdict)}\n{message}")
        good = Outcome.VIOLATED if self.entry.job.is_control else Outcome.HELD
        if verdict.outcome is good:
            self.add_report_section("call", "chaos", _account(row))  # pytest -rP shows it
            return
        if verdict.outcome is Outcome.INCONCLUSIVE and not self.config.getoption("chaos_strict"):
            pytest.skip(f"inconclusive: {'; '.join(row.reasons)}")
        raise ExperimentError(f"{verdict.outcome}: {message}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """Show the verdict's sentences, and no traceback of ours."""
        if isinstance(excinfo.value, ExperimentError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return what the report's heading says: the file and the experiment's title."""
        return self.path, None, f"{self.name}: {self.entry.job.experiment.title}"


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the items with the experiments among them so that starts are few; all others keep their places."""
    experiments = [item for item in items if isinstance(item, ExperimentItem)]
    plain = [item for item in experiments if not item.entry.job.is_control]
    controls = [item for item in experiments if item.entry.job.is_control]
    ordered = iter([*one_by_one(plain, _job_of), *one_by_one(controls, _job_of)])
    return [next(ordered) if isinstance(item, ExperimentItem) else item for item in items]


def _job_of(item: ExperimentItem) -> Job:
    return item.entry.job


def _jobs(items: Sequence[pytest.Item]) -> list[Job]:
    return [item.entry.job for item in items if isinstance(item, ExperimentItem)]


def _without(verdict: Verdict) -> str:
    switched_off = ", ".join((*verdict.disabled, *verdict.changed))
    return f"with {switched_off} changed or switched off the steady state held all the same"


def _account(row: GateRow) -> str:
    verdict = row.verdict
    lines = [f"{verdict.outcome}: {rule_in_words(worst_rule(verdict))}, steady again: {recovery_in_words(verdict)}"]
    return "\n".join([*lines, *row.reasons, f"Replay: {verdict.replay}"])
