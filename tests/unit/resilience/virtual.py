"""An event loop whose time is virtual: it jumps to the next timer at once, so that tests never wait."""

from __future__ import annotations

import asyncio
import functools
import selectors


class _JumpingSelector(selectors.SelectSelector):
    """Where the loop would sleep, the clock jumps instead."""

    def __init__(self):
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing will ever happen again: a task waits for something that nobody does")
            self.now_s += max(0.0, timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A real asyncio loop on a clock of its own, which begins at 0."""

    def __init__(self):
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now_s


def run(coroutine):
    """Run a coroutine to its end in virtual time; tasks that are left over are an error of the test."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_alone(coroutine))


async def _alone(coroutine):
    result = await coroutine
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks left over: {left}"
    return result


def virtual(test):
    """Make an ``async def`` test run in virtual time."""

    @functools.wraps(test)
    def in_virtual_time(*args, **kwargs):
        return run(test(*args, **kwargs))

    return in_virtual_time


def now_s():
    return asyncio.get_running_loop().time()
