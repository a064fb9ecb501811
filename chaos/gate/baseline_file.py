"""The file ``resilience-baseline.json``: read strictly, written so that a change of it is a short diff.

::

    {
      "version": 1,
      "limits": {"alpha": 0.01, "recovery_s": 1.0, "share": 0.01, "share_together": 0.002},
      "experiments": {
        "edge/bad_release.yaml": {
          "quick": {
            "recovery_s": {"runs": [0.0, 0.0, 0.25], "spread": 0.1443},
            "rules": {
              "playback_availability >= 99.5%": {
                "attempts": [233, 229, 231], "measured": [1.0, 1.0, 0.9957], ...

Experiments are named by their path from the file's folder. ``spread`` is the standard deviation between runs; it is
there for people, and not read.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeVar

from chaos.errors import UsageError
from chaos.gate.baseline import Figures, Limits, ResilienceBaseline, RuleFigures, spread

T = TypeVar("T")

FILE_NAME = "resilience-baseline.json"
VERSION = 1
BYTES_MAX = 16 * 1024 * 1024
RUNS_MAX = 100
_HOW = "restore it, or delete it and make it anew with chaos gate ... --update-baseline"
_DIGITS = 6
_NUMBERS = re.compile(r"\[\s+([^\[\]{}\"]*?)\s+\]")


def find(paths: Sequence[Path]) -> Path | None:
    """Return the baseline beside the experiments at these paths, or in the working folder; None when there is none."""
    return next((file for file in [folder / FILE_NAME for folder in _folders(paths)] if file.exists()), None)


def place_for(paths: Sequence[Path]) -> Path:
    """Return where a new baseline is written: beside the experiments."""
    return _folders(paths)[0] / FILE_NAME


def name_of(experiment: Path, baseline: Path) -> str:
    """Return how the baseline's file names an experiment."""
    return Path(os.path.relpath(experiment.resolve(), baseline.resolve().parent)).as_posix()


def read(file: Path) -> ResilienceBaseline:
    """Read the file. Raises UsageError, with the place of what is wrong in it, for one that is none or is damaged."""
    try:
        size = file.stat().st_size
        if size > BYTES_MAX:
            raise UsageError(f"{file}: no resilience baseline: larger than {BYTES_MAX} bytes")
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as failure:
        raise UsageError(
            f"{file}: the resilience baseline cannot be read: {failure.strerror}; make one with chaos gate ... "
            "--update-baseline"
        ) from failure
    except (ValueError, RecursionError) as failure:
        raise UsageError(
            f"{file}: the resilience baseline is not JSON ({failure}); restore it, or make it anew"
        ) from None
    try:
        return _baseline(document)
    except ValueError as failure:
        raise UsageError(
            f"{file}: {failure}; restore it, or make it anew with chaos gate ... --update-baseline"
        ) from None


def write(file: Path, baseline: ResilienceBaseline) -> None:
    """Write the file in one step. Raises UsageError when that is not possible."""
    draft = file.with_name(f"{file.name}.draft")
    try:
        draft.write_text(to_text(baseline), encoding="utf-8")
        draft.replace(file)
    except OSError as failure:
        raise UsageError(f"{file}: cannot be written: {failure.strerror}") from failure


def to_text(baseline: ResilienceBaseline) -> str:
    """Return the text of the file: keys sorted, numbers rounded, the runs of one figure on one line."""
    document = {
        "version": VERSION,
        "limits": asdict(baseline.limits),
        "experiments": {
            name: {form: _figures_document(figures) for form, figures in forms.items()}
            for name, forms in baseline.experiments.items()
        },
    }
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    return _NUMBERS.sub(lambda match: f"[{' '.join(match.group(1).split())}]", text) + "\n"


def _figures_document(figures: Figures) -> dict[str, object]:
    return {
        "recovery_s": {"runs": _rounded(figures.recovery_s), "spread": _spread(figures.recovery_s)},
        "rules": {
            text: {
                "metric": rule.metric,
                "unit": rule.unit,
                "share": rule.share,
                "attempts": list(rule.attempts),
                "measured": _rounded(rule.measured),
                "spread": _spread(rule.measured),
            }
            for text, rule in figures.rules.items()
        },
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, _DIGITS) for value in values]


def _spread(values: Sequence[float]) -> float | None:
    between = spread(_rounded(values))  # of what is written, so that reading and writing changes nothing
    return None if between is None else round(between, _DIGITS)


def _folders(paths: Sequence[Path]) -> list[Path]:
    return [*dict.fromkeys(path if path.is_dir() else path.parent for path in paths), Path()]


# -- reading ----------------------------------------------------------------------------------------------------------


def _baseline(document: object) -> ResilienceBaseline:
    match document:
        case {"version": int(version), **_rest} if version != VERSION:
            raise ValueError(f"a resilience baseline of version {version}, and this chaos reads version {VERSION}")
        case {"version": int(), "experiments": dict(experiments), **rest}:
            return ResilienceBaseline(
                experiments=_mapping(experiments, "experiments", _forms), limits=_limits(rest.get("limits", {}))
            )
        case _:
            raise ValueError("is no resilience baseline: it has no version with experiments")


def _limits(document: object) -> Limits:
    names = [one.name for one in fields(Limits)]
    if not isinstance(document, dict) or not set(document) <= set(names):
        raise ValueError(f"limits: only {', '.join(names)} can stand here")
    limits = Limits(**{name: _number(value, f"limits.{name}") for name, value in document.items()})
    if not 0.0 < limits.alpha < 0.5:
        raise ValueError(f"limits.alpha is {limits.alpha:g}; it is a risk between 0 and 0.5")
    return limits


def _forms(document: object, where: str) -> Mapping[str, Figures]:
    return _mapping(document, where, _figures)


def _figures(document: object, where: str) -> Figures:
    match document:
        case {"rules": rules, "recovery_s": {"runs": runs}}:
            recovery_s = _numbers(runs, f"{where}.recovery_s.runs")
            return Figures(rules=_mapping(rules, f"{where}.rules", _rule), recovery_s=recovery_s)
        case _:
            raise ValueError(f"{where}: it takes rules, and recovery_s with runs")


def _rule(document: object, where: str) -> RuleFigures:
    match document:
        case {
            "metric": str(metric),
            "unit": str(unit),
            "share": bool(share),
            "attempts": attempts,
            "measured": measured,
        }:
            values = _numbers(measured, f"{where}.measured")
            numbers = _numbers(attempts, f"{where}.attempts")
        case _:
            raise ValueError(f"{where}: it takes metric, unit, share, attempts and measured")
    if len(values) != len(numbers) or not values:
        raise ValueError(
            f"{where}: there are {len(numbers)} attempts and {len(values)} measured; one each for every run"
        )
    if any(number != int(number) for number in numbers) or (share and max(values) > 1.0):
        raise ValueError(f"{where}: attempts are whole numbers, and a share is at most 1")
    return RuleFigures(
        metric=metric, unit=unit, share=share, attempts=tuple(int(number) for number in numbers), measured=values
    )


def _mapping(document: object, where: str, read_one: Callable[[object, str], T]) -> dict[str, T]:
    match document:
        case dict():
            return {str(name): read_one(value, f"{where}.{name}") for name, value in document.items()}
        case _:
            raise ValueError(f"{where}: a table is expected")


def _numbers(document: object, where: str) -> tuple[float, ...]:
    if not isinstance(document, list) or len(document) > RUNS_MAX:
        raise ValueError(f"{where}: a list of at most {RUNS_MAX} numbers is expected")
    return tuple(_number(value, where) for value in document)


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{where}: {value!r} is no number from 0 on")
    return float(value)
