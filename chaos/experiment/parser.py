"""Reads an experiment file and its target into checked data, or reports every mistake in both with its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from chaos.errors import Problem, UsageError
from chaos.experiment import tables as t
from chaos.experiment.holding import metastability_of
from chaos.experiment.model import (
    Control,
    Experiment,
    FaultEntry,
    Guard,
    Load,
    PhaseName,
    Rule,
    Selector,
    Surge,
    VerdictSettings,
)
from chaos.experiment.overrides import override
from chaos.experiment.rules import Sentence, to_guard, to_rule
from chaos.experiment.scoping import scoped
from chaos.experiment.selection import candidates, edges_to
from chaos.experiment.target import check_settings, node_of, scale
from chaos.faults.base import Fault, Layer
from chaos.faults.hook import Hook
from chaos.faults.registry import FAULTS
from chaos.faults.settings import settings_of
from chaos.fields import Field, Section, Where, one_of
from chaos.topology.model import Topology
from chaos.topology.parser import load_topology
from chaos.units import format_duration
from chaos.yamlfile import Node, is_there, load_yaml

T = TypeVar("T")

_NO_OVERRIDES: Mapping[str, str] = {}


def load_experiment(path: Path, overrides: Mapping[str, str] = _NO_OVERRIDES) -> tuple[Experiment, Topology]:
    """Return the experiment in a file, with ``overrides`` (dotted key to text) put in, and its target's topology.

    The topology is scaled as the experiment says. Raises UsageError with every problem of the experiment, of the
    overrides and of the topology.
    """
    problems: list[Problem] = []
    tree = override(load_yaml(path), overrides, problems)
    section = t.EXPERIMENT.read(tree, Where(problems=problems))
    experiment = topology = None
    if section is not None:
        topology = _topology(path, section, problems)
        topology = None if topology is None else scale(section, topology)
        experiment = _experiment(path, section, topology)
    if problems or experiment is None or topology is None:
        raise UsageError(sorted(dict.fromkeys(problems), key=lambda one: (one.file != str(path), one.line or 0)))
    return experiment, topology


def _topology(path: Path, section: Section, problems: list[Problem]) -> Topology | None:
    """Return the topology; what is wrong in it is reported beside the problems of the experiment."""
    target = _path(path, section, t.TARGET)
    if target is None:
        return None
    if not is_there(target):
        section.report(t.TARGET, f"there is no {target}; write the path of a folder with a topology.yaml")
        return None
    try:
        return load_topology(target)
    except UsageError as error:
        problems.extend(error.problems)
        return None


def _experiment(path: Path, section: Section, topology: Topology | None) -> Experiment:
    """Return the experiment as far as it can be read; it is used only when no problem was reported."""
    phases = _phases(section)
    _check_recovery(section, phases)
    if topology is not None:
        check_settings(section, topology)
        _check_control(section, topology)
    load = _load(path, section, phases[PhaseName.FAULT])
    if not section.has(t.FAULTS_LIST) and not load.surges:
        section.report(t.FAULTS_LIST, f"missing; {t.FAULTS_LIST.help}")
    steady_state, must_break = (_rules(section, topology, one) for one in (t.STEADY_STATE, t.MUST_BREAK))
    faults = _faults(section, phases[PhaseName.FAULT], topology)
    if topology is not None:
        faults = scoped(section, faults, [*steady_state, *must_break])
    _check_extend(section, faults, load.surges)
    return Experiment(
        file=path,
        title=section.get_or(t.TITLE, ""),
        description=section.get_or(t.DESCRIPTION, ""),
        topology_file=path if topology is None else topology.file,
        phases=phases,
        load=load,
        faults=faults,
        steady_state=steady_state,
        must_break=must_break,
        abort_when=_guards(section, topology, phases[PhaseName.FAULT]),
        verdict=_verdict(section),
        recover_within_s=section.get(t.RECOVER_WITHIN),
        metastability=metastability_of(section, load.rate_per_s, phases[PhaseName.RECOVERY]),
        control=_control(section),
        seed=section.get(t.SEED),
        settings=section.get_or(t.SETTINGS, {}),
        tags=section.get_or(t.TAGS, ()),
    )


def _path(path: Path, section: Section, one: Field[Path]) -> Path | None:
    """Return a path: relative to the file's folder, or from the command line, relative to the current folder."""
    written = section.get(one)
    if written is None:
        return None
    from_file = section.at(one).place.line is not None
    try:
        return _tidy(path.parent / written.expanduser()) if from_file else written.expanduser()
    except (OSError, RuntimeError, ValueError) as error:
        section.report(one, f"not a path: {error}")
        return None


def _tidy(path: Path) -> Path:
    """Return the path without ``..``, as short as a person in the current folder would write it."""
    whole = path.resolve()
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole


def _phases(section: Section) -> Mapping[PhaseName, float]:
    part = section.get(t.PHASES)
    if part is None:
        return t.DEFAULT_PHASES_S
    return {name: part.get_or(one, t.DEFAULT_PHASES_S[name]) for name, one in t.PHASE_FIELDS.items()}


def _load(path: Path, section: Section, phase_s: float) -> Load:
    part = section.get(t.LOAD)
    defaults = Load(locustfile=Path())
    if part is None:
        return defaults
    locustfile = _path(path, part, t.LOCUSTFILE)
    if locustfile is not None and (not is_there(locustfile) or locustfile.is_dir()):
        part.report(t.LOCUSTFILE, f"there is no file {locustfile}")
    if part.has(t.QUICK_RATE) and not part.has(t.RATE):
        part.report(t.QUICK_RATE, "it is the rate of an open schedule; write load.rate as well")
    return Load(
        locustfile=locustfile or defaults.locustfile,
        rate_per_s=part.get_or(t.RATE, defaults.rate_per_s),
        quick_rate_per_s=part.get(t.QUICK_RATE),
        workers=part.get_or(t.WORKERS, defaults.workers),
        max_start_lag_s=part.get_or(t.MAX_START_LAG, defaults.max_start_lag_s),
        settings=part.get_or(t.LOAD_SETTINGS, {}),
        surges=_surges(part, phase_s),
        control_group=section.get_or(t.CONTROL_GROUP, 0.0),
    )


def _surges(load: Section, phase_s: float) -> tuple[Surge, ...]:
    """Return the surges in the order of time; report those that add nothing, overlap, or outlast the fault phase."""
    items = load.get_or(t.SURGES, ())
    rate_per_s = load.get(t.RATE)
    if items and not load.has(t.RATE):
        load.report(t.SURGES, "a surge raises the rate of an open schedule; write load.rate as well")
    surges: list[tuple[Surge, Section]] = []
    for place, item in enumerate(items):
        at_s, for_s, surge_per_s = item.get_or(t.AT, 0.0), item.get(t.FOR), item.get(t.SURGE_RATE)
        _check_time(item, at_s, for_s, phase_s)
        if surge_per_s is None:
            continue
        if rate_per_s is not None and surge_per_s <= rate_per_s:
            item.report(t.SURGE_RATE, f"{surge_per_s:g}/s is no more than the load's own rate of {rate_per_s:g}/s")
        surges.append((Surge(at_s=at_s, for_s=for_s, rate_per_s=surge_per_s, place=place), item))
    surges.sort(key=lambda one: one[0].at_s)
    for (before, _), (after, item) in pairwise(surges):
        end_s = phase_s if before.for_s is None else round(before.at_s + before.for_s, 9)
        if after.at_s < end_s:
            item.report(t.AT, f"begins before another surge ends ({format_duration(end_s)}); two may not overlap")
    return tuple(surge for surge, _ in surges)


def _check_time(item: Section, at_s: float, for_s: float | None, phase_s: float) -> None:
    """Report what does not begin or end within the fault phase."""
    if at_s >= phase_s:
        item.report(
            t.AT, f"{format_duration(at_s)} is not before the end of the fault phase ({format_duration(phase_s)})"
        )
    elif for_s is not None and round(at_s + for_s, 9) > phase_s:
        left = format_duration(round(phase_s - at_s, 9))
        item.report(
            t.FOR,
            f"ends after the fault phase of {format_duration(phase_s)}; at most {left} is left after 'at', "
            "or leave 'for' out: then it lasts until the phase ends",
        )


# -- faults -----------------------------------------------------------------------------------------------------------


def _faults(section: Section, phase_s: float, topology: Topology | None) -> tuple[FaultEntry, ...]:
    entries = []
    for item in section.get_or(t.FAULTS_LIST, ()):
        entry = _fault(item, phase_s, topology)
        if entry is not None:
            entries.append(entry)
            if not section.get_or(t.MUST_BREAK, ()):
                _check_proof(item, entry)
    return tuple(entries)


def _fault(item: Section, phase_s: float, topology: Topology | None) -> FaultEntry | None:
    kind = FAULTS[item.get_or(t.KIND, "")]
    fault = _settings(item, kind)
    selector = Selector(
        service=item.get_or(t.SERVICE, ""),
        where=item.get_or(t.WHERE, {}),
        pick=item.get(t.PICK),
        caller=item.get(t.FROM),
    )
    at_s, for_s = item.get_or(t.AT, 0.0), item.get(t.FOR)
    _check_time(item, at_s, for_s, phase_s)
    if topology is not None and item.get(t.SERVICE) is not None:
        _check_selector(item, selector, kind.layer, topology)
    if topology is not None and fault is not None:
        for name, used in fault.target_settings():
            if used not in topology.settings:
                item.report(name, one_of(used, tuple(topology.settings), noun="setting of the target"))
        _check_workers(item, fault, topology)
    if fault is None:
        return None
    return FaultEntry(fault=fault, selector=selector, at_s=at_s, for_s=for_s, line=item.node.place.line)


def _check_workers(item: Section, fault: Fault, topology: Topology) -> None:
    """Report a hook on workers that cannot be asked one by one: it would reach whichever the kernel chooses."""
    service = topology.services.get(item.get_or(t.SERVICE, ""))
    if isinstance(fault, Hook) and service is not None and service.workers > 1 and service.python is None:
        item.report(
            t.KIND,
            f"asks every process, and the {service.workers} workers of {service.name} share one port, at which nobody "
            f"knows who answers; write workers.{service.name}: 1, or make it a python service, whose workers have a "
            "port each",
        )


def _check_proof(item: Section, entry: FaultEntry) -> None:
    """Report a fault that nobody could tell from one that does nothing."""
    if not entry.fault.proves_itself:
        item.report(
            t.KIND,
            "nothing here would show that it did anything; give it 'evidence', or say under must_break what it breaks",
        )


def _settings(item: Section, kind: type[Fault]) -> Fault | None:
    """Return the fault with its settings; None when one of them is missing or wrong."""
    infos = settings_of(kind)
    if any(item.values.get(info.name) is None and (info.required or info.name in item.nodes) for info in infos):
        return None
    given = {info.name: item.values[info.name] for info in infos if info.name in item.values}
    fault = kind(**given)
    for name, wrong in fault.check():
        item.report(name, wrong)
    return fault


def _check_selector(item: Section, selector: Selector, layer: Layer, topology: Topology) -> None:
    """Report a selector that selects nothing, with the part of it that is to blame."""
    service = topology.services.get(selector.service)
    if service is None:
        if selector.service in topology.clients:
            said = "is a client, outside the target; name the service that it calls, and 'from' for this caller alone"
            item.report(t.SERVICE, f"{selector.service!r} {said}")
        else:
            item.report(t.SERVICE, one_of(selector.service, tuple(topology.services), noun="service"))
        return
    labels = {
        name: sorted({one[name] for one in service.instances if name in one}) for name in _labels(service.instances)
    }
    where = item.where.inside(t.WHERE.key)
    wrong = False
    for name, value in selector.where.items():
        allowed = tuple(labels) if name not in labels else tuple(labels[name])
        if (name if name not in labels else value) not in allowed:
            wrong = True
            noun = f"label of {service.name}" if name not in labels else f"{service.name} with {name}"
            said = one_of(name if name not in labels else value, allowed, noun=noun)
            where.inside(name).report(node_of(item, t.WHERE, name), said)
    chosen = candidates(selector, topology)
    if not wrong and not chosen:
        item.report(t.WHERE, f"no instance of {service.name} has all of these labels")
    if chosen and selector.pick is not None and selector.pick > len(chosen):
        item.report(t.PICK, f"{selector.pick} is more than there are: {len(chosen)} to choose from")
    if layer is Layer.WIRE and chosen and not edges_to(selector, topology, chosen):
        _report_no_edges(item, selector, topology)


def _report_no_edges(item: Section, selector: Selector, topology: Topology) -> None:
    callers = [name for name, calls in topology.clients.items() if selector.service in calls]
    callers += [name for name, service in topology.services.items() if selector.service in service.calls]
    if not callers:
        item.report(t.SERVICE, f"nobody calls {selector.service}, so there is no wire for this fault to fall on")
    elif selector.caller is not None:
        item.report(t.FROM, one_of(selector.caller, callers, noun=f"caller of {selector.service}"))


def _labels(instances: tuple[Mapping[str, str], ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for labels in instances for name in labels))


# -- steady state, guards, control ------------------------------------------------------------------------------------


def _rules(
    section: Section, topology: Topology | None, one: Field[tuple[tuple[Sentence, Node], ...]]
) -> tuple[Rule, ...]:
    return _meanings(section, one, topology, lambda words, target: to_rule(words, target.metrics))


def _guards(section: Section, topology: Topology | None, phase_s: float) -> tuple[Guard, ...]:
    def read(words: Sentence, topology: Topology) -> Guard:
        guard = to_guard(words, topology.metrics)
        if guard.for_s > phase_s:
            raise ValueError(f"never trips: the fault phase lasts {format_duration(phase_s)} only")
        return guard

    return _meanings(section, t.ABORT_WHEN, topology, read)


def _meanings(
    section: Section,
    one: Field[tuple[tuple[Sentence, Node], ...]],
    topology: Topology | None,
    read: Callable[[Sentence, Topology], T],
) -> tuple[T, ...]:
    """Give each sentence its meaning; without a topology there is none to give."""
    found: list[T] = []
    if topology is None:
        return ()
    for words, node in section.get_or(one, ()):
        try:
            found.append(read(words, topology))
        except ValueError as error:
            items = getattr(section.at(one), "items", ())
            index = next((index for index, item in enumerate(items) if item is node), 0)
            section.where.inside(one.key).inside(index).report(node, str(error))
    return tuple(found)


def _verdict(section: Section) -> VerdictSettings:
    part, defaults = section.get(t.VERDICT), VerdictSettings()
    if part is None:
        return defaults
    return VerdictSettings(
        alpha=part.get_or(t.ALPHA, defaults.alpha),
        margin=part.get(t.MARGIN),
        extend_s=part.get_or(t.EXTEND, defaults.extend_s),
        max_taken=part.get_or(t.MAX_TAKEN, defaults.max_taken),
    )


def _check_extend(section: Section, faults: Sequence[FaultEntry], surges: Sequence[Surge]) -> None:
    """Report a fault phase that may go on without anything in it."""
    part = section.get(t.VERDICT)
    ends = [one.for_s for one in faults] + [one.for_s for one in surges]
    if part is not None and part.has(t.EXTEND) and ends and None not in ends:
        part.report(
            t.EXTEND,
            "nothing lasts until the end of the fault phase, so that the time it adds would be without a fault; "
            "leave 'for' out of one of the faults",
        )


def _check_recovery(section: Section, phases: Mapping[PhaseName, float]) -> None:
    within_s, phase_s = section.get(t.RECOVER_WITHIN), phases[PhaseName.RECOVERY]
    if within_s is not None and within_s > phase_s:
        section.report(
            t.RECOVER_WITHIN,
            f"{format_duration(within_s)} is longer than the recovery phase ({format_duration(phase_s)}), "
            "so it could not be seen; make phases.recovery longer",
        )


def _control(section: Section) -> Control | None:
    control = section.get(t.CONTROL)
    if control is None:
        return None
    disable, changes = control.get_or(t.DISABLE, ()), control.get_or(t.CHANGES, {})
    if not (t.DISABLE.key in control.nodes or t.CHANGES.key in control.nodes):
        section.report(t.CONTROL, "says nothing; write disable: [a protection], or set: {a.key: a value}")
    return Control(disable=disable, changes=changes)


def _check_control(section: Section, topology: Topology) -> None:
    control = section.get(t.CONTROL)
    for name in () if control is None else control.get_or(t.DISABLE, ()):
        if control is not None and not topology.protects_by(name):
            control.report(t.DISABLE, one_of(name, tuple(topology.protections), noun="protection of the target"))
