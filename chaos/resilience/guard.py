"""The guard: an ``async with`` block in the place of a command's ``run``, for calls that stream."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from types import TracebackType
from typing import Any

from chaos.resilience.errors import Refusal
from chaos.resilience.expiry import RunningCall
from chaos.resilience.lifecycle import Lifecycle


class Guard:
    """One ``async with`` block in the place of a command's ``run``; see ``Command.guard``."""

    __slots__ = ("_call", "_command")

    def __init__(self, command: Lifecycle[Any] | None) -> None:
        self._command = command
        self._call: RunningCall | None = None

    async def __aenter__(self) -> None:
        if self._command is None:  # isolation is switched off
            return
        if self._call is not None:
            raise RuntimeError(f"{self._command.name}: a guard is for one block; call guard() again")
        begun = await self._command.begin(get_running_loop())
        if isinstance(begun, Refusal):
            raise begun
        self._call = begun

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        call, command = self._call, self._command
        if call is None or command is None:
            return
        now_s = get_running_loop().time()
        if error is None and not call.expired:
            command.ended_well(call, now_s)
            return
        error = error or asyncio.CancelledError()
        cause = command.ended_badly(call, error, now_s)
        try:
            if cause is not None and cause is not error:
                raise cause from cause.__cause__
        finally:
            del cause, error
