"""Work that goes on beside other work, and whose failure ends it at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence


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


async def cancel_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel these tasks, and wait until they are over, however they end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
