"""The embedded proxy on both event loops, as a process that the tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.unit.proxy.running import Api, Running, api_of, running

SEED = "11"


@pytest.fixture(scope="session", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    """The server; its API is new in each test by ``api``."""
    with running("--seed", SEED, uvloop=request.param == "uvloop") as started:
        yield started


@pytest.fixture
async def api(server: Running) -> AsyncIterator[Api]:
    """Its API, without any proxy."""
    async with api_of(server) as api:
        yield api
