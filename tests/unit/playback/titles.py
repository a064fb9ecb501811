"""A small title for tests: its chunks, its manifest, and an origin that has it."""

from __future__ import annotations

from targets.playback.manifest import Manifest, digest_of, encoding_of, manifest_bytes
from targets.playback.studio import Studio
from targets.playback.video import LADDER_KBPS, VideoScale
from tests.unit.playback.little_target import LittleTarget

TITLE = "title-0031"
"""The first new one after the thirty of the little world."""

CHUNKS = 4
STUDIO = Studio(1, VideoScale(60))
ADMIN = {"Authorization": "Bearer a token for tests"}


def chunks_of(kbps: int, title: str = TITLE, chunks: int = CHUNKS) -> list[bytes]:
    """All chunks of a bitrate."""
    return [STUDIO.chunk(title, kbps, number) for number in range(chunks)]


def manifest_of(title: str = TITLE, chunks: int = CHUNKS) -> Manifest:
    """Its manifest."""
    encodings = tuple(encoding_of(kbps, chunks_of(kbps, title, chunks)) for kbps in LADDER_KBPS)
    return Manifest(title=title, chunks=chunks, encodings=encodings)


async def put(target: LittleTarget, origin: str, path: str, body: bytes, digest: str = "") -> tuple[int, str]:
    """PUT bytes at the origin; status and text of the answer."""
    headers = {"X-Digest": digest or digest_of(body)}
    async with target.http.put(f"http://{origin}{path}", data=body, headers=headers) as response:
        return response.status, await response.text()


async def release(target: LittleTarget, origin: str, title: str = TITLE, chunks: int = CHUNKS) -> Manifest:
    """Put a title at the origin, as a transcoder does."""
    for kbps in LADDER_KBPS:
        status, _ = await put(target, origin, f"/objects/{title}/{kbps}", b"".join(chunks_of(kbps, title, chunks)))
        assert status == 201
    manifest = manifest_of(title, chunks)
    assert (await put(target, origin, f"/manifests/{title}", manifest_bytes(manifest)))[0] == 201
    return manifest


async def disk(target: LittleTarget, address: str, method: str = "GET", faults: object = None):
    """Look at a disk, or have it misbehave; status and answer."""
    async with target.http.request(method, f"http://{address}/admin/disk", json=faults, headers=ADMIN) as response:
        return response.status, await response.json()
