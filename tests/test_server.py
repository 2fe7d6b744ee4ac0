"""The daemon's HTTP server: whose fault it is when it cannot serve."""

from __future__ import annotations

import socket

import pytest

from chaosd.errors import UsageError
from chaosd.server import serving


async def test_an_address_that_is_taken_is_a_usage_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"cannot listen on {listen}: .*: give --listen HOST:PORT"):
            async with serving(listen, ()):
                pass


async def test_what_breaks_while_it_serves_is_not_blamed_on_its_address() -> None:
    with pytest.raises(FileNotFoundError):
        async with serving("127.0.0.1:0", ()):
            raise FileNotFoundError("experiments")
