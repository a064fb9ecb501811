"""What the embedded proxy's API has beyond Toxiproxy's: receipts, open connections and leases, on paths of their own.

GET    /receipts                            what every toxic has touched
GET    /proxies/{proxy}/toxics/{toxic}/receipt
GET    /proxies/{proxy}/connections         those open now
DELETE /proxies/{proxy}/connections         close them all
DELETE /proxies/{proxy}/connections/{id}    close one
POST   /renew                               {"owner": ..., "ttl_ms": ...}: renew the leases of all toxics of this owner
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

from chaos.clock import monotonic_s, wall_clock_s
from chaos.proxy.exposition import receipt_form
from chaos.proxy.forms import RENEWAL, json_response, lease_terms, read
from chaos.proxy.link import Link
from chaos.proxy.problems import ProxyError
from chaos.proxy.proxies import Proxy, ProxyCollection

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Extensions:
    """The handlers."""

    def __init__(self, proxies: ProxyCollection) -> None:
        self._proxies = proxies

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Return (method, path, handler) of each."""
        return [
            ("GET", "/receipts", self._receipts),
            ("GET", "/proxies/{proxy}/toxics/{toxic}/receipt", self._receipt),
            ("GET", "/proxies/{proxy}/connections", self._connections),
            ("DELETE", "/proxies/{proxy}/connections", self._close_all),
            ("DELETE", "/proxies/{proxy}/connections/{id}", self._close),
            ("POST", "/renew", self._renew),
        ]

    async def _receipts(self, request: web.Request) -> web.Response:  # noqa: ARG002
        offset_s = wall_clock_s() - monotonic_s()
        return json_response(
            {
                proxy.name: {toxic.name: receipt_form(toxic, offset_s=offset_s) for toxic in proxy.toxics()}
                for proxy in self._proxies.all()
            }
        )

    async def _receipt(self, request: web.Request) -> web.Response:
        toxic = self._proxy(request).toxic(request.match_info["toxic"])
        return json_response(receipt_form(toxic, offset_s=wall_clock_s() - monotonic_s()))

    async def _connections(self, request: web.Request) -> web.Response:
        now_s = monotonic_s()
        return json_response([_connection_form(link, now_s) for link in self._proxy(request).links.values()])

    async def _close_all(self, request: web.Request) -> web.Response:
        links = list(self._proxy(request).links.values())
        for link in links:
            link.cut()
        return json_response({"closed": len(links)})

    async def _close(self, request: web.Request) -> web.Response:
        text = request.match_info["id"]
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0  # there is no link 0
        self._proxy(request).link(number).cut()
        return web.Response(status=204)

    async def _renew(self, request: web.Request) -> web.Response:
        given = read(await request.read(), RENEWAL)
        terms = lease_terms(given)
        if terms is None or terms.ttl_s == 0 or not given.get("owner"):
            raise ProxyError("missing required field: owner and ttl_ms (1 or more) are needed", 400)
        return json_response({"renewed": self._proxies.leases.renew(terms)})

    def _proxy(self, request: web.Request) -> Proxy:
        return self._proxies.get(request.match_info["proxy"])


def _connection_form(link: Link, now_s: float) -> dict[str, object]:
    return {
        "id": link.number,
        "caller": link.caller.peer(),
        "server": link.server.peer(),
        "age_ms": round((now_s - link.opened_s) * 1000),
        "upstream_bytes": link.upstream.received_bytes,
        "downstream_bytes": link.downstream.received_bytes,
        "toxics": cast("list[object]", link.toxic_names()),
    }
