"""The edge of the backend: the filters, routes and admin endpoint of the gateway; whom the load balancer asks."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter

import pytest
from aiohttp import web

from targets.playback.discovery import SHOWN_MAX
from targets.playback.gateway import static_home
from targets.playback.gateway_rules import HEADERS_MAX, PATH_MAX
from targets.playback.main import SERVICES
from targets.playback.seed_data import SeedData
from targets.playback.service import Context
from targets.playback.tokens import Keyring, issue
from targets.playback.validation import refusal
from tests.unit.playback.little_target import SETTINGS, LittleTarget, config, dead_address

KEY = str(SETTINGS["signing_key"])
ADMIN = "a token for the admin"
PLAY = {"path": "/play", "methods": ["POST"], "service": "play_api", "repeatable": True}


class Service:
    """A service behind the gateway, or a gateway behind the load balancer: keeps what it was asked."""

    def __init__(self, name="play_api-1"):
        self.name = name
        self.asked = []
        self.status = 200
        self.headers = {"ETag": '"7"', "X-Secret": "internal"}
        self.gate: asyncio.Event | None = None

    def app(self):
        app = web.Application()

        async def answer(request):
            self.asked.append((request.method, request.raw_path, dict(request.headers), await request.read()))
            if self.gate is not None:
                await self.gate.wait()
            return web.json_response({"by": self.name}, status=self.status, headers=self.headers)

        async def healthz(_):
            return web.Response()

        app.router.add_get("/healthz", healthz)
        app.router.add_route("*", "/{path:.*}", answer)
        return app


class Edge(LittleTarget):
    """A gateway in front of play APIs that the test decides about."""

    async def build(self, *services, **settings):
        addresses = [one if isinstance(one, str) else await self.serve(one.app()) for one in services]
        self.gateway = await self.start(
            "gateway", calls={"play_api": addresses}, settings={"admin_token": ADMIN, **settings}
        )

    async def ask(self, path="/play", *, method="POST", number=0, data=b"{}", **headers):
        """Ask the gateway as the load balancer does; status, parsed body and headers."""
        token = SeedData.token(self.data.subscribers[number], KEY)
        sent = {"Authorization": f"Bearer {token}", "X-Forwarded-For": f"10.0.{number}.1, 127.0.0.1"}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        url = f"http://{self.gateway}{path}"
        async with self.http.request(method, url, data=data, headers=sent) as response:
            return response.status, await response.json(), response.headers

    async def admin(self, method, path, body=None, *, token=ADMIN, address=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named["Authorization"] = f"Bearer {token}"
        url = f"http://{address or self.gateway}/admin{path}"
        async with self.http.request(method, url, json=body, headers=named) as response:
            return response.status, await response.json()

    async def route(self, *routes):
        """Put a routing table into force."""
        status, answer = await self.admin("PUT", "/routes", {"routes": list(routes)})
        assert status == 200, answer


async def built(service, calls, **settings):
    """Build a service that is not served."""
    context = Context(config(service, calls=calls, settings=settings))
    try:
        SERVICES[service](context)
    finally:
        await context.close()


# what the gateway lets through


async def test_only_chosen_headers_pass_the_gateway_in_either_direction():
    async with Edge() as target:
        service = Service()
        await target.build(service)
        _, _, back = await target.ask(
            Content_Type="application/json", Idempotency_Key="k", X_Passport="forged", Cookie="a=b", X_Anything="x"
        )
        _, _, sent, _ = service.asked[0]
        assert (sent["Content-Type"], sent["Idempotency-Key"]) == ("application/json", "k")
        assert not {"Cookie", "X-Anything", "Authorization", "X-Forwarded-For"} & set(sent)
        assert "forged" not in sent["X-Passport"]
        assert back["ETag"] == '"7"'
        assert "X-Secret" not in back


@pytest.mark.parametrize(
    ("path", "data", "headers", "status"),
    [
        ("/play?" + "x" * PATH_MAX, b"", {}, 414),
        ("/play", b"", {f"X-{number}": "x" for number in range(HEADERS_MAX)}, 431),
        ("/play", b"x" * 70_000, {}, 413),
    ],
)
async def test_what_is_too_large_is_refused_before_any_service_is_asked(path, data, headers, status):
    async with Edge() as target:
        service = Service()
        await target.build(service)
        assert (await target.ask(path, data=data, **headers))[0] == status
        assert service.asked == []


async def test_a_body_that_does_not_say_its_size_is_cut_off_at_the_limit_too():
    async def stream():
        for _ in range(10):
            yield b"x" * 10_000

    async with Edge() as target:
        service = Service()
        await target.build(service)
        token = SeedData.token(target.data.subscribers[0], KEY)
        async with target.http.post(
            f"http://{target.gateway}/play", data=stream(), headers={"Authorization": f"Bearer {token}"}
        ) as response:
            assert response.status == 413
        assert service.asked == []


@pytest.mark.parametrize(("disabled", "refused"), [((), True), (("rate_limits",), False)])
async def test_an_account_that_asks_too_often_is_refused_and_others_are_not(disabled, refused):
    async with Edge(disabled=disabled) as target:
        await target.build(Service(), account_rate_per_s=0.01, account_burst=3)
        statuses = [(await target.ask())[0] for _ in range(4)]
        status, answer, headers = await target.ask()
        assert statuses == [200, 200, 200, 429 if refused else 200]
        assert (status == 429) == refused
        if refused:
            assert "too many requests of this account" in answer["error"]
            assert 0 < int(headers["Retry-After"]) <= 100
        assert (await target.ask(number=1))[0] == 200


async def test_an_address_that_asks_too_often_is_refused_before_its_token_is_looked_at():
    async with Edge() as target:
        await target.build(Service(), address_rate_per_s=0.01, address_burst=2)
        assert [(await target.ask(Authorization="Bearer forged"))[0] for _ in range(3)] == [401, 401, 429]
        assert (await target.ask(number=1))[0] == 200


async def test_a_token_of_a_retired_key_or_past_its_time_is_refused_and_says_why():
    async with Edge() as target:
        await target.build(Service(), signing_keys="k2=second,k1=first")
        someone = target.data.subscribers[0]
        ring = Keyring.parse("k2=second,k1=first,k0=zeroth")

        async def answer(keys, **times):
            status, answer, _ = await target.ask(Authorization=f"Bearer {issue(someone, keys, **times)}")
            return status, answer.get("error", "")

        now_s = asyncio.get_running_loop().time()
        assert (await answer(ring, now_s=now_s, lifetime_s=60))[0] == 200
        assert (await answer(Keyring.parse("k1=first")))[0] == 200
        assert (await answer(KEY))[0] == 200, "the key of the seed's tokens stays"
        status, reason = await answer(ring, now_s=now_s - 61, lifetime_s=60)
        assert (status, reason) == (401, "not a valid token: it expired 1 s ago: log in again")
        status, reason = await answer(Keyring.parse("k0=zeroth"))
        assert (status, reason) == (
            401, "not a valid token: it names the key 'k0', which is unknown here or was retired",
        )  # fmt: skip


# where it leads


async def test_a_new_table_is_in_force_at_once_and_the_old_one_is_gone():
    async with Edge() as target:
        await target.build(Service())
        assert (await target.ask("/film"))[0] == 404
        await target.route({**PLAY, "path": "/film/*", "open": True})
        assert (await target.ask("/film/7", Authorization=""))[0] == 200, "it is open to all"
        assert (await target.ask("/play"))[0] == 404


async def test_a_wrong_table_changes_nothing():
    async with Edge() as target:
        await target.build(Service())
        status, answer = await target.admin(
            "PUT", "/routes", {"routes": [PLAY, {**PLAY, "service": "x", "path": "/x"}]}
        )
        assert (status, answer["error"]) == (
            400, "routes[1].service: 'x' is not called from here; there are play_api",
        )  # fmt: skip
        assert (await target.ask())[0] == 200
        assert (await target.admin("GET", "/routes"))[1]["version"] == 1


async def test_whoever_has_seen_an_older_table_does_not_overwrite_a_newer():
    async with Edge() as target:
        await target.build(Service())
        _, seen = await target.admin("GET", "/routes")
        await target.route(PLAY)
        status, answer = await target.admin("PUT", "/routes", {"routes": [PLAY]}, If_Match=f'"{seen["version"]}"')
        assert (status, answer["error"]) == (412, "the table is of version 2 by now")
        assert (await target.admin("PUT", "/routes", {"routes": [PLAY]}, If_Match='"2"'))[1]["version"] == 3


async def test_the_canary_gets_its_accounts_and_the_others_get_the_rest():
    async with Edge() as target:
        old, new = Service("old"), Service("new")
        await target.build(old, new)
        chosen = target.data.subscribers[3].id
        await target.route(
            {**PLAY, "canary": {"instances": ["play_api-2"], "accounts": [chosen], "header": "X-Canary"}}
        )
        by = [(await target.ask(number=number))[1]["by"] for number in range(6)]
        assert by == ["old", "old", "old", "new", "old", "old"]
        assert (await target.ask(number=1, X_Canary="1"))[1]["by"] == "new"


@pytest.mark.parametrize(("repeatable", "statuses"), [(True, {200}), (False, {502})])
async def test_a_bad_canary_costs_nobody_a_request_that_may_be_made_twice(repeatable, statuses):
    async with Edge() as target:
        new = Service("new")
        new.status = 500
        await target.build(Service("old"), new)
        await target.route({**PLAY, "repeatable": repeatable, "canary": {"instances": ["play_api-2"], "percent": 100}})
        assert {(await target.ask(number=number))[0] for number in range(5)} == statuses
        assert new.asked, "the canary was asked"


async def test_what_must_not_be_made_twice_is_made_once_unless_it_has_a_key():
    async with Edge() as target:
        services = [Service(f"play_api-{number}") for number in (1, 2)]
        for one in services:
            one.status = 500
        await target.build(*services)
        await target.route({**PLAY, "repeatable": False})
        await target.ask()
        assert sum(len(one.asked) for one in services) == 1
        await target.ask(Idempotency_Key="k1")
        assert sum(len(one.asked) for one in services) == 3


@pytest.mark.parametrize(("disabled", "garbled"), [((), 0), (("isolation",), 3)])
async def test_an_answer_that_is_no_json_is_a_failure_and_the_other_server_is_asked(disabled, garbled):
    async with Edge(disabled=disabled) as target:
        broken = web.Application()

        async def nonsense(_):
            return web.Response(body=b'{"session": "9f', content_type="application/json")

        broken.router.add_post("/play", nonsense)
        await target.build(await target.serve(broken), Service("sound"))
        token = SeedData.token(target.data.subscribers[0], KEY)
        bodies = []
        for _ in range(6):
            headers = {"Authorization": f"Bearer {token}"}
            async with target.http.post(f"http://{target.gateway}/play", headers=headers) as response:
                bodies.append(await response.read())
        assert sum(body == b'{"by": "sound"}' for body in bodies) == 6 - garbled


async def test_a_static_answer_stands_in_for_a_service_that_is_away():
    async with Edge() as target:
        await target.build(dead_address())
        await target.route({**PLAY, "static": {"rows": []}})
        status, answer, headers = await target.ask()
        assert (status, answer, headers["Warning"]) == (200, {"rows": []}, '110 - "static"')


async def test_without_static_answers_the_failure_is_the_answer():
    async with Edge(disabled=("static_answers",)) as target:
        await target.build(dead_address())
        await target.route({**PLAY, "static": {"rows": []}})
        assert (await target.ask())[0] == 502


async def test_a_route_in_a_hurry_asks_both_servers_in_its_time_and_then_shows_its_static_page():
    async with Edge() as target:
        services = [Service(f"play_api-{number}") for number in (1, 2)]
        for one in services:
            one.gate = asyncio.Event()
        await target.build(*services)
        await target.route({**PLAY, "timeout_s": 0.2, "static": {"rows": []}})
        began_s = asyncio.get_running_loop().time()
        assert (await target.ask())[:2] == (200, {"rows": []})
        assert 0.19 < asyncio.get_running_loop().time() - began_s < 1.2, "a route that says nothing has 1.4 s"
        assert [len(one.asked) for one in services] == [1, 1]
        for one in services:
            one.gate.set()


@pytest.mark.parametrize("timeout_s", [0, -1, 1.5, True, "1", None])
async def test_a_route_has_a_time_limit_that_its_callers_wait_for(timeout_s):
    async with Edge() as target:
        await target.build(Service())
        status, answer = await target.admin("PUT", "/routes", {"routes": [{**PLAY, "timeout_s": timeout_s}]})
        assert status == 400
        assert answer["error"].startswith("routes[0].timeout_s: ")


def test_the_gateways_own_home_page_has_titles_that_everybody_may_play():
    data = SeedData.generate(3, subscribers=200)
    today = dt.date(2026, 1, 1)
    (row,) = static_home(data, today)["rows"]
    titles = {title.id: title for title in data.titles}
    assert len(row["titles"]) == SHOWN_MAX
    for subscriber in data.subscribers:
        assert [name for name in row["titles"] if refusal(subscriber, titles[name], today)] == []


# its admin endpoint


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [(ADMIN, {}, 200), (None, {}, 401), ("wrong", {}, 401), (ADMIN, {"X_Forwarded_For": "10.0.0.1"}, 404)],
)
async def test_the_admin_endpoint_is_for_those_with_the_token_who_come_straight_to_it(token, headers, status):
    async with Edge() as target:
        await target.build(Service())
        assert (await target.admin("GET", "/routes", token=token, **headers))[0] == status


async def test_without_a_token_in_the_settings_there_is_no_admin_endpoint():
    async with Edge() as target:
        await target.build(Service(), admin_token="")
        assert (await target.admin("GET", "/routes", token=""))[0] == 404


async def test_a_token_that_is_too_short_is_a_mistake():
    with pytest.raises(ValueError, match=r"settings\.admin_token has 5 characters; at least 16"):
        await built("gateway", {"play_api": [dead_address()]}, admin_token="short")


async def test_filters_are_added_replaced_and_taken_away_while_it_runs():
    async with Edge() as target:
        await target.build(Service())
        deny = {"kind": "deny", "order": 50, "settings": {"path": "/play", "status": 451, "reason": "not here"}}
        assert (await target.admin("PUT", "/filters/off", deny))[0] == 200
        status, answer, _ = await target.ask()
        assert (status, answer) == (451, {"error": "not here"})
        deny["settings"]["path"] = "/else"
        await target.admin("PUT", "/filters/off", deny)
        mark = {"kind": "header", "order": 10, "settings": {"header": "X-Edge", "value": "here"}}
        _, shown = await target.admin("PUT", "/filters/mark", mark)
        status, _, headers = await target.ask()
        assert (status, headers["X-Edge"]) == (200, "here")
        assert [one["name"] for one in shown] == [
            "sizes", "find_route", "address_rate", "authentication", "account_rate", "off", "ask_service",
            "mark", "traffic", "static_answer",
        ]  # fmt: skip
        assert (await target.admin("DELETE", "/filters/mark"))[0] == 200
        assert "X-Edge" not in (await target.ask())[2]
        assert (await target.admin("DELETE", "/filters/mark"))[0] == 404


async def test_the_gateways_own_filters_can_be_neither_replaced_nor_taken_away():
    async with Edge() as target:
        await target.build(Service())
        deny = {"kind": "deny", "order": 50, "settings": {"path": "/play"}}
        assert (await target.admin("PUT", "/filters/authentication", deny))[0] == 409
        assert (await target.admin("DELETE", "/filters/authentication"))[0] == 409
        assert (await target.admin("PUT", "/filters/x", {"kind": "deny"}))[0] == 400
        assert (await target.admin("GET", "/nothing"))[0] == 404


async def test_a_signing_key_is_retired_and_restored_while_it_runs():
    for settings, status, counts in (({}, 200, (1, 0)), ({"key_grace_s": 0}, 401, (0, 1))):
        async with Edge() as target:
            await target.build(Service(), **settings)
            assert (await target.ask())[0] == 200

            assert (await target.admin("DELETE", "/keys/0"))[0] == 200
            assert (await target.ask())[0] == status
            _, shown = await target.admin("GET", "/keys")
            assert shown["keys"] == {"0": {"retired": True}}
            assert (shown["by_retired"], shown["refused"]) == counts

            assert (await target.admin("PUT", "/keys/0"))[0] == 200
            assert (await target.ask())[0] == 200
            assert (await target.admin("DELETE", "/keys/none")) == (404, {"error": "there is no key 'none'"})
            assert (await target.admin("DELETE", "/keys/0", token="wrong"))[0] == 401


async def test_traffic_shows_what_passed_by_route():
    async with Edge() as target:
        await target.build(Service())
        for number in range(3):
            await target.ask(number=number)
        await target.ask("/nowhere")
        _, shown = await target.admin("GET", "/traffic")
        assert {path: figures["total"] for path, figures in shown["routes"].items()} == {"(none)": 1, "/play": 3}
        assert shown["routes"]["/play"]["latency_p50_ms"] > 0


# the load balancer


class Balanced(LittleTarget):
    """A load balancer in front of gateways that the test decides about."""

    async def build(self, *gateways, **settings):
        addresses = [await self.serve(one.app()) for one in gateways]
        self.elb = await self.start("elb", calls={"gateway": addresses}, settings={"admin_token": ADMIN, **settings})

    async def ask(self, path="/play", *, method="POST", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, f"http://{self.elb}{path}", headers=named) as response:
            return response.status, await response.json()

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
