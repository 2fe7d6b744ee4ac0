"""One look at what a daemon does, shared by all who watch: so many of them cost little more than one.

Who changes something that a look tells says that it has changed. Then those who watch look, at once or as soon as the last
look is old enough, and what changes meanwhile is told with it; while nobody watches there is no look.
Who is slow is told less often, never from a queue: each stream knows the version that it told last, and is told the latest
content of what changed since. Who takes nothing for a while is dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from chaosd.status.document import Status
from chaosd.status.page import Page, aged, whole

LEAST_SECONDS = 0.1  # between two looks
ALIVE_SECONDS = 15.0  # between two signs of life to who has nothing to be told
MOST_STREAMS = 100
_ALIVE = b"event: alive\ndata: {}\n\n"


class FullError(Exception):
    """As many streams as may be are open."""


@dataclass(frozen=True, slots=True)
class _Part:
    version: int
    html: str


class Feed:
    """What `look` tells at a time (seconds since the epoch), looked at no oftener than every LEAST_SECONDS."""

    def __init__(self, look: Callable[[float], Status], *, can_pause: bool = False, clock: Callable[[], float] = time.time):
        self._look = look
        self._can_pause = can_pause
        self._clock = clock
        self._epoch = secrets.token_hex(4)  # another process counts its versions anew
        self._page = Page()
        self._status: Status | None = None
        self._good_until = 0.0  # what the last look told, on the loop's clock; 0: whoever asks next looks
        self._outdated = False  # something has changed since then
        self._alarm: asyncio.TimerHandle | None = None
        self._version = 0
        self._parts: dict[str, _Part] = {}
        self._whole: tuple[int, str] | None = None
        self._layout = ""  # which parts there are
        self._events: dict[int, bytes] = {}  # by the version that is known to who is told
        self._waking = asyncio.Event()
        self._streams = 0
        self._closed = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """While the context is open streams are told of what changes; they end with it."""
        try:
            yield
        finally:
            self._closed = True
            self._wake()

    def changed(self) -> None:
        """Something that `look` tells has. Costs nothing while nobody watches."""
        self._outdated = True
        self._set_alarm()

    def look(self) -> Status:
        """What is so now, or was so a moment ago. Raises what `look` does, for each who asks: nobody is told old news for
        new ones."""
        now = asyncio.get_running_loop().time()
        if self._status is None or now >= self._good_until:
            self._outdated = False
            status = self._look(self._clock())
            self._draw(status)
            self._status, self._good_until = status, now + LEAST_SECONDS
        return self._status

    def page(self) -> str:
        """The page as it is now."""
        status = self.look()
        if self._whole is None or self._whole[0] != self._version:
            html = {id_: part.html for id_, part in self._parts.items()}
            name, layout = self._name(self._version), self._layout
            self._whole = (self._version, whole(status, html, name, layout, can_pause=self._can_pause))
        return aged(self._whole[1], status.at)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for a stream, while the context is open. Raises FullError where there is none."""
        if self._streams >= MOST_STREAMS:
            raise FullError
        self._streams += 1
        self._set_alarm()
        try:
            yield
        finally:
            self._streams -= 1

    async def events(self, known: str) -> AsyncIterator[bytes]:
        """What a browser that knows a version, or none, is to be told, until the feed is closed: at once all that has
        changed since, and then each change (WHATWG HTML, "Server-sent events")."""
        seen, told = self._number(known), False
        while not self._closed:
            self.look()
            if not told or self._version > seen:
                event, seen, told = self._event(seen), self._version, True
                yield event
                continue  # others had their turn meanwhile
            try:
                async with asyncio.timeout(ALIVE_SECONDS):
                    await self._waking.wait()
            except TimeoutError:
                yield _ALIVE

    def _set_alarm(self) -> None:
        """That those who watch look once the last look is old enough."""
        if self._outdated and self._streams and self._good_until and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_at(self._good_until, self._look_due)

    def _look_due(self) -> None:
        self._alarm, self._good_until = None, 0.0
        self._wake()

    def _wake(self) -> None:
        waking, self._waking = self._waking, asyncio.Event()
        waking.set()

    def _draw(self, status: Status) -> None:
        html, known, next_ = self._page.parts(status), self._parts, self._version + 1
        same = {id_: known[id_] for id_, drawn in html.items() if id_ in known and known[id_].html == drawn}
        self._events.clear()
        if len(same) == len(html) == len(known):
            return
        self._parts = {id_: same.get(id_) or _Part(next_, drawn) for id_, drawn in html.items()}
        self._layout = hashlib.sha256(" ".join(html).encode()).hexdigest()[:16]
        self._version = next_
        self._wake()

    def _event(self, seen: int) -> bytes:
        event = self._events.get(seen)
        if event is None:
            assert self._status is not None, "it was looked at"
            parts = {id_: part.html for id_, part in self._parts.items() if part.version > seen}
            data = json.dumps({"at": self._status.at, "layout": self._layout, "parts": parts})
            event = self._events[seen] = f"event: status\nid: {self._name(self._version)}\ndata: {data}\n\n".encode()
        return event

    def _name(self, version: int) -> str:
        return f"{self._epoch}-{version}"

    def _number(self, known: str) -> int:
        """The version that is meant; -1 for one of another process, or for none."""
        epoch, _, number = known.partition("-")
        is_ours = epoch == self._epoch and number.isascii() and number.isdigit() and len(number) < 20
        return int(number) if is_ours and int(number) <= self._version else -1
