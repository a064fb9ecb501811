"""The guardian's program: waits, cheaply, for the end of the runner, then has ``guardian.py`` do the work.

It is started with the run, when every processor is busy with starting the target. So it begins with next to nothing and
imports what it will need a little later - not at the end: by then, the files may be gone.
"""

from __future__ import annotations

import os
import select
import signal
import sys

_IDLE_AFTER_S = 4.0
"""Seconds after which the target has long started."""


def main() -> None:
    """Wait for the end of standard input, then settle the ledger of the run's folder (the only argument)."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folder = sys.argv[1]
    select.select([sys.stdin], [], [], _IDLE_AFTER_S)
    from pathlib import Path  # noqa: PLC0415 - late on purpose, see above

    from chaos.processes import guardian  # noqa: PLC0415

    while os.read(sys.stdin.fileno(), 4096):
        pass
    guardian.clean_up([Path(folder)])


if __name__ == "__main__":
    main()
