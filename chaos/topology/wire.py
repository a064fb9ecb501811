"""``InstanceConfig`` as JSON: what the runner tells each process of the target, and Locust."""

from __future__ import annotations

import json
from dataclasses import asdict
from dataclasses import fields as fields_of

from chaos.topology.model import CalledInstance, InstanceConfig


def config_to_json(config: InstanceConfig) -> str:
    """Return ``config`` as one line of JSON; its keys are the fields of ``InstanceConfig``."""
    return json.dumps(asdict(config), separators=(",", ":"))


def config_from_json(text: str) -> InstanceConfig:
    """Read what ``config_to_json`` wrote.

    Raises ValueError when ``text`` is not JSON, or when a field is missing, unknown or of the wrong shape.
    """
    match json.loads(text):
        case dict() as fields:
            pass
        case other:
            raise ValueError(f"an instance's configuration is a JSON object, not {type(other).__name__}")
    if missing := sorted({one.name for one in fields_of(InstanceConfig)} - set(fields)):
        raise ValueError(f"not an instance's configuration: {', '.join(missing)} missing")
    try:
        calls = {
            str(service): tuple(CalledInstance(**called) for called in instances)
            for service, instances in fields.pop("calls").items()
        }
        disabled = tuple(fields.pop("disabled"))
        worker_ports = tuple(fields.pop("worker_ports"))
        return InstanceConfig(calls=calls, disabled=disabled, worker_ports=worker_ports, **fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an instance's configuration: {error}") from error
