"""Leases, receipts, settings and seeds over the API of the embedded proxy, on both event loops."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chaos.proxy.proxies import Proxy, ProxyCollection
from chaos.proxy.toxics import KINDS, Direction, InstalledToxic
from tests.tcp import listening
from tests.unit.proxy.http_streams import understand
from tests.unit.proxy.running import Api, api_of, calling, eventually, running

GET = b"GET / HTTP/1.1\r\n\r\n"


async def metric(api: Api, name: str, **labels: str) -> float | None:
    text = (await api("GET", "/metrics")).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return None


# leases


async def no_toxics(api: Api) -> bool:
    return await api.names() == []


async def test_a_toxic_goes_by_itself_and_gives_back_what_it_held(api):
    expired = await metric(api, "chaos_proxy_expired_toxics_total")
    async with listening() as upstream, calling(await api.proxy(upstream)) as caller:
        made = await api.toxic("partition", ttl_ms=1500, owner="me")
        assert (made["ttl_ms"], made["owner"]) == (1500, "me")
        assert 0 <= made["left_ms"] <= 1500
        await caller.say(b"held")
        hearing = asyncio.ensure_future(caller.hears(b"held"))
        await asyncio.sleep(0.3)
        assert not hearing.done() or await no_toxics(api)
        await hearing
        await eventually(lambda: no_toxics(api))
    assert await metric(api, "chaos_proxy_expired_toxics_total") == expired + 1


async def test_a_toxic_without_a_lease_says_nothing_about_one(api):
    await api.proxy("127.0.0.1:9")
    for given in ({}, {"ttl_ms": 0}, {"ttl_ms": None}, {"owner": "me"}):
        made = await api.toxic("noop", **given)
        assert set(made) == {"attributes", "name", "type", "stream", "toxicity"}
        await api.remove("noop_downstream")


async def test_to_renew_with_a_time_alone_keeps_the_owner_and_lets_go_of_nothing(api):
    async def hello(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    async with listening(hello) as upstream, calling(await api.proxy(upstream)) as caller:
        await api.toxic("http_delay", "upstream", delay_ms=3_600_000, ttl_ms=3_600_000, owner="me")
        await caller.say(GET)
        path = "/proxies/p/toxics/http_delay_upstream"
        for ttl_ms in (60_000, 50_000, 40_000):
            renewed = await api.ok("PATCH", path, {"ttl_ms": ttl_ms})
            assert (renewed["ttl_ms"], renewed["owner"]) == (ttl_ms, "me")
            assert 0 < renewed["left_ms"] <= ttl_ms
        await caller.hears_nothing()
        assert await api.ok("POST", "/renew", {"owner": "me", "ttl_ms": 45_000}) == {"renewed": 1}
        assert (await api.ok("GET", path))["left_ms"] > 40_000
        await caller.hears_nothing(0.1)
        given_up = await api.ok("PATCH", path, {"ttl_ms": 0})
        assert "owner" not in given_up
        await caller.hears_nothing(0.1)
        await api.ok("PATCH", path, {"attributes": {"delay_ms": 1}, "ttl_ms": 60_000})  # other settings begin anew
        assert (await caller.head()).startswith(b"HTTP/1.1 200 OK")


async def test_an_owner_renews_all_that_is_its_own_on_every_proxy_and_nothing_else(api):
    for proxy in ("p", "q"):
        await api.proxy("127.0.0.1:9", proxy)
        await api.toxic("noop", proxy=proxy, name="mine", ttl_ms=600_000, owner="me")
        await api.toxic("noop", proxy=proxy, name="theirs", ttl_ms=500, owner="you")
    await api.toxic("noop", name="nobodys", ttl_ms=500)
    assert await api.ok("POST", "/renew", {"owner": "me", "ttl_ms": 500_000}) == {"renewed": 2}
    for proxy in ("p", "q"):
        await eventually(lambda proxy=proxy: names_are(api, proxy, ["mine"]))
        (mine,) = await api.ok("GET", f"/proxies/{proxy}/toxics")
        assert (mine["ttl_ms"], mine["left_ms"] <= 500_000) == (500_000, True)
    assert await api.ok("POST", "/renew", {"owner": "you", "ttl_ms": 600_000}) == {"renewed": 0}


async def names_are(api: Api, proxy: str, names: list[str]) -> bool:
    return await api.names(proxy=proxy) == names


async def test_a_lease_ends_with_its_toxic_and_is_not_inherited_by_the_next_of_that_name(api):
    listens = {proxy: await api.proxy("127.0.0.1:9", proxy) for proxy in ("reset", "deleted", "made anew", "populated")}
    for proxy in listens:
        await api.toxic("noop", proxy=proxy, name="t", ttl_ms=2000)
    await api.ok("POST", "/reset")
    for proxy in list(listens)[1:]:
        await api.toxic("noop", proxy=proxy, name="t", ttl_ms=2000)
    await api.remove("t", proxy="deleted")
    await api.ok("DELETE", "/proxies/made anew")
    await api.proxy("127.0.0.1:9", "made anew")
    await api.ok(
        "POST", "/populate", [{"name": "populated", "listen": listens["populated"], "upstream": "127.0.0.1:8"}]
    )
    for proxy in listens:
        assert await api.names(proxy=proxy) == []
        await api.toxic("noop", proxy=proxy, name="t")
    await api.toxic("noop", proxy="reset", name="later than all", ttl_ms=2100)
    await eventually(lambda: names_are(api, "reset", ["t"]))
    for proxy in listens:
        assert await api.names(proxy=proxy) == ["t"]


async def test_a_proxy_that_could_not_be_replaced_keeps_its_toxics_and_their_leases(api):
    await api.proxy("127.0.0.1:9")
    await api.toxic("noop", ttl_ms=600_000, owner="me")
    refused = await api("POST", "/populate", [{"name": "p", "listen": "192.0.2.1:9", "upstream": "127.0.0.1:8"}])
    assert refused.status == 500
    assert (await api.ok("GET", "/proxies/p/toxics/noop_downstream"))["owner"] == "me"
    assert await api.ok("POST", "/renew", {"owner": "me", "ttl_ms": 300}) == {"renewed": 1}
    await eventually(lambda: no_toxics(api))


# receipts


async def test_receipts_and_metrics_say_the_same(api):
    async def hello(reader, writer):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    begun = datetime.now(UTC)
    async with listening(hello) as upstream:
        listen = await api.proxy(upstream, 'odd "name" \\ & <more>'.replace("/", ""))
        proxy = next(iter(await api.ok("GET", "/proxies")))
        quoted = proxy.replace("%", "%25").replace(" ", "%20").replace('"', "%22").replace("\\", "%5C")
        quoted = quoted.replace("&", "%26").replace("<", "%3C").replace(">", "%3E")
        await api.toxic("http_delay", proxy=quoted, name="d", path="/late")
        await api.toxic("latency", "upstream", proxy=quoted, name="l", latency=1)
        await api.toxic("black_hole", proxy=quoted, name="never", toxicity=0.0)
        late = b"GET /late HTTP/1.1\r\n\r\n"
        for _ in range(2):
            async with calling(listen) as caller:
                for said in (GET, late, late):
                    await caller.say(said)
                    await caller.head()
                    await caller.hears(b"ok")
        receipts = (await api.ok("GET", "/receipts"))[proxy]
        answer = len(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        untouched = {"connections": 0, "requests": 0, "bytes": 0, "first": None, "last": None}
        assert receipts["never"] == untouched
        assert (receipts["d"]["connections"], receipts["d"]["requests"], receipts["d"]["bytes"]) == (2, 4, 4 * answer)
        assert (receipts["l"]["connections"], receipts["l"]["requests"]) == (2, 0)
        assert receipts["l"]["bytes"] == 2 * (len(GET) + 2 * len(late))
        for name in ("d", "l"):
            alone = await api.receipt(name, proxy=quoted)
            first, last = (datetime.fromisoformat(alone[key]) for key in ("first", "last"))
            # Moments are on the monotonic clock; that of day is taken at each request, and may be a bit off.
            assert begun - timedelta(seconds=0.5) <= first <= last <= datetime.now(UTC) + timedelta(seconds=0.5)
            for what in ("connections", "requests", "bytes"):
                value = await metric(api, f"chaos_toxic_{what}_total", toxic=name, proxy=proxy)
                assert value == receipts[name][what] == alone[what]
            for which, moment in (("first", first), ("last", last)):
                value = await metric(api, f"chaos_toxic_{which}_touch_timestamp_seconds", toxic=name, proxy=proxy)
                assert value == pytest.approx(moment.timestamp(), abs=0.5)
        assert await metric(api, "chaos_toxic_first_touch_timestamp_seconds", toxic="never") is None


async def test_a_receipt_stays_when_settings_change_and_is_new_with_a_new_toxic(api):
    async with listening() as upstream, calling(await api.proxy(upstream)) as caller:
        await api.toxic("latency", "upstream")
        await caller.say(b"12345")
        await caller.hears(b"12345")
        await api.ok("PATCH", "/proxies/p/toxics/latency_upstream", {"attributes": {"latency": 1}})
        counted = await api.receipt("latency_upstream")
        assert (counted["connections"], counted["bytes"]) == (1, 5)
        await caller.say(b"678")
        await caller.hears(b"678")
        counted = await api.receipt("latency_upstream")
        assert (counted["connections"], counted["bytes"]) == (1, 8)
        await api.remove("latency_upstream")
        await api.toxic("latency", "upstream")
        assert (await api.receipt("latency_upstream"))["bytes"] == 0


async def test_metrics_can_be_read_by_prometheus(api):
    async with listening() as upstream, calling(await api.proxy(upstream)) as caller:
        await api.toxic("latency")
        await caller.say(b"x")
        await caller.hears(b"x")
        text = (await api("GET", "/metrics")).text
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(names) == len(set(names))
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["chaos_proxy_open_connections"].samples[0].value == 1
    assert {family.type for family in families.values()} <= {"counter", "gauge"}


# settings


EXTENSIONS = [kind for kind, toxic in KINDS.items() if toxic.extension]


@pytest.mark.parametrize("kind", EXTENSIONS)
async def test_an_attribute_that_an_extension_does_not_have_is_refused_with_those_that_it_has(api, kind):
    await api.proxy("127.0.0.1:9")
    given = {"name": "X-Drop"} if kind == "http_drop_header" else {}
    allowed = ", ".join(KINDS[kind]().attributes) or "none"
    wrong = await api("POST", "/proxies/p/toxics", {"type": kind, "attributes": {**given, "bogus": 1}})
    assert wrong.status == 400
    assert wrong.json["error"] == f"bad attributes: bogus is no setting of {kind}, which has {allowed}"
    assert await api.names() == []
    made = await api.ok("POST", "/proxies/p/toxics", {"type": kind, "attributes": given})
    assert list(made["attributes"]) == list(KINDS[kind]().attributes)
    assert (await api("PATCH", f"/proxies/p/toxics/{kind}_downstream", {"attributes": {"bogus": 1}})).status == 400


WRONG = {
    "a status that is none": ("http_status", {"status": 99}, "status is 99, allowed is 200 to 599"),
    "a status that is text": ("http_status", {"status": "x"}, "json: cannot unmarshal string into Go struct field"),
    "a share of more than all": ("http_delay", {"share": 1.5}, "share is 1.5, allowed is 0 to 1"),
    "half a millisecond": ("http_delay", {"delay_ms": 0.5}, "json: cannot unmarshal number 0.5 into Go struct field"),
    "a negative delay": ("http_delay", {"delay_ms": -1}, "delay_ms is -1, allowed is 0 to 3600000"),
    "a value without its header": ("http_abort", {"header_value": "x"}, "header_value is given without header"),
    "no header to drop": ("http_drop_header", {}, "name is missing"),
    "a header that frames": ("http_drop_header", {"name": "content-length"}, "cannot tell where the message ends"),
    "a rate of nothing": ("http_throttle", {"rate_kb_per_s": 0}, "rate_kb_per_s is 0, allowed is 1 to 1073741"),
    "a stall that does not end": ("stall", {"every_ms": 5}, "every_ms is 5, which must be more than duration_ms"),
    "a link that is never up": ("flap", {"up_ms": 0}, "up_ms is 0, allowed is 1 to 3600000"),
    "a distribution that is none": ("latency", {"distribution": "x"}, "allowed is one of uniform, normal, pareto"),
    "two at once": ("flap", {"up_ms": 0, "down_ms": 0}, "down_ms is 0, allowed is 1 to 3600000; up_ms is 0"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_setting_is_refused_with_what_is_allowed(api, name):
    kind, attributes, words = WRONG[name]
    await api.proxy("127.0.0.1:9")
    wrong = await api("POST", "/proxies/p/toxics", {"type": kind, "attributes": attributes})
    assert (wrong.status, wrong.json["status"]) == (400, 400)
    assert words in wrong.json["error"]
    assert await api.names() == []


async def test_toxiproxys_kinds_look_and_behave_as_there(api):
    await api.proxy("127.0.0.1:9")
    for kind in set(KINDS) - set(EXTENSIONS):
        attributes = {one.name: -5 for one in KINDS[kind].settings() if not one.extension}
        made = await api.toxic(kind, **attributes, bogus=1, ttl="x", share=7)
        assert made == {
            "attributes": attributes,
            "name": f"{kind}_downstream",
            "type": kind,
            "stream": "downstream",
            "toxicity": 1,
        }
        changed = await api.ok("PATCH", f"/proxies/p/toxics/{kind}_downstream", {"attributes": {"bogus": 2}})
        assert changed == made
    shown = (await api.ok("GET", "/proxies"))["p"]
    assert set(shown) == {"name", "listen", "upstream", "enabled", "Logger", "toxics"}
    assert all(set(one) == {"attributes", "name", "type", "stream", "toxicity"} for one in shown["toxics"])


# seeds


def jitters_ms(seed: int, *, before: int = 0) -> list[float]:
    """The delays of 5 chunks on each of 3 connections, both ways; ``before``: toxics of that name there were before."""
    proxy = Proxy(name="p", listen="", upstream="127.0.0.1:9", collection=ProxyCollection(seed))
    for _ in range(before):
        proxy.new_life("late")
    late = InstalledToxic(
        name="late",
        direction=Direction.DOWNSTREAM,
        stream="downstream",
        toxicity=1.0,
        toxic=KINDS["latency"]().with_attributes({"latency": 100, "jitter": 50}),
        life=proxy.new_life("late"),
    )
    found = []
    for number in (1, 2, 3):
        for direction in Direction:
            ((_, stage),) = replace(late, direction=direction).stages(0.0, number)
            for at_s in range(5):
                stage.push(float(at_s), b"x")
                found.append(stage.pop()[0] - at_s)
    return found


async def test_each_jitter_is_decided_by_seed_proxy_name_connection_and_direction():
    drawn_ms = jitters_ms(7)
    assert jitters_ms(7) == drawn_ms
    assert len(set(drawn_ms)) == len(drawn_ms) == 30
    assert not set(jitters_ms(8)) & set(drawn_ms)
    assert not set(jitters_ms(7, before=1)) & set(drawn_ms)


BODY = bytes(1000)
SAID = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + BODY


async def drawn(seed: int, *, uvloop: bool = True) -> str:
    """What is drawn by lot on 12 connections in a row, with 4 requests on each."""

    async def hello(reader, writer):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(SAID)

    found: list[object] = []
    with running("--seed", str(seed), uvloop=uvloop) as server:
        async with api_of(server) as api, listening(hello) as upstream:
            listen = await api.proxy(upstream)
            await api.toxic("http_status", "upstream", share=0.5)
            await api.toxic("http_corrupt", every_bytes=100, toxicity=0.5)
            await api.toxic("noop", toxicity=0.5)
            for number in range(12):
                async with calling(listen) as caller:
                    await caller.say(GET * 3 + b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                    heard = b""
                    for _ in range(4):
                        head = await caller.head()
                        heard += head
                        if b" 200 " in head:
                            heard += await caller.reader.readexactly(1000)
                    messages = understand([heard], methods=["GET"] * 4).messages
                    found.append([(head.status, body.hex()) for head, body, _, _ in messages])
                    if b"close" not in heard:
                        (connection,) = [one for one in await api.connections() if one["id"] == number + 1]
                        found.append(connection["toxics"])
    return json.dumps(found)


async def test_the_same_seed_and_the_same_order_of_connections_draw_the_same_on_either_loop():
    first, second, other = await asyncio.gather(drawn(5), drawn(5, uvloop=False), drawn(6))
    assert first == second
    assert first != other
