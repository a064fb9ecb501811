"""The admin endpoint of the gateway: who may use it, and what it changes while the gateway runs."""

from __future__ import annotations

import pytest

from tests.ports import dead_address
from tests.unit.playback.edge import ADMIN, Edge, Service, built


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
