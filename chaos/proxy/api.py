"""The HTTP API of the embedded proxy: Toxiproxy 2.12's paths, status codes, JSON forms and error texts, on aiohttp."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import cast

from aiohttp import web

from chaos.proxy.gojson import Fields, GoJsonError, GoType, JsonValue, Struct, decode, kind_of, parse
from chaos.proxy.proxies import Proxy, ProxyCollection, ProxyCounters, ProxyError, ProxySettings
from chaos.proxy.toxics import KINDS, Direction, InstalledToxic, Toxic

API_VERSION = "2.12.0"
"""The version of Toxiproxy whose API this is."""
SERVER_NAME = "chaos embedded"
"""What ``/version`` says beside the version; the real server has no such key."""
BODY_MAX_BYTES = 8 * 1024 * 1024

_PLAIN = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_PROXY_FIELDS: Mapping[str, GoType | Struct] = {
    "name": GoType.STRING,
    "listen": GoType.STRING,
    "upstream": GoType.STRING,
    "enabled": GoType.BOOL,
}
_PROXY = Struct(name="Proxy", type_name="toxiproxy.Proxy", fields=_PROXY_FIELDS)
_POPULATED = Struct(
    name="",
    type_name='struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }',
    fields=_PROXY_FIELDS,
)
_NO_ATTRIBUTES = Struct(name="NoopToxic", type_name="toxics.NoopToxic", fields={})
_TOXIC = Struct(
    name="ToxicWrapper",
    type_name="toxics.ToxicWrapper",
    fields={
        "attributes": _NO_ATTRIBUTES,
        "name": GoType.STRING,
        "type": GoType.STRING,
        "stream": GoType.STRING,
        "toxicity": GoType.FLOAT32,
    },
)

_GO_NAMES = {"reset_peer": "ResetToxic"}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """The API over one collection of proxies."""

    def __init__(self, proxies: ProxyCollection) -> None:
        self._proxies = proxies

    def application(self) -> web.Application:
        """Return the aiohttp application that serves it."""
        application = web.Application(middlewares=[_as_the_real_server_answers], client_max_size=BODY_MAX_BYTES)
        routes: list[tuple[str, str, _Handler]] = [
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
        ]
        for method, path, handler in routes:
            application.router.add_route(method, path, handler)
        return application

    async def populate_from(self, body: bytes) -> list[Proxy]:
        """Make the proxies that a populate request or a configuration file describes.

        ProxyError when the text is wrong or a proxy cannot listen.
        """
        made: list[Proxy] = []
        await self._proxies.populate(_populated(body), made)
        return made

    # Proxies.

    async def _proxy_index(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return _json({proxy.name: _proxy_form(proxy) for proxy in self._proxies.all()})

    async def _proxy_create(self, request: web.Request) -> web.Response:
        given = _read(await request.read(), _PROXY)
        for required in ("name", "upstream"):
            if not given.get(required):
                raise ProxyError(f"missing required field: {required}", 400)
        return _json(_proxy_form(await self._proxies.create(_settings(given))), status=201)

    async def _populate(self, request: web.Request) -> web.Response:
        made: list[Proxy] = []
        error: dict[str, object] = {}
        try:
            await self._proxies.populate(_populated(await request.read()), made)
        except ProxyError as problem:
            error = {"error": str(problem), "status": problem.status}
        status = cast("int", error.get("status", 201))
        return _json({**error, "proxies": [_proxy_form(proxy) for proxy in made] or None}, status=status)

    async def _proxy_show(self, request: web.Request) -> web.Response:
        return _json(_proxy_form(self._proxy(request)))

    async def _proxy_update(self, request: web.Request) -> web.Response:
        proxy = self._proxy(request)
        given = _read(await request.read(), _PROXY)
        wanted = _settings({"listen": proxy.listen, "upstream": proxy.upstream, "enabled": proxy.enabled, **given})
        await self._proxies.update(
            proxy.name, listen=wanted.listen, upstream=wanted.upstream, enabled=wanted.enabled
        )  # the name in the body is ignored: a proxy keeps its name
        return _json(_proxy_form(proxy))

    async def _proxy_delete(self, request: web.Request) -> web.Response:
        await self._proxies.remove(request.match_info["proxy"])
        return web.Response(status=204)

    async def _reset(self, request: web.Request) -> web.Response:  # noqa: ARG002
        await self._proxies.reset()
        return web.Response(status=204)

    # Toxics.

    async def _toxic_index(self, request: web.Request) -> web.Response:
        return _json([_toxic_form(toxic) for toxic in self._proxy(request).toxics()])

    async def _toxic_create(self, request: web.Request) -> web.Response:
        body = await request.read()
        proxy = self._proxy(request)
        given = _read(body, _TOXIC)
        stream = cast("str", given.get("stream", "downstream"))
        if stream.lower() not in list(Direction):
            raise ProxyError("stream was invalid, can be either upstream or downstream", 400)
        kind = cast("str", given.get("type", ""))
        if kind not in KINDS:
            raise ProxyError("invalid toxic type", 400)
        name = cast("str", given.get("name")) or f"{kind}_{stream}"
        if any(other.name == name for other in proxy.toxics()):
            raise ProxyError("toxic already exists", 409)
        toxic = InstalledToxic(
            name=name,
            direction=Direction(stream.lower()),
            stream=stream,
            toxicity=cast("float", given.get("toxicity", 1.0)),
            toxic=_with_attributes(KINDS[kind](), body),
        )
        proxy.add_toxic(toxic)
        return _json(_toxic_form(toxic))

    async def _toxic_show(self, request: web.Request) -> web.Response:
        return _json(_toxic_form(self._proxy(request).toxic(request.match_info["toxic"])))

    async def _toxic_update(self, request: web.Request) -> web.Response:
        body = await request.read()
        proxy = self._proxy(request)
        old = proxy.toxic(request.match_info["toxic"])
        shape = Struct(name="", type_name="", fields={"toxicity": GoType.FLOAT32})
        given = _read(body, shape)
        toxic = replace(
            old, toxic=_with_attributes(old.toxic, body), toxicity=cast("float", given.get("toxicity", old.toxicity))
        )
        proxy.replace_toxic(toxic)
        return _json(_toxic_form(toxic))

    async def _toxic_delete(self, request: web.Request) -> web.Response:
        self._proxy(request).remove_toxic(request.match_info["toxic"])
        return web.Response(status=204)

    # The server.

    async def _version(self, request: web.Request) -> web.Response:  # noqa: ARG002
        text = f'{{"version": "{API_VERSION}", "server": "{SERVER_NAME}"}}\n'
        return web.Response(text=text, content_type="application/json", charset="utf-8")

    async def _metrics(self, request: web.Request) -> web.Response:  # noqa: ARG002
        text = "\n".join(metrics_lines(self._proxies.counters)) + "\n"
        return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _proxy(self, request: web.Request) -> Proxy:
        return self._proxies.get(request.match_info["proxy"])


def metrics_lines(counters: Mapping[tuple[str, str, str], ProxyCounters]) -> Iterable[str]:
    """Yield the lines of ``/metrics``, in Prometheus' text format: the real server's two counters and one more."""
    for what in ("received", "sent"):
        metric = f"toxiproxy_proxy_{what}_bytes_total"
        yield f"# HELP {metric} Bytes {what} by the proxy, counted as they pass."
        yield f"# TYPE {metric} counter"
        for key, counted in sorted(counters.items()):
            for direction in sorted(Direction):
                stream = counted.stream(direction)
                value = stream.received_bytes if what == "received" else stream.sent_bytes
                yield f'{metric}{{direction="{direction}",{_labels(key)}}} {value}'
    metric = "chaos_proxy_accepted_connections_total"
    yield f"# HELP {metric} Connections accepted by the proxy (an extension: the real server does not count them)."
    yield f"# TYPE {metric} counter"
    for key, counted in sorted(counters.items()):
        yield f"{metric}{{{_labels(key)}}} {counted.connections}"


def _labels(key: tuple[str, str, str]) -> str:
    name, listen, upstream = (value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in key)
    return f'listener="{listen}",proxy="{name}",upstream="{upstream}"'


def _read(body: bytes, shape: Struct) -> Fields:
    try:
        return decode(parse(body), shape)
    except GoJsonError as error:
        raise ProxyError(f"bad request body: {error}", 400) from None


def _populated(body: bytes) -> list[ProxySettings]:
    try:
        value: JsonValue = parse(body)
        if value is None:
            return []
        if not isinstance(value, list):
            kind = kind_of(value)
            raise GoJsonError(f"json: cannot unmarshal {kind} into Go value of type []{_POPULATED.type_name}")  # noqa: TRY301
        many = [decode(entry, _POPULATED) for entry in value]
    except GoJsonError as error:
        raise ProxyError(f"bad request body: {error}", 400) from None
    for number, given in enumerate(many, start=1):
        for required in ("name", "upstream"):
            if not given.get(required):
                raise ProxyError(f"missing required field: {required} at proxy {number}", 400)
    return [_settings(given) for given in many]


def _settings(given: Fields) -> ProxySettings:
    return ProxySettings(
        name=cast("str", given.get("name", "")),
        listen=cast("str", given.get("listen", "")),
        upstream=cast("str", given["upstream"]),
        enabled=cast("bool", given.get("enabled", True)),
    )


def _with_attributes(toxic: Toxic, body: bytes) -> Toxic:
    """Return the toxic with the attributes in a request's body; those not given stay as they are."""
    type_name = _GO_NAMES.get(toxic.kind) or "".join(part.title() for part in toxic.kind.split("_")) + "Toxic"
    number = GoType.INT if toxic.kind == "slicer" else GoType.INT64
    attributes = Struct(name=type_name, type_name=f"toxics.{type_name}", fields=dict.fromkeys(toxic.attributes, number))
    given = _read(body, Struct(name="", type_name="", fields={"attributes": attributes}))
    return toxic.with_attributes(cast("dict[str, int]", given.get("attributes", {})))


def _proxy_form(proxy: Proxy) -> dict[str, object]:
    return {
        "name": proxy.name,
        "listen": proxy.listen,
        "upstream": proxy.upstream,
        "enabled": proxy.enabled,
        "Logger": {},  # the real server shows this inner part of itself; a client may be strict about the form
        "toxics": [_toxic_form(toxic) for toxic in proxy.toxics()],
    }


def _toxic_form(toxic: InstalledToxic) -> dict[str, object]:
    toxicity = toxic.toxicity
    return {
        "attributes": toxic.toxic.attributes,
        "name": toxic.name,
        "type": toxic.toxic.kind,
        "stream": toxic.stream,
        "toxicity": int(toxicity) if toxicity == int(toxicity) else toxicity,
    }


def _dumps(form: object) -> str:
    """Return JSON text as Go writes it: without spaces, with the characters escaped that HTML would take amiss."""
    text = json.dumps(form, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _json(form: object, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_dumps(form).encode(), headers={"Content-Type": "application/json"})


@web.middleware
async def _as_the_real_server_answers(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Give refusals the real server's status codes and words."""
    if request.match_info.http_exception is None and request.headers.get("User-Agent", "").startswith("Mozilla/"):
        return web.Response(status=403, body=b"User agent not allowed\n", headers=_PLAIN)
    try:
        return await handler(request)
    except ProxyError as error:
        body = _dumps({"error": str(error), "status": error.status}) + "\n"
        return web.Response(status=error.status, body=body.encode(), headers=_PLAIN)
    except web.HTTPMethodNotAllowed:
        return web.Response(status=405)
    except web.HTTPNotFound:
        clean = "/" + posixpath.normpath(request.path).lstrip("/")
        if clean != request.path.rstrip("/"):
            return web.Response(status=301, headers={"Location": clean})
        return web.Response(status=404, body=b"404 page not found\n", headers=_PLAIN)
