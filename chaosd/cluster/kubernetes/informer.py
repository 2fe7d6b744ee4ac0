"""An informer: list, then watch, for ever; resumes where it was, and says so where it could not.

Source: Kubernetes docs, "API Concepts", Efficient detection of changes; Watch bookmarks; 410 Gone responses.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp

from chaosd.cluster.kubernetes.client import Client, error_of, translated
from chaosd.cluster.kubernetes.pace import pause
from chaosd.cluster.port import Change, ChangeKind, Object
from chaosd.errors import ClusterError, ExpiredError, ThrottledError, UnreachableError

PAGE = 500
_WINDOW_SECONDS = (240, 300)
_WINDOW_GRACE_SECONDS = 15

_KINDS = {"ADDED": ChangeKind.ADDED, "MODIFIED": ChangeKind.MODIFIED, "DELETED": ChangeKind.DELETED}


class Informer:
    """Watches one kind of object for ever."""

    def __init__(self, client: Client, path: Sequence[str], parse: Callable[[Any], Object], rng: random.Random) -> None:
        self._client = client
        self._path = path
        self._parse = parse
        self._rng = rng
        self._known: dict[str, Object] = {}
        self._version = ""
        self._failures = 0

    async def changes(self) -> AsyncIterator[Change]:
        """PRESENT objects, SYNCED, then changes. Raises ForbiddenError, NotFoundError, which no retry mends."""
        async for change in self._listed(first=True):
            yield change
        while True:
            try:
                async for change in self._window():
                    self._failures = 0
                    yield change
            except ExpiredError:
                yield Change(ChangeKind.GAP)
                async for change in self._listed(first=False):
                    yield change
            except (UnreachableError, ThrottledError) as error:
                await self._back_off(error)

    async def _listed(self, *, first: bool) -> AsyncIterator[Change]:
        """List until that works; what differs from what is known, then SYNCED."""
        while True:
            try:
                objects, self._version = await list_all(self._client, self._path, ())
                break
            except (UnreachableError, ThrottledError, ExpiredError) as error:
                await self._back_off(error)
        found = {key_of(document): self._parse(document) for document in objects}
        gone = [known for key, known in self._known.items() if key not in found]
        before, self._known = self._known, found
        for known in gone:
            yield Change(ChangeKind.DELETED, known)
        for key, one in found.items():
            if first:
                yield Change(ChangeKind.PRESENT, one)
            elif key not in before:
                yield Change(ChangeKind.ADDED, one)
            elif before[key] != one:
                yield Change(ChangeKind.MODIFIED, one)
        yield Change(ChangeKind.SYNCED)

    async def _window(self) -> AsyncIterator[Change]:
        """One watch request, until the server ends it. Raises ExpiredError when its position is too old."""
        seconds = self._rng.randint(*_WINDOW_SECONDS)
        query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", self._version)]
        query.append(("timeoutSeconds", str(seconds)))
        timeout = seconds + _WINDOW_GRACE_SECONDS
        async with self._client.response("GET", self._path, query=query, timeout_seconds=timeout) as response:
            async for line in _lines(response):
                change = self._taken(line)
                if change:
                    yield change

    def _taken(self, line: bytes) -> Change | None:
        """The change that an event tells; None where nothing changed that matters."""
        try:
            event = json.loads(line)
            kind, document = event["type"], event["object"]
        except (ValueError, TypeError, KeyError) as error:
            raise UnreachableError(f"the watch told {line[:80]!r}: is that an API server?") from error
        if kind == "ERROR":
            raise error_of(document.get("code", 0), document.get("message", ""), f"watch /{'/'.join(self._path)}")
        self._version = document["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return None
        found, key = self._parse(document), key_of(document)
        if kind == "DELETED":
            self._known.pop(key, None)
        elif self._known.get(key) == found:
            return None
        else:
            self._known[key] = found
        return Change(_KINDS[kind], found)

    async def _back_off(self, error: ClusterError) -> None:
        """Longer with each failure of this watch, whatever becomes of others."""
        self._failures += 1
        await asyncio.sleep(max(pause(self._failures, self._rng), error.retry_after or 0.0))


async def list_all(client: Client, path: Sequence[str], query: Sequence[tuple[str, str]]) -> tuple[list[Any], str]:
    """Every object, in pages, and the version that a watch begins at."""
    objects: list[Any] = []
    token = ""
    while True:
        page = [*query, ("limit", str(PAGE)), *([("continue", token)] if token else [])]
        answer = await client.ask("GET", path, query=page)
        objects += answer["items"]
        token = answer["metadata"].get("continue", "")
        if not token:
            return objects, answer["metadata"]["resourceVersion"]


def key_of(document: Any) -> str:
    """`NAMESPACE/NAME` of an object's JSON."""
    return f"{document['metadata'].get('namespace', '')}/{document['metadata']['name']}"


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines of any length; the client's own readline has a limit that big objects pass."""
    rest = b""
    with translated("watch"):
        async for piece in response.content.iter_any():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line
