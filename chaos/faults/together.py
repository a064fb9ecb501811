"""One action on several victims: forwards all or nothing, backwards as much as can be had."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TypeVar

from chaos.faults.base import Applied

T = TypeVar("T")


async def everywhere(actions: Iterable[Coroutine[object, object, T]]) -> tuple[T, ...]:
    """Run all actions at the same time, each to its end, and only then raise the first error, if there was one.

    Returns what the actions return, in their order. One victim that does not obey so never keeps the others from
    being healed.
    """
    results = await asyncio.gather(*actions, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"and also: {other}")
        raise errors[0]
    return tuple(result for result in results if not isinstance(result, BaseException))


async def take_back(applied: Applied, cause: BaseException) -> None:
    """Undo a fault that failed half-way, because of ``cause``; what fails in that is noted on the cause."""
    try:
        await applied.undo()
    except Exception as error:  # noqa: BLE001 - the caller raises the cause; this must not hide it
        cause.add_note(f"taking back what was done failed as well: {error}")


def count(number: int, noun: str) -> str:
    """Return ``1 edge`` or ``3 edges``; of a noun that ends in s, ``2 processes``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
