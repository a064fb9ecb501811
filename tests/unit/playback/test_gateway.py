"""The gateway: what it lets through, and where it leads."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from aiohttp import web

from chaos.resilience.web.shedding import SHED_HEADER
from targets.playback.discovery import SHOWN_MAX
from targets.playback.gateway import static_home
from targets.playback.gateway_rules import HEADERS_MAX, PATH_MAX
from targets.playback.seed_data import SeedData
from targets.playback.tokens import Keyring, issue
from targets.playback.validation import refusal
from tests.ports import dead_address
from tests.unit.playback.edge import KEY, PLAY, Edge, Service, status_of

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


ACCOUNT = {"path": "/account/*", "methods": ["GET"], "service": "play_api", "open": True}


@pytest.mark.parametrize(
    ("sent", "status", "asked"),
    [
        ("/account/x", 200, ["/account/x"]),
        ("/account/%78", 200, ["/account/x"]),
        ("/account/a%2Fb", 200, ["/account/a%2Fb"]),
        ("/account/x?q=%23&more=a+b%2Bc%20d", 200, ["/account/x?q=%23&more=a+b%2Bc%20d"]),
        ("/account/%252e%252e/isolation", 200, ["/account/%252e%252e/isolation"]),
        ("http://anywhere/account/x", 200, ["/account/x"]),
        ("/account/../isolation", 400, []),
        ("/account/%2e%2e/isolation", 400, []),
        ("/account/..%2fisolation", 400, []),
        ("/account%2fx", 404, []),
        ("//account/x", 404, []),
    ],
)
async def test_the_path_that_a_route_was_found_for_is_the_one_that_is_asked_for(sent, status, asked):
    async with Edge() as target:
        service = Service()
        await target.build(service)
        await target.route(ACCOUNT)
        assert await status_of(target.gateway, "GET", sent) == status
        assert [path for _, path, *_ in service.asked] == asked


async def test_a_path_that_is_denied_is_denied_however_it_is_written():
    async with Edge() as target:
        service = Service()
        await target.build(service)
        await target.route(ACCOUNT)
        settings = {"path": "/account/cancel", "status": 403}
        await target.admin("PUT", "/filters/no", {"kind": "deny", "order": 50, "settings": settings})
        for sent in ("/account/cancel", "/account/%63ancel"):
            assert await status_of(target.gateway, "GET", sent) == 403
        settings = {"path": "/account/übung*", "status": 403}
        await target.admin("PUT", "/filters/no", {"kind": "deny", "order": 50, "settings": settings})
        assert await status_of(target.gateway, "GET", "/account/%C3%BCbungen") == 403
        assert service.asked == []


async def test_a_service_that_has_too_much_to_do_says_so_itself():
    async with Edge() as target:
        services = [Service(f"play_api-{number}") for number in (1, 2)]
        for one in services:
            one.status, one.headers = 503, {"Retry-After": "7", "X-Secret": "internal", SHED_HEADER: "overloaded"}
        await target.build(*services)
        status, answer, headers = await target.ask()
        assert (status, headers["Retry-After"]) == (503, "7")
        assert answer["by"] in {"play_api-1", "play_api-2"}
        assert not {"X-Secret", SHED_HEADER} & set(headers), "it was not the gateway that turned it away"
        await target.route({**PLAY, "static": {"rows": []}})
        assert (await target.ask())[:2] == (200, {"rows": []})


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
        await target.route({**PLAY, "timeout_s": 0.6, "static": {"rows": []}})
        began_s = asyncio.get_running_loop().time()
        assert (await target.ask())[:2] == (200, {"rows": []})
        assert 0.59 < asyncio.get_running_loop().time() - began_s < 1.3, "a route that says nothing has 1.4 s"
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
