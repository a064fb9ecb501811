"""The HTTP API of the embedded proxy: Toxiproxy 2.12's paths, status codes, JSON forms and error texts, on aiohttp."""

from __future__ import annotations

import hmac
import posixpath
from dataclasses import replace
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Middleware

from chaos.clock import monotonic_s, wall_clock_s
from chaos.proxy.exposition import metrics_lines
from chaos.proxy.extensions import Extensions, Handler
from chaos.proxy.forms import (
    PROXY,
    TOXIC,
    TOXIC_CHANGE,
    dumps,
    json_response,
    lease_terms,
    populated,
    proxy_form,
    read,
    settings,
    toxic_form,
    toxic_forms,
    with_attributes,
)
from chaos.proxy.problems import ProxyError
from chaos.proxy.proxies import Proxy, ProxyCollection
from chaos.proxy.token import given
from chaos.proxy.toxics import KINDS, Direction, InstalledToxic

API_VERSION = "2.12.0"
"""The version of Toxiproxy whose API this is."""
SERVER_NAME = "chaos embedded"
"""What ``/version`` says beside the version; the real server has no such key."""
BODY_MAX_BYTES = 8 * 1024 * 1024

_PLAIN = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class Api:
    """The API over one collection of proxies. With a ``token`` it answers only those who know it."""

    def __init__(self, proxies: ProxyCollection, *, token: str = "", body_max_bytes: int = BODY_MAX_BYTES) -> None:
        self._proxies = proxies
        self._token = token
        self._body_max_bytes = body_max_bytes

    def application(self) -> web.Application:
        """Return the aiohttp application that serves it."""
        middlewares: list[Middleware] = [
            _as_the_real_server_answers,
            *([_with_token(self._token)] if self._token else []),
        ]
        application = web.Application(middlewares=middlewares, client_max_size=self._body_max_bytes)
        routes: list[tuple[str, str, Handler]] = [
            ("POST", "/reset", self._reset),
            ("GET", "/proxies", self._proxy_index),
            ("POST", "/proxies", self._proxy_create),
            ("POST", "/populate", self._populate),
            ("GET", "/proxies/{proxy}", self._proxy_show),
            ("POST", "/proxies/{proxy}", self._proxy_update),
            ("PATCH", "/proxies/{proxy}", self._proxy_update),
            ("DELETE", "/proxies/{proxy}", self._proxy_delete),
            ("GET", "/proxies/{proxy}/toxics", self._toxic_index),
            ("POST", "/proxies/{proxy}/toxics", self._toxic_create),
            ("GET", "/proxies/{proxy}/toxics/{toxic}", self._toxic_show),
            ("POST", "/proxies/{proxy}/toxics/{toxic}", self._toxic_update),
            ("PATCH", "/proxies/{proxy}/toxics/{toxic}", self._toxic_update),
            ("DELETE", "/proxies/{proxy}/toxics/{toxic}", self._toxic_delete),
            ("GET", "/version", self._version),
            ("*", "/metrics", self._metrics),
            *Extensions(self._proxies).routes(),
        ]
        for method, path, handler in routes:
            application.router.add_route(method, path, handler)
        return application

    async def populate_from(self, body: bytes) -> list[Proxy]:
        """Make the proxies that a populate request or a configuration file describes.

        ProxyError when the text is wrong or a proxy cannot listen.
        """
        made: list[Proxy] = []
        await self._proxies.populate(populated(body), made)
        return made

    # Proxies.

    async def _proxy_index(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return json_response({proxy.name: proxy_form(proxy) for proxy in self._proxies.all()})

    async def _proxy_create(self, request: web.Request) -> web.Response:
        given = read(await request.read(), PROXY)
        for required in ("name", "upstream"):
            if not given.get(required):
                raise ProxyError(f"missing required field: {required}", 400)
        return json_response(proxy_form(await self._proxies.create(settings(given))), status=201)

    async def _populate(self, request: web.Request) -> web.Response:
        made: list[Proxy] = []
        error: dict[str, object] = {}
        try:
            await self._proxies.populate(populated(await request.read()), made)
        except ProxyError as problem:
            error = {"error": str(problem), "status": problem.status}
        status = cast("int", error.get("status", 201))
        return json_response({**error, "proxies": [proxy_form(proxy) for proxy in made] or None}, status=status)

    async def _proxy_show(self, request: web.Request) -> web.Response:
        return json_response(proxy_form(self._proxy(request)))

    async def _proxy_update(self, request: web.Request) -> web.Response:
        proxy = self._proxy(request)
        given = read(await request.read(), PROXY)
        wanted = settings({"listen": proxy.listen, "upstream": proxy.upstream, "enabled": proxy.enabled, **given})
        await self._proxies.update(
            proxy.name, listen=wanted.listen, upstream=wanted.upstream, enabled=wanted.enabled
        )  # the name in the body is ignored: a proxy keeps its name
        return json_response(proxy_form(proxy))

    async def _proxy_delete(self, request: web.Request) -> web.Response:
        await self._proxies.remove(request.match_info["proxy"])
        return web.Response(status=204)

    async def _reset(self, request: web.Request) -> web.Response:  # noqa: ARG002
        await self._proxies.reset()
        return web.Response(status=204)

    # Toxics.

    async def _toxic_index(self, request: web.Request) -> web.Response:
        return json_response(toxic_forms(self._proxy(request)))

    async def _toxic_create(self, request: web.Request) -> web.Response:
        body = await request.read()
        proxy = self._proxy(request)
        given = read(body, TOXIC)
        stream = cast("str", given.get("stream", "downstream"))
        if stream.lower() not in list(Direction):
            raise ProxyError("stream was invalid, can be either upstream or downstream", 400)
        kind = cast("str", given.get("type", ""))
        if kind not in KINDS:
            raise ProxyError("invalid toxic type", 400)
        name = cast("str", given.get("name")) or f"{kind}_{stream}"
        if any(other.name == name for other in proxy.toxics()):
            raise ProxyError("toxic already exists", 409)
        terms = lease_terms(given)
        toxic = InstalledToxic(
            name=name,
            direction=Direction(stream.lower()),
            stream=stream,
            toxicity=cast("float", given.get("toxicity", 1.0)),
            toxic=with_attributes(KINDS[kind](), body),
            life=proxy.new_life(name),
        )
        proxy.add_toxic(toxic)
        proxy.lend(toxic, terms)
        return json_response(toxic_form(toxic, proxy.lease(name)))

    async def _toxic_show(self, request: web.Request) -> web.Response:
        proxy, name = self._proxy(request), request.match_info["toxic"]
        return json_response(toxic_form(proxy.toxic(name), proxy.lease(name)))

    async def _toxic_update(self, request: web.Request) -> web.Response:
        body = await request.read()
        proxy = self._proxy(request)
        old = proxy.toxic(request.match_info["toxic"])
        given = read(body, TOXIC_CHANGE)
        toxicity = cast("float", given.get("toxicity", old.toxicity))
        toxic = replace(old, toxic=with_attributes(old.toxic, body), toxicity=toxicity)
        terms = lease_terms(given, proxy.lease(old.name))
        if terms is None or toxic != old:  # to renew a lease is no reason to begin anew
            proxy.replace_toxic(toxic)
        proxy.lend(toxic, terms)
        return json_response(toxic_form(toxic, proxy.lease(old.name)))

    async def _toxic_delete(self, request: web.Request) -> web.Response:
        self._proxy(request).remove_toxic(request.match_info["toxic"])
        return web.Response(status=204)

    # The server.

    async def _version(self, request: web.Request) -> web.Response:  # noqa: ARG002
        text = f'{{"version": "{API_VERSION}", "server": "{SERVER_NAME}"}}\n'
        return web.Response(text=text, content_type="application/json", charset="utf-8")

    async def _metrics(self, request: web.Request) -> web.Response:  # noqa: ARG002
        lines = metrics_lines(self._proxies, now_s=monotonic_s(), wall_s=wall_clock_s())
        text = "\n".join(lines) + "\n"
        return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _proxy(self, request: web.Request) -> Proxy:
        return self._proxies.get(request.match_info["proxy"])


@web.middleware
async def _as_the_real_server_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give refusals the real server's status codes and words."""
    if request.match_info.http_exception is None and request.headers.get("User-Agent", "").startswith("Mozilla/"):
        return web.Response(status=403, body=b"User agent not allowed\n", headers=_PLAIN)
    try:
        return await handler(request)
    except ProxyError as error:
        body = dumps({"error": str(error), "status": error.status}) + "\n"
        return web.Response(status=error.status, body=body.encode(), headers=_PLAIN)
    except web.HTTPMethodNotAllowed:
        return web.Response(status=405)
    except web.HTTPNotFound:
        clean = "/" + posixpath.normpath(request.path).lstrip("/")
        if clean != request.path.rstrip("/"):
            return web.Response(status=301, headers={"Location": clean})
        return web.Response(status=404, body=b"404 page not found\n", headers=_PLAIN)


def _with_token(token: str) -> Middleware:
    """Return what lets in only requests that carry the token: as a bearer's, or as the password in the API's URL."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        said = given(request.headers.get("Authorization", ""))
        # What is not UTF-8 in a header comes in half characters that no token has.
        if hmac.compare_digest(said.encode("utf-8", "surrogateescape"), token.encode()):
            return await handler(request)
        body = dumps({"error": "a token is needed: Authorization: Bearer TOKEN, or http://:TOKEN@host", "status": 401})
        challenge = {**_PLAIN, "WWW-Authenticate": 'Bearer, Basic realm="chaos proxy"'}
        return web.Response(status=401, body=body.encode() + b"\n", headers=challenge)

    return guard
