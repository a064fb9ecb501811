"""The group of a request, from service to service."""

from __future__ import annotations

import random

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chaos.resilience import CommandSettings, Isolation
from chaos.resilience.groups import GROUP_HEADER
from chaos.resilience.web import ServiceClient, group_middleware


@pytest.fixture
async def site():
    """``/front`` asks ``/back`` within a command, and answers with the group that it was asked for."""
    isolation = Isolation(rng=random.Random(1))
    calls = aiohttp.ClientSession()
    asks = {
        bare: isolation.command(
            f"back.{bare}", ServiceClient(calls, enabled=not bare).get, settings=CommandSettings(timeout_s=5.0)
        )
        for bare in (False, True)
    }

    async def front(request):
        ask = asks["bare" in request.query]
        return web.json_response((await ask(str(server.make_url("/back")))).json())

    async def back(request):
        return web.json_response(request.headers.get(GROUP_HEADER))

    app = web.Application(middlewares=[group_middleware])
    app.router.add_get("/front", front)
    app.router.add_get("/back", back)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    yield server
    await server.close()
    await calls.close()


async def asked(session, site, path, group):
    headers = {} if group is None else {GROUP_HEADER: group}
    async with session.get(site.make_url(path), headers=headers) as answer:
        return await answer.json()


@pytest.mark.parametrize("path", ["/front", "/front?bare"])
async def test_the_group_travels_down_the_chain_whatever_is_switched_off(site, path):
    async with aiohttp.ClientSession() as session:
        assert await asked(session, site, path, "experiment") == "experiment"
        assert await asked(session, site, path, "control") == "control"


async def test_the_next_request_on_a_connection_does_not_inherit_it(site):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        said = [await asked(session, site, "/front", group) for group in ("experiment", None, "control", None)]
    assert said == ["experiment", None, "control", None]


async def test_a_header_that_names_no_group_goes_no_further(site):
    async with aiohttp.ClientSession() as session:
        assert await asked(session, site, "/front", "everybody") is None
