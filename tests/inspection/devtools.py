"""A browser that is told what to do over its DevTools protocol, and tells what it complains of and what it asks the network for."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

# `found` in the middle of the window; again at each look, since what comes into sight is laid out only then and moves the rest
SCROLLED = "found.scrollIntoView({block: 'center', behavior: 'instant'});"


class Tab:
    """A page that is open."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._loaded = False

    async def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, and wait for its answer."""
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._next()
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads((await asyncio.wait_for(self._socket.receive(), 60)).data)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(params)[:400])
        elif method == "Page.loadEventFired":
            self._loaded = True

    async def open(self, path: Path) -> None:
        """Load a file, and wait until it is there."""
        for name in ("Page", "Network", "Runtime", "Log"):
            await self.tell(f"{name}.enable")
        self._loaded = False
        await self.tell("Page.navigate", url=path.as_uri())  # its load event may come before the answer
        while not self._loaded:
            self._note(await self._next())

    async def value(self, script: str) -> Any:
        """What an expression is in the page."""
        result = await self.tell("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def becomes(self, script: str) -> Any:
        """What an expression is once it is true, or what it still is after half a minute: a page is drawn some time after it was touched."""
        end = time.monotonic() + 30
        while not (found := await self.value(script)) and time.monotonic() < end:
            await asyncio.sleep(0.05)
        return found

    async def click(self, selector: str) -> None:
        """Move the mouse to an element, once it can be seen there, and press its button."""
        point = await self.becomes(
            f"(() => {{ const found = document.querySelector({selector!r}); {SCROLLED} const r = found.getClientRects()[0] ?? new DOMRect(); "
            "const x = r.x + 20, y = r.y + r.height / 2; "
            "return found.contains(document.elementFromPoint(x, y)) ? [x, y] : null })()"
        )
        assert point, f"{selector} is not to be seen"
        for kind in ("mousePressed", "mouseReleased"):
            await self.tell("Input.dispatchMouseEvent", type=kind, x=point[0], y=point[1], button="left", clickCount=1)


@asynccontextmanager
async def opened(browser: str, profile: Path, *, width: int = 1280, dark: bool = False) -> AsyncIterator[Tab]:
    """A browser with one empty tab; it ends with the body."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--remote-debugging-port=0"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--window-size={width},1200", f"--user-data-dir={profile}"]
    process = subprocess.Popen([*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = await _port(profile / "DevToolsActivePort", process)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
            async with session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=1 << 26) as socket:
                yield Tab(socket)
    finally:
        process.terminate()
        process.wait(30)


async def _port(path: Path, process: subprocess.Popen[bytes]) -> str:
    """The port that the browser has chosen, once it has written it down."""
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        if path.exists() and (lines := path.read_text().splitlines()):
            return lines[0]
        await asyncio.sleep(0.1)
    raise AssertionError(f"the browser did not open its port (exit code {process.poll()})")
