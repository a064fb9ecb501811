"""Accounts and visits: on a fake clock with answers of the test's, and against the real services behind a gateway."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence

import aiohttp
import pytest

from chaos.samples import SampleOutcome
from targets.playback import billing, passwords, signup_api
from targets.playback import client_visits as visits
from targets.playback.asyncio_player import AsyncioPlayer
from targets.playback.client_account import Account, Visited
from targets.playback.client_order import ClientConfig, PlayOrder
from targets.playback.client_play import ask_for_play
from targets.playback.client_protocol import Failed, HttpRequest, Reply, RequestKind, Started, Ticket, Wait, Woken
from targets.playback.passwords import HashSettings
from targets.playback.seed_data import SeedData
from tests.ports import dead_address
from tests.unit.playback.little_store import LittleStore, Trouble
from tests.unit.playback.little_target import SETTINGS, LittleTarget
from tests.unit.playback.simulated_world import DEAD, PAUSED, START_S, UP, State, simulate, ticket

OK, FALLBACK, REFUSED, FAILED = (
    SampleOutcome.OK,
    SampleOutcome.FALLBACK,
    SampleOutcome.REFUSED,
    SampleOutcome.FAILED,
)
FORM = {"plan": "standard", "country": "country-01"}
ENTERED = (State(), b'{"account": "account-1", "token": "new"}')
HOME = (State(), b'{"rows": [{"title": "Popular", "kind": "popular", "titles": ["title-0001"]}], "degraded": []}')
FOUND = (State(), b'{"titles": ["title-0001"]}')
UNAVAILABLE = (State(status=503), b'{"error": "not now"}')
EXPIRED = (State(status=401), b'{"error": "expired"}')

Answers = Sequence[tuple[State, bytes]]


class Seen(list[HttpRequest]):
    """The requests a visit made, and the moment of its end."""

    now_s = START_S

    def paths(self) -> list[str]:
        return [request.path for request in self]


def account(**given: str) -> Account:
    told = {"email": "ann@example.com", "password": "correct horse", "token": "old", **given}
    return Account("127.0.0.1:6000", client_ip="10.0.0.1", config=ClientConfig(), rng=random.Random(1), **told)


def make(
    visit: Callable, answers: Answers, *, config: ClientConfig | None = None, **given: str
) -> tuple[Visited, Seen]:
    """Make the visit of an account; the last of the answers goes on for ever."""
    seen, left = Seen(), list(answers)
    steps = visit(account(**given))
    try:
        request = next(steps)
        while True:
            if isinstance(request, Wait):
                seen.now_s = request.until_s
                request = steps.send(Woken(now_s=seen.now_s))
                continue
            seen.append(request)
            state, body = left.pop(0) if len(left) > 1 else left[0]
            if state.delay_s is None:
                seen.now_s += request.timeout_s
                request = steps.send(Reply(now_s=seen.now_s, error="timed out"))
            else:
                seen.now_s += state.delay_s
                error = "" if state.status else "connection refused"
                request = steps.send(Reply(now_s=seen.now_s, status=state.status, body=body, error=error))
    except StopIteration as end:
        return end.value, seen


LIMITS = {"now_s": START_S, "by_s": START_S + visits.VISIT_LIMIT_S}


def signing_up(one: Account):
    return one.sign_up(**FORM, key="k-1", **LIMITS)


def logging_in(one: Account):
    return one.log_in(**LIMITS)


def browsing(one: Account):
    return visits.browse(one, **LIMITS)


def searching(one: Account):
    return visits.search(one, "title 00", **LIMITS)


def joining(one: Account):
    return visits.become_customer(one, FORM, key="k-1", **LIMITS)


# ---- on a fake clock


@pytest.mark.parametrize("first", [(PAUSED, b""), (DEAD, b""), UNAVAILABLE, (State(), b"garbled")])
def test_a_sign_up_that_came_to_nothing_is_sent_again_with_the_same_key(first):
    visited, seen = make(signing_up, [first, ENTERED])
    assert visited.outcome is OK
    assert seen.paths() == ["/signup", "/signup"]
    assert {request.headers["Idempotency-Key"] for request in seen} == {"k-1"}
    assert seen[0].body == seen[1].body
    assert not seen[0].fresh
    assert seen[1].fresh, "the connection may be what is broken"


@pytest.mark.parametrize(
    ("status", "outcome"), [(409, REFUSED), (403, REFUSED), (400, FAILED), (401, FAILED), (429, FAILED)]
)
def test_what_the_service_says_about_us_is_not_asked_twice(status, outcome):
    visited, seen = make(signing_up, [(State(status=status), b"{}")])
    assert (visited.outcome, visited.reason) == (outcome, f"answered {status}")
    assert len(seen) == 1


def test_an_answer_without_a_token_lets_nobody_in():
    assert make(logging_in, [(State(), b"{}")])[0].outcome is FAILED


@pytest.mark.parametrize("answer", [(PAUSED, b""), (DEAD, b""), UNAVAILABLE])
@pytest.mark.parametrize("visit", [signing_up, logging_in, browsing, searching, joining])
def test_a_visit_to_a_dead_service_fails_after_two_tries_and_in_time(visit, answer):
    visited, seen = make(visit, [answer])
    assert visited.outcome is FAILED
    assert len(seen) == 2
    assert visited.now_s == seen.now_s
    assert seen.now_s - START_S <= visits.VISIT_LIMIT_S


def test_a_visit_of_many_steps_ends_in_time_however_slow_each_of_them_is():
    slow = 1.4
    answers = [(State(delay_s=slow), body) for _, body in (ENTERED, ENTERED, HOME)]
    visited, seen = make(joining, [*answers[:2], (PAUSED, b"")])
    assert visited.outcome is FAILED
    assert seen.now_s - START_S == pytest.approx(visits.VISIT_LIMIT_S)
    assert [int(request.headers["X-Chaos-Deadline-Ms"]) for request in seen][:3] == [1500, 1500, 1500]
    assert seen[-1].timeout_s < 1.5


def test_a_token_that_has_expired_is_replaced_once_by_logging_in_again():
    visited, seen = make(browsing, [EXPIRED, ENTERED, HOME])
    assert visited.outcome is OK
    assert seen.paths() == ["/home", "/login", "/home"]
    assert [request.headers.get("Authorization") for request in seen] == ["Bearer old", None, "Bearer new"]


def test_a_token_that_is_not_taken_even_when_it_is_new_is_a_failure_and_no_loop():
    visited, seen = make(browsing, [EXPIRED, ENTERED, EXPIRED])
    assert (visited.outcome, visited.reason) == (FAILED, "answered 401")
    assert seen.paths() == ["/home", "/login", "/home"]


def test_without_a_password_an_expired_token_is_a_failure():
    visited, seen = make(browsing, [EXPIRED], email="")
    assert visited.outcome is FAILED
    assert seen.paths() == ["/home"]


@pytest.mark.parametrize(
    ("page", "outcome"),
    [
        ({"rows": [{"kind": "popular"}], "degraded": []}, OK),
        ({"rows": [{"kind": "personal"}, {"kind": "static"}], "degraded": []}, OK),
        ({"rows": [{"kind": "popular"}], "degraded": ["cache.a.read"]}, FALLBACK),
        ({"rows": [{"kind": "static"}], "degraded": []}, FALLBACK),
        ({"rows": []}, FALLBACK),
        ({"rows": None}, FALLBACK),
    ],
)
def test_a_home_page_that_is_for_anybody_is_a_fallback(page, outcome):
    assert make(browsing, [(State(), json.dumps(page).encode())])[0].outcome is outcome


def test_a_search_that_finds_nothing_is_a_fallback():
    visited, seen = make(searching, [(State(), b'{"titles": []}')])
    assert visited.outcome is FALLBACK
    assert seen.paths() == ["/search?q=title%2000"]


@pytest.mark.parametrize(
    ("answers", "outcome", "steps"),
    [
        ([HOME, FOUND], OK, 2),
        ([(State(), b'{"rows": []}'), FOUND], FALLBACK, 2),
        ([HOME, (State(), b'{"titles": []}')], FALLBACK, 2),
        ([HOME, (State(status=404), b"")], FAILED, 2),
        ([(State(status=404), b"")], FAILED, 1),
    ],
)
def test_a_visit_is_as_good_as_its_worst_step_and_ends_with_a_failed_one(answers, outcome, steps):
    visited, seen = make(lambda one: visits.browse(one, query="title-00", **LIMITS), answers)
    assert (visited.outcome, len(seen)) == (outcome, steps)


# ---- a play in the name of an account


def test_both_tries_of_a_play_bring_the_same_key_and_the_device():
    run = simulate(plays=[(PAUSED, b""), (UP, ticket())], key="play-7", device="phone")
    asked = [one for _, one in run.requests if isinstance(one, HttpRequest) and one.kind is RequestKind.PLAY]
    assert [one.headers["Idempotency-Key"] for one in asked] == ["play-7", "play-7"]
    assert [json.loads(one.body) for one in asked] == [{"title": "title-0042", "device": "phone"}] * 2
    assert run.one(Started)


ORDER = PlayOrder(
    elb="127.0.0.1:6000", title="title-0042", token="old", client_ip="10.0.0.1", scheduled_s=START_S, key="play-7"
)


def playing(one: Account):
    return ask_for_play(one, ORDER, ClientConfig(), START_S)


def test_a_play_of_somebody_whose_token_has_expired_is_asked_for_again_after_a_log_in():
    asked, seen = make(playing, [EXPIRED, ENTERED, (UP, ticket())])
    assert isinstance(asked.result, Ticket)
    assert seen.paths() == ["/play", "/login", "/play"]
    assert [one.headers.get("Idempotency-Key") for one in seen] == ["play-7", None, "play-7"]


def test_a_play_whose_token_cannot_be_replaced_has_failed_and_says_why():
    asked, seen = make(playing, [EXPIRED, UNAVAILABLE])
    assert isinstance(asked.result, Failed)
    assert "401" in asked.result.reason
    assert asked.now_s == seen.now_s


# ---- against the real services


@pytest.fixture(autouse=True)
def _hashes_are_cheap(monkeypatch):
    monkeypatch.setattr(signup_api, "HashSettings", lambda: HashSettings(memory_kib=64, passes=1))
    monkeypatch.setattr(passwords, "INTERVAL_S", 0.002)
    monkeypatch.setattr(billing, "ASK_EVERY_S", 0.1)


class Backend(LittleTarget):
    """A store, the Signup API, a Discovery API without a cache, a gateway and the load balancer."""

    async def build(self, *, discovery: bool = True) -> None:
        self.store = LittleStore()
        store = await self.serve(self.store.app)
        settings = {"billing_period_s": 1_000_000.0, "billing_rate_per_s": 1000}
        signup = await self.start("signup_api", calls={"store": [store]}, settings=settings)
        found = dead_address()
        if discovery:
            caches = {"cache": [dead_address(), dead_address()]}
            found = await self.start("discovery_api", calls=caches, zones=["a", "b"], labels={"zone": "a"})
        gateway = await self.start("gateway", calls={"signup_api": [signup], "discovery_api": [found]})
        self.elb = await self.start("elb", calls={"gateway": [gateway]})

    async def visit(self, make_visit: Callable, *, token: str = "", email: str = "ann@example.com") -> Visited:
        """Make a visit now, over sockets."""
        one = Account(
            self.elb,
            client_ip="10.0.1.1",
            config=ClientConfig(),
            rng=random.Random(1),
            token=token,
            email=email,
            password="correct horse",
        )
        self.account = one
        now_s = self.now_s()
        return await AsyncioPlayer(aiohttp.ClientSession).carry_through(
            make_visit(one, now_s=now_s, by_s=now_s + visits.VISIT_LIMIT_S)
        )

    @staticmethod
    def now_s() -> float:
        return asyncio.get_running_loop().time()

    @property
    def accounts(self) -> int:
        return self.store.ledger.totals()["accounts"]


def join(one: Account, **limits: float):
    return visits.become_customer(one, FORM, key="k-1", **limits)


async def test_a_newcomer_becomes_a_customer_and_sees_a_home_page():
    async with Backend() as target:
        await target.build()

        visited = await target.visit(join)

        assert visited.outcome is FALLBACK, "there is no cache, and nobody has played anything"
        assert target.accounts == 1
        status, _ = await target.get(target.elb, "/account", Authorization=f"Bearer {target.account.token}")
        assert status == 200


async def test_a_sign_up_whose_answer_was_lost_is_done_once():
    async with Backend() as target:
        await target.build()
        # So often that the service gives up in the first try, and not in the second.
        target.store.has(Trouble.LOSES_ANSWERS, times=3, path="/commands")

        visited = await target.visit(join)

        assert target.store.requests["POST /commands"] > 3
        assert (visited.outcome, visited.reason) == (FALLBACK, "a home page for anybody")
        assert target.accounts == 1


async def test_an_address_that_has_an_account_is_refused_to_somebody_else():
    async with Backend() as target:
        await target.build()
        await target.visit(join)

        visited = await target.visit(lambda one, **limits: one.sign_up(**FORM, key="k-2", **limits))

        assert visited.outcome is REFUSED


async def test_a_customer_with_an_old_token_is_logged_in_again_and_can_cancel():
    async with Backend() as target:
        await target.build()
        await target.visit(join)

        visited = await target.visit(lambda one, **limits: one.cancel(key="k-3", **limits), token="an.old.one")
        assert visited.outcome is OK
        assert visited.fields["cancelled"] is True

        again = await target.visit(lambda one, **limits: one.log_in(**limits))
        assert (again.outcome, again.reason) == (REFUSED, "answered 403")


async def test_searching_finds_titles_and_the_gateways_own_answer_is_known_as_such():
    async with Backend() as target:
        await target.build()
        token = SeedData.token(target.data.subscribers[0], str(SETTINGS["signing_key"]))
        assert (await target.visit(look, token=token)).outcome is OK

    async with Backend() as target:
        await target.build(discovery=False)
        assert (await target.visit(look, token=token)).outcome is FALLBACK
        assert (await target.visit(visits.open_home, token=token)).outcome is FALLBACK


def look(one: Account, **limits: float):
    return visits.search(one, "title-00", **limits)
