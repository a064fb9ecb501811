import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.topology.model import CalledInstance, InstanceConfig
from chaos.topology.wire import config_from_json, config_to_json

text = st.text(max_size=20)
labels = st.dictionaries(text, text, max_size=3)
configs = st.builds(
    InstanceConfig,
    service=text,
    instance=text,
    index=st.integers(1, 99),
    host=text,
    port=st.integers(0, 65535),
    labels=labels,
    calls=st.dictionaries(
        text, st.lists(st.builds(CalledInstance, instance=text, address=text, labels=labels), max_size=3).map(tuple)
    ),
    reached_by=labels,
    settings=st.dictionaries(text, st.one_of(text, st.integers(), st.booleans(), st.floats(allow_nan=False))),
    disabled=st.lists(text, max_size=3).map(tuple),
    seed=st.integers(),
    data_dir=text,
    workers=st.integers(1, 16),
    worker_ports=st.lists(st.integers(1, 65535), max_size=3).map(tuple),
    shared_fd=st.none() | st.integers(3, 99),
)


@given(configs)
def test_a_configuration_comes_back_as_it_was_on_one_line(config):
    line = config_to_json(config)
    assert "\n" not in line
    assert config_from_json(line) == config


@given(configs, st.data())
def test_a_missing_or_unknown_field_is_refused(config, data):
    fields = json.loads(config_to_json(config))
    fields.pop(data.draw(st.sampled_from(sorted(fields))))
    with pytest.raises(ValueError, match="not an instance's configuration"):
        config_from_json(json.dumps(fields))
    with pytest.raises(ValueError, match="not an instance's configuration"):
        config_from_json(json.dumps({**json.loads(config_to_json(config)), "colour": 1}))


@pytest.mark.parametrize("line", ["", "nonsense", "[]", "3", '{"calls": 1, "disabled": []}', '{"calls": {"a": [1]}}'])
def test_anything_else_is_refused(line):
    with pytest.raises(ValueError, match=r".+"):
        config_from_json(line)
