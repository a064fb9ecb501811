"""The gateway's routing table: reading it, finding routes, choosing the canary."""

from __future__ import annotations

import copy

import pytest

from chaos.resilience.shedding import Priority
from targets.playback.gateway_routes import Canary, InvalidRoutes, RouteTable

INSTANCES = {"play_api": ["play_api-1", "play_api-2"], "signup_api": ["signup_api-1"]}
FULL = {
    "routes": [
        {
            "path": "/play",
            "methods": ["POST"],
            "service": "play_api",
            "priority": "critical",
            "repeatable": True,
            "static": {"rows": []},
            "canary": {
                "instances": ["play_api-2"],
                "percent": 5,
                "accounts": ["subscriber-00001"],
                "header": "X-Canary",
            },
        },
        {"path": "/account/*", "methods": ["GET", "POST"], "service": "signup_api"},
        {"path": "/account/plans/*", "methods": ["GET"], "service": "play_api"},
        {"path": "/account/login", "methods": ["POST"], "service": "signup_api", "open": True},
    ]
}


def table(data=FULL):
    return RouteTable.from_json(data, INSTANCES)


def test_a_table_is_what_was_given():
    read = table()
    play = read.routes[0]
    assert (play.priority, play.repeatable, play.open, play.static) == (Priority.CRITICAL, True, False, b'{"rows":[]}')
    assert {"routes": read.to_json()} == FULL
    assert table({"routes": read.to_json()}).routes == read.routes


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/play", "/play"),
        ("/play/", None),
        ("/account/login", "/account/login"),
        ("/account/x", "/account/*"),
        ("/account/plans/basic", "/account/plans/*"),
        ("/account", None),
        ("/account/", "/account/*"),
        ("/", None),
    ],
)
def test_an_exact_path_goes_before_a_longer_beginning_and_that_before_a_shorter(path, found):
    route = table().find(path)
    assert (None if route is None else route.path) == found


def changed(change):
    data = copy.deepcopy(FULL)
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(more=1), r'a routing table is \{"routes": \[\.\.\.\]\}'),
        (lambda d: d["routes"].clear(), "from 1 to 100 routes; here are 0"),
        (lambda d: d["routes"].extend(d["routes"][1:] * 40), "from 1 to 100 routes; here are 124"),
        (lambda d: d["routes"].append(7), r"routes\[4\]: an object with"),
        (lambda d: d["routes"][0].update(pth="/x"), r"routes\[0\]\.pth: there is no such key; there are canary"),
        (lambda d: d["routes"][1].pop("path"), r"routes\[1\]\.path: a text is needed"),
        (lambda d: d["routes"][1].update(path="play"), r"routes\[1\]\.path: 'play' is no path like"),
        (lambda d: d["routes"][1].update(path="/a/*/b"), "is no path like"),
        (lambda d: d["routes"][1].update(path="/play"), r"routes\[1\]\.path: '/play' has a route already"),
        (lambda d: d["routes"][1].update(methods="GET"), r"routes\[1\]\.methods: a list of texts"),
        (lambda d: d["routes"][1].update(methods=[]), r"methods: \[\] are not some of GET"),
        (lambda d: d["routes"][1].update(methods=["LOOK"]), "are not some of GET, HEAD, POST"),
        (lambda d: d["routes"][1].update(service="store"), "'store' is not called from here; there are play_api, sign"),
        (lambda d: d["routes"][1].update(priority="high"), "'high' is none of critical, normal, low, bulk"),
        (lambda d: d["routes"][1].update(open="yes"), r"routes\[1\]\.open: it is true or false"),
        (lambda d: d["routes"][0].update(canary=[]), r"routes\[0\]\.canary: an object with"),
        (lambda d: d["routes"][0]["canary"].update(instances=["x"]), "are not some of play_api-1, play_api-2"),
        (lambda d: d["routes"][0]["canary"].update(instances=[]), r"canary\.instances: \[\]"),
        (lambda d: d["routes"][0]["canary"].update(percent=101), "101 is no number from 0 to 100"),
        (lambda d: d["routes"][0]["canary"].update(percent=True), "True is no number from 0 to 100"),
        (
            lambda d: d["routes"][0]["canary"].update(header="X-New"),
            r"canary\.header: 'X-New' does not reach a gateway; the load balancer lets 'X-Canary' pass",
        ),
        (lambda d: d["routes"][0]["canary"].update(header=["X-Canary"]), r"canary\.header: \['X-Canary'\] does not"),
        (lambda d: d["routes"][0]["canary"].update(accounts=["x"] * 1001), "at most 1000 accounts"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(change, words):
    with pytest.raises(InvalidRoutes, match=words):
        table(changed(change))


@pytest.mark.parametrize("data", [None, [], 3, "routes", {}])
def test_what_is_no_table_is_refused(data):
    with pytest.raises(InvalidRoutes):
        table(data)


ACCOUNTS = [f"subscriber-{number:05d}" for number in range(4_000)]


@pytest.mark.parametrize("percent", [0, 0.5, 5, 50, 100])
def test_a_canary_gets_its_share_of_the_accounts(percent):
    canary = Canary(instances=("x",), percent=percent)
    share = sum(canary.takes(account, {}) for account in ACCOUNTS) / len(ACCOUNTS)
    assert share == pytest.approx(percent / 100, abs=0.012)


def test_whoever_is_with_the_canary_stays_there_when_its_share_grows():
    small, large = (Canary(instances=("x",), percent=percent) for percent in (5, 20))
    assert all(large.takes(account, {}) for account in ACCOUNTS if small.takes(account, {}))


def test_an_account_or_a_header_leads_to_the_canary_whatever_its_share():
    canary = Canary(instances=("x",), accounts=frozenset({"subscriber-00007"}), header="X-Canary")
    assert canary.takes("subscriber-00007", {})
    assert canary.takes("subscriber-00008", {"X-Canary": ""})
    assert canary.takes(None, {"X-Canary": "1"})
    assert not canary.takes("subscriber-00008", {})
    assert not Canary(instances=("x",), percent=100).takes(None, {}), "whoever has no name has no side"
