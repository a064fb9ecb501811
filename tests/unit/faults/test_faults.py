"""Every kind of fault against a small world: put on, seen, taken back, also when it goes wrong half-way."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from chaos.errors import EnvironmentFailure
from chaos.faults.base import Fault, Layer, Stream, ToxicCount, ToxicSpec, Traffic
from chaos.faults.hook import Hook
from chaos.faults.host import Kill, Pause, Restart, Stop
from chaos.faults.network import (
    Bandwidth,
    Distribution,
    Down,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    ToxicFault,
)
from chaos.faults.registry import FAULTS
from chaos.faults.requests import HttpAbort, HttpCorrupt, HttpDelay, HttpDropHeader, HttpStatus, HttpThrottle
from chaos.faults.settings import describe, settings_of
from chaos.faults.trouble import BlackHole, Flap, Partition, Refuse, Stall
from chaos.proxy.toxics import KINDS
from tests.unit.faults.world import SmallWorld

TOXICS: dict[Fault, tuple[str, dict[str, int]]] = {
    Latency(latency_ms=200, jitter_ms=50): ("latency", {"latency": 200, "jitter": 50}),
    Bandwidth(rate_kb_per_s=64): ("bandwidth", {"rate": 64}),
    SlowClose(delay_ms=300): ("slow_close", {"delay": 300}),
    Timeout(timeout_ms=400): ("timeout", {"timeout": 400}),
    ResetPeer(timeout_ms=500): ("reset_peer", {"timeout": 500}),
    Slicer(average_size_bytes=64, size_variation_bytes=32, delay_us=10): (
        "slicer",
        {"average_size": 64, "size_variation": 32, "delay": 10},
    ),
    LimitData(limit_bytes=1000): ("limit_data", {"bytes": 1000}),
}
"""Each toxic, and Toxiproxy's name and attributes for it (from Toxiproxy's own documentation of its toxics)."""

EXTENSIONS: dict[ToxicFault, dict[str, int | float | str]] = {
    Latency(latency_ms=200, jitter_ms=50, distribution=Distribution.PARETO): {
        "latency": 200,
        "jitter": 50,
        "distribution": "pareto",
    },
    Refuse(toxicity=0.5): {},
    BlackHole(): {},
    Partition(stream=Stream.UPSTREAM): {},
    Stall(duration_ms=100, after_ms=20, every_ms=500): {"duration_ms": 100, "after_ms": 20, "every_ms": 500},
    Flap(down_ms=200, up_ms=300): {"down_ms": 200, "up_ms": 300},
    HttpDelay(delay_ms=100, method="GET", path="/plays/*"): {"delay_ms": 100, "method": "GET", "path": "/plays/*"},
    HttpStatus(status=503, header="X-Account", header_value="test-*", body="no"): {
        "status": 503,
        "header": "X-Account",
        "header_value": "test-*",
        "body": "no",
    },
    HttpAbort(after_bytes=10, first=2): {"after_bytes": 10, "first": 2},
    HttpThrottle(rate_kb_per_s=5, share=0.25): {"rate_kb_per_s": 5, "share": 0.25},
    HttpCorrupt(every_bytes=7, every=10): {"every_bytes": 7, "every": 10},
    HttpDropHeader(name="ETag", stream=Stream.DOWNSTREAM): {"name": "ETag"},
}
"""Each toxic that only the embedded proxy has, and its attributes there; what is at its default is left out."""

HOOK = Hook(request="PUT /admin/disk", json='{"full": true}', undo="DELETE /admin/disk")

ALL: list[Fault] = [*TOXICS, *EXTENSIONS, Down(), Kill(), Stop(restart_after_s=1.0), Pause(), Restart(), HOOK]


def named(fault: Fault) -> str:
    return fault.kind


def victims_of(fault: Fault) -> list[str]:
    return ["a.b-1", "a.b-2", "a.b-3"] if fault.layer is Layer.WIRE else ["b-1", "b-2", "b-3"]


def test_every_kind_in_the_table_is_tested_here():
    assert sorted(FAULTS) == sorted({fault.kind for fault in ALL})


@pytest.mark.parametrize("fault", TOXICS, ids=named)
async def test_a_toxic_becomes_what_toxiproxy_knows(fault: Fault):
    world = SmallWorld()
    kind, attributes = TOXICS[fault]
    await fault.apply(world, ["a.b-1", "a.b-2"], "1-x")
    expected = ToxicSpec(name="1-x", type=kind, stream=Stream.DOWNSTREAM, toxicity=1.0, attributes=attributes)
    assert world.toxics == {("a.b-1", "1-x"): expected, ("a.b-2", "1-x"): expected}


@pytest.mark.parametrize("fault", EXTENSIONS, ids=named)
def test_an_extension_becomes_what_the_embedded_proxy_knows_and_takes(fault: ToxicFault):
    spec = fault.spec("1-x")
    assert (spec.type, dict(spec.attributes)) == (fault.kind, EXTENSIONS[fault])
    assert KINDS[spec.type]().with_attributes(spec.attributes).problems() == []
    assert fault.needs_embedded


@pytest.mark.parametrize("fault", [*TOXICS, Down(), Kill(), Stop(), Pause(), Restart()], ids=named)
def test_what_toxiproxy_has_needs_no_extension(fault: Fault):
    assert not fault.needs_embedded


@pytest.mark.parametrize(
    ("fault", "setting"),
    [
        (Latency(latency_ms=100, distribution=Distribution.NORMAL), "distribution"),
        (Stall(duration_ms=100, every_ms=100), "every_ms"),
        (Stall(duration_ms=0, every_ms=100), "every_ms"),
        (Flap(down_ms=0), "down_ms"),
        (HttpStatus(status=99), "status"),
        (HttpStatus(status=204, body="x"), "body"),
        (HttpDelay(delay_ms=5, header_value="x"), "header_value"),
        (HttpDelay(delay_ms=5, share=1.5), "share"),
        (HttpDropHeader(name="content-length"), "name"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_wrong_settings_of_extensions_are_found(fault: Fault, setting: str):
    assert [name for name, _ in fault.check()] == [setting]


def counted(connections: int, requests: int, size_bytes: int) -> ToxicCount:
    return ToxicCount(connections=connections, requests=requests, bytes=size_bytes)


@pytest.mark.parametrize(
    ("counts", "touched", "words"),
    [
        ({}, False, "nothing met it on 2 edges"),
        (
            {"a.b-1": counted(3, 0, 90)},
            True,
            "3 connections and 90 bytes met it on 2 edges",
        ),
        (
            {
                "a.b-1": counted(1, 2, 5),
                "a.b-2": counted(1, 1, 5),
            },
            True,
            "3 requests on 2 connections, 10 bytes, met it on 2 edges",
        ),
    ],
    ids=["nothing", "connections", "requests"],
)
async def test_where_toxics_count_for_themselves_the_receipt_is_theirs(counts, touched, words):
    world = SmallWorld(counts={(edge, "1-x"): one for edge, one in counts.items()})
    applied = await HttpStatus(status=503, toxicity=0.5).apply(world, ["a.b-1", "a.b-2"], "1-x")
    receipt = await applied.receipt()
    assert (receipt.touched, receipt.evidence) == (touched, words)


async def test_a_toxic_has_a_direction_and_a_toxicity():
    world = SmallWorld()
    await Timeout(stream=Stream.UPSTREAM, toxicity=0.25).apply(world, ["a.b-1"], "1-x")
    (spec,) = world.toxics.values()
    assert (spec.stream, spec.toxicity) == (Stream.UPSTREAM, 0.25)


@pytest.mark.parametrize(
    ("fault", "harm"),
    [
        (Down(), {"closed": {"a.b-1", "a.b-2", "a.b-3"}}),
        (Kill(), {"gone": {"b-1", "b-2", "b-3"}}),
        (Stop(), {"gone": {"b-1", "b-2", "b-3"}}),
        (Restart(), {"gone": {"b-1", "b-2", "b-3"}}),
        (Pause(), {"frozen": {"b-1", "b-2", "b-3"}}),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
async def test_a_fault_falls_on_every_victim(fault: Fault, harm: dict[str, set[str]]):
    world = SmallWorld()
    await fault.apply(world, victims_of(fault), "1-x")
    assert {name: getattr(world, name) for name in ("closed", "gone", "frozen") if getattr(world, name)} == harm


@pytest.mark.parametrize("fault", ALL, ids=named)
async def test_undoing_heals_all_and_twice_is_harmless(fault: Fault):
    world = SmallWorld()
    applied = await fault.apply(world, victims_of(fault), "1-x")
    assert world.harmed
    await applied.receipt()
    await applied.undo()
    assert not world.harmed
    await applied.undo()
    assert not world.harmed


@pytest.mark.parametrize("fault", ALL, ids=named)
async def test_a_fault_that_fails_half_way_takes_back_what_it_did(fault: Fault):
    world = SmallWorld(disobeys={victims_of(fault)[1]})
    with pytest.raises(EnvironmentFailure, match="does not obey"):
        await fault.apply(world, victims_of(fault), "1-x")
    assert not world.harmed


@pytest.mark.parametrize("fault", ALL, ids=named)
async def test_a_fault_that_is_cancelled_half_way_takes_back_what_it_did(fault: Fault):
    world = SmallWorld(hangs={victims_of(fault)[1]})
    task = asyncio.ensure_future(fault.apply(world, victims_of(fault), "1-x"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.harmed
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not world.harmed


async def test_one_victim_that_cannot_be_healed_keeps_no_other_from_it():
    class Stubborn(SmallWorld):
        async def start(self, instance: str) -> None:
            if instance == "b-1":
                raise EnvironmentFailure("b-1 never became healthy")
            await super().start(instance)

    world = Stubborn()
    applied = await Kill().apply(world, ["b-1", "b-2", "b-3"], "1-kill")
    with pytest.raises(EnvironmentFailure, match="b-1 never became healthy"):
        await applied.undo()
    assert world.gone == {"b-1"}


@pytest.mark.parametrize("make", [Kill, Stop], ids=["kill", "stop"])
async def test_a_supervisor_starts_again_what_was_ended_when_asked_to(make: type[Kill | Stop]):
    world = SmallWorld()
    await make(restart_after_s=1.5).apply(world, ["b-1", "b-2"], "1-x")
    assert [entry for entry in world.log if entry[0].startswith("restart")] == [
        ("restart_later 1.5", "b-1"),
        ("restart_later 1.5", "b-2"),
    ]
    world.log.clear()
    await make().apply(world, ["b-1"], "1-x")
    assert not [entry for entry in world.log if entry[0].startswith("restart")]


async def test_a_restart_starts_again_at_once():
    world = SmallWorld()
    await Restart().apply(world, ["b-1"], "1-restart")
    assert world.log == [("stop", "b-1"), ("restart_later 0", "b-1")]


# -- receipts ----------------------------------------------------------------------------------------------------------


async def receipt_of_toxic(toxicity: float, *, before: int, opened: int, sent: int):
    world = SmallWorld(connections=before, traffic={"a.b-1": Traffic(connections=5, bytes=1000)})
    applied = await Latency(latency_ms=1, toxicity=toxicity).apply(world, ["a.b-1", "a.b-2"], "1-latency")
    world.traffic["a.b-1"] = Traffic(connections=5 + opened, bytes=1000)
    world.traffic["a.b-2"] = Traffic(connections=0, bytes=sent)
    return await applied.receipt()


async def test_a_toxic_touched_what_passed_while_it_was_there():
    receipt = await receipt_of_toxic(1.0, before=3, opened=4, sent=500)
    assert (receipt.connections, receipt.bytes, receipt.touched) == (7, 500, True)
    assert receipt.evidence == "7 connections and 500 bytes met it on 2 edges"


async def test_a_toxic_on_idle_connections_touched_nothing():
    receipt = await receipt_of_toxic(1.0, before=3, opened=0, sent=0)
    assert not receipt.touched
    assert receipt.evidence == "nothing was sent over 2 edges; 3 open connections stayed idle"


async def test_a_toxic_on_few_of_many_connections_touched_its_share():
    receipt = await receipt_of_toxic(0.5, before=10, opened=30, sent=800)
    assert (receipt.connections, receipt.bytes, receipt.touched) == (20, 400, True)
    assert receipt.evidence.endswith("it fell on 50 % of them, about 20")


async def test_a_toxic_that_may_have_missed_every_connection_touched_nothing():
    receipt = await receipt_of_toxic(0.5, before=0, opened=6, sent=800)  # 0.5 ** 6 = 1.6 %
    assert not receipt.touched
    assert "the chance that it missed every one is 2%" in receipt.evidence
    assert (await receipt_of_toxic(0.5, before=0, opened=7, sent=800)).touched  # 0.5 ** 7 = 0.8 %


async def test_where_connections_are_not_counted_bytes_are_the_evidence():
    receipt = await receipt_of_toxic(0.1, before=0, opened=0, sent=800)
    assert (receipt.connections, receipt.bytes, receipt.touched) == (0, 800, True)


async def test_a_cut_line_touched_the_connections_that_were_open():
    world = SmallWorld(connections=12)
    receipt = await (await Down().apply(world, ["a.b-1"], "1-down")).receipt()
    assert (receipt.connections, receipt.touched) == (12, True)
    assert receipt.evidence == "12 connections cut on 1 edge"


async def test_a_cut_line_that_nobody_used_touched_nothing():
    receipt = await (await Down().apply(SmallWorld(connections=0), ["a.b-1"], "1-down")).receipt()
    assert not receipt.touched


async def test_attempts_on_a_cut_line_count_where_they_are_seen():
    world = SmallWorld(connections=0)
    applied = await Down().apply(world, ["a.b-1"], "1-down")
    world.traffic["a.b-1"] = Traffic(connections=3, bytes=0)
    receipt = await applied.receipt()
    assert (receipt.connections, receipt.evidence) == (3, "0 connections cut, 3 attempts refused on 1 edge")


@pytest.mark.parametrize(("fault", "word"), [(Kill(), "killed"), (Stop(), "stopped"), (Restart(), "restarted")])
async def test_an_ended_process_touched_the_connections_that_broke(fault: Fault, word: str):
    receipt = await (await fault.apply(SmallWorld(connections=40), ["b-1", "b-2"], "1-x")).receipt()
    assert (receipt.connections, receipt.evidence) == (40, f"2 processes {word}, 40 connections broke")
    receipt = await (await fault.apply(SmallWorld(connections=0), ["b-1"], "1-x")).receipt()
    assert not receipt.touched
    assert receipt.evidence == f"1 process {word}, but nobody was connected"


async def test_attempts_to_connect_to_a_process_that_stays_away_count_where_they_are_seen():
    world = SmallWorld(connections=0, traffic={"caller->b-1": Traffic(connections=50, bytes=0)})
    applied = await Kill().apply(world, ["b-1"], "1-kill")
    assert not (await applied.receipt()).touched
    world.traffic["caller->b-1"] = Traffic(connections=53, bytes=0)
    receipt = await applied.receipt()
    assert receipt.touched
    assert (receipt.connections, receipt.evidence) == (
        3,
        "1 process killed, 0 connections broke and 3 attempts to connect failed",
    )


async def test_attempts_are_no_evidence_where_a_process_comes_back_meanwhile():
    world = SmallWorld(connections=0)
    applied = await Kill(restart_after_s=1.0).apply(world, ["b-1"], "1-kill")
    world.traffic["caller->b-1"] = Traffic(connections=3, bytes=0)
    assert not (await applied.receipt()).touched


async def test_a_frozen_process_touched_what_was_held_and_what_waits():
    world = SmallWorld(connections=4)
    applied = await Pause().apply(world, ["b-1"], "1-pause")
    world.waiting = 900
    receipt = await applied.receipt()
    assert (receipt.connections, receipt.bytes) == (4, 900)
    assert receipt.evidence == "1 process frozen, 4 connections held, 900 bytes waiting unread at the end"
    assert not (await (await Pause().apply(SmallWorld(connections=0), ["b-1"], "1-pause")).receipt()).touched


# -- settings and the table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ALL, ids=named)
def test_good_settings_pass_the_check(fault: Fault):
    assert list(fault.check()) == []


@pytest.mark.parametrize(
    ("fault", "setting", "words"),
    [
        (Latency(latency_ms=-1), "latency_ms", "-1 is out of range, allowed is 0 to 3.6e+06"),
        (Latency(latency_ms=5, jitter_ms=6), "jitter_ms", "6 is more than the latency_ms of 5"),
        (Bandwidth(rate_kb_per_s=0), "rate_kb_per_s", "0 is out of range"),
        (Timeout(toxicity=1.5), "toxicity", "1.5 is out of range"),
        (Timeout(toxicity=0.0), "toxicity", "0 is out of range"),
        (Slicer(average_size_bytes=5, size_variation_bytes=5), "size_variation_bytes", "5 must be less than"),
        (Kill(restart_after_s=-1.0), "restart_after_s", "-1 is out of range"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_wrong_settings_are_named(fault: Fault, setting: str, words: str):
    first = fault.check()[0]
    assert first[0] == setting
    assert words in first[1]


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_explains_itself_and_its_settings(kind: str):
    fault = FAULTS[kind]
    assert fault.kind == kind
    summary = (fault.__doc__ or "").splitlines()[0]
    assert summary.endswith(".")
    assert dataclasses.is_dataclass(fault)
    for setting in settings_of(fault):
        assert setting.help, f"{kind}.{setting.name} has no help"
        assert setting.type not in {int, float} or setting.most < float("inf"), f"{kind}.{setting.name} has no limit"


def test_settings_of_a_kind_come_before_those_of_all_toxics():
    assert [setting.name for setting in settings_of(Latency)] == [
        "latency_ms", "jitter_ms", "distribution", "toxicity", "stream",
    ]  # fmt: skip
    assert [setting.unit for setting in settings_of(Slicer)][:3] == ["bytes", "bytes", "microseconds"]


def test_a_fault_is_described_by_what_is_not_at_its_default():
    assert describe(Latency(latency_ms=200)) == "latency (latency_ms 200)"
    assert describe(Timeout(stream=Stream.UPSTREAM, toxicity=0.5)) == "timeout (toxicity 0.5, stream upstream)"
    assert describe(Down()) == "down"
    assert describe(Kill(restart_after_s=0.5)) == "kill (restart_after_s 0.5)"
