"""What is made of the states that services report: who failed whom, and when a breaker was not closed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.reports.html.breakers import CLOSED, SPANS_MAX, Breakers, Span, Way, service_of, way_of
from chaos.reports.html.reading import Breaker

CALLS = {"gateway": ("play_api",), "play_api": ("events", "cache_control"), "store": ("store",)}


@pytest.mark.parametrize(
    ("instance", "command", "way"),
    [
        ("gateway-2", "play_api[play_api-1]", Way(("gateway", "play_api"), "gateway-2.play_api-1", tries=True)),
        ("gateway-2-w3", "play_api[play_api-1]", Way(("gateway", "play_api"), "gateway-2.play_api-1", tries=True)),
        ("store-1", "store.raft[store-2]", Way(("store", "store"), "store-1.store-2", tries=True)),
        (
            "play_api-1",
            "cache_control-1.report",
            Way(("play_api", "cache_control"), "play_api-1.cache_control-1", False),
        ),
        ("play_api-1", "events.add", Way(("play_api", "events"), None, tries=False)),
        ("gateway-1", "route/play", None),
        ("gateway-1", "billing.charge", None),
        ("gateway-1", "events.add", None),
        ("stranger-1", "play_api[play_api-1]", None),
    ],
)
def test_a_command_tells_by_its_name_whom_it_calls(instance, command, way):
    assert way_of(instance, command, CALLS) == way


def test_without_a_target_only_tries_tell():
    assert way_of("a-1", "b[b-1]", {}) == Way(("a", "b"), "a-1.b-1", tries=True)
    assert way_of("a-1", "b.c", {}) is None


def test_the_service_of_an_instance_has_no_numbers():
    assert [service_of(name) for name in ("oca-12", "play_api-1-w2", "client")] == ["oca", "play_api", "client"]


def told(breakers, t_s, *, calls=0, errors=0, state=CLOSED, command="play_api[play_api-1]"):
    return {
        way: (tally.calls, tally.errors)
        for way, tally in breakers.take(t_s, [Breaker("gateway-1", command, state, calls, errors)])
        if tally.calls
    }


def test_what_was_counted_before_the_run_is_not_the_runs():
    breakers = Breakers(CALLS)
    way = (("gateway", "play_api"), True)
    assert told(breakers, 1.0, calls=100, errors=7) == {}
    assert told(breakers, 2.0, calls=110, errors=8) == {way: (10, 1)}
    assert told(breakers, 3.0, calls=110, errors=8) == {}
    assert (breakers.by_way[way].calls, breakers.by_way[way].errors) == (10, 1)


def test_a_process_that_began_anew_counts_from_nothing():
    breakers = Breakers(CALLS)
    way = (("gateway", "play_api"), True)
    told(breakers, 1.0, calls=100, errors=5)
    assert told(breakers, 2.0, calls=4, errors=1) == {way: (4, 1)}
    assert told(breakers, 3.0, calls=6, errors=1) == {way: (2, 0)}


def test_a_command_that_comes_later_is_counted_from_its_beginning():
    breakers = Breakers(CALLS)
    list(breakers.take(1.0, []))
    assert told(breakers, 2.0, calls=3, errors=2) == {(("gateway", "play_api"), True): (3, 2)}


def test_a_breaker_has_a_span_for_each_state_but_closed():
    breakers = Breakers(CALLS)
    for t_s, state in enumerate(["closed", "open", "open", "half-open", "closed", "open"], start=1):
        told(breakers, float(t_s), state=state)
    breakers.finish(9.0)
    key = ("gateway-1", "play_api[play_api-1]")
    assert breakers.spans == {key: [Span(2.0, 4.0, "open"), Span(4.0, 5.0, "half-open"), Span(6.0, 9.0, "open")]}


def test_a_breaker_whose_process_falls_silent_is_not_known_to_be_open_any_more():
    breakers = Breakers(CALLS)
    told(breakers, 1.0, state="open")
    list(breakers.take(2.0, []))
    list(breakers.take(3.0, []))
    told(breakers, 4.0, state="open")
    breakers.finish(5.0)
    assert breakers.spans["gateway-1", "play_api[play_api-1]"] == [Span(1.0, 2.0, "open"), Span(4.0, 5.0, "open")]


def test_a_breaker_that_flaps_for_hours_does_not_fill_the_memory():
    breakers = Breakers(CALLS)
    for second in range(3 * SPANS_MAX):
        told(breakers, float(second), state="open" if second % 2 else "closed")
    assert len(breakers.spans["gateway-1", "play_api[play_api-1]"]) == SPANS_MAX
    assert breakers.left_out == SPANS_MAX // 2 - 1


@given(st.lists(st.sampled_from(["closed", "open", "half-open", None]), max_size=30))
def test_spans_are_exactly_the_seconds_in_which_it_said_so(states):
    breakers = Breakers(CALLS)
    for second, state in enumerate(states):
        many = [] if state is None else [Breaker("gateway-1", "x", state, 0, 0)]
        list(breakers.take(float(second), many))
    breakers.finish(float(len(states)))
    spans = breakers.spans.get(("gateway-1", "x"), [])
    said = [
        next((one.state for one in spans if one.start_s <= second < one.end_s), None) for second in range(len(states))
    ]
    assert said == [state if state != CLOSED else None for state in states]
