"""A headless Chromium, driven by its own protocol (Chrome DevTools Protocol): what a person does and sees."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_BROWSER = pytest.mark.skipif(
    not (CHROMIUM and shutil.which("npm")), reason="needs chromium and npm: apt-get install chromium npm"
)
_ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run", "about:blank")
_START_SECONDS, _ANSWER_SECONDS = 180.0, 180.0
# What it answers of a page that was left (Chromium, content/browser/devtools and V8's inspector).
_LEFT = ("navigated or closed", "context was destroyed", "Cannot find context", "Cannot find default execution context")
_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}


class LeftError(Exception):
    """The page gave way to another one before it answered."""


class Tab:
    """A page that is open. `logged` is what the browser itself says of it: scripts that failed, requests it refused."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.logged: list[str] = []
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()

    async def listen(self) -> None:
        """Take what the browser says, for ever."""
        async for message in self._socket:
            told = json.loads(message.data)
            if (answer := self._answers.pop(told.get("id", -1), None)) and not answer.done():
                answer.set_result(told)
            elif told.get("method") == "Page.loadEventFired":
                self._loaded.set()
            elif told.get("method") == "Log.entryAdded":
                self.logged.append(told["params"]["entry"]["text"])
            elif told.get("method") == "Runtime.exceptionThrown":
                self.logged.append(json.dumps(told["params"]["exceptionDetails"]))

    async def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        told = await asyncio.wait_for(answer, _ANSWER_SECONDS)
        if any(words in told.get("error", {}).get("message", "") for words in _LEFT):
            raise LeftError(told["error"]["message"])
        assert "error" not in told, told
        result: dict[str, Any] = told["result"]
        return result

    async def open(
        self, url: str, *, width: int = 1200, height: int = 900, dark: bool = False, script: bool = True
    ) -> None:
        """Show a page, on a screen of that size."""
        await self(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self("Emulation.setEmulatedMedia", features=[scheme])
        await self("Emulation.setScriptExecutionDisabled", value=not script)
        self._loaded.clear()
        await self("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), _ANSWER_SECONDS)

    async def run(self, expression: str) -> Any:
        """What a piece of script gives, once it has what it promised."""
        told = await self("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, expression: str, timeout_seconds: float = 180) -> Any:
        """Wait until a piece of script gives something that holds; that. A page that gives way to another meanwhile cannot
        answer, and the next one is asked."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while not (found := await self._run_unless_left(expression)):
            assert asyncio.get_running_loop().time() < deadline, f"waited {timeout_seconds} s in vain for {expression}"
            await asyncio.sleep(0.1)
        return found

    async def _run_unless_left(self, expression: str) -> Any:
        """None where the page was left before it answered."""
        try:
            return await self.run(expression)
        except LeftError:
            return None

    async def press(self, key: str) -> None:
        """A key."""
        known = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"Enter": "\r", " ": " "}.get(key)
        await self("Input.dispatchKeyEvent", type="keyDown", **known, **({"text": text} if text else {}))
        await self("Input.dispatchKeyEvent", type="keyUp", **known)

    async def type(self, text: str) -> None:
        """Text, where the focus is."""
        await self("Input.insertText", text=text)

    async def picture(self, file: Path) -> None:
        """Of what is seen, as PNG."""
        told = await self("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(told["data"]))


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Tab]:
    """A browser with one page, whose profile is in a folder."""
    assert CHROMIUM, "there is no chromium"
    profile = folder / "profile"
    command = (CHROMIUM, f"--user-data-dir={profile}", *_ARGUMENTS)
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    try:
        async with aiohttp.ClientSession() as client:
            port = await _port(profile / "DevToolsActivePort")
            async with client.ws_connect(await _page(client, port), max_msg_size=0) as socket:
                tab = Tab(socket)
                listening = asyncio.create_task(tab.listen())
                for domain in ("Page", "Log", "Runtime"):
                    await tab(f"{domain}.enable")
                await tab.until("document.readyState === 'complete'")  # or its end would be taken for that of another page
                yield tab
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
    finally:
        process.kill()
        await process.wait()


async def _port(file: Path) -> str:
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while not (file.exists() and len(lines := file.read_text().splitlines()) > 1):
        assert asyncio.get_running_loop().time() < deadline, "chromium did not start"
        await asyncio.sleep(0.1)
    return lines[0]


async def _page(client: aiohttp.ClientSession, port: str) -> str:
    """Where its one page is spoken to; it answers before it has it."""
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while True:
        async with client.get(f"http://127.0.0.1:{port}/json") as answer:
            pages = [str(found["webSocketDebuggerUrl"]) for found in await answer.json() if found["type"] == "page"]
        if pages:
            (page,) = pages
            return page
        assert asyncio.get_running_loop().time() < deadline, "chromium shows no page"
        await asyncio.sleep(0.1)
