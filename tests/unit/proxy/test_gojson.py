"""JSON as Go reads it. What Go says to each mistake is in the conformance suite, beside the real server's answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.proxy.gojson import GoJsonError, GoType, JsonValue, Number, Struct, decode, parse, round_to_float32

INNER = Struct(name="Inner", type_name="pkg.Inner", fields={"size": GoType.INT64})
OUTER = Struct(
    name="Outer",
    type_name="pkg.Outer",
    fields={"name": GoType.STRING, "on": GoType.BOOL, "share": GoType.FLOAT32, "inner": INNER},
)


def plain(value: JsonValue) -> object:
    match value:
        case Number(text):
            return json.loads(text)
        case list():
            return [plain(each) for each in value]
        case dict():
            return {key: plain(each) for key, each in value.items()}
        case _:
            return value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(value=JSON, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_all_valid_json_is_read_as_python_reads_it(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        body = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8
        return
    if "\\ud" not in text:
        assert plain(parse(body)) == value


@given(body=st.binary(max_size=30) | st.text('{}[]",:\\u0123456789eE+-.truefalsn \n', max_size=30).map(str.encode))
def test_anything_else_is_refused_with_words(body):
    try:
        parse(body)
    except GoJsonError as error:
        assert str(error)  # noqa: PT017 - either outcome is right, a crash is not


def test_what_follows_the_first_value_is_ignored():
    assert parse(b' {"a": 1} }garbage') == {"a": Number("1")}


def test_half_a_character_is_replaced():
    assert parse(b'"\\ud800x"') == "\ufffdx"
    assert parse(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_very_deep_values_are_refused():
    with pytest.raises(GoJsonError, match="max depth"):
        parse(b"[" * 100_000)


def test_fields_are_matched_in_any_case_unknown_ones_skipped_and_null_leaves_out():
    given_fields = parse(b'{"NAME":"x","Inner":{"SIZE":3,"y":1},"on":null,"z":[1]}')
    assert decode(given_fields, OUTER) == {"name": "x", "inner": {"size": 3}}
    assert decode(None, OUTER) == {}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[]", "cannot unmarshal array into Go value of type pkg.Outer"),
        ('{"name":1}', "cannot unmarshal number into Go struct field Outer.name of type string"),
        ('{"on":"x"}', "cannot unmarshal string into Go struct field Outer.on of type bool"),
        ('{"share":true}', "cannot unmarshal bool into Go struct field Outer.share of type float32"),
        ('{"share":1e99}', "cannot unmarshal number 1e99 into Go struct field Outer.share of type float32"),
        ('{"inner":3}', "cannot unmarshal number into Go struct field Outer.inner of type pkg.Inner"),
        ('{"inner":{"size":1e2}}', "cannot unmarshal number 1e2 into Go struct field Inner.inner.size of type int64"),
        ('{"inner":{"size":9223372036854775808}}', "cannot unmarshal number 9223372036854775808 into"),
    ],
)
def test_a_wrong_type_is_named_as_go_names_it(text, error):
    with pytest.raises(GoJsonError) as caught:
        decode(parse(text.encode()), OUTER)
    assert str(caught.value).startswith(f"json: {error}")


def test_toxicities_are_shown_as_short_as_a_32_bit_float_allows():
    assert [round_to_float32(number) for number in (0.1, 0.123456789, 1.0, 0.0, 1 / 3)] == [
        0.1, 0.12345679, 1.0, 0.0, 0.33333334,
    ]  # fmt: skip
