"""A disk and its faults, on real files."""

from __future__ import annotations

import asyncio
import errno
import random

import pytest

from targets.playback.disk import Disk, DiskFaults


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "disk", random.Random(1))


async def test_what_was_written_is_read_in_whole_and_in_part(disk):
    disk.append("title/part", b"moving ")
    disk.append("title/part", b"pictures")
    disk.publish("title/part", "title/film", durable=True)

    assert await disk.read_file("title/film") == b"moving pictures"
    assert await disk.read_file("title/film", 7, 4) == b"pict"
    assert disk.size("title/film") == 15
    assert disk.size("title/part") is None
    assert disk.names("title") == ["film"]


async def test_a_file_is_replaced_in_one_step_and_its_folder_goes_with_the_last_file(disk):
    disk.write("title/film", b"one")
    disk.write("title/film", b"other", durable=True)
    assert await disk.read_file("title/film") == b"other"

    disk.remove("title/film")
    disk.remove("title/film")
    assert disk.names() == []
    with pytest.raises(FileNotFoundError):
        await disk.read_file("title/film")


async def test_a_slow_disk_waits_before_each_read(disk):
    loop = asyncio.get_running_loop()
    disk.faults = DiskFaults(slow_ms=20)
    began_s = loop.time()

    assert await disk.read(lambda: b"x") == b"x"
    assert loop.time() - began_s >= 0.019
    assert disk.counts.reads_slowed == 1


async def test_a_corrupt_disk_flips_one_bit_in_its_share_of_the_reads(disk):
    disk.faults = DiskFaults(corrupt_share=0.25)
    wrong = 0
    for _ in range(400):
        data = await disk.read(lambda: bytes(50))
        ones = sum(byte.bit_count() for byte in data)
        assert ones in {0, 1}
        wrong += ones

    assert 60 < wrong < 140
    assert disk.counts.reads_corrupted == wrong
    assert await disk.read(lambda: b"") == b""


async def test_a_full_disk_takes_nothing_and_still_gives(disk):
    disk.write("film", b"x")
    disk.faults = DiskFaults(full=True)

    for refused in (
        lambda: disk.append("other", b"x"),
        lambda: disk.write("other", b"x"),
        lambda: disk.publish("film", "other"),
    ):
        with pytest.raises(OSError, match="space") as caught:
            refused()
        assert caught.value.errno == errno.ENOSPC
    assert disk.counts.writes_refused == 3
    assert disk.names() == ["film"]
    assert await disk.read_file("film") == b"x"


async def test_a_failing_disk_neither_takes_nor_gives_until_it_recovers(disk):
    disk.write("film", b"x")
    disk.faults = DiskFaults(failing=True)
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        await disk.read_file("film")
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        disk.write("film", b"y")
    assert (disk.counts.reads_failed, disk.counts.writes_refused) == (1, 1)

    disk.faults = DiskFaults()
    assert await disk.read_file("film") == b"x"


def test_faults_are_read_from_json():
    faults = DiskFaults.from_json({"slow_ms": 5, "corrupt_share": 0.5, "full": True, "failing": False})

    assert faults == DiskFaults(slow_ms=5, corrupt_share=0.5, full=True)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "slow_ms, corrupt_share, full, failing is needed"),
        ([], "is needed"),
        ({}, "is needed"),
        ({"slow": 1}, "there is no fault 'slow'; there are slow_ms"),
        ({"slow_ms": -1}, "slow_ms is -1; from 0"),
        ({"slow_ms": float("nan")}, "slow_ms is nan"),
        ({"slow_ms": True}, "a float is needed"),
        ({"slow_ms": "5"}, "a float is needed"),
        ({"corrupt_share": 1.1}, "from 0 to 1"),
        ({"full": 1}, "a bool is needed"),
    ],
)
def test_what_is_no_fault_says_what_is_allowed(data, problem):
    with pytest.raises(ValueError, match=problem):
        DiskFaults.from_json(data)
