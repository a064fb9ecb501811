"""The JSON forms of the API: reading requests as the real server does, and writing its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from aiohttp import web

from chaos.proxy.gojson import Fields, GoJsonError, GoType, JsonValue, Struct, decode, kind_of, parse
from chaos.proxy.leases import Lease, LeaseTerms
from chaos.proxy.problems import ProxyError
from chaos.proxy.proxies import Proxy, ProxySettings
from chaos.proxy.toxics import InstalledToxic, Toxic, Value

TTL_MAX_MS = 24 * 3_600_000
_GO_NAMES = {"reset_peer": "ResetToxic"}
_PROXY_FIELDS: Mapping[str, GoType | Struct] = {
    "name": GoType.STRING,
    "listen": GoType.STRING,
    "upstream": GoType.STRING,
    "enabled": GoType.BOOL,
}
PROXY = Struct(name="Proxy", type_name="toxiproxy.Proxy", fields=_PROXY_FIELDS)
_POPULATED = Struct(
    name="",
    type_name='struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }',
    fields=_PROXY_FIELDS,
)
_NO_ATTRIBUTES = Struct(name="NoopToxic", type_name="toxics.NoopToxic", fields={})
TOXIC = Struct(
    name="ToxicWrapper",
    type_name="toxics.ToxicWrapper",
    fields={
        "attributes": _NO_ATTRIBUTES,
        "name": GoType.STRING,
        "type": GoType.STRING,
        "stream": GoType.STRING,
        "toxicity": GoType.FLOAT32,
        "ttl_ms": GoType.INT64,
        "owner": GoType.STRING,
    },
)
TOXIC_CHANGE = Struct(
    name="",
    type_name="",
    fields={"toxicity": GoType.FLOAT32, "ttl_ms": GoType.INT64, "owner": GoType.STRING},
)
RENEWAL = Struct(name="", type_name="", fields={"owner": GoType.STRING, "ttl_ms": GoType.INT64})


def lease_terms(given: Fields, present: Lease | None = None) -> LeaseTerms | None:
    """Return what a request says about a lease; None when nothing. ProxyError (400) for a time that cannot be.

    Where it says a time and no owner, the owner of the ``present`` lease stays.
    """
    ttl_ms = given.get("ttl_ms")
    if ttl_ms is None:
        return None
    if not 0 <= cast("int", ttl_ms) <= TTL_MAX_MS:
        raise ProxyError(f"ttl_ms is {ttl_ms}, allowed is 1 to {TTL_MAX_MS}, and 0 for no end", 400)
    owner = given.get("owner", present.terms.owner if present is not None else "")
    return LeaseTerms(owner=cast("str", owner), ttl_s=cast("int", ttl_ms) / 1000)


def read(body: bytes, shape: Struct) -> Fields:
    """Return what a request's body says. ProxyError (400) when it is not of this shape."""
    return _decoded(_parsed(body), shape)


def _parsed(body: bytes) -> JsonValue:
    try:
        return parse(body)
    except GoJsonError as error:
        raise ProxyError(f"bad request body: {error}", 400) from None


def _decoded(value: JsonValue, shape: Struct) -> Fields:
    try:
        return decode(value, shape)
    except GoJsonError as error:
        raise ProxyError(f"bad request body: {error}", 400) from None


def populated(body: bytes) -> list[ProxySettings]:
    """Return the proxies that a populate request or a configuration file describes. ProxyError (400)."""
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
    return [settings(given) for given in many]


def settings(given: Fields) -> ProxySettings:
    """Return the proxy that these fields describe."""
    return ProxySettings(
        name=cast("str", given.get("name", "")),
        listen=cast("str", given.get("listen", "")),
        upstream=cast("str", given["upstream"]),
        enabled=cast("bool", given.get("enabled", True)),
    )


def with_attributes(toxic: Toxic, body: bytes) -> Toxic:
    """Return the toxic with the attributes in a request's body; those not given stay as they are.

    ProxyError (400) for values of a wrong type, and for all that is wrong with settings that Toxiproxy does not have.
    """
    type_name = _GO_NAMES.get(toxic.kind) or "".join(part.title() for part in toxic.kind.split("_")) + "Toxic"
    types = {one.name: _go_type(toxic, one.default) for one in toxic.settings()}
    attributes = Struct(name=type_name, type_name=f"toxics.{type_name}", fields=types)
    shape = Struct(name="", type_name="", fields={"attributes": attributes})
    value = _parsed(body)
    given = _decoded(value, shape).get("attributes", {})
    changed = toxic.with_attributes(cast("dict[str, Value]", given))
    problems = changed.problems()
    if (
        toxic.extension
    ):  # Toxiproxy ignores what it does not know; who uses an extension wants to know of a typing error
        written = value.get("attributes") if isinstance(value, dict) else None
        unknown = sorted(set(written or {}) - set(types)) if isinstance(written, dict) else []
        problems += [
            f"{name} is no setting of {toxic.kind}, which has {', '.join(types) or 'none'}" for name in unknown
        ]
    if problems:
        raise ProxyError(f"bad attributes: {'; '.join(problems)}", 400)
    return changed


def _go_type(toxic: Toxic, default: Value) -> GoType:
    match default:
        case str():
            return GoType.STRING
        case float():
            return GoType.FLOAT64
        case _:
            return GoType.INT if toxic.kind == "slicer" else GoType.INT64


def proxy_form(proxy: Proxy) -> dict[str, object]:
    """Return a proxy as the API shows it."""
    return {
        "name": proxy.name,
        "listen": proxy.listen,
        "upstream": proxy.upstream,
        "enabled": proxy.enabled,
        "Logger": {},  # the real server shows this inner part of itself; a client may be strict about the form
        "toxics": toxic_forms(proxy),
    }


def toxic_forms(proxy: Proxy) -> list[dict[str, object]]:
    """Return the toxics of a proxy as the API shows them."""
    return [toxic_form(toxic, proxy.lease(toxic.name)) for toxic in proxy.toxics()]


def toxic_form(toxic: InstalledToxic, lease: Lease | None) -> dict[str, object]:
    """Return a toxic as the API shows it; its lease only where it has one, which Toxiproxy does not know."""
    toxicity = toxic.toxicity
    form: dict[str, object] = {
        "attributes": toxic.toxic.attributes,
        "name": toxic.name,
        "type": toxic.toxic.kind,
        "stream": toxic.stream,
        "toxicity": int(toxicity) if toxicity == int(toxicity) else toxicity,
    }
    if lease is not None:
        form["ttl_ms"] = round(lease.terms.ttl_s * 1000)
        form["owner"] = lease.terms.owner
        form["left_ms"] = round(lease.left_s * 1000)
    return form


def dumps(form: object) -> str:
    """Return JSON text as Go writes it: without spaces, with the characters escaped that HTML would take amiss."""
    text = json.dumps(form, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def json_response(form: object, *, status: int = 200) -> web.Response:
    """Return an answer with this body."""
    return web.Response(status=status, body=dumps(form).encode(), headers={"Content-Type": "application/json"})
