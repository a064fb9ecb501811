"""An OCA's fill: fetches the titles it lacks from the origin, checks them, and takes them into the library.

    GET origin/manifests          the list, with an ETag
    GET origin/manifests/{title}  checked against its own digest, and against the list's
    GET origin/objects/...        by the piece, each a Range: what was begun is gone on with, after a restart as well
      -> file.part -> every chunk compared with its digest -> file -> all files there: in the library

It works only while the OCA's load is low, and never faster than ``fill_mbps``. What it fetches is worth nothing until
it is checked: a wrong byte costs the file. When the disk is full the fill stops, cleans up and waits; serving goes on.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass

from aiohttp import web

from chaos.resilience import BreakerSettings, CommandSettings
from chaos.resilience.web import Rejected, Reply
from targets.playback.byte_range import content_range
from targets.playback.disk import PART, Disk
from targets.playback.fill import FillPlan
from targets.playback.library import Library, WrongBytes, file_name
from targets.playback.manifest import Encoding, Manifest
from targets.playback.pacing import TokenBucket
from targets.playback.service import Context, json_response
from targets.playback.transport import FAILURES, CallFailed, json_of

LOG = logging.getLogger("playback")

PIECE_BYTES = 64 * 1024

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}

_LIST_SETTINGS = CommandSettings(timeout_s=1.0, max_concurrent=2, breaker=BreakerSettings(minimum_calls=5, open_s=1.0))
_FETCH_SETTINGS = CommandSettings(timeout_s=2.0, max_concurrent=2, breaker=BreakerSettings(minimum_calls=5, open_s=1.0))


class PeakBegan(Exception):  # noqa: N818 - it names what happened
    """The OCA has too much to do by now: the rest is fetched later."""


@dataclass(slots=True, kw_only=True)
class FillCounts:
    """What the fill has done since the process started."""

    titles: int = 0
    bytes: int = 0
    resumed: int = 0
    """Files of which a part was there already."""
    refused: int = 0
    """Manifests and files that were not what they should be."""
    failed: int = 0
    """Titles that could not be fetched, for that or another reason; each time counts."""


class Filler:
    """The fill of one OCA. ``load`` tells the share of its capacity in use, ``bucket`` limits the bytes a second."""

    def __init__(
        self,
        context: Context,
        library: Library,
        disk: Disk,
        plan: FillPlan,
        bucket: TokenBucket,
        load: Callable[[], float],
    ) -> None:
        (origin,) = context.config.calls["origin"]
        self._base = f"http://{origin.address}"
        self._http = context.http
        self._now_s = context.now
        self._library = library
        self._disk = disk
        self._plan = plan
        self._bucket = bucket
        self._load = load
        self._list = context.isolation.command("origin.list", self._get, settings=_LIST_SETTINGS)
        self._fetch = context.isolation.command("origin.fetch", self._get, settings=_FETCH_SETTINGS)
        self._tag = ""
        self._searched = False
        self._filling: str | None = None
        self._stopped: str | None = None
        self.counts = FillCounts()

    async def step(self) -> bool:
        """Do what there is to do now; at the first time, take in what the disk has from before."""
        if not self._searched:
            await self._search()
        if not self._plan.may_work(self._load()):
            return True
        if self._plan.asks(self._now_s()):
            try:
                await self._ask()
            except (*FAILURES, Rejected):
                return True
        while (title := self._plan.choose(self._now_s(), self._library.fetched)) is not None:
            self._filling = title
            try:
                if not await self._fill(title):
                    break
            finally:
                self._filling = None
        return True

    async def show(self, _: web.Request) -> web.Response:
        """Answer ``GET /fill``: the titles fetched with their digests, the one in work, counts, why it stopped."""
        return json_response(
            {
                "fetched": dict(self._library.fetched),
                "filling": self._filling,
                "stopped": self._stopped,
                **asdict(self.counts),
            }
        )

    async def _search(self) -> None:
        """Take in what was fetched before the process was started anew."""
        for title in self._disk.names():
            try:
                await self._library.find(title)
            except OSError as error:
                LOG.warning("the disk does not give back %s: %s", title, error)
        self._searched = True

    async def _ask(self) -> None:
        reply = await self._list("/manifests", {"If-None-Match": self._tag} if self._tag else {})
        if reply.status == 304:
            return
        match json_of(reply):
            case {"manifests": list(entries)}:
                self._plan.take({str(one["title"]): str(one["digest"]) for one in entries if _is_entry(one)})
            case _:
                raise CallFailed("the origin's answer is no list of manifests")
        self._tag = reply.headers.get("ETag", "")

    async def _fill(self, title: str) -> bool:
        """Fetch a title and return True, or note why that did not work and return False."""
        self._stopped = None
        try:
            manifest = await self._manifest(title)
            for encoding in manifest.encodings:
                await self._encoding(manifest, encoding)
            self._library.complete(manifest)
        except PeakBegan:
            return False
        except (WrongBytes, *FAILURES, Rejected) as error:
            if isinstance(error, WrongBytes):
                self.counts.refused += 1
            if isinstance(error, OSError) and error.errno in {*_NO_ROOM, errno.EIO}:
                self._stopped = error.strerror
            self.counts.failed += 1
            pause_s = self._plan.failed(self._now_s(), title)
            LOG.warning("%s was not fetched (%s: %s); again in %.1f s", title, type(error).__name__, error, pause_s)
            return False
        self._plan.done(title)
        self.counts.titles += 1
        return True

    async def _manifest(self, title: str) -> Manifest:
        reply = await self._fetch(f"/manifests/{title}", {})
        try:
            manifest = Manifest.from_bytes(reply.body)
        except ValueError as error:
            raise WrongBytes(str(error)) from error
        if (manifest.title, manifest.digest) != (title, self._plan.digest(title)):
            raise WrongBytes(f"the manifest of {title} is not the one that was listed")
        return manifest

    async def _encoding(self, manifest: Manifest, encoding: Encoding) -> None:
        """Have the file of an encoding on disk, checked."""
        name = file_name(manifest, encoding.kbps)
        if self._disk.size(name) is not None and await self._is_right(name, encoding):
            return
        part = name + PART
        try:
            await self._download(f"/objects/{manifest.title}/{encoding.kbps}", part, encoding.size_bytes)
            await self._library.check(part, encoding)
            self._disk.publish(part, name)
        except WrongBytes:
            self._disk.remove(part)
            raise
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._disk.remove(part)
            raise

    async def _is_right(self, name: str, encoding: Encoding) -> bool:
        try:
            await self._library.check(name, encoding)
        except WrongBytes:
            self._disk.remove(name)
            return False
        return True

    async def _download(self, path: str, part: str, size_bytes: int) -> None:
        have_bytes = self._disk.size(part) or 0
        if have_bytes > size_bytes:
            self._disk.remove(part)
            have_bytes = 0
        self.counts.resumed += have_bytes > 0
        while have_bytes < size_bytes:
            if not self._plan.may_work(self._load()):
                raise PeakBegan
            piece = range(have_bytes, min(have_bytes + PIECE_BYTES, size_bytes))
            await asyncio.sleep(self._bucket.take(self._now_s(), len(piece)))
            reply = await self._fetch(path, {"Range": f"bytes={piece.start}-{piece.stop - 1}"})
            if reply.headers.get("Content-Range") != content_range(piece, size_bytes) or len(reply.body) != len(piece):
                raise WrongBytes(f"the origin's {path} has another size than its manifest says")
            self._disk.append(part, reply.body)
            self.counts.bytes += len(piece)
            have_bytes = piece.stop

    async def _get(self, path: str, headers: dict[str, str]) -> Reply:
        return await self._http.get(self._base + path, headers=headers)


def _is_entry(data: object) -> bool:
    return isinstance(data, dict) and {"title", "digest"} <= data.keys()
