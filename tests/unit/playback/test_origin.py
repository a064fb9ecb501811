"""The origin over real sockets: what it takes, what it refuses, and what is still there after a restart."""

from __future__ import annotations

import pytest

from targets.playback.main import SERVICES
from targets.playback.manifest import manifest_bytes
from targets.playback.service import Context
from tests.unit.playback.little_target import LittleTarget, config
from tests.unit.playback.titles import CHUNKS, TITLE, chunks_of, disk, manifest_of, put, release

BODY = b"".join(chunks_of(750))
NAME = f"/objects/{TITLE}/750"


async def test_an_object_comes_back_in_whole_and_in_part():
    async with LittleTarget() as target:
        origin = await target.start("origin")
        assert (await put(target, origin, NAME, BODY))[0] == 201

        async with target.http.get(f"http://{origin}{NAME}") as response:
            assert (response.status, response.headers["Accept-Ranges"]) == (200, "bytes")
            assert await response.read() == BODY
        async with target.http.get(f"http://{origin}{NAME}", headers={"Range": "bytes=100-299"}) as response:
            assert (response.status, response.headers["Content-Range"]) == (206, f"bytes 100-299/{len(BODY)}")
            assert await response.read() == BODY[100:300]
        async with target.http.get(f"http://{origin}{NAME}", headers={"Range": "bytes=999999-"}) as response:
            assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{len(BODY)}")
        assert (await target.get(origin, f"/objects/{TITLE}/751"))[0] == 404


@pytest.mark.parametrize("path", ["/objects/film/750", f"/objects/{TITLE}/x", f"/objects/{TITLE}/..%2f..%2fx"])
async def test_a_name_that_is_none_leads_nowhere(path):
    async with LittleTarget() as target:
        origin = await target.start("origin")

        assert (await put(target, origin, path, BODY))[0] == 404


async def test_bytes_that_are_not_those_that_were_sent_are_refused_and_leave_nothing_behind(tmp_path):
    async with LittleTarget() as target:
        origin = await target.serve(SERVICES["origin"](Context(config("origin", data_dir=str(tmp_path)))))

        status, problem = await put(target, origin, NAME, BODY, digest="0" * 32)
        assert (status, "another digest" in problem) == (400, True)
        status, problem = await put(target, origin, NAME, BODY, digest="none")
        assert (status, "X-Digest" in problem) == (400, True)
        assert (await put(target, origin, NAME, b""))[0] == 400
        assert (await target.get(origin, NAME))[0] == 404
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_an_object_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr("targets.playback.origin.OBJECT_BYTES_MAX", len(BODY) - 1)
    async with LittleTarget() as target:
        origin = await target.start("origin")

        assert (await put(target, origin, NAME, BODY))[0] == 413


async def test_a_second_object_of_a_name_replaces_the_first():
    async with LittleTarget() as target:
        origin = await target.start("origin")
        for body in (BODY, BODY, BODY[::-1]):
            assert (await put(target, origin, NAME, body))[0] == 201
        async with target.http.get(f"http://{origin}{NAME}") as response:
            assert await response.read() == BODY[::-1]


async def test_a_manifest_is_taken_once_all_that_it_names_is_there():
    async with LittleTarget() as target:
        origin = await target.start("origin")
        body = manifest_bytes(manifest_of())
        status, problem = await put(target, origin, f"/manifests/{TITLE}", body)
        assert (status, f"{TITLE}/5800" in problem) == (409, True)
        assert (await target.get(origin, f"/manifests/{TITLE}"))[0] == 404

        await release(target, origin)
        _, found = await target.get(origin, f"/manifests/{TITLE}")
        assert found == manifest_of().to_json()
        assert (await put(target, origin, "/manifests/title-0032", body))[0] == 400
        assert (await put(target, origin, f"/manifests/{TITLE}", b"{}"))[0] == 400
        assert (await put(target, origin, f"/manifests/{TITLE}", b"x" * 600_000))[0] == 400


async def test_the_list_is_sent_once_for_each_version():
    async with LittleTarget() as target:
        origin = await target.start("origin")
        async with target.http.get(f"http://{origin}/manifests") as response:
            tag = response.headers["ETag"]
            assert await response.json() == {"manifests": []}
        assert (await target.get(origin, "/manifests", **{"If-None-Match": tag}))[0] == 304

        manifest = await release(target, origin)
        status, listed = await target.get(origin, "/manifests", **{"If-None-Match": tag})
        assert (status, listed) == (200, {"manifests": [{"title": TITLE, "digest": manifest.digest}]})


async def test_a_restarted_origin_has_what_it_had(tmp_path):
    for turn in range(2):
        async with LittleTarget() as target:
            origin = await target.serve(SERVICES["origin"](Context(config("origin", data_dir=str(tmp_path)))))
            if not turn:
                manifest = await release(target, origin)
                (tmp_path / "manifests" / "title-0032").write_text("half a manif")
                (tmp_path / "uploads").mkdir()
                (tmp_path / "uploads" / "7.part").write_bytes(b"half an object")
            _, listed = await target.get(origin, "/manifests")
            assert listed == {"manifests": [{"title": TITLE, "digest": manifest.digest}]}
            async with target.http.get(f"http://{origin}/objects/{TITLE}/235") as response:
                assert await response.read() == b"".join(chunks_of(235, chunks=CHUNKS))
    assert not (tmp_path / "uploads").exists()


async def test_a_full_disk_and_a_failing_one_are_told_apart_and_the_admin_token_is_needed():
    async with LittleTarget() as target:
        origin = await target.start("origin")
        assert (await target.get(origin, "/admin/disk"))[0] == 401
        await disk(target, origin, "PUT", {"full": True})
        assert (await put(target, origin, NAME, BODY))[0] == 507
        await disk(target, origin, "PUT", {"failing": True})
        assert (await put(target, origin, NAME, BODY))[0] == 500
        assert (await disk(target, origin))[1]["writes_refused"] == 2
        await disk(target, origin, "DELETE")
        assert (await put(target, origin, NAME, BODY))[0] == 201
