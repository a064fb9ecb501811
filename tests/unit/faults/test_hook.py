"""The fault that an application commits itself: asked for, counted by a number of its own, taken back once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.errors import EnvironmentFailure
from chaos.faults.base import Request
from chaos.faults.hook import Hook
from chaos.faults.settings import describe
from tests.unit.faults.world import SmallWorld

FULL = Hook(
    request="PUT /admin/disk",
    json='{"full": true}',
    undo="DELETE /admin/disk",
    evidence="/admin/disk writes.refused",
    authorization="Bearer {settings[admin_token]}",
    timeout_s=1.5,
)


def refused(number: object) -> dict[str, object]:
    return {"full": True, "writes": {"refused": number}}


async def test_each_victim_is_asked_with_method_path_body_and_header():
    asked: list[tuple[str, Request]] = []

    class Listening(SmallWorld):
        async def ask(self, instance: str, request: Request) -> tuple[bytes, ...]:
            asked.append((instance, request))
            return await super().ask(instance, request)

    world = Listening()
    applied = await replace(FULL, evidence="").apply(world, ["b-1", "b-2"], "1-hook")
    expected = Request(
        method="PUT", path="/admin/disk", json='{"full": true}', authorization="Bearer {settings[admin_token]}",
        timeout_s=1.5,
    )  # fmt: skip
    assert asked == [("b-1", expected), ("b-2", expected)]
    await applied.undo()
    assert asked[2:] == [(name, replace(expected, method="DELETE", json="")) for name in ("b-1", "b-2")]


async def test_the_receipt_is_by_how_much_the_number_grew_in_all_victims():
    world = SmallWorld(answers={"b-1": refused(100), "b-2": refused(5)})
    applied = await FULL.apply(world, ["b-1", "b-2"], "1-hook")
    world.answers = {"b-1": refused(104), "b-2": refused(6.5)}
    receipt = await applied.receipt()
    assert (receipt.connections, receipt.touched) == (6, True)
    assert receipt.evidence == "2 processes said yes to PUT /admin/disk, writes.refused grew by 5.5"


async def test_of_several_workers_each_is_counted_by_itself():
    world = SmallWorld(answers={"b-1": [refused(100), refused(7)], "b-2": [refused(0), refused(0)]})
    applied = await FULL.apply(world, ["b-1", "b-2"], "1-hook")
    world.answers = {"b-1": [refused(3), refused(9)], "b-2": [refused(0), refused(4)]}
    said = "4 processes said yes to PUT /admin/disk, writes.refused grew by 6"
    assert (await applied.receipt()).evidence == said, "a worker that began anew takes nothing from the others"
    world.pids["b-2"] = None
    assert (await applied.receipt()).evidence.endswith("grew by 2; 2 processes gone since")


async def test_the_evidence_is_looked_at_before_the_request_for_what_happens_at_once():
    world = SmallWorld(answers={"b-1": refused(0)})
    await FULL.apply(world, ["b-1"], "1-hook")
    assert [action for action, _ in world.log] == ["GET /admin/disk", 'PUT /admin/disk {"full": true}']


async def test_a_number_that_stays_means_that_nothing_was_touched():
    world = SmallWorld(answers={"b-1": refused(7)})
    receipt = await (await FULL.apply(world, ["b-1"], "1-hook")).receipt()
    assert not receipt.touched
    assert receipt.evidence.endswith("writes.refused grew by 0")


async def test_a_fraction_more_is_touched():
    world = SmallWorld(answers={"b-1": refused(7)})
    applied = await FULL.apply(world, ["b-1"], "1-hook")
    world.answers["b-1"] = refused(7.25)
    assert (await applied.receipt()).touched


async def test_without_evidence_the_receipt_says_that_only_the_answer_is_known():
    receipt = await (await replace(FULL, evidence="").apply(SmallWorld(), ["b-1"], "1-hook")).receipt()
    said = "1 process said yes to PUT /admin/disk; whether that did anything is for must_break to show"
    assert receipt.evidence == said
    assert (FULL.proves_itself, replace(FULL, evidence="").proves_itself) == (True, False)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"full": True, "used": 3},
            "GET /admin/disk of b-1 has no 'writes.refused'; at 'writes' there are: full, used",
        ),
        ({"writes": 3}, "GET /admin/disk of b-1 has no 'writes.refused'; at 'refused' there are: no keys"),
        (refused("many"), "the evidence is no number: GET /admin/disk of b-1 has 'many' at 'writes.refused'"),
        (refused(True), "has True at 'writes.refused'"),
        (None, "has no 'writes.refused'"),
    ],
)
async def test_evidence_that_is_not_there_is_an_error_before_anything_is_asked(answer: object, words: str):
    world = SmallWorld(answers={"b-1": answer})
    with pytest.raises(EnvironmentFailure) as caught:
        await FULL.apply(world, ["b-1"], "1-hook")
    assert words in str(caught.value)
    assert not world.harmed


async def test_a_victim_that_was_started_anew_is_not_asked_to_stop_and_proves_nothing():
    world = SmallWorld(answers={"b-1": refused(0), "b-2": refused(0)})
    applied = await FULL.apply(world, ["b-1", "b-2"], "1-hook")
    world.pids["b-1"] = 2
    world.hooked.discard("b-1")
    world.answers = {"b-1": refused(900), "b-2": refused(3)}
    receipt = await applied.receipt()
    assert receipt.connections == 3
    assert receipt.evidence.endswith("writes.refused grew by 3; 1 process gone since")
    world.log.clear()
    await applied.undo()
    assert world.log == [("DELETE /admin/disk", "b-2")]
    assert not world.harmed


async def test_a_victim_that_ends_while_it_is_asked_to_stop_is_forgiven():
    class Ending(SmallWorld):
        async def ask(self, instance: str, request: Request) -> tuple[bytes, ...]:
            if request.method == "DELETE":
                self.pids[instance] = None
                raise EnvironmentFailure(f"{instance} had no answer")
            return await super().ask(instance, request)

    applied = await replace(FULL, evidence="").apply(Ending(), ["b-1"], "1-hook")
    await applied.undo()
    await applied.undo()


async def test_a_victim_that_refuses_to_stop_is_a_failure_and_is_asked_again():
    class Stubborn(SmallWorld):
        refuses = True

        async def ask(self, instance: str, request: Request) -> tuple[bytes, ...]:
            if request.method == "DELETE" and instance == "b-1" and self.refuses:
                raise EnvironmentFailure("DELETE /admin/disk of b-1 was answered with 500")
            return await super().ask(instance, request)

    world = Stubborn()
    applied = await replace(FULL, evidence="").apply(world, ["b-1", "b-2"], "1-hook")
    with pytest.raises(EnvironmentFailure, match="of b-1 was answered with 500"):
        await applied.undo()
    assert world.hooked == {"b-1"}
    world.refuses = False
    world.log.clear()
    await applied.undo()
    assert world.log == [("DELETE /admin/disk", "b-1")], "b-2 had stopped already"


async def test_what_has_nothing_to_undo_is_asked_once_and_leaves_its_traces():
    world = SmallWorld()
    poison = Hook(request="POST /admin/garbage", undo="none")
    applied = await poison.apply(world, ["b-1"], "1-hook")
    await applied.undo()
    assert world.log == [("POST /admin/garbage", "b-1")]
    assert (poison.leaves_traces, FULL.leaves_traces) == (True, False)


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"request": "/admin/disk"}, "request", "write a method (DELETE, GET, PATCH, POST, PUT) and a path"),
        ({"request": "FETCH /admin/disk"}, "request", "'FETCH /admin/disk' is no request"),
        ({"request": "PUT /admin/the disk"}, "request", "is no request"),
        ({"request": "PUT http://elsewhere/"}, "request", "is no request"),
        ({"request": "none"}, "request", "is no request"),
        ({"undo": "nothing"}, "undo", "like 'PUT /admin/disk', or none"),
        ({"json": "{full: true}"}, "json", "is no JSON: Expecting property name"),
        ({"undo_json": "{"}, "undo_json", "is no JSON"),
        ({"undo": "none", "undo_json": "{}"}, "undo_json", "is the body of a request that is not made"),
        ({"evidence": "/admin/disk"}, "evidence", "write a path and a key, like '/admin/disk writes.refused'"),
        ({"evidence": "/admin/disk writes..refused"}, "evidence", "is not understood"),
        ({"authorization": "Bearer x\r\nX-Admin: yes"}, "authorization", "has a line break"),
        ({"timeout_s": 0.0}, "timeout_s", "0 is out of range, allowed is 0.05 to 30"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, object], name: str, words: str):
    ((setting, said),) = replace(FULL, **change).check()
    assert setting == name
    assert words in said


def test_a_hook_is_described_by_its_requests():
    hook = Hook(request="PUT /admin/disk", json='{"full": true}', undo="DELETE /admin/disk")
    assert describe(hook) == 'hook (request PUT /admin/disk, json {"full": true}, undo DELETE /admin/disk)'


def test_the_settings_of_the_target_that_it_uses_are_known():
    hook = replace(FULL, request="PUT /{settings[door]}/disk")
    assert list(hook.target_settings()) == [("request", "door"), ("authorization", "admin_token")]
