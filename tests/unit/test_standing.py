"""A load that stands: what runs are lent of it, and when the outcomes of a window are known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from chaos import clock
from chaos.errors import EnvironmentFailure
from chaos.load import lending
from chaos.load.lending import BASELINE_S, LEAD_S, StandingLoad
from chaos.samples import LAG_KIND, Sample, SampleOutcome
from chaos.standing import WINDOW_S_MAX, is_steady, is_well, kinds_of_attempts, outcomes_known, window_for
from chaos.verdict.windows import SampleStore
from tests.unit.verdict.building import TOPOLOGY, evenly, experiment, sample

PER_S = 40.0


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self, monkeypatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.now_s)
        monkeypatch.setattr(clock, "sleep_until", self.sleep_until)

    async def sleep_until(self, moment_s: float) -> None:
        self.now_s = max(self.now_s, moment_s)
        await asyncio.sleep(0)


class Driver:
    """A load without Locust: plays at an even rate, answered after 50 ms, of which some fail."""

    def __init__(self, time: Clock) -> None:
        self._time = time
        self._written_s = 0.0
        self.fails = lambda moment_s: False
        self.broken: str | None = None
        self.finished = False

    def go(self, start_at_s: float) -> None:
        self._written_s = start_at_s

    def read(self) -> list[Sample]:
        return list(self._new())

    def _new(self) -> Iterator[Sample]:
        while self._written_s + 0.05 <= self._time.now_s and not self.finished:
            at_s = self._written_s
            outcome = SampleOutcome.FAILED if self.fails(at_s) else SampleOutcome.OK
            yield Sample(
                kind=LAG_KIND, scheduled_s=at_s, ended_s=at_s, outcome=SampleOutcome.OK, values={"lag_s": 0.001}
            )
            yield Sample(kind="play", scheduled_s=at_s, ended_s=at_s + 0.05, outcome=outcome, values={"delay_s": 0.05})
            self._written_s += 1.0 / PER_S

    def calm(self) -> None:
        raise AssertionError("a load that stands has no surges")

    def failure(self) -> str | None:
        return self.broken

    async def finish(self, *, drain_s: float) -> None:
        self.finished = True


@pytest.fixture
def time(monkeypatch) -> Clock:
    return Clock(monkeypatch)


async def standing(time: Clock, **begin: float) -> tuple[StandingLoad, Driver]:
    driver = Driver(time)
    load = StandingLoad(driver, broken=lambda: None)
    await load.begin(**begin)
    return load, driver


async def test_a_run_is_lent_the_baseline_in_its_own_first_seconds_and_then_what_really_happens(time: Clock):
    load, _ = await standing(time)
    time.now_s += 60.0  # other runs
    load.read()
    lent = load.lend()
    store = SampleStore(lent.origin_s)
    store.add(lent.read())
    fault_s = time.now_s - lent.origin_s
    assert fault_s == pytest.approx(BASELINE_S + LEAD_S)
    assert store.tally("play", 0.0, BASELINE_S).total == pytest.approx(PER_S * BASELINE_S, abs=1)
    assert store.offered(0.0, BASELINE_S) == store.tally("play", 0.0, BASELINE_S).total
    time.now_s += 4.0
    store.add(lent.read())
    assert store.tally("play", fault_s, fault_s + 3.5).total == pytest.approx(PER_S * 3.5, abs=1)
    assert store.tally("play", BASELINE_S, fault_s).total == pytest.approx(PER_S * LEAD_S, abs=3)


async def test_what_went_wrong_in_another_run_is_in_no_later_one(time: Clock):
    load, driver = await standing(time)
    began_s = time.now_s
    driver.fails = lambda moment_s: began_s <= moment_s < began_s + 5.0
    time.now_s += 10.0
    load.read()
    lent = load.lend()
    store = SampleStore(lent.origin_s)
    store.add(lent.read())
    assert store.tally("play", -100.0, 100.0).failed == 0


async def test_a_baseline_is_measured_again_when_it_must_be_of_an_older_load(time: Clock):
    load, driver = await standing(time)
    driver.fails = lambda moment_s: True
    await load.warm_for(5.0)  # the load is about that old
    age_s = load.age_s
    assert age_s > 5.0
    lent = load.lend()
    store = SampleStore(lent.origin_s)
    store.add(lent.read())
    assert store.tally("play", 0.1, BASELINE_S).good == 0
    await load.warm_for(5.0)
    assert load.age_s == age_s, "once is enough"


async def test_whether_the_system_was_well_is_seen_in_the_baseline(time: Clock):
    load, driver = await standing(time)
    steady = experiment("availability >= 99.5%")
    assert is_well(load.lend(), steady, TOPOLOGY)
    driver.fails = lambda moment_s: int(moment_s * PER_S) % 10 == 0
    await load.measure()
    assert not is_well(load.lend(), steady, TOPOLOGY)


async def test_whether_the_system_is_steady_now_is_seen_in_the_last_second(time: Clock):
    load, driver = await standing(time)
    steady = experiment("availability >= 99.5%")
    assert is_steady(load.lend(), steady, TOPOLOGY)
    began_s = time.now_s
    driver.fails = lambda moment_s: began_s <= moment_s < began_s + 2.0
    time.now_s += 2.0
    assert not is_steady(load.lend(), steady, TOPOLOGY)
    assert is_well(load.lend(), steady, TOPOLOGY), "the baseline is another matter"
    time.now_s += 2.0
    assert is_steady(load.lend(), steady, TOPOLOGY)


async def test_a_load_that_dies_before_its_baseline_is_an_environment_failure(time: Clock):
    driver = Driver(time)
    driver.broken = "Locust ended with exit code 1 in the middle of the run"
    with pytest.raises(EnvironmentFailure, match="Locust ended"):
        await StandingLoad(driver, broken=lambda: None).begin()


async def test_a_run_that_cannot_wait_for_outcomes_ends_the_load_for_all(time: Clock):
    load, driver = await standing(time)
    await load.lend().finish(drain_s=0.0)
    assert load.over
    assert driver.finished


async def test_memory_of_old_samples_is_given_up(time: Clock):
    load, _ = await standing(time)
    for _ in range(100):
        time.now_s += 1.0
        load.read()
    assert len(load._recent) < 2 * PER_S * (lending._KEPT_S + LEAD_S + 2)


# -- known outcomes ---------------------------------------------------------------------------------------------------


def store_with(*, missing: int = 0, browse: int = 0) -> SampleStore:
    """Ten seconds of plays and, half as often, browsing; of the last two seconds some have no outcome yet."""
    store = SampleStore(0.0)
    moments = list(evenly(0.0, 10.0, PER_S))
    for moment_s in moments:
        store.add([sample(moment_s, kind=LAG_KIND, lag_s=0.001)])
    for moment_s in moments[: len(moments) - missing]:
        store.add([sample(moment_s)])
    looks = moments[::2]
    for moment_s in looks[: len(looks) - browse]:
        store.add([sample(moment_s, kind="browse")])
    return store


def known(store: SampleStore, *kinds: str) -> bool:
    return outcomes_known(store, kinds, baseline=(0.0, 4.0), span=(8.0, 10.0))


def test_outcomes_are_known_when_every_kind_is_there_in_its_proportion():
    assert known(store_with(), "play", "browse")
    assert known(store_with(missing=2), "play")
    assert not known(store_with(missing=3), "play")


def test_a_kind_that_comes_with_some_arrivals_is_missed_when_chance_does_not_explain_it():
    assert known(store_with(browse=10), "play", "browse")
    assert not known(store_with(browse=30), "play", "browse")
    assert known(store_with(browse=30), "play"), "nobody asked for it"


def test_only_outcomes_of_attempts_are_waited_for():
    about = experiment("availability >= 99.5%", "sps >= 95% of baseline", "rebuffering <= 1%").steady_state
    assert kinds_of_attempts(about, TOPOLOGY) == ("play",)
    assert kinds_of_attempts(about[1:], TOPOLOGY) == ()


def test_a_closed_load_is_taken_at_its_word():
    store = SampleStore(0.0)
    store.add([sample(moment_s) for moment_s in evenly(0.0, 4.0, PER_S)])
    assert known(store, "play")


@pytest.mark.parametrize(
    ("rate_per_s", "window_s"), [(60.0, 0.7), (25.0, 1.2), (1.0, WINDOW_S_MAX), (0.0, WINDOW_S_MAX)]
)
def test_a_window_is_long_enough_for_the_load(rate_per_s: float, window_s: float):
    assert window_for(rate_per_s) == window_s
