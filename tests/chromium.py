"""A headless Chromium, told what to do over the DevTools protocol: what a page does in a real browser.

``find_chromium`` returns None where there is none; tests skip then. No page gets to the network: names do not resolve,
and every request is recorded.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

LIMIT_S = 60.0
"""Generous: the browser may get what other processes leave over."""


def find_chromium() -> str | None:
    """Return the browser's path: ``$CHAOS_CHROMIUM``, or whichever of its names is on the path."""
    names = [os.environ.get("CHAOS_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session_id: str) -> None:
        self._socket = socket
        self._session_id = session_id
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict]] = {}
        self._loaded = asyncio.Event()
        self.errors: list[str] = []
        """Exceptions, and what was written to the console as a warning or an error."""
        self.requests: list[str] = []
        """The address of everything that the page asked for, itself included."""

    async def call(self, method: str, **parameters: object) -> dict:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters, "sessionId": self._session_id}
        await self._socket.send_json(message)
        answer = await asyncio.wait_for(self._answers[number], LIMIT_S)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    async def open(self, path: Path, *, width: int = 1280, height: int = 900) -> None:
        """Show a file in a window of that size, and wait until it has loaded."""
        await self.resize(width, height)
        self._loaded.clear()
        await self.call("Page.navigate", url=path.resolve().as_uri())
        await asyncio.wait_for(self._loaded.wait(), LIMIT_S)
        await self.settle()

    async def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **size)

    async def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        await self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    async def evaluate(self, expression: str) -> object:
        """Return the value of an expression, of a promise what it comes to."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def mouse(self, kind: str, x: float, y: float, **more: object) -> None:
        """Move (``mouseMoved``), press (``mousePressed``) or release (``mouseReleased``) the mouse."""
        await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    async def press(self, key: str) -> None:
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is to be seen, or the ``whole`` page, as a PNG file."""
        picture = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def take(self, message: dict) -> None:
        """Take in what the browser says of this tab."""
        if "id" in message:
            self._answers.pop(message["id"]).set_result(message)
            return
        what = message["params"]
        match message["method"]:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(what["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(str(what["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if what["type"] in {"error", "warning", "assert"}:
                self.errors.append(str(what["args"]))
            case "Log.entryAdded" if what["entry"]["level"] in {"error", "warning"}:
                self.errors.append(what["entry"]["text"])


@contextlib.asynccontextmanager
async def chromium_page(folder: Path) -> AsyncIterator[Page]:
    """Start a browser with its profile in ``folder``, and end it with all its processes."""
    program = find_chromium()
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}", "--no-sandbox",
        "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        address = await _address(folder)
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=1 << 28) as socket:
            page, reader = await _first_page(socket)
            try:
                yield page
            finally:
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reader
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _address(folder: Path) -> str:
    """Return where the browser listens; it writes that into its profile when it does."""
    note = folder / "DevToolsActivePort"
    async with asyncio.timeout(LIMIT_S):
        while not (note.exists() and len(lines := note.read_text().splitlines()) >= 2):
            await asyncio.sleep(0.05)
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"


async def _first_page(socket: aiohttp.ClientWebSocketResponse) -> tuple[Page, asyncio.Task[None]]:
    async def ask(number: int, method: str, **parameters: object) -> dict:
        await socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(LIMIT_S):
            while (message := await socket.receive_json()).get("id") != number:
                pass
        return message["result"]

    targets = await ask(-1, "Target.getTargets")
    tab = next(one["targetId"] for one in targets["targetInfos"] if one["type"] == "page")
    attached = await ask(-2, "Target.attachToTarget", targetId=tab, flatten=True)
    page = Page(socket, attached["sessionId"])

    async def read() -> None:
        async for message in socket:
            document = message.json()
            if document.get("sessionId") == attached["sessionId"]:
                page.take(document)

    reader = asyncio.ensure_future(read())
    for domain in ("Page", "Runtime", "Network", "Log"):
        await page.call(f"{domain}.enable")
    # A window that is not in front has no focus, and gives none.
    await page.call("Emulation.setFocusEmulationEnabled", enabled=True)
    return page, reader
