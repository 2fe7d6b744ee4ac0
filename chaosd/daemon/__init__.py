"""A composition root: what `chaosd daemon` does. Experiments from a file or a folder, each on its schedule, in one process
that serves what it finds; of several such processes one leads."""

from chaosd.daemon.service import serve

__all__ = ["serve"]
