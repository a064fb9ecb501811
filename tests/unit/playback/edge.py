"""A gateway of the backend before services that answer as a test says."""

from __future__ import annotations

import asyncio

from aiohttp import web

from targets.playback.main import SERVICES
from targets.playback.seed_data import SeedData
from targets.playback.service import Context
from tests.unit.playback.little_target import SETTINGS, LittleTarget, config

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


async def status_of(address, method, target, **headers):
    """Ask with a request target that no client would send; the answer's status."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        answer = await asyncio.wait_for(reader.read(), 5.0)
    finally:
        writer.close()
        await writer.wait_closed()
    return int(answer.split()[1])


async def built(service, calls, **settings):
    """Build a service that is not served."""
    context = Context(config(service, calls=calls, settings=settings))
    try:
        SERVICES[service](context)
    finally:
        await context.close()
