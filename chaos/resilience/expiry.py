"""Cutting off calls at their deadlines with one armed timer for all calls of a command, instead of one for each.

The calls of one command have one timeout, so their deadlines come in the order in which the calls began. They wait in
a queue, and a single ``call_at`` is armed for its head; a call that ends in time costs an append and a pop::

    queue   [ call, ends 1.0 ] [ call, ends 1.2 ] [ ended ] [ call, ends 1.7 ]
              ^ the timer is armed for 1.0

The rare call whose deadline comes before that of one already in the queue (its caller left it less time) gets a timer
of its own. So expiry is exact for every call.

A call is cut off by cancelling its task, the way ``asyncio.timeout`` does it: ``Task.cancelling`` is remembered at the
beginning, and ``Task.uncancel`` tells afterwards whether somebody else wants the task cancelled too.
(``asyncio.wait_for`` is not used: on Python 3.11 it can swallow a cancellation.)
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

from chaos.resilience.breaker import Token
from chaos.resilience.deadline import Scope


class RunningCall(Scope):
    """A call that is to be cut off at ``at_s``. ``holder`` is the task to cancel; None once it ended or was cut off.

    ``cancelling`` is how often the task had been asked to cancel when the call began. ``token`` and ``begun_s`` are for
    who settles it: the breaker's, and the moment in which it began.
    """

    __slots__ = ("begun_s", "cancelling", "token")

    begun_s: float
    cancelling: int
    token: Token

    @property
    def expired(self) -> bool:
        """Whether it was cut off; to be asked before it is ended."""
        return self.holder is None

    def cut_off(self) -> None:
        """Cancel its task, unless it has ended."""
        task = self.holder
        if task is not None:
            self.holder = None
            task.cancel()

    def take_back(self) -> bool:
        """Take our cancellation back, before the call is ended; whether nobody else had the task cancelled as well.

        False too for a call that was not cut off.
        """
        task = asyncio.current_task()
        return self.expired and task is not None and task.uncancel() <= self.cancelling


def ends_this_task(scope: Scope) -> bool:
    """Whether ``scope`` is a call that will be cut off by cancelling the running task, so that nobody else need."""
    return scope.holder is asyncio.current_task()


class Expiry:
    """Cuts off the calls of one command at their deadlines. Works on one event loop at a time, and moves along.

    ``due`` is what is done to a call at its moment, if not cutting it off. A call without a deadline is not queued: it
    could stay at the head for ever, and those that ended behind it would never leave.

    A caller in a hurry may do itself what is done most often: append to ``queue`` what belongs at its end, when
    ``loop`` is the running one and the timer, armed for ``armed_at_s``, fires early enough; and take ended calls from
    its head.
    ``timers`` are those of the calls that have one of their own.
    """

    __slots__ = ("_due", "_timer", "armed_at_s", "loop", "queue", "timers")

    def __init__(self, due: Callable[[RunningCall], None] | None = None) -> None:
        self._due = due or RunningCall.cut_off
        self.queue: deque[RunningCall] = deque()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.armed_at_s = math.inf
        self.timers: dict[RunningCall, asyncio.TimerHandle] = {}

    def begin(self, loop: asyncio.AbstractEventLoop, call: RunningCall) -> None:
        """Note that a call begins that must end by its ``at_s``; infinity means that it is never cut off."""
        if loop is not self.loop:
            self._move(loop)
        at_s = call.at_s
        if at_s == math.inf:
            return
        queue = self.queue
        if queue and at_s < queue[-1].at_s:
            self.timers[call] = loop.call_at(at_s, self._due, call)
            return
        queue.append(call)
        if at_s < self.armed_at_s:
            self._arm(loop, at_s)

    def end(self, call: RunningCall) -> None:
        """Note that the call has ended, however it did."""
        call.holder = None
        if self.timers:
            timer = self.timers.pop(call, None)
            if timer is not None:
                timer.cancel()
        queue = self.queue
        while queue and queue[0].holder is None:
            queue.popleft()

    @property
    def waiting(self) -> int:
        """How many calls the queue holds, ended ones behind its head included."""
        return len(self.queue)

    def _arm(self, loop: asyncio.AbstractEventLoop, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.armed_at_s = at_s
        self._timer = loop.call_at(at_s, self._fire, loop)

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        # A loop may fire a timer a hair early; what it was armed for counts as due all the same.
        due_s = max(loop.time(), self.armed_at_s)
        self._timer = None
        self.armed_at_s = math.inf
        queue = self.queue
        while queue and (queue[0].holder is None or queue[0].at_s <= due_s):
            self._due(queue.popleft())
        if queue:
            self._arm(loop, queue[0].at_s)

    def _move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin anew on another event loop: the calls of the one before are gone with it."""
        self.loop = loop
        self.queue.clear()
        self.timers.clear()
        self._timer = None
        self.armed_at_s = math.inf
