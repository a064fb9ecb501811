"""Doing something until it is done, or until a signal says that it is to end: healed, with nothing left behind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine

from rich.console import Console

from chaos.cli.interruption import stop_if_told


async def until_done_or_told_to_stop(work: Callable[[], Coroutine[object, object, None]], console: Console) -> bool:
    """Do what ``work`` returns; SIGINT, SIGTERM and SIGHUP cancel it. Returns whether one of them did.

    A SIGHUP that is ignored stays so: whoever began this with ``nohup`` wants it to outlive the terminal.
    """
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

    heard = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    for number in heard:
        loop.add_signal_handler(number, stop, number)
    try:
        await running
    except asyncio.CancelledError:
        if not told:
            raise
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
    return bool(told)
