"""A webhook's delivery: what is sent, what is sent again, and what never is."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from chaosd import webhook
from chaosd.server import serving
from chaosd.settings import Webhook
from chaosd.webhook import ATTEMPTS, DeliveryError, Message, deliver, pauses, signature
from tests.tls_server import HOST, UNTRUSTED, Authority, Untrusted, serving_tls

MESSAGE = Message(b'{"gate": "nightly"}', "RUN")
SECRET = "s3cret"


@dataclass
class Receiver:
    """Answers with these statuses, one after the other, the last for ever; keeps what it was sent."""

    statuses: list[int] = field(default_factory=lambda: [204])
    hangs: bool = False
    location: str = ""
    got: list[tuple[Any, bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.got.append((request.headers, await request.read()))
        if self.hangs:
            await asyncio.sleep(60)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status, headers={"Location": self.location} if self.location else {})

    @asynccontextmanager
    async def serving(self, certificate: trustme.LeafCert | None = None) -> AsyncIterator[str]:
        """Its address, with a secret in it; of https where it has a certificate."""
        routes = [web.post("/T0/secret-path", self.handle)]
        async with serving_tls(certificate, routes) if certificate else serving("127.0.0.1:0", routes) as address:
            yield f"{address}/T0/secret-path"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_LEAST_SECONDS", 0.001)
    monkeypatch.setattr(webhook, "_MOST_SECONDS", 0.01)


def hook(tmp_path: Path, url: str, *, signed: bool = False, **more: Any) -> Webhook:
    """One whose files are here."""
    (tmp_path / "url").write_text(f"{url}\n")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    more |= {"secret_file": tmp_path / "secret"} if signed else {}
    return Webhook(name="team", url_file=tmp_path / "url", **more)


async def _deliver(one: Webhook) -> int:
    return await asyncio.wait_for(deliver(one, MESSAGE, random.Random(7)), 300)


async def test_a_message_is_signed_with_its_time_as_the_documents_say(tmp_path: Path) -> None:
    receiver = Receiver()
    async with receiver.serving() as url:
        assert await _deliver(hook(tmp_path, url, signed=True)) == 1
    [(headers, body)] = receiver.got
    timestamp = headers["X-Chaosd-Timestamp"]
    digest = hmac.new(SECRET.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert (body, headers["X-Chaosd-Signature"]) == (MESSAGE.body, f"sha256={digest}")
    assert abs(time.time() - int(timestamp)) < 60
    assert (headers["Content-Type"], headers["X-Chaosd-Delivery"]) == ("application/json", "RUN")


def test_another_time_body_or_secret_has_another_signature() -> None:
    signed = {signature(secret, at, body) for secret in (b"a", b"b") for at in ("1", "2") for body in (b"x", b"y")}
    assert len(signed) == 8


async def test_without_a_secret_nothing_is_signed(tmp_path: Path) -> None:
    receiver = Receiver()
    async with receiver.serving() as url:
        await _deliver(hook(tmp_path, url))
    assert "X-Chaosd-Signature" not in receiver.got[0][0]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_a_server_in_need_is_asked_again_with_a_signature_of_its_own(tmp_path: Path, status: int) -> None:
    receiver = Receiver([status, status, 200])
    async with receiver.serving() as url:
        assert await _deliver(hook(tmp_path, url)) == 3
    assert len({body for _, body in receiver.got}) == 1


async def test_one_that_answers_500_for_ever_is_given_up(tmp_path: Path) -> None:
    receiver = Receiver([500])
    async with receiver.serving() as url:
        with pytest.raises(DeliveryError, match=rf"^it answers 500 \(attempt {ATTEMPTS}\)$"):
            await _deliver(hook(tmp_path, url))
    assert len(receiver.got) == ATTEMPTS


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_one_that_refuses_is_not_asked_again(tmp_path: Path, status: int) -> None:
    receiver = Receiver([status])
    async with receiver.serving() as url:
        with pytest.raises(DeliveryError, match=rf"^it answers {status} \(attempt 1\)$"):
            await _deliver(hook(tmp_path, url))
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_nothing_is_sent_where_it_leads(tmp_path: Path, status: int) -> None:
    elsewhere = Receiver()
    async with elsewhere.serving() as other:
        receiver = Receiver([status], location=other)
        async with receiver.serving() as url:
            with pytest.raises(DeliveryError, match=rf"redirects \({status}\), and is not followed"):
                await _deliver(hook(tmp_path, url, signed=True))
    assert (len(receiver.got), elsewhere.got) == (1, [])


async def test_one_that_hangs_is_left_after_each_attempts_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "ATTEMPT_SECONDS", 0.5)
    receiver = Receiver(hangs=True)
    async with receiver.serving() as url:
        with pytest.raises(DeliveryError, match="no answer within"):
            await _deliver(hook(tmp_path, url))
    assert len(receiver.got) == ATTEMPTS


async def test_nobody_there_is_asked_again_and_no_error_names_the_address(tmp_path: Path) -> None:
    async with Receiver().serving() as url:
        pass
    with pytest.raises(DeliveryError) as told:
        await _deliver(hook(tmp_path, url))
    assert f"attempt {ATTEMPTS}" in str(told.value)
    assert "secret-path" not in str(told.value)


async def test_a_server_whose_authority_is_named_is_told_over_tls(tmp_path: Path) -> None:
    authority, receiver = Authority(tmp_path), Receiver()
    async with receiver.serving(authority.issue()) as url:
        assert url.startswith("https://")
        assert await _deliver(hook(tmp_path, url, signed=True, ca_file=authority.file)) == 1
    [(headers, body)] = receiver.got
    assert (body, headers["X-Chaosd-Signature"]) == (
        MESSAGE.body,
        signature(SECRET.encode(), headers["X-Chaosd-Timestamp"], body),
    )


@pytest.mark.parametrize("untrusted", UNTRUSTED.values(), ids=UNTRUSTED)
async def test_a_server_that_cannot_be_trusted_is_told_nothing_and_no_error_names_the_address(
    tmp_path: Path, untrusted: Untrusted
) -> None:
    authority, other, receiver = Authority(tmp_path), Authority(tmp_path, "other"), Receiver()
    named = authority if untrusted.names_its_authority else other
    async with receiver.serving(authority.issue(untrusted.name, age=untrusted.age)) as url:
        with pytest.raises(DeliveryError, match=untrusted.why) as told:
            await _deliver(hook(tmp_path, url.replace(HOST, untrusted.host), signed=True, ca_file=named.file))
    assert receiver.got == []
    assert f"attempt {ATTEMPTS}" in str(told.value)  # a certificate is renewed, a Secret mounted, while it is tried
    assert "secret-path" not in str(told.value)
    assert untrusted.host not in str(told.value)


async def test_without_an_authority_those_of_the_system_count_or_of_ssl_cert_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, other, receiver = Authority(tmp_path), Authority(tmp_path, "other"), Receiver()
    async with receiver.serving(authority.issue()) as url:
        with pytest.raises(DeliveryError, match=r"no authority that is trusted .* name that with caFile"):
            await _deliver(hook(tmp_path, url))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        with pytest.raises(DeliveryError, match="no authority that is trusted"):
            await _deliver(hook(tmp_path, url, ca_file=other.file))  # what is named is trusted alone
        assert receiver.got == []
        assert await _deliver(hook(tmp_path, url)) == 1
    assert len(receiver.got) == 1


async def test_an_authority_that_comes_later_is_read_anew(tmp_path: Path) -> None:
    authority, receiver = Authority(tmp_path), Receiver()
    late = tmp_path / "late.pem"
    async with receiver.serving(authority.issue()) as url:
        one = hook(tmp_path, url, ca_file=late)
        for make in (lambda: None, late.touch):  # missing, and empty
            make()
            with pytest.raises(DeliveryError, match=r"certificates cannot be read from .*late\.pem"):
                await _deliver(one)
        assert receiver.got == []
        late.write_text(authority.file.read_text())
        assert await _deliver(one) == 1


async def test_a_port_that_does_not_speak_tls_is_said_to_be_none(tmp_path: Path) -> None:
    receiver = Receiver()
    async with receiver.serving() as url:
        with pytest.raises(
            DeliveryError, match=r"^TLS with it fails \(\w+\): see that the address is of a port that serves https"
        ):
            await _deliver(hook(tmp_path, url.replace("http://", "https://")))
    assert receiver.got == []


@pytest.mark.parametrize("status", [307, 500])
async def test_over_tls_a_redirect_is_not_followed_and_a_server_in_need_is_asked_again(tmp_path: Path, status: int) -> None:
    authority, elsewhere = Authority(tmp_path), Receiver()
    async with elsewhere.serving() as other:
        receiver = Receiver([status, 204], location=other)
        async with receiver.serving(authority.issue()) as url:
            one = hook(tmp_path, url, signed=True, ca_file=authority.file)
            if status == 500:
                assert await _deliver(one) == 2
            else:
                with pytest.raises(DeliveryError, match=r"redirects \(307\), and is not followed"):
                    await _deliver(one)
    assert elsewhere.got == []


@pytest.mark.parametrize("shakes_hands", [True, False])
async def test_one_that_hangs_over_tls_is_left_after_each_attempts_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shakes_hands: bool
) -> None:
    monkeypatch.setattr(webhook, "ATTEMPT_SECONDS", 2.0)  # in which hands are shaken on a busy machine, too
    monkeypatch.setattr(webhook, "ATTEMPTS", 2)
    authority, receiver = Authority(tmp_path), Receiver(hangs=True)
    async with receiver.serving(authority.issue()) as url:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # which accepts connections, and says nothing
            address = url if shakes_hands else f"https://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(DeliveryError, match=r"^no answer within 2 s \(attempt 2\)$"):
                await _deliver(hook(tmp_path, address, ca_file=authority.file))
    assert len(receiver.got) == (2 if shakes_hands else 0)


@pytest.mark.parametrize(
    "url", ["hooks.example/secret-path", "ftp://x/secret-path", "https://x:99999/secret-path", "http://[secret-path"]
)
async def test_what_is_no_address_is_told_without_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(DeliveryError, match=r"is no address: .* \(attempt 1\)$") as told:
        await _deliver(hook(tmp_path, url))
    assert "secret-path" not in str(told.value)


async def test_files_are_read_anew_for_each_attempt(tmp_path: Path) -> None:
    receiver = Receiver([500, 204])
    async with receiver.serving() as url:
        one = hook(tmp_path, url, signed=True)
        (tmp_path / "url").unlink()
        delivering = asyncio.create_task(_deliver(one))
        await asyncio.sleep(0.002)
        (tmp_path / "url").write_text(url)
        assert await delivering > 1
    for file in ("url", "secret"):
        (tmp_path / file).write_text(" \n")
        with pytest.raises(DeliveryError, match="is empty"):
            await _deliver(one)
        (tmp_path / file).write_text(url)


def test_pauses_grow_are_bounded_and_no_two_daemons_make_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    drawn = [list(pauses(random.Random(seed))) for seed in range(50)]
    assert all(len(one) == ATTEMPTS and sum(one) < 300 and max(one) <= 90 for one in drawn)
    assert all(sum(one[4:]) > sum(one[:4]) for one in drawn)
    assert len({tuple(one) for one in drawn}) == 50
