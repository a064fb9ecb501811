"""The business figures: CSV files that any tool reads, made from the counters by whoever has the lease."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import pytest

from targets.playback.activity import Kind
from targets.playback.business import Lake, csv_text, put, tables
from targets.playback.event_stream import EventStream
from targets.playback.pipeline import build
from targets.playback.service import Context
from targets.playback.validation import Plan
from tests.ports import dead_address
from tests.unit.playback.little_target import LittleTarget, config, until
from tests.unit.playback.pipeline_fixtures import client, event

FILES = ["activity.csv", "hours_watched.csv", "stream_starts.csv", "subscriptions.csv"]


@pytest.fixture
def events(events_server):
    """The server, empty."""
    with client(events_server) as valkey:
        valkey.flushall()
    return events_server


def read(path: Path):
    """A file as ``csv`` reads it."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_tables_of_a_date_are_sorted_and_have_headings():
    found = tables(
        "2026-01-01",
        {"play_started": 3, "stopped": 2},
        {"00:02": 1, "00:01": 30},
        {"country-02/title-0001": 1, "country-01/title-0002": 5_400_000},
        {"basic/signed_up": 3, "basic/cancelled": 1, "premium/cancelled": 2},
    )

    assert sorted(found) == FILES
    assert csv_text(found["hours_watched.csv"]) == (
        "date,country,title,watched_s,hours\n"
        "2026-01-01,country-01,title-0002,5400.000,1.500000\n"
        "2026-01-01,country-02,title-0001,0.001,0.000000\n"
    )
    assert csv_text(found["stream_starts.csv"]) == (
        "date,minute,starts,sps\n2026-01-01,00:01,30,0.5000\n2026-01-01,00:02,1,0.0167\n"
    )
    assert csv_text(found["subscriptions.csv"]) == (
        "date,plan,signed_up,cancelled,net\n"
        "2026-01-01,basic,3,1,2\n2026-01-01,standard,0,0,0\n2026-01-01,premium,0,2,-2\n"
    )
    assert csv_text(found["activity.csv"]).splitlines()[1:3] == [
        "2026-01-01,play_started,3",
        "2026-01-01,chunk_stalled,0",
    ]


def test_a_date_without_anything_has_files_with_headings():
    for name, table in tables("2026-01-01", {}, {}, {}, {}).items():
        assert table[0][0] == "date", name


def test_a_file_is_put_in_place_in_one_move(tmp_path):
    path = tmp_path / "date=2026-01-01" / "x.csv"
    put(path, "first\n", writer="pipeline-1")
    with path.open(encoding="utf-8") as reader:
        put(path, "second\n", writer="pipeline-2")
        assert reader.read() == "first\n"
    assert path.read_text(encoding="utf-8") == "second\n"
    assert list(path.parent.iterdir()) == [path]


async def test_what_is_counted_is_in_the_files_under_its_date(events, tmp_path):
    loop = asyncio.get_running_loop()
    async with LittleTarget() as target:
        stream = EventStream(events)
        await stream.began_s(loop.time())
        now_s = loop.time()
        told = config(
            "pipeline",
            calls={"events": [events], "cache": []},
            settings={"lake_dir": str(tmp_path), "lake_every_s": 0.05, "epoch_date": "2026-02-28"},
        )
        await target.serve(build(Context(told)))
        sent = [
            event(),
            event(),
            event(Kind.STOPPED, watched_s=1800.0),
            event(Kind.STOPPED, watched_s=5400.0, country="country-02"),
            event(Kind.SIGNED_UP, plan=Plan.PREMIUM),
            event(Kind.SIGNED_UP, plan=Plan.PREMIUM),
            event(Kind.CANCELLED, plan=Plan.PREMIUM),
        ]
        await stream.add([one.to_bytes() for one in sent])
        day = tmp_path / "date=2026-02-28"

        async def written():
            return (day / "activity.csv").exists() and sum(
                int(row["events"]) for row in read(day / "activity.csv")
            ) == 7

        await until(written)
        assert loop.time() - now_s < 5.0
        assert sorted(path.name for path in day.iterdir()) == FILES
        assert [(row["country"], row["title"], float(row["hours"])) for row in read(day / "hours_watched.csv")] == [
            ("country-01", "title-0001", 0.5),
            ("country-02", "title-0001", 1.5),
        ]
        assert sum(int(row["starts"]) for row in read(day / "stream_starts.csv")) == 2
        assert read(day / "subscriptions.csv")[2] == {
            "date": "2026-02-28",
            "plan": "premium",
            "signed_up": "2",
            "cancelled": "1",
            "net": "1",
        }

        # Written again from the same counters they are the same.
        before = {path.name: path.read_bytes() for path in day.iterdir()}
        for path in day.iterdir():
            path.unlink()
        context = Context(config("pipeline", settings={"lake_dir": str(tmp_path)}))
        with client(events) as valkey:
            valkey.delete("lease/lake")
        await Lake(context, stream).write()
        assert {path.name: path.read_bytes() for path in day.iterdir()} == before
        await context.close()
        await stream.close()


async def test_only_the_holder_of_the_lease_writes_and_another_takes_over_with_everything(events, tmp_path):
    stream = EventStream(events)
    contexts = [Context(config("pipeline", index=index, data_dir=str(tmp_path / str(index)))) for index in (1, 2)]
    first, second = (Lake(context, stream) for context in contexts)
    with client(events) as valkey:
        valkey.hset("figures/dates", "2026-01-01", 1)
        assert await first.write()
        assert await second.write()
        assert (first.files_written, second.files_written) == (4, 0)
        assert await first.write()
        assert first.files_written == 4, "nothing has changed"

        valkey.delete("lease/lake")
        assert await second.write()
        assert await first.write()
        assert (first.files_written, second.files_written) == (4, 4)
        valkey.delete("lease/lake")
        assert await first.write()
        assert first.files_written == 8, "who gets the lease back trusts no file"
    assert (tmp_path / "2" / "lake" / "date=2026-01-01" / "activity.csv").exists()
    for context in contexts:
        await context.close()
    await stream.close()


@pytest.mark.parametrize("folder", ["a file/lake", None])
async def test_a_folder_or_a_server_that_cannot_be_used_is_tried_again_later(events, tmp_path, folder):
    (tmp_path / "a file").write_text("", encoding="utf-8")
    stream = EventStream(events if folder else dead_address())
    context = Context(config("pipeline", settings={"lake_dir": str(tmp_path / (folder or "lake"))}))
    lake = Lake(context, stream)
    with client(events) as valkey:
        valkey.hset("figures/dates", "2026-01-01", 1)

    assert not await lake.write()
    await context.close()
    await stream.close()
