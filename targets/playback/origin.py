"""The origin: keeps the encodings of titles and their manifests as files, for OCAs to fetch.

    PUT /objects/{title}/{kbps}    stores an encoding; X-Digest is the BLAKE2b of all of it, and wrong bytes are refused
    GET /objects/{title}/{kbps}    the encoding, or a Range of it (206, 416)
    PUT /manifests/{title}         stores a manifest, once all objects that it names are here (409 before)
    GET /manifests/{title}         the manifest
    GET /manifests                 {"manifests": [{"title", "digest"}]}; with an ETag: 304 while nothing is new
    /admin/disk                    see `disk_admin`

What is answered with 201 is on disk: written to a temporary name, synced, renamed. A second PUT replaces the first one,
in one step; two encoders that did the same work send the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import random
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from targets.playback.admin import AdminGate
from targets.playback.byte_range import NotSatisfiable, asked_range, content_range
from targets.playback.disk import PART, Disk
from targets.playback.disk_admin import DiskAdmin
from targets.playback.manifest import DIGEST_BYTES, MANIFEST_BYTES_MAX, OBJECT_BYTES_MAX, Manifest, manifest_bytes
from targets.playback.seed_data import title_index
from targets.playback.service import Context, application, json_response

LOG = logging.getLogger("playback")

DIGEST_HEADER = "X-Digest"

_PIECE_BYTES = 64 * 1024
_WHOLE = {"Accept-Ranges": "bytes"}


class ObjectStore:
    """Objects and manifests on a disk. Methods raise OSError when the disk fails."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._uploads = itertools.count(1)
        self.manifests: dict[str, str] = {}
        """The digests of the manifests, by title."""
        self.version = 0
        """Grows with every manifest that is stored."""
        for name in disk.names("uploads"):
            disk.remove(f"uploads/{name}")  # of uploads that a stop of the process cut off

    async def find(self) -> None:
        """Take in the manifests that are there from before; what is none is left out."""
        for title in self._disk.names("manifests"):
            if title.endswith(PART):
                continue
            try:
                self.manifests[title] = Manifest.from_bytes(await self.manifest_file(title)).digest
            except (ValueError, OSError) as error:
                LOG.warning("the manifest of %s cannot be read: %s", title, error)

    def upload(self) -> Upload:
        """Return an upload that has begun."""
        return Upload(self._disk, f"uploads/{next(self._uploads)}{PART}")

    def size(self, name: str) -> int | None:
        """Return the size of an object, or None when there is none."""
        return self._disk.size(f"objects/{name}")

    async def read(self, name: str, begin: int, length: int) -> bytes:
        """Return a part of an object."""
        return await self._disk.read_file(f"objects/{name}", begin, length)

    async def manifest_file(self, title: str) -> bytes:
        """Return a manifest as the disk has it; whoever takes it checks it."""
        return await self._disk.read_file(f"manifests/{title}")

    def missing(self, manifest: Manifest) -> list[str]:
        """Return the objects of a manifest that are not here with the size that it says."""
        return [
            f"{manifest.title}/{one.kbps}"
            for one in manifest.encodings
            if self.size(f"{manifest.title}/{one.kbps}") != one.size_bytes
        ]

    def put_manifest(self, manifest: Manifest) -> None:
        """Store a manifest; it is on disk when this returns."""
        self._disk.write(f"manifests/{manifest.title}", manifest_bytes(manifest), durable=True)
        self.manifests[manifest.title] = manifest.digest
        self.version += 1


class Upload:
    """An object on its way in. Use ``add`` for each piece, then ``keep`` or ``drop``."""

    def __init__(self, disk: Disk, part: str) -> None:
        self._disk = disk
        self._part = part
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self.size_bytes = 0

    @property
    def digest(self) -> str:
        """The digest of what has come in."""
        return self._digest.hexdigest()

    def add(self, data: bytes) -> None:
        """Take in a piece."""
        self._disk.append(self._part, data)
        self._digest.update(data)
        self.size_bytes += len(data)

    def keep(self, name: str) -> None:
        """Make it the object ``name``, in place of another one; it is on disk when this returns."""
        self._disk.publish(self._part, f"objects/{name}", durable=True)

    def drop(self) -> None:
        """Forget it."""
        self._disk.remove(self._part)


class Origin:
    """The requests of the origin."""

    def __init__(self, store: ObjectStore, start: str) -> None:
        self._store = store
        self._start = start

    async def put_object(self, request: web.Request) -> web.Response:
        """Answer ``PUT /objects/{title}/{kbps}``."""
        name = _object_name(request)
        expected = request.headers.get(DIGEST_HEADER, "").lower()
        if len(expected) != 2 * DIGEST_BYTES:
            return _wrong(f"the header {DIGEST_HEADER} must have the object's BLAKE2b of {DIGEST_BYTES} bytes, in hex")
        upload = self._store.upload()
        try:
            async for piece in request.content.iter_chunked(_PIECE_BYTES):
                if upload.size_bytes + len(piece) > OBJECT_BYTES_MAX:
                    return _wrong(f"an object has at most {OBJECT_BYTES_MAX} bytes", status=413)
                upload.add(piece)
            if upload.size_bytes == 0 or upload.digest != expected:
                return _wrong(f"{upload.size_bytes} bytes with another digest than {DIGEST_HEADER} says")
            upload.keep(name)
        finally:
            upload.drop()
        return json_response({"bytes": upload.size_bytes}, status=201)

    async def get_object(self, request: web.Request) -> web.Response:
        """Answer ``GET /objects/{title}/{kbps}``."""
        name = _object_name(request)
        size = self._store.size(name)
        if size is None:
            return _wrong("there is no such object", status=404)
        try:
            part = asked_range(request.headers, size)
        except NotSatisfiable:
            return web.Response(status=416, headers={**_WHOLE, "Content-Range": content_range(None, size)})
        asked = range(size) if part is None else part
        body = await self._store.read(name, asked.start, len(asked))
        if part is None:
            return web.Response(body=body, headers=_WHOLE)
        return web.Response(body=body, status=206, headers={**_WHOLE, "Content-Range": content_range(part, size)})

    async def put_manifest(self, request: web.Request) -> web.Response:
        """Answer ``PUT /manifests/{title}``."""
        body = await request.content.read(MANIFEST_BYTES_MAX + 1)
        while not request.content.at_eof() and len(body) <= MANIFEST_BYTES_MAX:
            body += await request.content.read(MANIFEST_BYTES_MAX + 1)
        try:
            manifest = Manifest.from_bytes(body)
        except ValueError as error:
            return _wrong(str(error))
        if manifest.title != request.match_info["title"]:
            return _wrong(f"this is the manifest of {manifest.title}")
        if missing := self._store.missing(manifest):
            return _wrong(f"not here, or of another size: {', '.join(missing)}", status=409)
        self._store.put_manifest(manifest)
        return json_response({"digest": manifest.digest}, status=201)

    async def get_manifest(self, request: web.Request) -> web.Response:
        """Answer ``GET /manifests/{title}``."""
        title = request.match_info["title"]
        if title not in self._store.manifests:
            return _wrong("there is no such manifest", status=404)
        return web.Response(body=await self._store.manifest_file(title), content_type="application/json")

    async def get_manifests(self, request: web.Request) -> web.Response:
        """Answer ``GET /manifests``."""
        headers = {"ETag": f'"{self._start}/{self._store.version}"'}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        entries = [{"title": title, "digest": digest} for title, digest in sorted(self._store.manifests.items())]
        return json_response({"manifests": entries}, headers=headers)


def build(context: Context) -> web.Application:
    """Return the origin's application."""
    config = context.config
    disk = Disk(Path(config.data_dir), random.Random(f"{config.seed}/{config.instance}/disk"))
    store = ObjectStore(disk)
    # Versions count from 0 again after a restart; the moment of the start keeps their tags apart.
    origin = Origin(store, f"{config.instance}/{context.now():.3f}")
    app = application(context)
    app.middlewares.append(_disk_trouble)
    app.router.add_put("/objects/{title}/{kbps}", origin.put_object)
    app.router.add_get("/objects/{title}/{kbps}", origin.get_object, allow_head=False)
    app.router.add_put("/manifests/{title}", origin.put_manifest)
    app.router.add_get("/manifests/{title}", origin.get_manifest)
    app.router.add_get("/manifests", origin.get_manifests)
    DiskAdmin(AdminGate.of(context), disk).add_to(app)

    async def find(_: web.Application) -> None:
        await store.find()

    app.on_startup.append(find)
    return app


@web.middleware
async def _disk_trouble(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except OSError as error:
        if error.errno is None:
            raise
        LOG.warning("%s %s: %s", request.method, request.path, error)
        status = 507 if error.errno in {errno.ENOSPC, errno.EDQUOT} else 500
        return json_response({"error": f"disk: {error.strerror}"}, status=status)


def _object_name(request: web.Request) -> str:
    title, kbps = request.match_info["title"], request.match_info["kbps"]
    if title_index(title) is None or not (kbps.isascii() and kbps.isdigit() and len(kbps) <= 6):
        raise web.HTTPNotFound
    return f"{title}/{int(kbps)}"


def _wrong(problem: str, *, status: int = 400) -> web.Response:
    return json_response({"error": problem}, status=status)
