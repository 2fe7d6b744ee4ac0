"""A composition root: what `chaosd gate --remote` does. A daemon holds the gate on its schedule, and is asked over HTTP how
that stands, or waited for."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic import ValidationError

from chaosd import tls
from chaosd.errors import DeadlineError, UnreachableError, UsageError
from chaosd.report.gate import GateStatus
from chaosd.report.runs import duration, moment
from chaosd.run import Ending

_ANSWER_SECONDS = 15.0
_ANSWER_BYTES = 1 << 20
_POLL_SECONDS, _HEARTBEAT_SECONDS = 5.0, 30.0
_LEADER_SECONDS = 30.0  # for a daemon that leads to be found, of several behind one address


@dataclass(frozen=True, slots=True)
class Remote:
    """Which gate is asked, and how: `max_age` as it is written, such as `24h`; one that is not named is the only one.
    `token` is sent to nobody but that address."""

    url: str
    name: str = ""
    max_age: str = ""
    token: str = ""
    ca_file: Path | None = None


async def ask(remote: Remote, ending: Ending, tell: Callable[[str], None], wait_seconds: float | None) -> GateStatus:
    """How the gate stands; with `wait_seconds`, once its last run counts: one that ended no longer ago than `max_age`, or,
    where none is given, one that began after this was asked.

    Raises UsageError for what waiting does not mend: a daemon that is not there, a gate that it has not, a token that it
    does not take. Raises DeadlineError, AbortedError.
    """
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    # Each time a connection of its own: behind one address there may be several daemons, of which one leads.
    connector = aiohttp.TCPConnector(ssl=_tls(remote.ca_file), force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as session:
        asking = _Asking(session, remote, tell)
        return await ending.unless_ended(asking.first() if wait_seconds is None else asking.awaited(wait_seconds))


class _Asking:
    def __init__(self, session: aiohttp.ClientSession, remote: Remote, tell: Callable[[str], None]) -> None:
        self._session = session
        self._remote = remote
        self._tell = tell
        self._url = _address(remote.url)
        self._name = remote.name
        self._told_at, self._said = float("-inf"), ""

    async def first(self) -> GateStatus:
        """The first answer of a daemon that leads. Raises UsageError, DeadlineError."""
        ends_at = self._now() + _LEADER_SECONDS
        while True:
            try:
                if found := await self._status():
                    return found
            except UnreachableError as error:
                raise UsageError(f"{error}: name a daemon that is there with --remote") from error
            self._heartbeat("the daemon does not lead, or has only just begun")
            if self._now() > ends_at:
                raise DeadlineError(f"{self._url}: no daemon that leads answered for {duration(_LEADER_SECONDS)}")
            await asyncio.sleep(1)

    async def awaited(self, seconds: float) -> GateStatus:
        """The first answer in which the last run counts. Raises UsageError, DeadlineError."""
        ends_at = self._now() + seconds
        gate = await self.first()
        asked_at, waited_for = gate.now, _awaited_still(gate)  # by the daemon's clock, as when runs begin
        while not self._is_answered(gate, asked_at):
            if self._now() > ends_at:
                raise DeadlineError(f"gate {gate.gate}: no verdict that counts came for {duration(seconds)}: {gate.why}")
            self._heartbeat(waited_for)
            await asyncio.sleep(min(_POLL_SECONDS, seconds))
            try:
                gate = await self._status() or gate
            except UnreachableError as error:  # it may be started anew
                waited_for = str(error)
            else:
                waited_for = _awaited_still(gate)
        return gate

    def _is_answered(self, gate: GateStatus, asked_at: float) -> bool:
        return gate.counts and (bool(self._remote.max_age) or (gate.last is not None and gate.last.began >= asked_at))

    async def _status(self) -> GateStatus | None:
        """None from a daemon that does not know. Raises UsageError, UnreachableError."""
        if not self._name:
            listed = await self._get("")
            if listed is None:
                return None
            names = [one["gate"] for one in listed["gates"]]
            if len(names) != 1:
                raise UsageError(f"{self._url} has {len(names)} gates ({', '.join(names)}): choose one with --name")
            self._name = names[0]
        told = await self._get(f"/{quote(self._name, safe='')}")
        try:
            return GateStatus.model_validate(told, extra="ignore") if told else None  # later versions add fields
        except ValidationError as error:
            raise UsageError(
                f"{self._url} tells of a gate what this chaosd does not know: use that of its version"
            ) from error

    async def _get(self, path: str) -> Mapping[str, Any] | None:
        """The document; None from a daemon that has none yet. Raises UsageError, UnreachableError."""
        query = {"max_age": self._remote.max_age} if self._remote.max_age else {}
        headers = {"Authorization": f"Bearer {self._remote.token}"} if self._remote.token else {}
        url = f"{self._url}/api/gate{path}"
        try:
            async with self._session.get(url, params=query, headers=headers, allow_redirects=False) as answer:
                return _document(url, answer, await _body(url, answer))
        except aiohttp.ClientSSLError as error:
            raise UsageError(f"{url}: {tls.refusal(error, '--ca-file')}") from error
        except aiohttp.InvalidURL as error:
            raise UsageError(f"{url} is no address: name one such as http://chaosd:9187") from error
        except TimeoutError as error:
            raise UnreachableError(f"{url} does not answer within {_ANSWER_SECONDS:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(f"{url} does not answer: {error}") from error

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _heartbeat(self, said: str) -> None:
        if said != self._said or self._now() - self._told_at >= _HEARTBEAT_SECONDS:
            self._said, self._told_at = said, self._now()
            self._tell(said)


async def _body(url: str, answer: aiohttp.ClientResponse) -> bytes:
    """All of it, but no more than a daemon says. Raises UsageError."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > _ANSWER_BYTES:
            raise UsageError(f"{url} answers more than {_ANSWER_BYTES} bytes: it is no daemon of chaosd")
    return bytes(body)


def _document(url: str, answer: aiohttp.ClientResponse, body: bytes) -> Mapping[str, Any] | None:
    """What an answer says. Raises UsageError, UnreachableError."""
    if 300 <= answer.status < 400:
        raise UsageError(f"{url} redirects to {answer.headers.get('Location', 'nowhere')}: name that, if it is the daemon")
    if answer.status in (401, 403):
        raise UsageError(f"{url} answers {answer.status}: give a token that it takes with --token-file")
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if isinstance(told, dict) and "schema_version" in told:
        return told
    if answer.status == 503 and isinstance(told, dict) and "error" in told:
        return None
    if answer.status >= 500:  # of what stands before it, or of one that is in need
        raise UnreachableError(f"{url} answers {answer.status} {answer.reason}")
    why = told["error"] if isinstance(told, dict) and "error" in told else "it is no daemon of chaosd"
    raise UsageError(f"{url} answers {answer.status}: {why}")


def _awaited_still(gate: GateStatus) -> str:
    if gate.running:
        return f"run {gate.running.run} is under way, round {gate.running.round}"
    due = f"; the next run is due at {moment(gate.next_begins)}" if gate.next_begins is not None else ""
    return f"{gate.held_up or gate.why or 'its last run began before it was asked'}{due}"


def _address(url: str) -> str:
    """Raises UsageError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--remote {url}: {error}: name an address such as http://chaosd:9187") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise UsageError(f"--remote {url} is no address of a daemon: name one such as http://chaosd:9187")
    return url.rstrip("/")


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    """Raises UsageError."""
    try:
        return tls.trusting(ca_file)
    except OSError as error:
        raise UsageError(f"--ca-file {ca_file}: {error}: name a file of PEM certificates") from error
