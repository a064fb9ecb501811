"""The studio's masters, their encodings, and the manifest that says how to recognise them."""

from __future__ import annotations

import json

import pytest

from targets.playback.chunk_format import HEADER_BYTES, check
from targets.playback.manifest import Manifest, digest_of, encoding_of, manifest_bytes
from targets.playback.studio import Studio
from targets.playback.video import LADDER_KBPS, VideoScale
from tests.unit.playback.titles import TITLE, chunks_of, manifest_of

STUDIO = Studio(1, VideoScale(60))


@pytest.mark.parametrize("factor", [1.0, 60.0, 1e9])
def test_every_chunk_has_its_size_and_says_what_it_is(factor):
    scale = VideoScale(factor)
    for kbps in LADDER_KBPS:
        chunk = Studio(1, scale).chunk(TITLE, kbps, 3)
        assert len(chunk) == scale.chunk_bytes(kbps)
        assert check(chunk, TITLE, kbps, 3) is None


def test_the_same_master_gives_the_same_encodings_and_any_other_gives_others():
    again = Studio(1, VideoScale(60))
    others = [
        Studio(2, VideoScale(60)).chunk(TITLE, 750, 3),
        STUDIO.chunk("title-0002", 750, 3),
        STUDIO.chunk(TITLE, 750, 4),
        STUDIO.chunk(TITLE, 1750, 3),
    ]

    assert again.chunk(TITLE, 750, 3) == STUDIO.chunk(TITLE, 750, 3)
    payloads = {chunk[HEADER_BYTES:] for chunk in (STUDIO.chunk(TITLE, 750, 3), *others)}
    assert len(payloads) == 5


def test_an_encoding_is_made_of_its_master():
    master = STUDIO.master(TITLE, 3)
    for kbps in LADDER_KBPS:
        payload = STUDIO.chunk(TITLE, kbps, 3)[HEADER_BYTES:]
        step = len(master) // len(payload)
        begins = range(len(master) - step * len(payload) + 1)
        assert any(master[begin::step][: len(payload)] == payload for begin in begins)


def test_a_manifest_comes_back_from_its_json():
    manifest = manifest_of()

    assert Manifest.from_bytes(manifest_bytes(manifest)) == manifest
    assert [one.kbps for one in manifest.encodings] == list(LADDER_KBPS)
    assert manifest.encoding(750) == encoding_of(750, chunks_of(750))
    assert manifest.encoding(751) is None
    assert manifest.size_bytes == sum(len(chunk) for kbps in LADDER_KBPS for chunk in chunks_of(kbps))
    assert manifest.encodings[0].digests[2] == digest_of(chunks_of(235)[2])


def changed(**fields):
    return {**manifest_of().to_json(), **fields}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "not a manifest"),
        ({}, "not a manifest"),
        (changed(title="film"), "not a title"),
        (changed(title="title-0002"), "has not the digest"),
        (changed(chunks=0), "0 chunks"),
        (changed(chunks=3), "does not name 3 chunks"),
        (changed(encodings=[]), "in 0 encodings"),
        (changed(encodings=[{}]), "not an encoding"),
        (changed(encodings=[{"kbps": 235, "chunk_bytes": 0, "digests": []}]), "chunks of 0 bytes"),
        (changed(encodings=[{"kbps": 235, "chunk_bytes": 490, "digests": ["x"]}]), "is none"),
        (changed(encodings=manifest_of().to_json()["encodings"][::-1]), "rising"),
        (changed(digest="0" * 32), "has not the digest"),
    ],
)
def test_what_is_no_manifest_is_refused(data, problem):
    with pytest.raises(ValueError, match=problem):
        Manifest.from_bytes(json.dumps(data).encode())


@pytest.mark.parametrize("body", [b"", b"no json", b"[" * 100_000, b"x" * 600_000])
def test_what_is_not_even_json_is_refused(body):
    with pytest.raises(ValueError, match=r"JSON|Expecting|not a manifest|at most"):
        Manifest.from_bytes(body)
