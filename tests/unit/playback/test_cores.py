"""The small pure parts of the services: passport, admission, last good answers, the copy of the licences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from targets.playback.admission import Admission
from targets.playback.entitlements import LicenceCopy, TooStale, UnknownTitle
from targets.playback.ladder import Device
from targets.playback.licences import ALWAYS
from targets.playback.oca_health import routes_of
from targets.playback.passport import NoPassport, Passport, client_address
from targets.playback.play_api import REMEMBERED_MAX, Grant, LastGood, Likeness, NothingRemembered
from targets.playback.validation import Plan, Subscriber, Title
from targets.playback.valkey import arguments, find_server
from tests.unit.playback.little_target import config

SUBSCRIBER = Subscriber(id="subscriber-00001", plan=Plan.BASIC, country="here")


def test_a_passport_comes_back_from_its_header():
    passport = Passport(subscriber=SUBSCRIBER, ip="10.0.0.1")

    assert Passport.from_header(passport.to_header()) == passport


@pytest.mark.parametrize("value", [None, "", "{}", "[]", "1", '{"subscriber": {}, "ip": "10.0.0.1"}'])
def test_what_is_no_passport_is_refused(value):
    with pytest.raises(NoPassport):
        Passport.from_header(value)


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        ("10.0.0.1, 127.0.0.1", "10.0.0.1"),
        ("6.6.6.6, 10.0.0.1, 127.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        (" 10.0.0.1 ,, 127.0.0.1 ", "10.0.0.1"),
        ("", "0.0.0.0"),
        (None, "0.0.0.0"),
    ],
)
def test_the_clients_address_is_what_the_network_in_front_said_and_not_what_the_client_claims(forwarded_for, address):
    assert client_address(forwarded_for) == address


def test_an_oca_admits_what_it_can_send_and_refuses_the_rest_until_time_has_passed():
    admission = Admission(1000.0, now_s=0.0)

    assert [admission.admit(0.0, 400) for _ in range(3)] == [True, True, False]
    assert not admission.admit(0.1, 400)
    assert admission.admit(0.3, 400)


def test_an_oca_saves_up_no_more_than_a_second():
    admission = Admission(1000.0, now_s=0.0)

    assert not admission.admit(100.0, 1001)
    assert admission.admit(100.0, 1000)


def test_the_load_is_what_was_sent_since_it_was_measured_last():
    admission = Admission(1000.0, now_s=0.0)
    admission.admit(0.0, 500)
    admission.admit(0.9, 9999)

    assert admission.measure_load(1.0) == 0.5
    assert admission.measure_load(2.0) == 0.0
    admission.admit(2.0, 1000)
    assert admission.measure_load(2.1) == 1.0


def test_an_oca_is_nearest_to_its_own_network_and_the_exchange_is_near_to_all():
    assert routes_of("alpha") == {"alpha": 0, "beta": 2, "gamma": 2, "*": 2}
    assert routes_of("ixp") == {"*": 1}


LIKE = Likeness(title="title-0001", plan="basic", country="here", isp="alpha", device=Device.TV)
GRANT = Grant(ocas=({"id": "oca-1"},), degraded=(), by_claims=True, ladder_kbps=(235,))


def test_the_last_good_answer_is_recalled_for_five_minutes():
    last = LastGood()
    last.remember(0.0, LIKE, GRANT)

    assert last.recall(300.0, LIKE) == GRANT
    with pytest.raises(NothingRemembered):
        last.recall(300.1, LIKE)


@pytest.mark.parametrize(
    "change",
    [{"title": "title-0002"}, {"plan": "standard"}, {"country": "there"}, {"isp": None}, {"device": Device.PHONE}],
)
def test_nobody_gets_the_answer_to_another_kind_of_play(change):
    last = LastGood()
    last.remember(0.0, LIKE, GRANT)

    with pytest.raises(NothingRemembered):
        last.recall(0.0, replace(LIKE, **change))


@pytest.mark.parametrize("change", [{"by_claims": False}, {"degraded": ("steering.rank",)}])
def test_a_degraded_answer_and_one_that_rests_on_more_than_the_token_are_not_remembered(change):
    last = LastGood()
    last.remember(0.0, LIKE, replace(GRANT, **change))

    with pytest.raises(NothingRemembered):
        last.recall(0.0, LIKE)


def test_that_a_stream_was_not_counted_does_not_keep_an_answer_from_being_remembered():
    last = LastGood()
    last.remember(0.0, LIKE, replace(GRANT, degraded=("streams.a.claim",)))

    assert last.recall(0.0, LIKE).ocas == GRANT.ocas


def test_nothing_is_recalled_beyond_the_end_of_its_licence():
    last = LastGood()
    last.remember(0.0, LIKE, replace(GRANT, licensed_until_s=10.0))

    assert last.recall(9.9, LIKE).ocas == GRANT.ocas
    with pytest.raises(NothingRemembered):
        last.recall(10.0, LIKE)


def test_the_oldest_answers_make_room_for_new_ones():
    last = LastGood()
    for number in range(REMEMBERED_MAX + 1):
        last.remember(0.0, replace(LIKE, title=f"title-{number}"), GRANT)

    with pytest.raises(NothingRemembered):
        last.recall(0.0, replace(LIKE, title="title-0"))
    assert last.recall(0.0, replace(LIKE, title="title-1")) == GRANT


TITLE = Title(id="title-0001", minimum_plan=Plan.BASIC, licences={"here": (ALWAYS,)})


def test_the_copy_of_the_licences_is_used_until_it_is_too_old():
    copy = LicenceCopy(stale_max_s=900.0)
    with pytest.raises(TooStale):
        copy.title(0.0, TITLE.id)
    copy.replace(0.0, {TITLE.id: TITLE})
    assert copy.title(900.0, TITLE.id) == TITLE
    with pytest.raises(TooStale, match="901 s old; 900 s are allowed"):
        copy.title(901.0, TITLE.id)
    copy.confirm(800.0)
    assert copy.title(901.0, TITLE.id) == TITLE


def test_a_title_that_is_not_in_the_copy_is_unknown():
    copy = LicenceCopy(stale_max_s=900.0)
    copy.replace(0.0, {TITLE.id: TITLE})

    with pytest.raises(UnknownTitle):
        copy.title(0.0, "title-0002")


def test_valkey_is_started_on_loopback_and_in_memory_only(tmp_path):
    server = find_server()
    assert server is not None
    command = arguments(server, config("cache", port=12345, data_dir=str(tmp_path)))
    options = dict(zip(command[1::2], command[2::2], strict=True))

    assert options["--bind"] == "127.0.0.1"
    assert options["--port"] == "12345"
    assert (options["--save"], options["--appendonly"], options["--daemonize"]) == ("", "no", "no")
    assert options["--dir"] == str(tmp_path)
