"""The load balancer: whom it asks, whom it drains, and what it gives to another gateway."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from aiohttp.test_utils import make_mocked_request

from chaos.resilience.web.shedding import SHED_HEADER
from targets.playback.transport import BadTarget, target_of
from tests.ports import dead_address
from tests.unit.playback.edge import ADMIN, Service, built, status_of
from tests.unit.playback.little_target import LittleTarget


class Balanced(LittleTarget):
    """A load balancer in front of gateways that the test decides about."""

    async def build(self, *gateways, **settings):
        addresses = [await self.serve(one.app()) for one in gateways]
        self.elb = await self.start("elb", calls={"gateway": addresses}, settings={"admin_token": ADMIN, **settings})

    async def ask(self, path="/play", *, method="POST", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, f"http://{self.elb}{path}", headers=named) as response:
            return response.status, await response.json()

    async def ask_for(self, target, *, method="GET"):
        """Ask with this request target, to the letter; the status."""
        return await status_of(self.elb, method, target)

    async def drain(self, name, body):
        headers = {"Authorization": f"Bearer {ADMIN}"}
        url = f"http://{self.elb}/admin/gateways/{name}"
        async with self.http.put(url, json=body, headers=headers) as response:
            return response.status, await response.json()


async def test_in_turn_every_gateway_gets_as_many():
    async with Balanced() as target:
        await target.build(*(Service(f"gateway-{number}") for number in (1, 2, 3)), elb_choice="round_robin")
        by = [(await target.ask())[1]["by"] for _ in range(9)]
        assert by[:3] * 3 == by
        assert set(by) == {"gateway-1", "gateway-2", "gateway-3"}


async def test_with_least_connections_a_gateway_that_is_busy_gets_none():
    async with Balanced() as target:
        busy, idle = Service("gateway-1"), Service("gateway-2")
        await target.build(busy, idle, elb_choice="least_busy")
        busy.gate = asyncio.Event()
        idle.gate = asyncio.Event()
        first = [asyncio.create_task(target.ask()) for _ in range(2)]
        while len(busy.asked) + len(idle.asked) < 2:
            await asyncio.sleep(0.001)
        assert (len(busy.asked), len(idle.asked)) == (1, 1), "the second went where nobody was"
        idle.gate.set()
        idle.gate = None
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        assert Counter([(await target.ask())[1]["by"] for _ in range(6)]) == {"gateway-2": 6}
        busy.gate.set()
        assert [status for status, _ in await asyncio.gather(*first)] == [200, 200]


async def test_a_choice_that_is_none_is_a_mistake():
    with pytest.raises(ValueError, match=r"settings\.elb_choice is 'best'; there are two_random, round_robin"):
        await built("elb", {"gateway": [dead_address()]}, elb_choice="best")


async def test_a_gateway_that_is_drained_gets_nothing_new_and_ends_what_it_has():
    async with Balanced() as target:
        one, other = Service("gateway-1"), Service("gateway-2")
        await target.build(one, other, elb_choice="round_robin")
        one.gate = asyncio.Event()
        other.gate = asyncio.Event()
        under_way = [asyncio.create_task(target.ask()) for _ in range(2)]
        while not (one.asked and other.asked):
            await asyncio.sleep(0.001)
        _, shown = await target.drain("gateway-1", {"draining": True})
        assert shown["gateway-1"] == {"healthy": True, "draining": True, "in_progress": 1}
        other.gate.set()
        assert {(await target.ask())[1]["by"] for _ in range(5)} == {"gateway-2"}
        one.gate.set()
        assert {answer["by"] for _, answer in await asyncio.gather(*under_way)} == {"gateway-1", "gateway-2"}
        _, shown = await target.drain("gateway-1", {"draining": False})
        assert (shown["gateway-1"]["draining"], shown["gateway-1"]["in_progress"]) == (False, 0)
        assert {(await target.ask())[1]["by"] for _ in range(4)} == {"gateway-1", "gateway-2"}


async def test_what_cannot_be_drained_is_refused():
    async with Balanced() as target:
        await target.build(Service())
        assert (await target.drain("gateway-9", {"draining": True}))[0] == 404
        for body in (None, {}, {"draining": 1}, {"draining": True, "more": 1}):
            assert (await target.drain("gateway-1", body))[0] == 400
        assert (await target.ask("/admin/gateways", method="GET", X_Forwarded_For="10.0.0.1"))[0] == 404


async def test_a_gateways_limit_for_one_caller_is_passed_on_and_no_other_gateway_is_asked():
    async with Balanced() as target:
        gateways = [Service(f"gateway-{number}") for number in (1, 2)]
        for one in gateways:
            one.status, one.headers = 429, {"Retry-After": "7"}
        await target.build(*gateways)
        assert (await target.ask())[0] == 429
        assert sum(len(one.asked) for one in gateways) == 1


@pytest.mark.parametrize("repeatable", [True, False])
async def test_what_a_gateway_turned_away_is_given_to_the_other_which_then_is_asked_first(repeatable):
    async with Balanced() as target:
        full, idle = Service("gateway-1"), Service("gateway-2")
        full.status, full.headers = 503, {"Retry-After": "7", SHED_HEADER: "overloaded"}
        await target.build(full, idle)
        path = "/play" if repeatable else "/signup"
        statuses = [(await target.ask(path))[0] for _ in range(20)]
        assert set(statuses) <= ({200} if repeatable else {200, 503})
        assert len(full.asked) == 1, "it is passed over for as long as it wished"
        assert len(idle.asked) == statuses.count(200)


async def test_what_every_gateway_turned_away_keeps_its_reason_and_its_time_to_come_back():
    async with Balanced() as target:
        gateways = [Service(f"gateway-{number}") for number in (1, 2)]
        for one in gateways:
            one.status, one.headers = 503, {"Retry-After": "7", SHED_HEADER: "overloaded"}
        await target.build(*gateways)
        async with target.http.post(f"http://{target.elb}/play") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "7")
            assert (await response.json())["by"] in {"gateway-1", "gateway-2"}
        assert [len(one.asked) for one in gateways] == [1, 1]


async def test_the_refusal_of_a_service_behind_a_gateway_is_passed_on_and_the_gateway_still_asked():
    async with Balanced() as target:
        gateways = [Service(f"gateway-{number}") for number in (1, 2)]
        for one in gateways:
            one.status, one.headers = 503, {"Retry-After": "7"}
        await target.build(*gateways, elb_choice="round_robin")
        async with target.http.post(f"http://{target.elb}/login") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "7")
            refused = (await response.json())["by"]
        assert sum(len(one.asked) for one in gateways) == 1, "the other one asks the same services"
        for one in gateways:
            one.status, one.headers = 200, {}
        assert Counter([(await target.ask())[1]["by"] for _ in range(6)])[refused] == 3


async def test_of_a_gateway_that_failed_no_address_is_shown():
    async with Balanced() as target:
        one = Service("gateway-1")
        await target.build(one)
        one.status, one.headers = 500, {}
        assert await target.ask() == (503, {"error": "no gateway could answer this now"})


async def test_the_target_of_a_request_reaches_a_gateway_as_it_was_sent():
    async with Balanced() as target:
        gateway = Service("gateway-1")
        await target.build(gateway)
        for sent in ("/search?q=%23&more=a+b%2Bc%20d", "/a%2Fb//c?", "http://anywhere/play?x=1", "/%70lay"):
            assert await target.ask_for(sent) == 200
        assert [path for _, path, *_ in gateway.asked] == [
            "/search?q=%23&more=a+b%2Bc%20d", "/a%2Fb//c", "/play?x=1", "/play",
        ]  # fmt: skip


@pytest.mark.parametrize("sent", ["/account/../isolation", "/account/%2e%2E/isolation", "/a/..%2fisolation", "/./x"])
async def test_a_path_that_could_lead_to_another_one_is_refused_and_no_gateway_is_blamed(sent):
    async with Balanced() as target:
        gateway = Service("gateway-1")
        await target.build(gateway)
        for _ in range(30):
            assert await target.ask_for(sent) == 400
        assert gateway.asked == []
        assert (await target.breakers(target.elb))["gateway[gateway-1]"]["errors"] == 0


async def test_what_is_no_path_is_the_callers_mistake_and_no_gateways():
    async with Balanced() as target:
        gateway = Service("gateway-1")
        await target.build(gateway)
        for _ in range(30):
            assert await target.ask_for("*", method="OPTIONS") in {400, 404}
        assert (await target.breakers(target.elb))["gateway[gateway-1]"]["calls"] == 0
        assert (await target.ask())[0] == 200


def test_an_asterisk_is_nothing_to_be_passed_on():
    with pytest.raises(BadTarget, match="must begin with /"):
        target_of(make_mocked_request("OPTIONS", "*"))


@pytest.mark.parametrize(
    ("path", "method", "headers", "asked"),
    [
        ("/play", "POST", {}, 2),
        ("/signup", "POST", {}, 1),
        ("/signup", "POST", {"Idempotency_Key": "k"}, 2),
        ("/home", "GET", {}, 2),
    ],
)
async def test_only_what_may_be_made_twice_is_given_to_another_gateway(path, method, headers, asked):
    async with Balanced() as target:
        gateways = [Service(f"gateway-{number}") for number in (1, 2)]
        for one in gateways:
            one.status = 500
        await target.build(*gateways)
        assert (await target.ask(path, method=method, **headers))[0] == 503
        assert sum(len(one.asked) for one in gateways) == asked
