"""The leases of streams on a real Valkey server, in the test's own time, compared with a model: a dictionary."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chaos.topology.model import CalledInstance
from targets.playback.service import Context
from targets.playback.stream_leases import Claim, LeaseZone, StreamLeases
from targets.playback.streams import STREAMS_MAX, Fate, Stream
from targets.playback.transport import CallFailed
from targets.playback.validation import Plan
from tests.ports import dead_address
from tests.unit.playback.little_target import config, running_valkey

LEASE_S = 20.0
NAMES = st.sampled_from([f"s-{number}" for number in range(7)])


class Leases(RuleBasedStateMachine):
    """One account's leases: on the server, and in the model by name with the moment of their end in milliseconds."""

    zone: LeaseZone
    runner: asyncio.Runner
    accounts = 0

    @initialize(plan=st.sampled_from(Plan))
    def begin(self, plan):
        Leases.accounts += 1
        self.account = f"account-{Leases.accounts}"
        self.most = STREAMS_MAX[plan]
        self.now_s = 1_000.0
        self.model = {}
        self.claims = {}

    def live(self):
        # Whole milliseconds, as the server counts: sums of floats fall a hair short of the moment they mean.
        return {name for name, until_ms in self.model.items() if until_ms > round(self.now_s * 1000)}

    @rule(name=NAMES)
    def claim(self, name):
        live, until_ms = self.live(), round((self.now_s + LEASE_S) * 1000)
        claim = Claim(stream=Stream(self.account, name), streams_max=self.most, until_ms=until_ms)
        self.model = {one: its for one, its in self.model.items() if one in live}

        granted = self.runner.run(self.zone.claim(claim, self.now_s))

        assert granted == (name in live or len(live) < self.most)
        if granted:
            self.model[name] = until_ms
            self.claims[name] = claim

    @rule(name=NAMES)
    def try_again(self, name):
        if name in self.live():
            self.now_s += 0.001
            claim = Claim(
                stream=Stream(self.account, name),
                streams_max=self.most,
                until_ms=round((self.now_s + LEASE_S) * 1000),
            )
            if name in self.live():
                assert self.runner.run(self.zone.claim(claim, self.now_s)), "a try again is never refused"
                self.model = {one: its for one, its in self.model.items() if one in self.live()}
                self.model[name] = claim.until_ms

    @rule(news=st.dictionaries(NAMES, st.sampled_from(Fate), min_size=1))
    def tell(self, news):
        self.runner.run(self.zone.tell({Stream(self.account, name): fate for name, fate in news.items()}, self.now_s))
        live = self.live()
        for name, fate in news.items():
            if fate is Fate.ENDED:
                self.model.pop(name, None)
            elif name in live:
                self.model[name] = round((self.now_s + LEASE_S) * 1000)

    @rule(name=NAMES)
    def release(self, name):
        claim = self.claims.get(name)
        if claim is not None:
            self.runner.run(self.zone.release([claim], self.now_s))
            if self.model.get(name) == claim.until_ms:
                del self.model[name]

    @rule(seconds=st.sampled_from([0.001, 0.5, 7.0, 19.999, 20.0]))
    def wait(self, seconds):
        self.now_s += seconds

    @invariant()
    def there_are_never_more_live_leases_than_the_plan_allows(self):
        if hasattr(self, "model"):
            assert len(self.live()) <= self.most


@pytest.fixture(scope="module")
def address():
    """A real Valkey server."""
    with running_valkey() as found:
        yield found


def called(address):
    return CalledInstance(instance="cache-1", address=address, labels={"zone": "a"})


def test_the_server_counts_as_the_model_does_whatever_comes_in_whatever_order(address):
    with asyncio.Runner() as runner:

        async def connect():
            return LeaseZone(called(address), lease_s=LEASE_S)

        zone = runner.run(connect())
        machine = type("LeasesOnServer", (Leases,), {"zone": zone, "runner": runner})
        try:
            case = machine.TestCase
            case.settings = settings(max_examples=40, stateful_step_count=30)
            case("runTest").debug()
        finally:
            runner.run(zone.close())


async def test_of_many_claims_at_the_same_moment_no_more_are_granted_than_there_may_be(address):
    zone = LeaseZone(called(address), lease_s=LEASE_S)
    try:
        claims = [Claim(stream=Stream("crowd", f"s-{n}"), streams_max=4, until_ms=21_000) for n in range(50)]

        granted = await asyncio.gather(*(zone.claim(claim, 1.0) for claim in claims))

        assert granted.count(True) == 4
    finally:
        await zone.close()


async def test_a_server_that_is_not_there_is_a_failed_call():
    zone = LeaseZone(called(dead_address()), lease_s=LEASE_S)
    try:
        with pytest.raises(CallFailed, match="cache zone a"):
            await zone.claim(Claim(stream=Stream("a", "s"), streams_max=1, until_ms=1), 0.0)
        with pytest.raises(CallFailed, match="cache zone a"):
            await zone.tell({Stream("a", "s"): Fate.ENDED}, 0.0)
    finally:
        await zone.close()


@pytest.mark.parametrize("lease_s", [0, 86_401])
async def test_a_lease_of_an_impossible_time_is_refused(lease_s):
    context = Context(config("playback_apps", calls={"cache": [dead_address()]}, settings={"stream_lease_s": lease_s}))
    try:
        with pytest.raises(ValueError, match=r"settings\.stream_lease_s is .*; from 1 to 86400 seconds"):
            StreamLeases(context)
    finally:
        await context.close()
