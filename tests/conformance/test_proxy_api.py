"""The API, through raw HTTP: status codes, JSON forms and error texts are the same on every server."""

# ruff: noqa: E501 - a row of a table is a case
from __future__ import annotations

import re
import socket

import pytest

SERVERS = ["embedded", "real"]
P = {"name": "p", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"}
PLAIN = "text/plain; charset=utf-8"


async def test_there_are_no_proxies_at_first(api):
    answer = await api("GET", "/proxies")
    assert (answer.status, answer.text, answer.headers["Content-Type"]) == (200, "{}", "application/json")


async def test_a_proxy_is_made_shown_listed_and_deleted(api):
    made = await api("POST", "/proxies", P)
    assert made.status == 201
    host, _, port = made.json["listen"].rpartition(":")
    assert (host, int(port) > 0) == ("127.0.0.1", True)
    assert made.text == (
        f'{{"name":"p","listen":"{made.json["listen"]}","upstream":"127.0.0.1:9","enabled":true,"Logger":{{}},"toxics":[]}}'
    )
    assert (await api("GET", "/proxies/p")).text == made.text
    assert (await api("GET", "/proxies")).text == f'{{"p":{made.text}}}'
    deleted = await api("DELETE", "/proxies/p")
    assert (deleted.status, deleted.text) == (204, "")
    assert (await api("GET", "/proxies/p")).status == 404


async def test_a_disabled_proxy_does_not_listen_until_it_is_enabled(api):
    made = await api.ok("POST", "/proxies", {**P, "enabled": False})
    assert (made["enabled"], made["listen"]) == (False, "127.0.0.1:0")
    enabled = await api.ok("PATCH", "/proxies/p", {"enabled": True})
    assert enabled["enabled"]
    assert enabled["listen"] != "127.0.0.1:0"


async def test_names_are_escaped_as_html_wants_it(api):
    answer = await api("POST", "/proxies", {**P, "name": "a<&>ü"})
    assert answer.text.startswith('{"name":"a\\u003c\\u0026\\u003eü",')


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_proxy_is_changed_and_keeps_its_name(api, method):
    made = await api.ok("POST", "/proxies", P)
    changed = await api.ok(method, "/proxies/p", {"name": "other", "upstream": "127.0.0.1:10"})
    assert changed == {**made, "upstream": "127.0.0.1:10"}
    assert await api.ok(method, "/proxies/p", "null") == changed


async def test_field_names_are_matched_in_any_case_and_what_follows_the_value_is_ignored(api):
    answer = await api(
        "POST", "/proxies", '{"NAME":"p","Upstream":"h:1","enabled":false,"listen":"127.0.0.1:0","x":1} rest'
    )
    assert (answer.status, answer.json["name"], answer.json["upstream"]) == (201, "p", "h:1")


REFUSED = [
    ("GET", "/proxies/nope", None, 404, "proxy not found"),
    ("DELETE", "/proxies/nope", None, 404, "proxy not found"),
    ("PATCH", "/proxies/nope", {}, 404, "proxy not found"),
    ("GET", "/proxies/nope/toxics", None, 404, "proxy not found"),
    ("POST", "/proxies/nope/toxics", {}, 404, "proxy not found"),
    ("GET", "/proxies/p/toxics/nope", None, 404, "toxic not found"),
    ("PATCH", "/proxies/p/toxics/nope", {}, 404, "toxic not found"),
    ("DELETE", "/proxies/p/toxics/nope", None, 404, "toxic not found"),
    ("POST", "/proxies", P, 409, "proxy already exists"),
    ("POST", "/proxies", {"listen": "127.0.0.1:0", "upstream": "h:1"}, 400, "missing required field: name"),
    ("POST", "/proxies", {"name": "q", "listen": "127.0.0.1:0"}, 400, "missing required field: upstream"),
    ("POST", "/proxies", "", 400, "bad request body: EOF"),
    ("POST", "/proxies", "   ", 400, "bad request body: EOF"),
    ("POST", "/proxies", '{"name":"x"', 400, "bad request body: unexpected EOF"),
    ("POST", "/proxies", '{name:"x"}', 400, "bad request body: invalid character 'n' looking for beginning of object key string"),
    ("POST", "/proxies", '{"a" 1}', 400, "bad request body: invalid character '1' after object key"),
    ("POST", "/proxies", '{"a":1 2}', 400, "bad request body: invalid character '2' after object key:value pair"),
    ("POST", "/proxies", '{"a":[1 2]}', 400, "bad request body: invalid character '2' after array element"),
    ("POST", "/proxies", "nope", 400, "bad request body: invalid character 'o' in literal null (expecting 'u')"),
    ("POST", "/proxies", "<x>", 400, "bad request body: invalid character '<' looking for beginning of value"),
    ("POST", "/proxies", '{"a":-x}', 400, "bad request body: invalid character 'x' in numeric literal"),
    ("POST", "/proxies", '{"a":1.}', 400, "bad request body: invalid character '}' after decimal point in numeric literal"),
    ("POST", "/proxies", '{"a":1ex}', 400, "bad request body: invalid character 'x' in exponent of numeric literal"),
    ("POST", "/proxies", '{"a":"\n"}', 400, "bad request body: invalid character '\\n' in string literal"),
    ("POST", "/proxies", '{"a":"\\x"}', 400, "bad request body: invalid character 'x' in string escape code"),
    ("POST", "/proxies", '{"a":"\\u12x4"}', 400, "bad request body: invalid character 'x' in \\u hexadecimal character escape"),
    ("POST", "/proxies", '{"a":1,}', 400, "bad request body: invalid character '}' looking for beginning of object key string"),
    ("POST", "/proxies", '"x"', 400, "bad request body: json: cannot unmarshal string into Go value of type toxiproxy.Proxy"),
    ("POST", "/proxies", "[]", 400, "bad request body: json: cannot unmarshal array into Go value of type toxiproxy.Proxy"),
    ("POST", "/proxies", {"name": 3}, 400, "bad request body: json: cannot unmarshal number into Go struct field Proxy.name of type string"),
    ("POST", "/proxies", {"enabled": "yes"}, 400, "bad request body: json: cannot unmarshal string into Go struct field Proxy.enabled of type bool"),
    ("PATCH", "/proxies/p", "", 400, "bad request body: EOF"),
    ("PATCH", "/proxies/p", {"listen": "bad"}, 500, "address bad: missing port in address"),
    ("POST", "/proxies", {**P, "name": "q", "listen": "localhost"}, 500, "listen tcp: address localhost: missing port in address"),
    ("POST", "/proxies", {**P, "name": "q", "listen": "a:b:1"}, 500, "listen tcp: address a:b:1: too many colons in address"),
    ("POST", "/proxies", {**P, "name": "q", "listen": "127.0.0.1:99999"}, 500, "listen tcp: address 99999: invalid port"),
    ("POST", "/proxies", {**P, "name": "q", "listen": "127.0.0.1:nosuch"}, 500, "listen tcp: lookup tcp/nosuch: unknown port"),
    ("POST", "/proxies", {**P, "name": "q", "listen": "192.0.2.1:18475"}, 500, "listen tcp 192.0.2.1:18475: bind: cannot assign requested address"),
    ("POST", "/proxies/p/toxics", "", 400, "bad request body: EOF"),
    ("POST", "/proxies/p/toxics", {}, 400, "invalid toxic type"),
    ("POST", "/proxies/p/toxics", {"type": "nope"}, 400, "invalid toxic type"),
    ("POST", "/proxies/p/toxics", {"type": "latency", "stream": "sideways"}, 400, "stream was invalid, can be either upstream or downstream"),
    ("POST", "/proxies/p/toxics", {"type": "latency", "stream": ""}, 400, "stream was invalid, can be either upstream or downstream"),
    ("POST", "/proxies/p/toxics", {"type": "latency", "toxicity": "1"}, 400, "bad request body: json: cannot unmarshal string into Go struct field ToxicWrapper.toxicity of type float32"),
    ("POST", "/proxies/p/toxics", {"type": "latency", "attributes": []}, 400, "bad request body: json: cannot unmarshal array into Go struct field ToxicWrapper.attributes of type toxics.NoopToxic"),
    ("POST", "/proxies/p/toxics", {"type": "latency", "attributes": {"latency": "many"}}, 400, "bad request body: json: cannot unmarshal string into Go struct field LatencyToxic.attributes.latency of type int64"),
    ("POST", "/proxies/p/toxics", {"type": "latency", "attributes": {"latency": 1.5}}, 400, "bad request body: json: cannot unmarshal number 1.5 into Go struct field LatencyToxic.attributes.latency of type int64"),
    ("POST", "/proxies/p/toxics", {"type": "reset_peer", "attributes": {"timeout": True}}, 400, "bad request body: json: cannot unmarshal bool into Go struct field ResetToxic.attributes.timeout of type int64"),
    ("POST", "/proxies/p/toxics", {"type": "slicer", "attributes": {"delay": {}}}, 400, "bad request body: json: cannot unmarshal object into Go struct field SlicerToxic.attributes.delay of type int"),
]  # fmt: skip


def last_field(error: str) -> str:
    """Return the error without the path to the field that it names: Go's releases write that differently."""
    return re.sub(r"Go struct field \S*\.(\w+) of", r"Go struct field \1 of", error)


@pytest.mark.parametrize(("method", "path", "body", "status", "error"), REFUSED)
async def test_bad_requests_are_refused_with_the_same_words(api, method, path, body, status, error):
    await api.ok("POST", "/proxies", P)
    answer = await api(method, path, body)
    assert answer.status == answer.json["status"] == status
    if api.server.embedded:
        assert answer.json["error"] == error
    else:
        assert last_field(answer.json["error"]) == last_field(error)
    assert answer.text.endswith("}\n")
    assert answer.headers["Content-Type"] == PLAIN
    assert list(await api.ok("GET", "/proxies")) == ["p"]


async def test_a_port_that_is_taken_is_named(api, server):
    error = f"listen tcp 127.0.0.1:{server.port}: bind: address already in use"
    taken = f"127.0.0.1:{server.port}"
    made = await api("POST", "/proxies", {**P, "listen": taken})
    assert (made.status, made.json) == (500, {"error": error, "status": 500})
    await api.ok("POST", "/proxies", P)
    moved = await api("PATCH", "/proxies/p", {"listen": taken})
    assert (moved.status, moved.json) == (500, {"error": error, "status": 500})
    left = await api.ok("GET", "/proxies/p")
    assert (left["enabled"], left["listen"]) == (False, taken)


OTHER = [
    ("GET", "/nope", {}, 404, "404 page not found\n"),
    ("GET", "/proxies/", {}, 404, "404 page not found\n"),
    ("GET", "//proxies", {}, 301, ""),
    ("PUT", "/proxies/p", {}, 405, ""),
    ("DELETE", "/proxies", {}, 405, ""),
    ("HEAD", "/proxies", {}, 405, ""),
    ("GET", "/reset", {}, 405, ""),
    ("GET", "/populate", {}, 405, ""),
    ("GET", "/proxies", {"User-Agent": "Mozilla/5.0 (X11)"}, 403, "User agent not allowed\n"),
    ("GET", "/version", {"User-Agent": "Mozilla/5.0 (X11)"}, 403, "User agent not allowed\n"),
    ("GET", "/nope", {"User-Agent": "Mozilla/5.0 (X11)"}, 404, "404 page not found\n"),
]


@pytest.mark.parametrize(("method", "path", "headers", "status", "text"), OTHER)
async def test_other_paths_methods_and_browsers_are_turned_away(api, method, path, headers, status, text):
    answer = await api(method, path, headers=headers)
    assert (answer.status, answer.text) == (status, text)


async def test_a_toxic_is_added_shown_changed_and_removed(api):
    await api.ok("POST", "/proxies", P)
    added = await api("POST", "/proxies/p/toxics", {"type": "latency", "attributes": {"latency": 100}})
    form = (
        '{{"attributes":{{"latency":100,"jitter":{}}},"name":"latency_downstream","type":"latency",'
        '"stream":"downstream","toxicity":{}}}'
    )
    assert (added.status, added.text) == (200, form.format(0, 1))
    path = "/proxies/p/toxics/latency_downstream"
    assert (await api("GET", path)).text == added.text
    assert (await api("GET", "/proxies/p/toxics")).text == f"[{added.text}]"
    assert (await api.ok("GET", "/proxies/p"))["toxics"] == [added.json]
    changed = await api("PATCH", path, {"attributes": {"jitter": 5}, "toxicity": 0.5, "name": "ignored"})
    assert (changed.status, changed.text) == (200, form.format(5, 0.5))
    assert (await api("POST", path, {"toxicity": 1})).text == form.format(5, 1)
    assert (await api("DELETE", path)).status == 204
    assert (await api("DELETE", path)).json == {"error": "toxic not found", "status": 404}
    assert (await api("GET", "/proxies/p/toxics")).text == "[]"


async def test_toxics_are_listed_upstream_first_and_in_the_order_in_which_they_were_added(api):
    await api.ok("POST", "/proxies", P)
    for kind, stream in (
        ("latency", "downstream"),
        ("slicer", "upstream"),
        ("timeout", "downstream"),
        ("noop", "upstream"),
    ):
        await api.ok("POST", "/proxies/p/toxics", {"type": kind, "stream": stream})
    names = [toxic["name"] for toxic in await api.ok("GET", "/proxies/p/toxics")]
    assert names == ["slicer_upstream", "noop_upstream", "latency_downstream", "timeout_downstream"]


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("noop", {}),
        ("latency", {"latency": 0, "jitter": 0}),
        ("bandwidth", {"rate": 0}),
        ("slow_close", {"delay": 0}),
        ("timeout", {"timeout": 0}),
        ("reset_peer", {"timeout": 0}),
        ("slicer", {"average_size": 0, "size_variation": 0, "delay": 0}),
        ("limit_data", {"bytes": 0}),
    ],
)
async def test_every_kind_has_its_attributes_at_zero(api, kind, attributes):
    await api.ok("POST", "/proxies", P)
    added = await api.ok("POST", "/proxies/p/toxics", {"type": kind, "attributes": None})
    assert list(added["attributes"].items()) == list(attributes.items())


async def test_a_stream_keeps_the_case_in_which_it_was_written_and_toxicity_is_a_short_float(api):
    await api.ok("POST", "/proxies", P)
    added = await api("POST", "/proxies/p/toxics", {"type": "latency", "stream": "Upstream", "toxicity": 0.123456789})
    assert added.text == (
        '{"attributes":{"latency":0,"jitter":0},"name":"latency_Upstream","type":"latency",'
        '"stream":"Upstream","toxicity":0.12345679}'
    )


async def test_two_toxics_of_one_proxy_cannot_have_one_name(api):
    await api.ok("POST", "/proxies", P)
    await api.ok("POST", "/proxies/p/toxics", {"type": "latency", "name": "t", "stream": "upstream"})
    again = await api("POST", "/proxies/p/toxics", {"type": "slicer", "name": "t"})
    assert (again.status, again.json["error"]) == (409, "toxic already exists")


async def test_populate_makes_many_keeps_the_same_and_replaces_the_different(api):
    first = await api("POST", "/populate", [P, {**P, "name": "q", "enabled": False}])
    assert first.status == 201
    assert [proxy["name"] for proxy in first.json["proxies"]] == ["p", "q"]
    assert [proxy["enabled"] for proxy in first.json["proxies"]] == [True, False]
    await api.ok("POST", "/proxies/p/toxics", {"type": "latency"})
    listen = first.json["proxies"][0]["listen"]
    same = await api.ok("POST", "/populate", [{**P, "listen": listen}])
    assert len(same["proxies"][0]["toxics"]) == 1
    other = await api.ok("POST", "/populate", [{**P, "listen": listen, "upstream": "127.0.0.1:10"}])
    assert (other["proxies"][0]["upstream"], other["proxies"][0]["toxics"]) == ("127.0.0.1:10", [])
    assert list(await api.ok("GET", "/proxies")) == ["p", "q"]


async def test_populate_stops_at_the_first_proxy_that_cannot_listen_and_says_which_are_there(api, server):
    answer = await api(
        "POST", "/populate", [P, {**P, "name": "q", "listen": f"127.0.0.1:{server.port}"}, {**P, "name": "r"}]
    )
    assert answer.status == 500
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["error"] == f"listen tcp 127.0.0.1:{server.port}: bind: address already in use"
    assert [proxy["name"] for proxy in answer.json["proxies"]] == ["p"]
    assert list(await api.ok("GET", "/proxies")) == ["p"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("", 400, '{"error":"bad request body: EOF","status":400,"proxies":null}'),
        ("[]", 201, '{"proxies":null}'),
        ("null", 201, '{"proxies":null}'),
        ([P, {"listen": "x"}], 400, '{"error":"missing required field: name at proxy 2","status":400,"proxies":null}'),
        (
            [P, {"name": "x"}],
            400,
            '{"error":"missing required field: upstream at proxy 2","status":400,"proxies":null}',
        ),
    ],
)
async def test_populate_checks_everything_before_it_makes_anything(api, body, status, text):
    answer = await api("POST", "/populate", body)
    assert (answer.status, answer.text) == (status, text)
    assert await api.ok("GET", "/proxies") == {}


async def test_reset_enables_every_proxy_and_removes_every_toxic(api):
    await api.ok("POST", "/proxies", P)
    await api.ok("POST", "/proxies", {**P, "name": "q", "enabled": False})
    await api.ok("POST", "/proxies/p/toxics", {"type": "latency"})
    answer = await api("POST", "/reset")
    assert (answer.status, answer.text) == (204, "")
    proxies = await api.ok("GET", "/proxies")
    assert all(proxy["enabled"] and proxy["toxics"] == [] for proxy in proxies.values())


async def test_the_version_tells_embedded_from_real(api, server):
    answer = await api("GET", "/version")
    assert answer.status == 200
    assert answer.headers["Content-Type"].replace(" ", "") == "application/json;charset=utf-8"
    assert answer.json.get("server") == ("chaos embedded" if server.embedded else None)
    if server.embedded:
        assert answer.json["version"] == "2.12.0"


async def test_sixty_proxies_are_made_by_one_request(api):
    many = [{**P, "name": f"p{number:02}"} for number in range(60)]
    made = await api.ok("POST", "/populate", many)
    ports = {proxy["listen"] for proxy in made["proxies"]}
    assert len(ports) == 60
    for address in list(ports)[:5]:
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
