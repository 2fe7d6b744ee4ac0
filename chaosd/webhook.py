"""A webhook: telling somebody's server what came of a gate, again and again until it has understood, for a while.

Address and secret come from files, which are read anew for each attempt, and stand in no log: the address of a chat's
webhook is a secret itself. Time and body are signed together, so that an old message cannot be sent again; Source: Standard
Webhooks, "Verifying webhook authenticity".
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from chaosd import __version__, tls
from chaosd.settings import Webhook

ATTEMPTS = 8  # over about four minutes
ATTEMPT_SECONDS = 10.0
_LEAST_SECONDS, _MOST_SECONDS = 1.0, 60.0
# What a server answers that may answer otherwise later (RFC 9110, 15.5 and 15.6; RFC 6585, 4).
_LATER = frozenset({408, 425, 429, *range(500, 600)})


@dataclass(frozen=True, slots=True)
class Message:
    """What is told: a JSON document, and by which `key` a receiver knows one that it got twice."""

    body: bytes
    key: str


class DeliveryError(Exception):
    """It was not delivered; `again` says whether it may be later. The message names no address."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over `TIMESTAMP.BODY`, as hex, with the name of the method before it."""
    return f"sha256={hmac.new(secret, timestamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


async def deliver(hook: Webhook, message: Message, rng: random.Random) -> int:
    """Send it until it is taken; after how many attempts it was. Raises DeliveryError."""
    number = 0
    for pause in pauses(rng):
        number += 1
        try:
            await _attempt(hook, message)
        except DeliveryError as error:
            if not error.again or number == ATTEMPTS:
                raise DeliveryError(f"{error} (attempt {number})", again=False) from error
            await asyncio.sleep(pause)
        else:
            break
    return number


def pauses(rng: random.Random) -> Iterator[float]:
    """Seconds after each attempt: ever more, and drawn, so that many daemons do not come back at once."""
    for number in range(ATTEMPTS):
        yield min(_LEAST_SECONDS * 2**number, _MOST_SECONDS) * rng.uniform(0.5, 1.5)


async def _attempt(hook: Webhook, message: Message) -> None:
    """Raises DeliveryError."""
    url = _read(hook.url_file, "address")
    headers = _headers(message, _read(hook.secret_file, "secret").encode() if hook.secret_file else b"")
    context = await asyncio.to_thread(_tls, hook)  # the system's authorities take some 60 ms to read
    timeout = aiohttp.ClientTimeout(total=ATTEMPT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.post(_address(url), data=message.body, headers=headers, ssl=context, allow_redirects=False) as answer,
        ):
            status = answer.status
    except TimeoutError as error:
        raise DeliveryError(f"no answer within {ATTEMPT_SECONDS:.0f} s", again=True) from error
    except aiohttp.ClientSSLError as error:
        raise DeliveryError(tls.refusal(error, "caFile"), again=True) from error
    except (aiohttp.ClientError, OSError) as error:  # whose texts may have the address
        raise DeliveryError(f"no connection ({type(error).__name__})", again=True) from error
    if 300 <= status < 400:
        raise DeliveryError(
            f"it redirects ({status}), and is not followed: write the address itself into its file", again=False
        )
    if not 200 <= status < 300:
        raise DeliveryError(f"it answers {status}", again=status in _LATER)


def _headers(message: Message, secret: bytes) -> Mapping[str, str]:
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"chaosd/{__version__}",
        "X-Chaosd-Delivery": message.key,
        "X-Chaosd-Timestamp": timestamp,
    }
    return headers | ({"X-Chaosd-Signature": signature(secret, timestamp, message.body)} if secret else {})


def _read(file: Path, what: str) -> str:
    """Raises DeliveryError; a file that is not there may come, as mounted Secrets do."""
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DeliveryError(f"its {what} cannot be read from {file} ({type(error).__name__})", again=True) from error
    if not text:
        raise DeliveryError(f"its {what} in {file} is empty", again=True)
    return text


def _address(url: str) -> str:
    """Raises DeliveryError."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isascii()
    except ValueError:
        is_one = False
    if not is_one or not url.isprintable() or " " in url:
        raise DeliveryError("what its file holds is no address: write one that begins with https://", again=False)
    return url


def _tls(hook: Webhook) -> ssl.SSLContext:
    """Raises DeliveryError."""
    try:
        return tls.trusting(hook.ca_file)
    except OSError as error:
        raise DeliveryError(
            f"certificates cannot be read from {hook.ca_file} ({type(error).__name__})", again=True
        ) from error
