"""The JSON Schemas: valid, true to the parser, fresh on disk."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from chaos.cli.options import collect_experiments
from chaos.errors import UsageError
from chaos.experiment.parser import load_experiment
from chaos.experiment.schema import experiment_schema, topology_schema
from chaos.faults.registry import FAULTS
from tests.unit.experiment.building import Project
from tests.unit.experiment.test_parser import WRONG
from tests.unit.experiment.test_wrong_faults import WRONG_FAULTS

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENTS = collect_experiments([ROOT / "experiments"])
TOPOLOGIES = sorted((ROOT / "targets").glob("*/topology.yaml"))

BEYOND_A_SCHEMA = {
    *("a locustfile that is not there", "a target that is not there", "a folder without a topology"),
    *("a setting that the target does not have", "a setting of another type", "an unknown protection"),
    *("a recovery that cannot be seen", "an unknown metric", "a limit without a unit"),
    *("a guard that is longer than the fault", "a phase that is too long"),
    *("a key given twice", "a tag", "bad YAML"),
    *("an unknown service", "a client", "an unknown label", "an unknown value of a label"),
    *("labels that no instance has together", "more than there are", "a caller that does not call"),
    *("a service that nobody calls", "settings that do not go together"),
    *("an alpha of half", "an extension without a fault in it", "a guard by the evidence of a quantile"),
    "a quick rate of a load without a rate",
    *("metastability of a load without a rate", "metastability of a trigger that goes on"),
    "a hold that ends before the system may be back",
    *("metastability below the load", "more asked for than is tried", "a hold in which nothing could be seen"),
    *("a beginning after the end", "an end after the phase"),
    *("a hook that nobody could tell from nothing", "a hook with a setting that the target does not have"),
}
"""What only the parser can know."""


def read(path: Path) -> object:
    return YAML(typ="safe", pure=True).load(path.read_text())


@pytest.mark.parametrize("schema", [experiment_schema(), topology_schema()], ids=["experiment", "topology"])
def test_a_schema_is_one(schema: dict[str, object]):
    jsonschema.Draft202012Validator.check_schema(schema)


def test_experiments_are_shipped():
    assert {path.stem for path in EXPERIMENTS} >= {
        "cache_control_partition",
        "cache_outage",
        "gateway_kill",
        "oca_outage",
        "playback_apps_kill",
        "steering_latency",
        "store_slow",
    }


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_a_shipped_experiment_is_valid(path: Path):
    jsonschema.validate(read(path), experiment_schema(), jsonschema.Draft202012Validator)
    experiment, topology = load_experiment(path)
    assert experiment.control is not None, "a pass must mean something: every shipped experiment names its control"
    assert set(experiment.control.disable) <= set(topology.protections)
    assert experiment.recover_within_s is not None
    assert experiment.abort_when


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.parent.name)
def test_a_shipped_topology_is_valid(path: Path):
    jsonschema.validate(read(path), topology_schema(), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("case", sorted({*WRONG, *WRONG_FAULTS} - BEYOND_A_SCHEMA))
def test_the_schema_refuses_what_the_parser_refuses(project: Project, case: str):
    keys = WRONG[case][0] if case in WRONG else {"faults": f"faults:\n  - {WRONG_FAULTS[case][0]}"}
    path = project.write(**keys)
    with pytest.raises(UsageError):
        load_experiment(path)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read(path), experiment_schema(), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("faults", ["", "faults: [{kind: kill, service: box}]"], ids=["no fault", "a fault"])
@pytest.mark.parametrize("surges", [None, "[]", "[{rate: 60/s}]"], ids=["no surges", "an empty list", "a surge"])
def test_the_schema_asks_for_a_fault_or_a_surge_as_the_parser_does(project: Project, faults: str, surges: str | None):
    more = "" if surges is None else f", surges: {surges}"
    path = project.write(faults=faults, load=f"load: {{locustfile: load.py, rate: 30/s{more}}}")
    document = read(path)
    if faults or surges == "[{rate: 60/s}]":
        load_experiment(path)
        jsonschema.validate(document, experiment_schema(), jsonschema.Draft202012Validator)
        return
    with pytest.raises(UsageError):
        load_experiment(path)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, experiment_schema(), jsonschema.Draft202012Validator)


def test_every_kind_of_fault_is_in_the_schema():
    text = json.dumps(experiment_schema())
    assert all(f'"const": "{kind}"' in text for kind in FAULTS)


@pytest.mark.parametrize(("name", "schema"), [("experiment", experiment_schema()), ("topology", topology_schema())])
def test_the_schema_on_disk_is_fresh(name: str, schema: dict[str, object]):
    path = ROOT / "docs" / "schema" / f"{name}.json"
    assert json.loads(path.read_text()) == schema, f"run: chaos schema {name} > {path.relative_to(ROOT)}"
