"""Work that goes on until it is done, or until a signal says that it is to end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
from rich.console import Console

from chaos.cli.untilstopped import until_done_or_told_to_stop


@pytest.fixture
def hang_up() -> Iterator[None]:
    """Give back the handler of SIGHUP."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


async def stopped_by_sighup() -> bool:
    async def work() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)

    return await until_done_or_told_to_stop(work, Console())


async def test_a_terminal_that_goes_away_stops_the_work(hang_up):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert await stopped_by_sighup()


async def test_under_nohup_the_work_outlives_the_terminal(hang_up):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert not await stopped_by_sighup()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
