"""The end of a forked Python process: its body's exit status as Python itself would give it, and no way back."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


def run_and_exit(body: Callable[[], None]) -> NoReturn:
    """Call ``body`` and end this process with its exit status.

    No ``atexit`` functions and no ``finally`` blocks of the process that this one was forked from are run.
    """
    status = 1
    try:
        status = _exit_status_of(body)
    except BaseException:  # noqa: BLE001 - whatever it is, this child must not go on as a second parent
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _exit_status_of(body: Callable[[], None]) -> int:
    try:
        body()
    except SystemExit as leaving:
        match leaving.code:
            case None:
                return 0
            case int(code):
                return code & 0xFF
            case message:
                print(message, file=sys.stderr)  # noqa: T201
                return 1
    except KeyboardInterrupt:
        return 130
    else:
        return 0
