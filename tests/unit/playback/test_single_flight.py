"""Equal questions at the same moment are one question."""

from __future__ import annotations

import asyncio

import pytest

from chaos.resilience import Deadline, DeadlineExceeded, DeadlineSpent, RequestContext
from targets.playback import single_flight
from targets.playback.single_flight import SingleFlight


class Source:
    """What is asked: it answers when the test says so."""

    def __init__(self):
        self.questions = 0
        self.answering = asyncio.Event()
        self.fails = None

    async def ask(self):
        self.questions += 1
        await self.answering.wait()
        if self.fails is not None:
            raise self.fails
        return self.questions


async def begun(flight, source, number, key="title"):
    """So many callers, who all wait."""
    callers = [asyncio.create_task(flight(key, source.ask)) for _ in range(number)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return callers


async def test_all_who_ask_at_the_same_moment_share_one_question():
    flight, source = SingleFlight("f"), Source()
    callers = await begun(flight, source, 200)
    source.answering.set()

    assert await asyncio.gather(*callers) == [1] * 200
    assert (source.questions, flight.asked, flight.shared) == (1, 1, 199)


async def test_whoever_comes_later_asks_anew_and_other_keys_are_other_questions():
    flight, source = SingleFlight("f"), Source()
    source.answering.set()

    assert [await flight("a", source.ask), await flight("a", source.ask)] == [1, 2]
    assert await asyncio.gather(flight("a", source.ask), flight("b", source.ask)) == [3, 4]


async def test_a_failure_is_shared_once_and_not_remembered():
    flight, source = SingleFlight("f"), Source()
    source.fails = LookupError("gone")
    callers = await begun(flight, source, 3)
    source.answering.set()

    assert await asyncio.gather(*callers, return_exceptions=True) == [source.fails] * 3
    source.fails = None
    assert await flight("title", source.ask) == 2


async def test_a_failure_that_nobody_waits_for_any_more_troubles_nobody():
    flight, source = SingleFlight("f"), Source()
    source.fails = LookupError("gone")
    (only,) = await begun(flight, source, 1)
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    source.answering.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    source.fails = None
    assert await flight("title", source.ask) == 2


async def test_the_first_caller_may_go_away_without_taking_the_answer_from_the_others():
    flight, source = SingleFlight("f"), Source()
    first, *others = await begun(flight, source, 3)
    first.cancel()
    source.answering.set()

    assert await asyncio.gather(*others) == [1, 1]
    assert first.cancelled()


async def test_the_question_goes_on_when_all_have_gone_so_that_its_answer_is_not_lost():
    flight, source = SingleFlight("f"), Source()
    for caller in await begun(flight, source, 2):
        caller.cancel()
    await asyncio.sleep(0)
    (late,) = await begun(flight, source, 1)
    source.answering.set()

    assert await late == 1


async def test_each_caller_gives_up_at_their_own_deadline_and_the_question_has_none():
    flight, source = SingleFlight("f"), Source()
    seen = []

    async def ask():
        seen.append(Deadline.current())
        return await source.ask()

    async def impatient():
        with Deadline.within(0.01):
            return await flight("title", ask)

    first = asyncio.create_task(impatient())
    await asyncio.sleep(0)
    patient = asyncio.create_task(flight("title", ask))
    with pytest.raises(DeadlineExceeded):
        await first
    source.answering.set()

    assert await patient == 1
    assert seen == [None]


async def test_a_caller_without_time_does_not_ask_at_all():
    flight, source = SingleFlight("f"), Source()

    with Deadline.within(0.0), pytest.raises(DeadlineSpent):
        await flight("title", source.ask)
    assert source.questions == 0


async def test_the_end_of_the_first_callers_request_does_not_end_the_question():
    flight, source = SingleFlight("f"), Source()
    of_the_request = []

    async def ask():
        context = RequestContext.current()
        assert context is not None
        of_the_request.append(context)
        _, answer = context.shared("inner", source.ask)
        return await answer

    async def request():
        with RequestContext() as context:
            of_the_request.append(context)
            async with asyncio.timeout(0.01):
                await flight("title", ask)

    leader = asyncio.create_task(request())
    await asyncio.sleep(0)
    follower = asyncio.create_task(flight("title", ask))
    with pytest.raises(TimeoutError):
        await leader
    source.answering.set()

    assert await follower == 1
    assert len(set(of_the_request)) == 2


async def test_beyond_the_most_keys_each_caller_asks_for_itself(monkeypatch):
    monkeypatch.setattr(single_flight, "KEYS_MAX", 1)
    flight, source = SingleFlight("f"), Source()
    callers = [*await begun(flight, source, 2, key="a"), *await begun(flight, source, 2, key="b")]
    source.answering.set()
    await asyncio.gather(*callers)

    assert source.questions == 3


async def test_closing_ends_the_question_and_cancels_who_waits():
    flight, source = SingleFlight("f"), Source()
    callers = await begun(flight, source, 2)
    await flight.close()

    assert all(
        isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*callers, return_exceptions=True)
    )
