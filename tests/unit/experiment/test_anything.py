"""Any tree and any override: an experiment is read, or a usage error names the places."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chaos.errors import UsageError
from chaos.experiment import tables as t
from chaos.experiment.parser import load_experiment
from tests.unit.experiment.building import Project

_KEYS = st.sampled_from(
    [
        *t.EXPERIMENT.fields,
        *t.FAULT_TABLES["latency"].fields,
        "fault",
        "locustfile",
        "rate",
        "workers",
        "disable",
        "isp",
    ]
)
_WORDS = "target load.py kill latency down box orders front alpha 3s 0s 30% 30/s isolation ~/x upstream"
_RULES = ("availability >= 99%", "availability < 3% for 1s", "orders_per_s > 3% of baseline")
_VALUES = st.sampled_from([*_WORDS.split(), *_RULES, "", "a\x00b", "x" * 300])
_LEAVES = st.one_of(_VALUES, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
_TREES = st.recursive(
    _LEAVES,
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(_KEYS, below, max_size=5)),
    max_leaves=12,
)
_GOOD = {
    "title": "A box dies",
    "target": "target",
    "load": {"locustfile": "load.py", "rate": 30},
    "faults": [{"kind": "latency", "service": "box", "latency_ms": 3}],
    "steady_state": ["availability >= 99.5%"],
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(changes=st.dictionaries(_KEYS, _TREES, max_size=4))
@example(changes={"target": "x" * 300})
@example(changes={"target": "a\x00b"})
@example(changes={"seed": 10**400})
def test_any_tree_is_read_or_is_a_usage_error_that_names_places(project: Project, changes: dict[str, object]):
    project.file.write_text(json.dumps({**_GOOD, **changes}), encoding="utf-8")
    refused = None
    try:
        experiment, _ = load_experiment(project.file)
        assert experiment.faults
    except UsageError as error:
        refused = error
    assert refused is None or refused.problems
    assert refused is None or all(problem.file and problem.message for problem in refused.problems)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(key=st.text(max_size=20) | st.lists(_KEYS | st.just("0"), max_size=4).map(".".join), value=st.text(max_size=20))
def test_any_override_is_taken_or_is_a_usage_error(project: Project, key: str, value: str):
    project.file.write_text(json.dumps(_GOOD))
    refused = None
    try:
        load_experiment(project.file, {key: value})
    except UsageError as error:
        refused = error
    assert refused is None or refused.problems
