"""Who comes for what, and when: the mix of the playback target's load."""

from __future__ import annotations

import contextlib
import random
import re
from itertools import islice
from pathlib import Path

import pytest
from gevent.server import StreamServer
from hypothesis import given
from hypothesis import strategies as st

from chaos import clock
from chaos.groups import Group
from chaos.load.arrivals import arrivals
from chaos.topology.parser import load_topology
from locustfiles.playback_mix import PER_PLAY, VisitKind, schedules, shares_of
from locustfiles.playback_viewer import FIRST_PLAY, Viewer
from locustfiles.playback_visits import visitor
from locustfiles.playback_world import DEVICES, World
from targets.playback.signup_forms import SignUpForm
from tests.unit.playback.little_target import config

ROOT = Path(__file__).resolve().parents[3]
SEEDS = st.integers(0, 10_000)
SHARES = st.fixed_dictionaries({kind.setting: st.floats(0.0, 3.0) for kind in VisitKind})


def test_without_a_word_about_it_the_mix_is_the_usual_one():
    assert shares_of({"test_account": "subscriber-00042"}) == PER_PLAY
    assert shares_of({"signup_per_play": 0})[VisitKind.SIGNUP] == 0.0


@pytest.mark.parametrize("value", [-0.1, "often", True, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"load\.settings\.browse_per_play is .* from 0 to 100"):
        shares_of({"browse_per_play": value})


@given(seed=SEEDS, mine=SHARES, others=SHARES, kind=st.sampled_from(VisitKind))
def test_when_visits_of_a_kind_come_does_not_depend_on_the_other_kinds(seed, mine, others, kind):
    alone = schedules({**shares_of(others), kind: shares_of(mine)[kind]}, seed, 30.0, 5.0)
    whole = schedules(shares_of(mine), seed, 30.0, 5.0)
    assert list(alone.get(kind, ())) == list(whole.get(kind, ()))


@given(seed=SEEDS)
def test_no_kind_of_visit_has_the_moments_of_the_plays_or_of_another_kind(seed):
    as_many = dict.fromkeys(VisitKind, 1.0)
    plays = [arrival.at_s for arrival in arrivals(seed, 10.0, 2.0)]
    moments = [plays, *([one.at_s for one in visits] for visits in schedules(as_many, seed, 10.0, 2.0).values())]
    assert len({moment for some in moments for moment in some}) == 20 * len(moments)


@given(seed=SEEDS, parts=st.integers(1, 4), shares=SHARES)
def test_the_processes_of_a_load_share_the_visits_without_a_number_twice(seed, parts, shares):
    whole = schedules(shares_of(shares), seed, 20.0, 4.0)
    split = [schedules(shares_of(shares), seed, 20.0, 4.0, part=part, parts=parts) for part in range(parts)]
    for kind, visits in whole.items():
        together = sorted((one for part in split for one in part[kind]), key=lambda one: one.number)
        assert together == list(visits)


def test_the_rate_of_visits_is_their_share_of_the_plays():
    visits = schedules(PER_PLAY, 7, 30.0, 100.0)
    assert {kind: len(list(ones)) for kind, ones in visits.items()} == {
        kind: round(share * 3000) for kind, share in PER_PLAY.items()
    }


# ---- who they are


class Recorded(list):
    def __init__(self) -> None:
        self.groups = []

    def __call__(self, kind, scheduled_s, ended_s, outcome, values=None, group=None):
        self.append((kind, scheduled_s, ended_s, outcome, values))
        self.groups.append(group)


def world(
    *, start_s: float = 12.5, seed: int = 7, elb: str = "127.0.0.1:6000", group_of=lambda _: None, **settings
) -> World:
    client = config("client", calls={"elb": [elb]})
    made = World(lambda **_: None, client, Recorded(), seed=seed, settings=settings, group_of=group_of)
    made.begin(start_s)
    return made


def order_of(one: World, number: int):
    arrival = next(islice(arrivals(7, 30.0), number, None))
    return Viewer.arriving(one, arrival, 100.0, 0.0)._client._order


@pytest.mark.parametrize("number", [0, 1, 17, 300])
def test_who_plays_what_and_how_depends_on_the_seed_and_the_number_alone(number):
    first = order_of(world(), number)
    second = order_of(world(start_s=99.0, browse_per_play=3.0), number)
    assert (first.title, first.client_ip, first.device, first.viewing) == (
        second.title,
        second.client_ip,
        second.device,
        second.viewing,
    )
    assert first.device in DEVICES
    assert first.key != second.key, "another run on the same target is another play"


def test_the_people_of_a_run_are_new_ones_whichever_process_they_come_to():
    emails = {
        one.newcomer(kind, number, one_rng(number))._email
        for one in (world(), world(start_s=13.0), world(seed=8))
        for kind in (VisitKind.SIGNUP, VisitKind.LOGIN)
        for number in range(50)
    }
    assert len(emails) == 3 * 2 * 50


def test_a_newcomer_fills_in_a_form_that_the_service_takes():
    one = world()
    account = one.newcomer(VisitKind.SIGNUP, 3, one_rng(3))
    request = next(account.sign_up(**one.form(one_rng(3)), key=one.key("signup-3"), now_s=0.0, by_s=5.0))
    form = SignUpForm.from_body(request.body, one._data.countries)
    assert re.fullmatch(r"signup-7-[0-9a-f]+-3@example\.com", form.email)


def test_who_is_known_can_be_logged_in_as_and_at_first_nobody_is():
    one = world()
    assert one.known_customer(one_rng(1)) is None
    one.remember(VisitKind.SIGNUP, 3)
    known = one.known_customer(one_rng(1))
    new = one.newcomer(VisitKind.SIGNUP, 3, one_rng(1))
    assert (known._email, known._password) == (new._email, new._password)


def test_every_query_is_for_something_that_is_there():
    one = world()
    names = [title.id for title in one._data.titles]
    for seed in range(100):
        assert any(name.startswith(one.query(one_rng(seed))) for name in names)


@pytest.mark.parametrize("kind", VisitKind)
def test_a_visit_without_an_outcome_at_the_end_has_failed_once(kind):
    one = world()
    visit = visitor(one, kind)(next(arrivals(7, 1.0)), 100.0, 0.002)
    assert not visit.settled
    visit.end(103.0, "no outcome by the end of the run")
    visit.end(104.0, "again")
    assert one.record == [(kind, 100.0, 103.0, "failed", {"lag_s": 0.002, "latency_s": 3.0})]


@pytest.mark.parametrize("kind", VisitKind)
def test_a_visitors_requests_and_sample_say_which_group_the_account_is_in(kind):
    for group in (*Group, None):
        asked, names = [], []
        with heard(asked) as address:
            one = world(elb=address, group_of=lambda name, group=group, names=names: names.append(name) or group)
            visitor(one, kind)(next(arrivals(7, 1.0)), clock.monotonic_s(), 0.0).run()
        assert one.record.groups == [group]
        assert re.fullmatch(r"subscriber-\d{5}|(signup|login)-7-\w+-0@example\.com", names[0])
        headers = re.findall(r"X-Chaos-Group: (\w+)", "".join(asked))
        assert headers == ([] if group is None else [group.value] * len(asked))
        assert asked


def test_a_players_requests_and_samples_say_which_group_the_account_is_in():
    asked = []
    with heard(asked) as address:
        one = world(elb=address, group_of=lambda name: Group.EXPERIMENT)
        viewer = Viewer.arriving(one, next(arrivals(7, 1.0)), clock.monotonic_s(), 0.0)
        viewer.run()
    assert [kind for kind, *_ in one.record] == ["play"]
    assert one.record.groups == [Group.EXPERIMENT]
    assert asked
    assert all("X-Chaos-Group: experiment" in head for head in asked)


@contextlib.contextmanager
def heard(asked):
    """A load balancer behind which nobody is: it notes what it is asked, and answers that it failed."""

    def answer(connection, _):
        with contextlib.suppress(OSError):
            while head := connection.recv(65536).decode():
                asked.append(head)
                connection.sendall(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n")

    server = StreamServer(("127.0.0.1", 0), answer)
    server.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.stop(timeout=0.1)


def test_every_kind_of_sample_has_a_metric_and_no_metric_is_of_a_kind_that_nothing_records():
    measured = {metric.of for metric in load_topology(ROOT / "targets" / "playback").metrics.values()}
    assert measured == {"play", "test_play", "watch", "session", FIRST_PLAY, *VisitKind}


def one_rng(seed: int):
    return random.Random(seed)
