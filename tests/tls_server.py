"""Servers of https on loopback, with certificates of authorities that are made in the test."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from aiohttp import web

HOST = "127.0.0.1"


@asynccontextmanager
async def serving_tls(certificate: trustme.LeafCert, routes: Iterable[web.RouteDef]) -> AsyncIterator[str]:
    """Serve these on a free port; the server's address."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0, ssl_context=server_context(certificate)).start()
        yield f"https://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """For a server that has this certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


class Authority:
    """One that signs certificates; its own is in a file."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._made = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._made.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str = HOST, *, age: timedelta = timedelta()) -> trustme.LeafCert:
        """A certificate of a name or address, for a day from so long ago on."""
        began = datetime.now(UTC) - age - timedelta(hours=1)
        return self._made.issue_cert(name, not_before=began, not_after=began + timedelta(days=1))


@dataclass(frozen=True)
class Untrusted:
    """A server that must not be let through: whose name its certificate has, how old that is, by which host it is asked,
    whether the authority that the client names is the one that signed it; and what is told."""

    why: str
    name: str = HOST
    age: timedelta = timedelta()
    host: str = HOST
    names_its_authority: bool = True


_OTHER_NAME = "its certificate is of another name than the address: write a name that it is of"
UNTRUSTED = {
    "another-authority": Untrusted(
        "its certificate is of no authority that is trusted .*: name that with ", names_its_authority=False
    ),
    "another-name": Untrusted(_OTHER_NAME, name="chaosd.example", host="localhost"),
    "another-address": Untrusted(_OTHER_NAME, name="127.0.0.2"),
    "expired": Untrusted(r"its certificate is refused \(certificate has expired\): renew it", age=timedelta(days=3)),
    "not-yet": Untrusted(r"its certificate is refused \(certificate is not yet valid\): renew it", age=timedelta(days=-3)),
}
