"""Work beside other work: who ends whom."""

from __future__ import annotations

import asyncio

import pytest

from chaos.beside import beside, cancel_all, in_turn


async def forever(ended: list[str] | None = None) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        if ended is not None:
            ended.append("ended")


async def fail(words: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(words)


async def test_all_of_it_ends_with_the_body():
    ended: list[str] = []
    async with beside(forever(ended), forever(ended)):
        await asyncio.sleep(0)
    assert ended == ["ended", "ended"]


async def test_a_failure_of_what_is_vital_ends_the_body_and_is_raised():
    with pytest.raises(ValueError, match="no load"):
        async with beside(fail("no load"), forever()):
            await asyncio.sleep(10)
    await asyncio.sleep(0)  # the task itself was not cancelled by it for good


async def test_a_failure_of_the_others_changes_nothing():
    async with beside(forever(), fail("no canary")):
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_cancellation_from_outside_stays_one():
    ended: list[str] = []

    async def body() -> None:
        async with beside(forever(ended)):
            await asyncio.sleep(10)

    task = asyncio.ensure_future(body())
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["ended"]


async def test_in_turn_only_those_wait_that_follow_another_and_for_its_end_alone():
    told: list[str] = []
    gate = asyncio.Event()

    async def do(name: str) -> None:
        told.append(f"{name} begins")
        if name == "a1":
            await gate.wait()
            told.append("a1 ends")
            raise ValueError("not taken back")

    tasks = in_turn(["a1", "b1", "a2"], do, lambda one, other: one[0] == other[0])
    for _ in range(5):
        await asyncio.sleep(0)
    assert told == ["a1 begins", "b1 begins"]
    gate.set()
    await tasks[2]
    assert told[2:] == ["a1 ends", "a2 begins"]
    with pytest.raises(ValueError, match="not taken back"):
        await asyncio.gather(*tasks)


async def test_who_waits_for_a_turn_can_be_cancelled():
    told: list[str] = []

    async def do(name: str) -> None:
        told.append(name)
        await asyncio.Event().wait()

    tasks = in_turn(["a1", "a2"], do, lambda _one, _other: True)
    await asyncio.sleep(0)
    await cancel_all(tasks)
    assert told == ["a1"]
