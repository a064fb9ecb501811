"""Reads a topology file into a ``Topology``, or reports every mistake in it with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos.errors import Problem, UsageError
from chaos.fields import Field, Section, Where, one_of
from chaos.topology import tables as t
from chaos.topology.model import HealthCheck, Measure, Metric, Scalar, Scaling, Service, Topology, Unit
from chaos.topology.scaling import Dimension, port_clashes, refusal, too_large
from chaos.yamlfile import is_there, load_yaml

FILE_NAME = "topology.yaml"
"""What the file is called in a target's folder."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SIMPLE_PLACEHOLDERS = ("port", "host", "instance", "service", "data_dir", "folder", "python", "disabled", "workers")


def load_topology(path: Path) -> Topology:
    """Return the topology in a file, or in ``topology.yaml`` of a folder.

    Raises UsageError with every problem found.
    """
    file = path / FILE_NAME if is_there(path) and path.is_dir() else path
    problems: list[Problem] = []
    where = Where(problems=problems)
    section = t.TOPOLOGY.read(load_yaml(file), where)
    topology = None if section is None else _topology(file, section)
    if problems or topology is None:
        raise UsageError(sorted(problems, key=lambda one: one.line or 0))
    return topology


def default_metrics() -> Mapping[str, Metric]:
    """Return the figures that any load of plain requests gives: they are read from samples of the kind ``request``."""
    metrics = (
        Metric(name="availability", title="availability", measure=Measure.SHARE, of="request", unit=Unit.PERCENT),
        Metric(name="requests_per_s", title="requests", measure=Measure.RATE, of="request", unit=Unit.PER_SECOND),
        *(
            Metric(
                name=f"latency_p{percent}_s",
                title=f"latency p{percent}",
                measure=Measure.QUANTILE,
                of="request",
                field="latency_s",
                quantile=percent / 100,
                unit=Unit.SECONDS,
            )
            for percent in (50, 99)
        ),
        Metric(
            name="fallback_share",
            title="answered by a fallback",
            measure=Measure.FALLBACK_SHARE,
            of="request",
            unit=Unit.PERCENT,
            detail=True,
        ),
    )
    return {metric.name: metric for metric in metrics}


def _topology(file: Path, section: Section) -> Topology:
    settings: Mapping[str, Scalar] = section.get_or(t.SETTINGS, {})
    parts = section.get_or(t.SERVICES, {})
    services = {name: _service(name, part, settings) for name, part in parts.items()}
    clients = section.get_or(t.CLIENTS, {})
    written = _names(section, t.SERVICES)
    for name, client in clients.items():
        _check_calls(client, client.get_or(t.CLIENT_CALLS, ()), written)
        if name in services:
            client.where.report(client.node, f"{name!r} is a service as well; give the client another name")
    for name, part in parts.items():
        _check_calls(part, services[name].calls, written)
    for name, clash in port_clashes(services):
        parts[name].report(t.PORT, clash)
    topology = Topology(
        name=section.get_or(t.NAME, ""),
        file=file,
        services=services,
        clients={name: client.get_or(t.CLIENT_CALLS, ()) for name, client in clients.items()},
        preload=section.get(t.PRELOAD),
        settings=settings,
        protections=section.get_or(t.PROTECTIONS, {}),
        metrics={name: _metric(name, part) for name, part in section.get_or(t.METRICS, {}).items()}
        or default_metrics(),
    )
    if large := too_large(topology):
        section.report(t.SERVICES, large)
    return topology


def _service(name: str, part: Section, settings: Mapping[str, object]) -> Service:
    if part.has(t.PYTHON) == part.has(t.COMMAND):
        both = "has both python and command" if part.has(t.PYTHON) else "has neither python nor command"
        part.where.report(part.node, f"{both}; a service is started by exactly one of them")
    calls = part.get_or(t.CALLS, ())
    command = part.get(t.COMMAND)
    for index, argument in enumerate(command or ()):
        _check_placeholders(part, index, argument, calls, settings)
    defaults = Service(name=name)
    service = Service(
        name=name,
        command=command,
        python=part.get(t.PYTHON),
        instances=part.get_or(t.INSTANCES, defaults.instances),
        workers=part.get_or(t.WORKERS, defaults.workers),
        scaling=_scaling(part),
        calls=calls,
        health=_health(part),
        isolation_path=part.get(t.ISOLATION),
        port=part.get(t.PORT),
        environment=part.get_or(t.ENVIRONMENT, {}),
        stop_timeout_s=part.get_or(t.STOP_TIMEOUT, defaults.stop_timeout_s),
    )
    _check_scaling(part, service)
    return service


def _scaling(part: Section) -> Scaling:
    workers = part.get_or(t.WORKERS, 1)
    scaling = part.get(t.SCALING)
    if scaling is None:
        return Scaling(workers_most=workers)
    return Scaling(
        replicas_least=scaling.get_or(t.REPLICAS_LEAST, 1),
        replicas_most=scaling.get(t.REPLICAS_MOST),
        workers_most=scaling.get_or(t.WORKERS_MOST, workers),
    )


def _check_scaling(part: Section, service: Service) -> None:
    scaling = part.get(t.SCALING)
    least, most = service.scaling.replicas_least, service.scaling.replicas_most
    if scaling is not None and most is not None and least > most:
        scaling.report(t.REPLICAS_MOST, f"{most} is less than replicas_least, which is {least}")
    elif said := refusal(service, Dimension.REPLICAS, len(service.instances)):
        part.report(t.INSTANCES, said)
    if said := refusal(service, Dimension.WORKERS, service.workers):
        part.report(t.WORKERS, said)
    told = any("{workers}" in argument for argument in service.command or ())
    if service.command is not None and service.scaling.workers_most > 1 and not told:
        part.report(t.COMMAND, "has no {workers}, so nothing tells it how many workers it is to have")


def _health(part: Section) -> HealthCheck:
    defaults = HealthCheck()
    health = part.get(t.HEALTH_OF)
    if health is None:
        return defaults
    if health.has(t.HEALTH_HTTP) and health.has(t.HEALTH_TCP):
        health.report(t.HEALTH_TCP, "http is given as well; keep one of them")
    return HealthCheck(
        http_path=health.get(t.HEALTH_HTTP), timeout_s=health.get_or(t.HEALTH_TIMEOUT, defaults.timeout_s)
    )


def _metric(name: str, part: Section) -> Metric:
    measure = part.get_or(t.MEASURE, Measure.SHARE)
    field, per, quantile = part.get(t.FIELD), part.get_or(t.PER, ()), part.get(t.QUANTILE)
    if part.get(t.MEASURE) is not None:
        needs: tuple[tuple[Field[object], tuple[Measure, ...]], ...] = (
            (t.FIELD, (Measure.QUANTILE, Measure.RATIO)),
            (t.QUANTILE, (Measure.QUANTILE,)),
            (t.PER, (Measure.RATIO,)),
        )
        for one, measures in needs:
            if measure in measures and not part.has(one):
                part.report(one, f"missing; the measure {measure} needs it: {one.help}")
            elif measure not in measures and part.has(one):
                part.report(one, f"the measure {measure} has no use for it; leave it out")
    default, allowed = _units_of(measure, field)
    unit = part.get_or(t.UNIT, default)
    if part.get(t.MEASURE) is not None and unit not in allowed:
        listed = " or ".join(repr(str(one)) for one in allowed)
        part.report(t.UNIT, f"a {measure} is not measured in {str(unit)!r}, allowed is {listed}")
    return Metric(
        name=name,
        title=part.get_or(t.METRIC_TITLE, name),
        measure=measure,
        of=part.get_or(t.OF, ""),
        unit=unit,
        field=field,
        per=per,
        quantile=quantile,
        detail=part.get_or(t.DETAIL, False),
    )


def _units_of(measure: Measure, field: str | None) -> tuple[Unit, Sequence[Unit]]:
    """Return the unit that a metric has when none is given, and those that it may have."""
    match measure:
        case Measure.SHARE | Measure.FALLBACK_SHARE:
            return Unit.PERCENT, (Unit.PERCENT,)
        case Measure.RATE:
            return Unit.PER_SECOND, (Unit.PER_SECOND,)
        case Measure.RATIO:
            return Unit.PERCENT, (Unit.PERCENT, Unit.PLAIN)
        case Measure.QUANTILE:
            seconds = field is not None and field.endswith("_s") and not field.endswith("_per_s")
            return (Unit.SECONDS if seconds else Unit.PLAIN), tuple(Unit)


def _names(section: Section, mapping: Field[object]) -> tuple[str, ...]:
    """Return the names written in a mapping, also of the entries that could not be read."""
    node = section.nodes.get(mapping.key)
    return tuple(entry.key for entry in getattr(node, "entries", ()))


def _check_calls(part: Section, calls: Sequence[str], services: Sequence[str]) -> None:
    for called in calls:
        if services and called not in services:
            part.report(t.CALLS, one_of(called, services, noun="service"))


def _check_placeholders(
    part: Section, index: int, argument: str, calls: Sequence[str], settings: Mapping[str, object]
) -> None:
    for inner in _PLACEHOLDER.findall(argument):
        match re.fullmatch(r"(calls|settings)\[(.*)\]", inner):
            case re.Match() as found:
                names = calls if found[1] == "calls" else tuple(settings)
                if found[2] in names:
                    continue
                noun = "service among those it calls" if found[1] == "calls" else "setting"
                message = one_of(found[2], names, noun=noun)
            case None:
                if inner in _SIMPLE_PLACEHOLDERS:
                    continue
                allowed = (*_SIMPLE_PLACEHOLDERS, "calls[service]", "settings[name]")
                message = one_of(inner, allowed, noun="placeholder")
        part.where.inside(t.COMMAND.key).inside(index).report(part.at(t.COMMAND), message)
