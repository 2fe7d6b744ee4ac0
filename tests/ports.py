"""Ports of this machine."""

from __future__ import annotations

import random
import socket

# Below those that the kernel gives to who connects, or to who binds port 0 (Linux, ip_local_port_range): one of these that
# is free now is not taken a moment later by a connection of whoever.
_PORTS = range(15_000, 30_000)


def free_port() -> int:
    """One on loopback that nobody listens on."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
