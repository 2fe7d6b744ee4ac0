"""Signals to containers, by a small program in the container itself: it finds the first process, and says whether a signal
would reach that (signal.sh).

It sends only when it is told to. So it is known first that the session leads into the container that was meant, though exec
is bound to a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from chaosd.cluster.port import ExecStream
from chaosd.errors import RefusedError, SessionLostError, UnreachableError

_PROGRAM = resources.files("chaosd.cluster.kubernetes").joinpath("signal.sh").read_text()
_REFUSED = 3


def argv(signal: str) -> Sequence[str]:
    """How the program is started in a container."""
    return ("sh", "-c", _PROGRAM, "chaosd-signal", signal)


async def ready(stream: ExecStream) -> None:
    """Wait until it could send. Raises RefusedError, which says why it would not arrive, and UnreachableError: then nothing
    was sent."""
    told = b""
    while not told.endswith(b"\n"):
        try:
            piece = await stream.read()
        except SessionLostError as error:
            raise UnreachableError(f"no signal was sent: {error}") from error
        except RefusedError as error:
            raise RefusedError(f"sending a signal takes a shell in the container: {error}") from error
        if not piece:
            raise RefusedError(_reason(stream))
        told += piece


async def send(stream: ExecStream) -> None:
    """Let it send, and wait until it has. What it was told and the connection broke: the container went with its first
    process, and the program with both. Raises RefusedError; UnreachableError: nobody knows."""
    try:
        await stream.write(b"go\n")
    except SessionLostError as error:
        raise UnreachableError(f"nobody knows whether the signal was sent: {error}") from error
    try:
        while await stream.read():
            pass
    except SessionLostError:
        return
    if stream.exit_status == _REFUSED:
        raise RefusedError(_reason(stream))


def _reason(stream: ExecStream) -> str:
    text = stream.stderr.decode(errors="replace").strip()
    return text if stream.exit_status == _REFUSED else f"the container's shell ended with {stream.exit_status}: {text}"
