"""The chain of filters: the order of turns, answers, failures, and changes while an exchange is on its way."""

from __future__ import annotations

import asyncio

import pytest

from targets.playback.gateway_filters import FILTERS_MAX, Answer, Exchange, FilterChain, NotAnswered, Stage
from targets.playback.gateway_rules import Deny, Header, InvalidFilter, filter_from_json
from targets.playback.gateway_traffic import Traffic
from targets.playback.validation import Plan, Subscriber

GOOD = Answer(status=200, body=b"{}")
REFUSED = Answer(status=418, body=b"no")


class Step:
    """A filter that notes its turns, and answers or raises if told to."""

    def __init__(self, log, name, stage, order=50, *, answer=None, failure=None, wait=None):
        self.log, self.name, self.stage, self.order = log, name, stage, order
        self.answer, self.failure, self.wait = answer, failure, wait

    async def apply(self, exchange):
        self.log.append(self.name)
        if self.wait is not None:
            await self.wait.wait()
        if self.failure is not None:
            raise self.failure
        if self.answer is not None:
            exchange.answer = self.answer


async def nothing() -> bytes:
    return b""


def exchange(path="/play", **given):
    fields = {"begun_s": 1.0, "method": "GET", "query": "", "headers": {}, "address": "10.0.0.1", "read": nothing}
    return Exchange(path=path, **{**fields, **given})


def chain(*filters):
    made = FilterChain(lambda: 3.5)
    made.add(*filters)
    return made


async def test_filters_go_by_stage_then_order_then_name():
    log = []
    stages = [
        Step(log, "post", Stage.POST, 0),
        Step(log, "route", Stage.ROUTE, answer=GOOD),
        Step(log, "late", Stage.PRE, 60),
        Step(log, "b", Stage.PRE, 10),
        Step(log, "a", Stage.PRE, 10),
        Step(log, "error", Stage.ERROR),
    ]
    seen = exchange()
    assert await chain(*stages).run(seen) is GOOD
    assert log == ["a", "b", "late", "route", "post"]
    assert seen.ended_s == 3.5


async def test_a_pre_filter_that_answers_ends_the_way_and_post_filters_see_it():
    log = []
    made = chain(
        Step(log, "refuse", Stage.PRE, 10, answer=REFUSED),
        Step(log, "later", Stage.PRE, 20),
        Step(log, "route", Stage.ROUTE, answer=GOOD),
        Step(log, "post", Stage.POST),
    )
    assert await made.run(exchange()) is REFUSED
    assert log == ["refuse", "post"]


async def test_an_error_filter_may_answer_for_a_failure():
    log, failure = [], OSError("gone")
    made = chain(
        Step(log, "route", Stage.ROUTE, failure=failure),
        Step(log, "broken", Stage.ERROR, 10, failure=ValueError("me too")),
        Step(log, "static", Stage.ERROR, 20, answer=GOOD),
        Step(log, "never", Stage.ERROR, 30, answer=REFUSED),
        Step(log, "post", Stage.POST),
    )
    seen = exchange()
    assert await made.run(seen) is GOOD
    assert seen.failure is failure
    assert log == ["route", "broken", "static", "post"]
    assert {one.name: (count.runs, count.failures) for one, count in made.filters()} == {
        "route": (1, 1), "broken": (1, 1), "static": (1, 0), "never": (0, 0), "post": (1, 0),
    }  # fmt: skip


async def test_a_failure_nobody_answers_for_comes_out_after_the_post_filters():
    log, failure = [], OSError("gone")
    made = chain(Step(log, "route", Stage.ROUTE, failure=failure), Step(log, "post", Stage.POST))
    with pytest.raises(OSError, match="gone"):
        await made.run(exchange())
    assert log == ["route", "post"]


async def test_a_post_filter_that_fails_costs_nobody_the_answer():
    log = []
    made = chain(
        Step(log, "route", Stage.ROUTE, answer=GOOD),
        Step(log, "broken", Stage.POST, 10, failure=ValueError("x")),
        Step(log, "post", Stage.POST, 20),
    )
    assert await made.run(exchange()) is GOOD
    assert log == ["route", "broken", "post"]


async def test_a_chain_in_which_nothing_answers_says_so():
    with pytest.raises(NotAnswered, match="no filter has answered GET /play"):
        await chain().run(exchange())


async def test_an_exchange_goes_through_the_filters_that_were_there_when_it_began():
    log, go = [], asyncio.Event()
    made = chain(Step(log, "slow", Stage.PRE, 10, wait=go), Step(log, "route", Stage.ROUTE, answer=GOOD))
    first = asyncio.create_task(made.run(exchange()))
    await asyncio.sleep(0)
    made.add(Step(log, "new", Stage.PRE, 20, answer=REFUSED))
    go.set()
    assert await first is GOOD
    assert await made.run(exchange()) is REFUSED
    made.remove("new")
    assert await made.run(exchange()) is GOOD
    with pytest.raises(KeyError):
        made.remove("new")


async def test_a_filter_of_the_same_name_takes_the_place_of_the_first_and_there_are_not_too_many():
    log = []
    made = chain(*(Step(log, f"f{number}", Stage.POST) for number in range(FILTERS_MAX)))
    made.add(Step(log, "f0", Stage.PRE, answer=REFUSED))
    assert await made.run(exchange()) is REFUSED
    with pytest.raises(ValueError, match=f"at most {FILTERS_MAX} filters"):
        made.add(Step(log, "one more", Stage.PRE))
    assert len(made.filters()) == FILTERS_MAX


def someone(number=1):
    return Subscriber(id=f"subscriber-{number:05d}", plan=Plan.BASIC, country="country-01")


@pytest.mark.parametrize(
    ("path", "asked", "denied"),
    [("/home", "/home", True), ("/home", "/home/x", False), ("/a/*", "/a/b", True), ("/a/*", "/b", False)],
)
async def test_deny_refuses_its_path_and_no_other(path, asked, denied):
    seen = exchange(asked)
    await Deny.from_json("off", 50, {"path": path, "status": 503, "reason": "maintenance"}).apply(seen)
    assert (seen.answer is not None) == denied
    if denied:
        assert (seen.answer.status, seen.answer.headers) == (503, {"Retry-After": "30"})
        assert b"maintenance" in seen.answer.body


async def test_deny_refuses_the_same_share_of_accounts_every_time():
    deny = Deny.from_json("off", 50, {"path": "/home", "percent": 25})

    async def denied():
        met = set()
        for number in range(1000):
            seen = exchange("/home", subscriber=someone(number))
            await deny.apply(seen)
            if seen.answer is not None:
                met.add(number)
        return met

    first = await denied()
    assert 200 < len(first) < 300
    assert await denied() == first


async def test_header_puts_a_header_on_answers():
    seen = exchange(answer=GOOD)
    await Header.from_json("mark", 50, {"header": "X-Edge", "value": "one"}).apply(seen)
    assert seen.answer == Answer(status=200, body=b"{}", headers={"X-Edge": "one"})
    failed = exchange()
    await Header.from_json("mark", 50, {"header": "X-Edge", "value": "one"}).apply(failed)
    assert failed.answer is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "a filter is"),
        ({"kind": "deny", "order": 50}, "a filter is"),
        ({"kind": "deny", "order": 50, "settings": {}, "more": 1}, "a filter is"),
        ({"kind": "x", "order": 50, "settings": {}}, "'x' is none of deny, header"),
        ({"kind": "deny", "order": 101, "settings": {"path": "/a"}}, "101 is not from 0 to 100"),
        ({"kind": "deny", "order": 50, "settings": {"path": "/a", "x": 1}}, r"settings\.x: there is no such setting"),
        ({"kind": "deny", "order": 50, "settings": {"path": "a"}}, r"settings\.path: 'a' is no path"),
        ({"kind": "deny", "order": 50, "settings": {"path": "/a", "status": 200}}, "200 is no status from 400"),
        ({"kind": "deny", "order": 50, "settings": {"path": "/a", "percent": -1}}, "-1 is no number from 0 to 100"),
        ({"kind": "deny", "order": 50, "settings": {"path": "/a", "reason": 1}}, "at most 200 characters"),
        ({"kind": "header", "order": 50, "settings": {"header": "Content-Length", "value": "1"}}, "no header that can"),
        ({"kind": "header", "order": 50, "settings": {"header": "X-A", "value": "a\r\nb"}}, "printable"),
    ],
)
def test_wrong_settings_of_a_filter_are_named(data, words):
    with pytest.raises(InvalidFilter, match=words):
        filter_from_json("mine", data)


def test_traffic_is_counted_by_route_over_the_last_whole_seconds():
    traffic = Traffic()
    for second in range(20):
        for _ in range(4):
            traffic.record(100 + second + 0.5, "/play", 200, 0.010)
        traffic.record(100 + second + 0.6, "/play", None, 0.5)
        traffic.record(100 + second + 0.7, "/home", 404, 0.001)
    shown = traffic.to_json(120.1)
    assert shown["sps"] == 4.0
    play = shown["routes"]["/play"]
    assert (play["total"], play["rate_per_s"], play["answers_per_s"]) == (100, 5.0, {"2xx": 4.0, "failed": 1.0})
    assert (play["latency_p50_ms"], play["latency_p99_ms"]) == (10.0, 500.0)
    assert shown["routes"]["/home"]["answers_per_s"] == {"4xx": 1.0}
    later = traffic.to_json(140.0)["routes"]["/play"]
    assert (later["total"], later["rate_per_s"], later["latency_p50_ms"]) == (100, 0.0, None)
