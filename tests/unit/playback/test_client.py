"""The playback client, on a fake clock, against simulated OCAs that die, freeze, slow down and come back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targets.playback.client_order import ClientConfig
from targets.playback.client_protocol import (
    Ended,
    Failed,
    HttpRequest,
    ProbeAll,
    Refused,
    RequestKind,
    Started,
    Switched,
    Watched,
)
from tests.unit.playback.simulated_world import (
    CORRUPT,
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
    oca_address,
    simulate,
    ticket,
    up_until,
)

ALL = range(10)
STICKY = ClientConfig(scale=SCALE, failover=False)


def first_oca_of(run: Run) -> int:
    return int(run.chunks()[0].address.rpartition(":")[2]) - 7000


def chosen(seed: int = 7) -> int:
    """The OCA that a session with this seed begins with when all are up."""
    return first_oca_of(simulate(seed=seed))


# ---- a good day


def test_on_a_good_day_the_whole_session_is_played_without_a_stall():
    run = simulate()
    ended = run.one(Ended)
    assert ended.completed
    assert ended.played_s == pytest.approx(12.0)
    assert run.stalled_s == 0.0
    assert ended.switches == 0
    assert ended.stalls == 0
    assert run.ended_s - START_S == pytest.approx(12.0 + run.one(Started).play_delay_s)


def test_the_play_delay_counts_from_the_moment_the_play_was_due():
    on_time, late = simulate(), simulate(late_s=0.7)
    assert late.one(Started).play_delay_s == pytest.approx(on_time.one(Started).play_delay_s + 0.7)


def test_all_ten_ocas_are_probed_at_once_and_the_fast_one_is_taken():
    slow = always(State(delay_s=0.2))
    run = simulate({n: slow for n in ALL if n != 6})
    probe = next(request for _, request in run.requests if isinstance(request, ProbeAll))
    assert probe.addresses == tuple(oca_address(n) for n in ALL)
    assert {request.address for request in run.chunks()} == {oca_address(6)}


def test_a_paused_oca_holds_up_the_start_by_no_more_than_the_grace():
    run = simulate({9: always(PAUSED)})
    assert run.one(Started).play_delay_s < 0.1


def test_among_equals_the_isp_that_the_backend_put_first_is_preferred_and_chance_decides():
    firsts = {first_oca_of(simulate(seed=seed)) for seed in range(20)}
    assert firsts == {0, 1, 2}, "the OCAs of the first ISP, each of them sometimes"


def test_the_bitrate_rises_with_the_buffer():
    kbps = simulate(chunks=20).kbps()
    assert kbps[0] == 235
    assert kbps == sorted(kbps)
    assert kbps[-1] >= 2350


def test_the_buffer_never_holds_more_than_its_cap():
    run = simulate(chunks=30)
    assert run.one(Ended).completed
    times = [at for at, request in run.requests if isinstance(request, HttpRequest) and "/titles/" in request.path]
    # The n-th chunk (from 0) is not asked for before all but cap - 1 s of those before it have been played.
    for number, at in enumerate(times):
        assert at - times[0] >= number - SCALE.buffer_cap_s


def test_what_is_watched_is_told_at_least_once_a_second():
    run = simulate({n: up_until(5.0, PAUSED) for n in ALL})
    watched = run.all(Watched)
    assert max(event.now_s - event.since_s for event in watched) <= 1.0
    for before, after in itertools.pairwise(watched):
        assert after.since_s == before.now_s


def test_the_mean_bitrate_is_that_of_the_chunks_played():
    run = simulate()
    assert run.one(Ended).kbit == pytest.approx(sum(run.kbps()))


# ---- asking for a play


def test_a_refusal_is_an_answer_and_is_not_asked_for_twice():
    run = simulate(plays=[(State(status=403), b'{"refused": "licence"}')])
    assert run.one(Refused).reason == "licence"
    assert len(run.requests) == 1


def test_an_unanswered_play_is_asked_for_again_on_a_fresh_connection():
    run = simulate(plays=[(PAUSED, b""), (UP, ticket())])
    asked = [r for _, r in run.requests if isinstance(r, HttpRequest) and r.kind is RequestKind.PLAY]
    assert len(asked) == 2
    assert all(request.fresh for request in asked)
    assert 1.5 < run.one(Started).play_delay_s < 2.0


def test_a_play_is_asked_for_twice_at_the_most():
    run = simulate(plays=[(State(status=503), b"")])
    assert len([r for _, r in run.requests if isinstance(r, HttpRequest)]) == 2
    assert "503" in run.one(Failed).reason


def test_without_the_retry_protection_a_play_is_asked_for_once():
    run = simulate(plays=[(DEAD, b""), (UP, ticket())], config=ClientConfig.of({}, ["client_retry"]))
    assert len(run.requests) == 1
    assert "connection refused" in run.one(Failed).reason


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_mistake_of_our_own_is_not_repeated(status):
    run = simulate(plays=[(State(status=status), b""), (UP, ticket())])
    assert str(status) in run.one(Failed).reason


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", ticket(chunks=0), ticket(ocas=0)])
def test_an_answer_that_cannot_be_read_is_a_failure(body):
    run = simulate(plays=[(UP, body)])
    assert "play request" in run.one(Failed).reason


def test_the_deadline_travels_with_the_request():
    _, request = simulate().requests[0]
    assert request.headers["X-Chaos-Deadline-Ms"] == "1500"
    assert request.headers["Authorization"] == "Bearer t"


def test_a_degraded_answer_is_told_as_such():
    run = simulate(plays=[(UP, ticket(degraded=["steering"]))])
    assert run.one(Started).degraded == ("steering",)


# ---- bad luck while streaming


def test_an_oca_that_dies_in_mid_stream_costs_no_stall():
    run = simulate({chosen(): up_until(4.0, DEAD)})
    assert run.one(Ended).completed
    assert run.stalled_s == 0.0
    assert run.one(Switched).left == f"oca-{chosen()}"


def test_an_oca_that_is_paused_in_mid_stream_costs_no_stall():
    run = simulate({chosen(): up_until(4.0, PAUSED)})
    assert run.one(Ended).completed
    assert run.stalled_s == 0.0


def test_an_oca_that_is_full_is_left():
    run = simulate({chosen(): up_until(4.0, FULL)})
    assert "503" in run.one(Switched).reason
    assert run.one(Ended).completed


def test_when_a_whole_isp_is_cut_off_the_client_goes_to_another_isp_first():
    run = simulate({n: up_until(4.0, PAUSED) for n in (0, 1, 2)})
    assert run.one(Switched).taken not in {"oca-0", "oca-1", "oca-2"}
    assert run.stalled_s == 0.0


def test_an_oca_that_becomes_slow_is_left_after_two_slow_chunks():
    run = simulate({chosen(): up_until(3.0, State(delay_s=0.7))})
    assert run.one(Switched).reason == "slow"
    assert run.stalled_s == 0.0


def test_on_a_thin_line_the_bitrate_stays_low_instead_of_stalling():
    # 2 kB/s: a chunk at 235 kbit/s (490 bytes) takes 0.25 s, one at 3000 kbit/s (6250 bytes) takes 3 s.
    run = simulate(others=always(State(bytes_per_s=2000.0)), config=STICKY)
    assert run.one(Ended).completed
    assert run.stalled_s < 0.5
    assert max(run.kbps()[-4:]) < 3000


def test_without_failover_the_client_sticks_with_its_oca_and_stalls():
    run = simulate({chosen(): up_until(4.0, PAUSED, until=12.0)}, config=STICKY)
    assert {request.address for request in run.chunks()} == {oca_address(chosen())}
    assert run.one(Ended).completed
    assert run.one(Ended).stalls == 1
    assert run.stalled_s > 3.0


def test_without_probing_the_client_takes_the_first_of_the_list():
    run = simulate(config=ClientConfig(scale=SCALE, probe=False))
    assert not [request for _, request in run.requests if isinstance(request, ProbeAll)]
    assert {request.address for request in run.chunks()} == {oca_address(0)}


def test_when_all_ocas_have_failed_they_are_probed_again_and_the_session_goes_on():
    run = simulate({n: up_until(4.0, DEAD, until=9.0) for n in ALL})
    assert run.one(Ended).completed
    assert len([request for _, request in run.requests if isinstance(request, ProbeAll)]) > 1
    assert 0.0 < run.stalled_s < 4.0


def test_a_viewer_gives_up_on_a_picture_that_stands_still():
    run = simulate({n: up_until(4.0, PAUSED) for n in ALL})
    ended = run.one(Ended)
    assert not ended.completed
    assert 10.0 <= ended.stalled_s < 12.0


@pytest.mark.parametrize("state", [DEAD, PAUSED, FULL])
def test_a_play_without_a_first_frame_fails_at_the_start_limit(state):
    run = simulate({n: always(state) for n in ALL})
    assert "no first frame within 5 s" in run.one(Failed).reason
    assert 5.0 <= run.ended_s - START_S < 6.5


def test_a_play_that_the_load_started_too_late_fails_without_a_request():
    run = simulate(late_s=6.0)
    assert run.one(Failed)
    assert run.requests == []


# ---- whatever happens

STATES = st.sampled_from(
    [UP, UP, DEAD, PAUSED, FULL, State(delay_s=0.3), State(delay_s=0.9), State(bytes_per_s=1500.0)]
)
TIMELINES = st.lists(st.tuples(st.floats(0.0, 20.0), STATES), max_size=4).map(
    lambda changes: Timeline([(0.0, UP), *sorted(changes, key=lambda change: change[0])])
)
CONFIGS = st.builds(
    ClientConfig, scale=st.just(SCALE), retry=st.booleans(), probe=st.booleans(), failover=st.booleans()
)


@settings(max_examples=150)
@given(
    ocas=st.dictionaries(st.integers(0, 9), TIMELINES),
    others=TIMELINES,
    plays=st.lists(st.sampled_from([(UP, ticket()), (PAUSED, b""), (DEAD, b""), (State(status=503), b"")]), min_size=1),
    config=CONFIGS,
    seed=st.integers(0, 1000),
    late_s=st.sampled_from([0.0, 0.05, 2.0]),
)
def test_whatever_happens_the_books_balance_and_the_session_ends(**world):
    run = simulate(**world)
    assert run.least_level_s >= 0.0
    outcomes = run.all(Started) + run.all(Failed) + run.all(Refused)
    assert len(outcomes) == 1, "every play has exactly one outcome"
    wall_s = run.ended_s - START_S
    if run.all(Started):
        ended = run.one(Ended)
        startup_s = run.one(Started).play_delay_s
        assert startup_s + run.played_s + run.stalled_s == pytest.approx(wall_s, abs=1e-3)
        assert (ended.played_s, ended.stalled_s) == pytest.approx((run.played_s, run.stalled_s))
        assert ended.completed == (run.played_s == pytest.approx(12.0, abs=1e-6))
        assert wall_s <= 5.0 + 12 * (1.0 + 13.0)
    else:
        assert wall_s <= 7.0
        assert run.played_s == run.stalled_s == 0.0


# ---- chunks that are not what they should be


def test_a_corrupt_chunk_is_fetched_elsewhere_and_nobody_sees_it():
    victim = chosen()
    run = simulate({victim: up_until(3.0, CORRUPT)})

    ended = run.one(Ended)
    assert ended.completed
    assert run.stalled_s == 0.0
    (switch,) = run.all(Switched)
    assert (switch.left, switch.reason) == (f"oca-{victim}", "sent a wrong checksum")


def test_without_the_checksum_a_corrupt_chunk_is_a_second_of_broken_picture():
    config = ClientConfig(scale=SCALE, checksum=False)
    run = simulate({chosen(): up_until(3.0, CORRUPT, 6.0)}, config=config)

    assert run.all(Switched) == []
    assert run.one(Ended).completed
    assert 2.0 <= run.stalled_s <= 4.0
    assert run.stalled_s == pytest.approx(round(run.stalled_s))
    assert run.played_s + run.stalled_s == pytest.approx(12.0)


def test_when_every_oca_sends_corrupt_chunks_the_play_fails_and_says_why():
    run = simulate(others=always(CORRUPT))

    assert "sent a wrong checksum" in run.one(Failed).reason


def test_the_checksum_can_be_switched_off_by_its_name():
    assert ClientConfig.of({}, ()).checksum
    assert not ClientConfig.of({}, ("client_checksum",)).checksum
