"""Work that goes on beside other work: whose failure ends it at once, or that waits for its turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import TypeVar

T = TypeVar("T")


@contextlib.asynccontextmanager
async def beside(vital: Awaitable[None], *others: Awaitable[None]) -> AsyncIterator[None]:
    """Do all of these while the body runs, and end them with it.

    When ``vital`` fails, the body is cancelled and its error is raised in place of the cancellation; an error of the
    others changes nothing. A cancellation from outside passes through as one.
    """
    main = asyncio.current_task()
    assert main is not None
    failure: list[BaseException] = []

    async def watched() -> None:
        try:
            await vital
        except Exception as error:  # noqa: BLE001 - handed to the main task, which raises it
            failure.append(error)
            main.cancel()

    tasks = [asyncio.ensure_future(one) for one in (watched(), *others)]
    try:
        yield
    except asyncio.CancelledError:
        if failure:
            main.uncancel()
            raise failure[0] from None
        raise
    finally:
        await cancel_all(tasks)


def in_turn(
    things: Sequence[T], do: Callable[[T], Coroutine[object, object, None]], follows: Callable[[T, T], bool]
) -> list[asyncio.Task[None]]:
    """Do something with all of these at the same time, but begin only when those before that it follows are over.

    ``follows(one, other)`` says whether ``one`` has to wait for ``other``, which stands before it; how that one ended
    does not matter.
    """
    tasks: list[asyncio.Task[None]] = []

    async def wait_and_do(one: T, earlier: Sequence[asyncio.Task[None]]) -> None:
        if earlier:
            await asyncio.wait(earlier)
        await do(one)

    for one in things:
        earlier = [task for other, task in zip(things, tasks, strict=False) if follows(one, other)]
        tasks.append(asyncio.ensure_future(wait_and_do(one, earlier)))
    return tasks


async def cancel_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel these tasks, and wait until they are over, however they end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
