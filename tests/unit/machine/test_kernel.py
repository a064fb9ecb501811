"""What /proc says, in the words of several kernels, and on this very machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.machine.kernel import (
    ProcessUse,
    process_from,
    processors_from,
    read_processes,
    read_processors,
    tree_of,
)

TICKS = os.sysconf("SC_CLK_TCK")
STAT = """\
cpu  200 100 300 4000 50 10 40 500 0 0
cpu0 100 50 150 2000 25 5 20 250 0 0
cpu1 100 50 150 2000 25 5 20 250 0 0
intr 12345
"""
PRESSURE = """\
some avg10=85.89 avg60=80.31 avg300=64.61 total=2500000
full avg10=0.00 avg60=0.00 avg300=0.00 total=7
"""
SCHEDSTAT = """\
version 15
timestamp 4295
cpu0 0 0 0 0 0 0 900 1500000000 10
domain0 3 1 1
cpu1 0 0 0 0 0 0 900 500000000 10
"""


def test_the_counters_of_all_processors_are_added_up():
    found = processors_from(STAT, pressure=PRESSURE, schedstat=SCHEDSTAT)
    assert found.number == 2
    assert found.busy_s * TICKS == pytest.approx(650)
    assert found.idle_s * TICKS == pytest.approx(4050)
    assert found.stolen_s * TICKS == pytest.approx(500)
    assert (found.waited_s, found.queued_s) == (2.5, 2.0)


def test_what_a_kernel_does_not_have_is_none():
    found = processors_from(STAT)
    assert (found.waited_s, found.queued_s) == (None, None)


@given(st.text(max_size=80))
def test_whatever_is_written_is_counters_or_none(text):
    for stat in (text, f"cpu {text}"):
        processors_from(stat, pressure=text, schedstat=text)
        process_from(f"1 ({text}) {text}")


def stat_of(*, name="worker", parent=7, used=(100, 50), nice=0, policy=0) -> str:
    fields = [
        "S",
        str(parent),
        *["0"] * 9,
        str(used[0]),
        str(used[1]),
        "1",
        "1",
        "20",
        str(nice),
        *["0"] * 21,
        str(policy),
    ]
    return f"42 ({name}) {' '.join(fields)} 0 0\n"


@pytest.mark.parametrize("name", ["worker", "a (b) c", ") 1 2 3", "two words"])
def test_a_process_may_be_called_anything(name):
    assert process_from(stat_of(name=name)) == ProcessUse(parent=7, used_s=150 / TICKS, polite=False)


@pytest.mark.parametrize(
    ("nice", "policy", "polite"),
    [(0, 0, False), (5, 0, False), (15, 0, True), (19, 0, True), (0, 5, True), (0, 1, False)],
)
def test_who_makes_way_for_everybody_is_polite(nice, policy, polite):
    assert process_from(stat_of(nice=nice, policy=policy)).polite is polite


def test_a_tree_is_a_process_and_all_below_it_even_when_it_was_read_in_a_circle():
    one = {pid: ProcessUse(parent=parent, used_s=0.0, polite=False) for pid, parent in {2: 1, 3: 2, 4: 3, 5: 1}.items()}
    assert tree_of(2, one) == {2, 3, 4}
    circle = {pid: ProcessUse(parent=parent, used_s=0.0, polite=False) for pid, parent in {2: 4, 3: 2, 4: 3}.items()}
    assert tree_of(2, circle) == {2, 3, 4}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_this_machine_is_read_and_our_children_are_ours():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        processes = read_processes()
        assert child.pid in tree_of(os.getpid(), processes)
        assert os.getppid() not in tree_of(os.getpid(), processes)
        assert processes[os.getpid()].used_s > 0
        assert read_processors().number == os.cpu_count()
    finally:
        child.communicate(b"\n")


def test_a_system_without_proc_has_no_counters(tmp_path):
    assert read_processors(tmp_path) is None
    assert read_processes(tmp_path / "none") == {}
