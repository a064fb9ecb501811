"""Doing something until it is done, or until a signal says that it is to end: healed, with nothing left behind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine

from rich.console import Console

from chaos.cli.interruption import stop_if_told


async def until_done_or_told_to_stop(work: Callable[[], Coroutine[object, object, None]], console: Console) -> bool:
    """Do what ``work`` returns; SIGINT, SIGTERM and SIGHUP cancel it. Returns whether one of them did."""
    stop_if_told()
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(work())
    told: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if told:
            console.print("already healing and stopping; this takes a second or two")
            return
        told.append(number)
        running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        await running
    except asyncio.CancelledError:
        if not told:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
    return bool(told)
