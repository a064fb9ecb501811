"""What viewers do with the remote control: the plan, and how the client carries it out on a fake clock."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targets.playback.client_order import ClientConfig
from targets.playback.client_protocol import Ended, Failed, HttpRequest, Started, Switched
from targets.playback.client_viewing import Pause, Press, Seek, Stop, Viewing
from tests.unit.playback.simulated_world import (
    DEAD,
    FULL,
    PAUSED,
    SCALE,
    START_S,
    UP,
    Run,
    State,
    Timeline,
    always,
    simulate,
    up_until,
)
from tests.unit.playback.test_client import TIMELINES, chosen

ALL = range(10)


def viewing(*presses: Press) -> Viewing:
    return Viewing(presses=presses)


def numbers(run: Run) -> list[int]:
    """The chunks that were asked for, in order."""
    return [int(request.path.rpartition("/")[2]) for request in run.chunks()]


# ---- the plan


def test_most_viewers_watch_to_the_end_and_every_habit_occurs():
    plans = [Viewing.draw(random.Random(seed)) for seed in range(1000)]
    kinds = [{type(press) for press in plan.presses} for plan in plans]
    assert sum(not kind for kind in kinds) > 500
    for habit in (Pause, Seek, Stop):
        assert 50 < sum(habit in kind for kind in kinds) < 300
    seeks = [press for plan in plans for press in plan.presses if isinstance(press, Seek)]
    assert any(seek.to < seek.after for seek in seeks)
    assert any(seek.to > seek.after for seek in seeks)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pause(after=0.5, length_s=0.0),
        lambda: Pause(after=0.5, length_s=61.0),
        lambda: Seek(after=0.5, to=1.1),
        lambda: Stop(after=-0.1),
        lambda: viewing(Stop(after=0.5), Pause(after=0.6, length_s=1.0)),
        lambda: viewing(Seek(after=0.5, to=0.1), Pause(after=0.4, length_s=1.0)),
        lambda: viewing(*[Pause(after=0.5, length_s=1.0)] * 9),
    ],
)
def test_a_plan_that_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match=r"pause|share|presses"):
        make()


# ---- pausing


def test_a_pause_is_neither_played_nor_stalled_and_ends_the_session_later():
    run = simulate(viewing=viewing(Pause(after=0.5, length_s=3.0)))
    ended = run.one(Ended)
    assert ended.completed
    assert (ended.played_s, ended.paused_s, ended.stalled_s) == pytest.approx((12.0, 3.0, 0.0))
    assert run.ended_s - START_S == pytest.approx(15.0 + ended.play_delay_s, abs=1e-3)


def test_during_a_pause_the_buffer_fills_to_its_cap_and_no_further():
    slow = always(State(delay_s=0.35))
    run = simulate(others=slow, chunks=20, viewing=viewing(Pause(after=0.1, length_s=10.0)))
    times = [at for at, request in run.requests if isinstance(request, HttpRequest) and "/titles/" in request.path]
    began_s = run.one(Started).now_s
    paused_s = began_s + 0.1 * 20
    during = [at for at in times if paused_s <= at < paused_s + 10.0]
    assert during, "it goes on filling"
    assert max(during) < paused_s + 5.0, "and then waits for the viewer"
    brought = len([at for at in times if at < paused_s + 10.0])
    assert brought - 2.0 <= SCALE.buffer_cap_s + 1e-6


def test_an_outage_during_a_pause_is_not_seen():
    run = simulate({n: up_until(4.0, DEAD, until=8.0) for n in ALL}, viewing=viewing(Pause(after=0.25, length_s=6.0)))
    assert run.one(Ended).completed
    assert run.stalled_s == 0.0


def test_who_pauses_while_everything_is_gone_gives_up_after_the_pause():
    run = simulate({n: up_until(4.0, PAUSED) for n in ALL}, viewing=viewing(Pause(after=0.25, length_s=6.0)))
    ended = run.one(Ended)
    assert not ended.completed
    assert ended.stalled_s >= 10.0


# ---- seeking


def test_a_seek_forward_leaves_out_what_lies_between():
    run = simulate(viewing=viewing(Seek(after=0.25, to=0.75)))
    ended = run.one(Ended)
    assert ended.completed
    assert ended.played_s == pytest.approx(6.0, abs=0.1)
    assert 8 not in numbers(run)
    assert numbers(run)[-3:] == [9, 10, 11]


def test_a_seek_back_brings_again_what_was_seen():
    run = simulate(viewing=viewing(Seek(after=0.5, to=0.25)))
    assert run.one(Ended).played_s == pytest.approx(15.0, abs=0.1)
    assert numbers(run).count(4) == 2
    assert numbers(run).count(2) == 1


def test_a_seek_within_the_buffer_keeps_what_is_there_and_waits_for_nothing():
    run = simulate(viewing=viewing(Seek(after=0.5, to=7 / 12)))
    ended = run.one(Ended)
    assert (ended.seek_s, ended.stalled_s) == (0.0, 0.0)
    assert ended.played_s == pytest.approx(11.0, abs=0.1)
    assert numbers(run) == list(range(12)), "no chunk is brought twice"


def test_waiting_after_a_seek_is_no_rebuffering():
    run = simulate(others=always(State(delay_s=0.3)), viewing=viewing(Seek(after=0.25, to=0.9)))
    ended = run.one(Ended)
    assert ended.seek_s == pytest.approx(0.3, abs=0.01)
    assert (ended.stalled_s, ended.stalls, ended.rebuffer_ratio) == (0.0, 0, 0.0)


def test_a_stall_after_the_picture_has_come_back_from_a_seek_is_rebuffering_again():
    world = {n: up_until(3.3, DEAD, until=10.0) for n in ALL}
    run = simulate(world, chunks=20, viewing=viewing(Seek(after=0.15, to=0.5)))
    ended = run.one(Ended)
    assert ended.completed
    assert ended.stalled_s > 0.0
    assert ended.stalls == 1


def test_a_viewer_gives_up_on_a_seek_that_never_shows_a_picture():
    run = simulate({n: up_until(3.5, PAUSED) for n in ALL}, viewing=viewing(Seek(after=0.5, to=0.1)))
    ended = run.one(Ended)
    assert not ended.completed
    assert ended.seek_s >= 10.0
    assert ended.stalled_s < 1.0


def test_a_seek_to_the_end_ends_the_session():
    run = simulate(viewing=viewing(Seek(after=0.5, to=1.0)))
    assert run.one(Ended).completed
    assert run.one(Ended).played_s == pytest.approx(6.0, abs=0.1)


# ---- stopping


def test_stopping_ends_the_session_at_once_and_completes_it():
    run = simulate(viewing=viewing(Stop(after=0.5)))
    ended = run.one(Ended)
    assert ended.completed
    assert ended.played_s == pytest.approx(6.0, abs=0.02)
    assert run.ended_s == pytest.approx(ended.now_s)


def test_nothing_is_told_of_a_session_after_its_end():
    run = simulate(viewing=viewing(Stop(after=0.5)))
    assert isinstance(run.events[-1], Ended)


# ---- reports


def test_a_session_reports_its_stop_with_the_seconds_watched():
    run = simulate(viewing=viewing(Stop(after=0.5)))
    (report,) = run.reports()
    assert report == {
        "session": "s-1",
        "number": 1,
        "title": "title-0042",
        "kind": "stopped",
        "watched_s": pytest.approx(6.0, abs=0.02),
        "reason": "stopped",
    }


def test_stalls_are_reported_and_the_stop_comes_last():
    run = simulate({n: up_until(4.0, DEAD, until=9.0) for n in ALL})
    assert [(report["number"], report["kind"]) for report in run.reports()] == [(1, "chunk_stalled"), (2, "stopped")]


def test_a_session_of_nothing_but_stalls_makes_few_reports():
    thin = Timeline([(0.0, UP), (2.0, State(bytes_per_s=350.0))])
    patient = ClientConfig(scale=SCALE, failover=False, chunk_timeout_max_s=3.0, chunk_timeout_min_s=3.0)
    run = simulate(others=thin, config=patient, chunks=20)
    assert run.one(Ended).stalls > 5
    assert [report["kind"] for report in run.reports()] == ["chunk_stalled"] * 4 + ["stopped"]


def test_a_play_that_never_starts_reports_its_stop_too_so_that_its_stream_is_free_again():
    run = simulate({n: always(DEAD) for n in ALL})
    assert run.one(Failed)
    (report,) = run.reports()
    assert (report["kind"], report["watched_s"]) == ("stopped", 0.0)


def test_whoever_cuts_a_session_off_can_report_its_stop_once():
    run = simulate(cut_off_s=4.0)
    assert run.reports() == []
    assert run.farewell is not None
    assert json.loads(run.farewell.body) == {
        "session": "s-1",
        "number": 1,
        "title": "title-0042",
        "kind": "stopped",
        "watched_s": pytest.approx(4.0, abs=0.1),
        "reason": "cut off",
    }


@pytest.mark.parametrize("over", [{}, {"plays": [(State(status=403), b"{}")]}, {"cut_off_s": 0.0}])
def test_of_a_session_that_is_over_or_has_not_begun_there_is_nothing_to_report_when_it_is_cut_off(over):
    assert simulate(**over).farewell is None


def test_a_refused_play_reports_nothing():
    assert simulate(plays=[(State(status=403), b'{"refused": "plan"}')]).reports() == []


# ---- the figures


def test_the_quality_figures_are_those_of_the_session():
    run = simulate({n: up_until(4.0, DEAD, until=9.0) for n in ALL})
    ended = run.one(Ended)
    assert ended.play_delay_s == run.one(Started).play_delay_s
    assert ended.rebuffer_ratio == pytest.approx(run.stalled_s / (run.stalled_s + run.played_s))
    assert ended.mean_kbps == pytest.approx(ended.kbit / ended.played_s)
    assert ended.switches == len(run.all(Switched))


@pytest.mark.parametrize("state", [DEAD, PAUSED, FULL, State(delay_s=0.9)])
@pytest.mark.parametrize("second", [3.5, 5.0, 8.0])
def test_with_a_filled_buffer_the_loss_of_an_oca_costs_a_switch_and_no_stall(state, second):
    run = simulate({chosen(): up_until(second, state)}, chunks=16)
    ended = run.one(Ended)
    assert ended.completed
    assert (ended.stalled_s, ended.stalls) == (0.0, 0)
    assert ended.switches == 1


def test_an_oca_whose_first_chunk_is_slow_is_left_at_once_although_it_was_quick_to_answer_the_probe():
    slow = up_until(5.0, State(delay_s=0.6))
    run = simulate({chosen(): up_until(5.0, DEAD), **{n: slow for n in ALL if n != chosen()}}, chunks=16)
    gone, slow_one = run.all(Switched)[:2]
    assert (gone.reason, slow_one.reason) == ("connection refused", "slow")
    assert slow_one.left == gone.taken
    assert slow_one.now_s - gone.now_s == pytest.approx(0.6, abs=0.01), "after one chunk, not after two"
    assert run.stalled_s == 0.0


def test_when_all_ocas_are_slow_the_client_does_not_change_at_every_chunk():
    run = simulate(others=up_until(3.0, State(delay_s=0.6)), chunks=40)
    ended = run.one(Ended)
    assert ended.completed
    # Each of the ten is tried with one chunk; from then on it takes two.
    assert 10 < ended.switches <= 10 + (40 - 10 - 3) // 2


PRESSES = st.lists(
    st.one_of(
        st.builds(Pause, after=st.floats(0.0, 1.0), length_s=st.floats(0.1, 5.0)),
        st.builds(Seek, after=st.floats(0.0, 1.0), to=st.floats(0.0, 1.0)),
    ),
    max_size=4,
).map(lambda presses: sorted(presses, key=lambda press: press.after))
PLANS = st.tuples(PRESSES, st.none() | st.floats(0.0, 1.0)).map(
    lambda plan: viewing(
        *(press for press in plan[0] if plan[1] is None or press.after <= plan[1]),
        *([] if plan[1] is None else [Stop(after=plan[1])]),
    )
)


@settings(max_examples=150)
@given(plan=PLANS, ocas=st.dictionaries(st.integers(0, 9), TIMELINES), others=TIMELINES, seed=st.integers(0, 1000))
def test_whatever_a_viewer_does_every_second_is_accounted_for(plan, ocas, others, seed):
    run = simulate(ocas, others=others, seed=seed, viewing=plan)
    assert run.least_level_s >= 0.0
    assert run.reports()[-1]["kind"] == "stopped"
    if not run.all(Started):
        return
    ended = run.one(Ended)
    parts_s = ended.play_delay_s + ended.played_s + ended.stalled_s + ended.paused_s + ended.seek_s
    assert parts_s == pytest.approx(ended.now_s - START_S, abs=2e-3)
    assert (ended.played_s, ended.stalled_s) == pytest.approx((run.played_s, run.stalled_s))
    assert run.reports()[-1]["watched_s"] == pytest.approx(ended.played_s, abs=1e-3)
