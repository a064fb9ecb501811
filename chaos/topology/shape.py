"""The target in short, as a run tells it in its first event: enough to draw it, and to name what is measured."""

from __future__ import annotations

from chaos.events import MetricLabel, TargetShape
from chaos.topology.model import Topology


def target_shape(topology: Topology) -> TargetShape:
    """Return what a reader of a run must know of its target."""
    services = topology.services.values()
    return TargetShape(
        name=topology.name,
        services={service.name: len(service.instances) for service in services},
        calls={**topology.clients, **{service.name: service.calls for service in services if service.calls}},
        metrics={
            metric.name: MetricLabel(title=metric.title, unit=metric.unit.value, of=metric.of, detail=metric.detail)
            for metric in topology.metrics.values()
        },
    )
