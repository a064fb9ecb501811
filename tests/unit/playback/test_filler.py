"""An OCA fills itself from a real origin, and tells a real cache control: what it takes, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from chaos.resilience.web import ServiceClient
from targets.playback.disk import DiskFaults
from targets.playback.main import SERVICES
from targets.playback.map_exchange import MapReader
from targets.playback.service import Context
from tests.ports import dead_address
from tests.unit.playback.little_target import LittleTarget, config, until
from tests.unit.playback.titles import CHUNKS, STUDIO, TITLE, chunks_of, disk, put, release

FAST = {"fill_every_s": 0.1, "fill_mbps": 2000}
POSITION = 30


class Fill:
    """An origin, a cache control, and an OCA whose folder outlives it."""

    def __init__(self, target: LittleTarget, folder: Path) -> None:
        self.target = target
        self.folder = folder
        self.oca = ""

    async def start_oca(self, *, isp: str = "ixp", index: int = 1, origin: str | None = None, **settings: float) -> str:
        told = config(
            "oca",
            index=index,
            labels={"isp": isp},
            calls={"cache_control": [self.cache_control], "origin": [origin or self.origin]},
            settings={**FAST, **settings},
            data_dir=str(self.folder),
        )
        self.oca = await self.target.serve(SERVICES["oca"](Context(told)))
        return self.oca

    async def shown(self) -> dict:
        _, shown = await self.target.get(self.oca, "/fill")
        return shown

    async def has(self, title: str = TITLE) -> bool:
        return title in (await self.shown())["fetched"]

    async def reported(self) -> int:
        """The titles that cache control knows this OCA to hold."""
        ocas = await MapReader(ServiceClient(self.target.http, enabled=True)).fetch(self.cache_control)
        return ocas[0].titles if ocas else 0

    async def chunk(self, kbps: int = 750, number: int = 2, title: str = TITLE) -> tuple[int, bytes]:
        async with self.target.http.get(f"http://{self.oca}/titles/{title}/{kbps}/{number}") as response:
            return response.status, await response.read()


@contextlib.asynccontextmanager
async def filling(folder: Path):
    async with LittleTarget() as target:
        fill = Fill(target, folder)
        fill.origin = await target.start("origin")
        fill.cache_control = await target.start("cache_control")
        yield fill


async def test_an_oca_fetches_a_new_title_serves_it_and_reports_it(hasty, tmp_path):
    async with filling(tmp_path) as fill:
        await fill.start_oca()

        async def is_known():
            return await fill.reported() != 0

        await until(is_known)
        assert not await fill.reported() >> POSITION & 1
        assert (await fill.chunk())[0] == 404
        manifest = await release(fill.target, fill.origin)

        async def is_reported():
            return bool(await fill.reported() >> POSITION & 1)

        await until(is_reported)
        for one in manifest.encodings:
            for number, expected in enumerate(chunks_of(one.kbps)):
                assert await fill.chunk(one.kbps, number) == (200, expected)
        assert (await fill.chunk(number=CHUNKS))[0] == 404
        assert (await fill.chunk(kbps=751))[0] == 404
        shown = await fill.shown()
        assert shown["fetched"] == {TITLE: manifest.digest}
        assert (shown["titles"], shown["bytes"], shown["refused"]) == (1, manifest.size_bytes, 0)
        assert list(tmp_path.rglob("*.part")) == []


async def test_an_oca_fetches_only_what_it_is_assigned(hasty, tmp_path):
    async with filling(tmp_path) as fill:
        data = fill.target.data
        index, lacking, wanted = next(
            (index, out[0], inside[0])
            for index in range(1, 10)
            if (out := [one.id for n, one in enumerate(data.new_titles, 30) if not data.assigned("a", index) >> n & 1])
            and (inside := [one.id for n, one in enumerate(data.new_titles, 30) if data.assigned("a", index) >> n & 1])
        )
        for title in (lacking, "title-0001", wanted):
            await release(fill.target, fill.origin, title)
        await fill.start_oca(isp="alpha", index=index)

        await until(lambda: fill.has(wanted))
        assert list((await fill.shown())["fetched"]) == [wanted]


async def test_a_corrupted_object_at_the_origin_is_refused_until_it_is_right(hasty, tmp_path):
    async with filling(tmp_path) as fill:
        await release(fill.target, fill.origin)
        body = bytearray(b"".join(chunks_of(1750)))
        body[5000] ^= 4
        await put(fill.target, fill.origin, f"/objects/{TITLE}/1750", bytes(body))
        await fill.start_oca()

        async def is_refused():
            return (await fill.shown())["refused"] >= 1

        await until(is_refused)
        assert not await fill.has()
        assert (await fill.chunk(235))[0] == 404
        (kept,) = tmp_path.rglob("750")
        written_ns = kept.stat().st_mtime_ns
        await put(fill.target, fill.origin, f"/objects/{TITLE}/1750", b"".join(chunks_of(1750)))
        await until(fill.has)
        assert kept.stat().st_mtime_ns == written_ns, "what was right is not fetched again"


async def test_an_object_of_another_size_than_its_manifest_says_is_refused(hasty, tmp_path):
    async with filling(tmp_path) as fill:
        await release(fill.target, fill.origin)
        await put(fill.target, fill.origin, f"/objects/{TITLE}/235", b"short")
        await fill.start_oca()

        async def has_failed():
            return (await fill.shown())["failed"] >= 1

        await until(has_failed)
        assert not await fill.has()


async def test_a_broken_download_is_gone_on_with_where_it_broke(hasty, tmp_path):
    async with filling(tmp_path) as fill:
        manifest = await release(fill.target, fill.origin)
        whole = b"".join(chunks_of(5800))
        part = tmp_path / "titles" / TITLE / manifest.digest / "5800.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(whole[:20_000])
        await fill.start_oca()

        await until(fill.has)
        shown = await fill.shown()
        assert (shown["resumed"], shown["bytes"]) == (1, manifest.size_bytes - 20_000)
        assert await fill.chunk(5800, 1) == (200, STUDIO.chunk(TITLE, 5800, 1))


async def test_a_part_that_is_wrong_costs_the_file_and_not_the_title(hasty, tmp_path):
    async with filling(tmp_path) as fill:
        manifest = await release(fill.target, fill.origin)
        part = tmp_path / "titles" / TITLE / manifest.digest / "5800.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"\0" * 20_000)
        await fill.start_oca()

        await until(fill.has)
        assert (await fill.shown())["refused"] == 1


async def test_a_restarted_oca_has_its_titles_without_the_origin_and_only_those_that_are_right(hasty, tmp_path):
    async with filling(tmp_path) as fill:
        for title in (TITLE, "title-0032"):
            await release(fill.target, fill.origin, title)
        first = await fill.start_oca()
        await until(lambda: fill.has("title-0032"))
        await fill.target.stop(first)
        file = next((tmp_path / "titles" / "title-0032").glob("*/3000"))
        file.write_bytes(file.read_bytes()[:-1] + b"\0")

        await fill.start_oca(origin=dead_address())
        await until(fill.has)
        assert await fill.chunk(750, 2) == (200, STUDIO.chunk(TITLE, 750, 2))
        assert (await fill.chunk(750, 2, "title-0032"))[0] == 404
        await fill.target.stop(fill.oca)

        await fill.start_oca()
        await until(lambda: fill.has("title-0032"))
        assert (await fill.shown())["bytes"] == sum(map(len, chunks_of(3000)))


async def test_a_full_disk_stops_the_fill_leaves_nothing_half_and_serving_goes_on(hasty, tmp_path):
    async with filling(tmp_path) as fill:
        await fill.start_oca()
        await disk(fill.target, fill.oca, "PUT", {"full": True})
        await release(fill.target, fill.origin)

        async def has_stopped():
            return (await fill.shown())["stopped"] == "No space left on device"

        await until(has_stopped)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        assert (await fill.chunk(title="title-0001"))[0] == 200
        assert (await disk(fill.target, fill.oca))[1]["writes_refused"] >= 1
        await disk(fill.target, fill.oca, "DELETE")
        await until(fill.has)
        assert (await fill.shown())["stopped"] is None


async def test_a_disk_that_fills_up_in_the_middle_of_a_download_is_cleaned_of_it(hasty, tmp_path, monkeypatch):
    from targets.playback import filler

    monkeypatch.setattr(filler, "PIECE_BYTES", 4_096)
    append = filler.Disk.append

    def fills_up(self, name, data):
        if "5800" in name and (self.size(name) or 0) > 10_000:
            self.faults = DiskFaults(full=True)
        append(self, name, data)

    monkeypatch.setattr(filler.Disk, "append", fills_up)
    async with filling(tmp_path) as fill:
        await release(fill.target, fill.origin)
        await fill.start_oca()

        async def has_stopped():
            return (await fill.shown())["stopped"] is not None

        await until(has_stopped)
        assert list(tmp_path.rglob("*.part")) == []
        assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["1750", "235", "3000", "750"]


async def test_a_busy_oca_fetches_nothing_until_its_peak_is_over(tmp_path):
    async with filling(tmp_path) as fill:
        # 6 Mbit/s are 12.5 kB a second at this scale: one chunk a second is all of it.
        await fill.start_oca(oca_capacity_mbps=6)

        async def is_busy():
            await fill.chunk(5800, 1, "title-0001")
            _, answer = await fill.target.get(fill.cache_control, "/map")
            return bool(answer["ocas"]) and answer["ocas"][0]["load"] >= 0.9

        await until(is_busy)
        await release(fill.target, fill.origin)
        for _ in range(10):
            assert await is_busy()
            await asyncio.sleep(0.05)
        assert (await fill.shown())["bytes"] == 0
        await until(fill.has)


async def test_an_oca_without_an_origin_that_answers_serves_all_the_same_and_its_breaker_opens(hasty, tmp_path):
    async with filling(tmp_path) as fill:
        await fill.start_oca(origin=dead_address(), fill_every_s=0.01)

        async def has_tried():
            return (await fill.target.breakers(fill.oca))["origin.list"]["errors"] > 0

        await until(has_tried)
        assert (await fill.chunk(title="title-0001"))[0] == 200
