"""A signal that comes where Python loses what is raised is obeyed all the same, before anything is started."""

from __future__ import annotations

import subprocess
import sys

LOST = """
import os, signal, weakref
from chaos.cli import main

class Dies:
    pass

def tell(_):
    os.kill(os.getpid(), signal.SIGTERM)

def obey_and_lose():
    obey()
    it = Dies()
    reference = weakref.ref(it, tell)
    del it

obey = main.obey_signals
main.obey_signals = obey_and_lose
main.main()
"""


def test_a_signal_lost_in_a_weak_reference_s_callback_still_stops_the_run():
    done = subprocess.run(
        [sys.executable, "-c", LOST, "run", "experiments/oca_outage.yaml"],
        capture_output=True, text=True, timeout=25, check=False,
    )  # fmt: skip
    assert "Exception ignored" in done.stderr, "the test is about a signal that was lost"
    assert done.returncode == 130, done.stdout + done.stderr
    assert "interrupted" in done.stderr
    assert "starting" not in done.stdout + done.stderr
