"""The messages between replicas: through JSON and back, and what is no message."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.raft_messages import (
    BATCH_ENTRIES_MAX,
    COMMAND_BYTES_MAX,
    Append,
    Appended,
    Entry,
    Vote,
    VoteRequest,
    message_from_json,
    message_to_json,
)

COUNTS = st.integers(0, 10**12)
ENTRIES = st.builds(Entry, term=COUNTS, command=st.text(max_size=20))
MESSAGES = st.one_of(
    st.builds(
        Append,
        term=COUNTS,
        previous_index=COUNTS,
        previous_term=COUNTS,
        entries=st.lists(ENTRIES, max_size=4).map(tuple),
        commit=COUNTS,
    ),
    st.builds(Appended, term=COUNTS, previous_index=COUNTS, matched=st.none() | COUNTS, hint=COUNTS),
    st.builds(VoteRequest, term=COUNTS, last_index=COUNTS, last_term=COUNTS, pre=st.booleans()),
    st.builds(Vote, term=COUNTS, granted=st.booleans(), pre=st.booleans()),
)


@given(MESSAGES)
def test_messages_come_through_json_unchanged(message):
    assert message_from_json(json.loads(json.dumps(message_to_json(message)))) == message


@given(MESSAGES, st.data())
def test_a_message_with_a_field_that_is_wrong_is_refused(message, data):
    form = message_to_json(message)
    key = data.draw(st.sampled_from(sorted(form)))
    form[key] = data.draw(st.sampled_from([-1, 1.5, "x", [[1]], {}, [["a", "b"]]]))
    with pytest.raises(ValueError, match="not a"):
        message_from_json(form)


@pytest.mark.parametrize(
    "form",
    [
        None,
        [],
        {"kind": "vote"},
        {"kind": "vote", "term": True, "granted": True, "pre": True},
        {
            "kind": "append",
            "term": 1,
            "previous_index": 0,
            "previous_term": 0,
            "entries": [[1, "x" * (COMMAND_BYTES_MAX + 1)]],
            "commit": 0,
        },
        {
            "kind": "append",
            "term": 1,
            "previous_index": 0,
            "previous_term": 0,
            "entries": [[1, ""]] * (BATCH_ENTRIES_MAX + 1),
            "commit": 0,
        },
    ],
)
def test_what_is_no_message_is_refused(form):
    with pytest.raises(ValueError, match="not a"):
        message_from_json(form)
