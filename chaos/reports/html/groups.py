"""An experiment and its control as one thing to look at, and what both say together, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaos.errors import Outcome
from chaos.reports.compare import conclusion
from chaos.reports.deviation import deviation
from chaos.reports.html.documents import outcome, texts, verdict_of
from chaos.reports.html.record import RunRecord
from chaos.verdict.units import figure, plural

_HEADLINES = {
    Outcome.HELD: "It held",
    Outcome.VIOLATED: "It did not hold",
    Outcome.INCONCLUSIVE: "This does not tell",
    Outcome.ERROR: "The environment failed",
    Outcome.INTERRUPTED: "Interrupted",
    None: "Cut off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One experiment, with its control where there is one; or a control without its experiment."""

    run: RunRecord
    control: RunRecord | None = None

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        """Both, or the one."""
        return (self.run,) if self.control is None else (self.run, self.control)

    @property
    def title(self) -> str:
        """The question that was asked, or how many were."""
        parts = self.run.parts
        return f"{plural('experiment', len(parts))} at the same time" if parts else self.run.title

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of both together, as ``chaos run`` gives it; None when it is not known."""
        if self.control is None or self.run.outcome is not Outcome.HELD:
            return self.run.outcome
        return None if self.control.outcome is None else self.run.outcome.beside(self.control.outcome)

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        if self.run.outcome is Outcome.HELD and self.outcome is Outcome.INCONCLUSIVE:
            return "It held, and proves nothing yet"
        if self.run.outcome is Outcome.HELD and self.outcome is None:
            return "It held; its control was cut off"
        if self.run.outcome is Outcome.VIOLATED and self._searched_worse:
            return "It does not recover by itself"
        return _HEADLINES[self.outcome]

    @property
    def _searched_worse(self) -> bool:
        """Whether it was not the run that decided its outcome, but the search for metastability behind it."""
        own = outcome(self.run.verdict, "run_outcome")
        return own is not None and own is not self.run.outcome

    @property
    def sentence(self) -> str:
        """The verdict in a sentence: what was seen, and what the control adds. It claims no more than was measured."""
        run, control = self.run, self.control
        if run.cut_off:
            where = f" in the phase {run.phases[-1][0].replace('_', ' ')}" if run.phases else ""
            return (
                f"The journal ends{where}, after {figure(run.end_s, 's')} of the run, and there is no verdict; what "
                "was seen until then is below. Replay the run for a verdict."
            )
        reasons = texts(run.verdict, "reasons")
        without = f", {deviation(run.disabled, run.changed)}" if run.is_control else ""
        match run.outcome:
            case Outcome.VIOLATED | Outcome.INCONCLUSIVE if self._searched_worse and reasons:
                said = f"{reasons[0][:1].upper()}{_inside(reasons[0])[1:]}"
            case Outcome.HELD:
                said = f"The steady state held through the faults{without}"
            case Outcome.VIOLATED:
                said = f"The steady state did not hold{without}"
                said += f": {_inside(reasons[0])}" if reasons else ""
            case Outcome.INCONCLUSIVE:
                said = "The run does not tell whether the steady state holds"
                said += f": {_inside(reasons[0])}" if reasons else ""
            case Outcome.INTERRUPTED:
                said = "The run was interrupted and healed; it says nothing about the steady state"
            case _:
                said = "The environment failed, and nothing can be said about the system"
                said += f": {_inside(reasons[0])}" if reasons else ""
        if control is not None and control.cut_off:
            return f"{said}. The control's journal ends before its verdict."
        if run.outcome not in {Outcome.HELD, Outcome.VIOLATED}:
            return f"{said}."  # there is nothing that a control could add
        ours = verdict_of(run.verdict)
        theirs = verdict_of(control.verdict) if control is not None else None
        if ours is None or theirs is None:
            return f"{said}."
        together = " ".join(conclusion(ours, theirs))
        return f"{said}. {together[:1].upper()}{together[1:]}."


def pair(runs: Sequence[RunRecord]) -> list[Group]:
    """Put each control beside the experiment it belongs to: the last one before it of the same file and seed."""
    partners: dict[int, RunRecord] = {}
    taken: set[int] = set()
    for at, run in enumerate(runs):
        if not run.is_control:
            continue
        for earlier in range(at - 1, -1, -1):
            other = runs[earlier]
            if other.is_control or earlier in partners or (other.file, other.seed) != (run.file, run.seed):
                continue
            partners[earlier] = run
            taken.add(at)
            break
    return [Group(run=run, control=partners.get(at)) for at, run in enumerate(runs) if at not in taken]


def _inside(sentence: str) -> str:
    """Return a sentence as a part of another one."""
    return sentence.strip().rstrip(".")
