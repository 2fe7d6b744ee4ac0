"""A PostgreSQL of a test's own, on loopback, which can be stopped and started."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

_USER = "postgres"  # it refuses to be run by root


class PostgreSQL:
    """One that runs until `stop`, with a database `chaosd` that whoever asks may use."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"postgresql+psycopg://{_USER}@127.0.0.1:{port}/{_USER}"
        self._folder = folder
        self._port = port

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -c port={self._port} -c unix_socket_directories={self._folder}"
        self._run("pg_ctl", "start", "--wait", "--timeout=300", f"--log={self._folder}/log", f"--options={options}")

    def stop(self) -> None:
        """End it at once, as a crash would."""
        self._run("pg_ctl", "stop", "--mode=immediate", "--wait", "--timeout=300")

    def initialise(self) -> None:
        """Make its cluster of databases."""
        self._run("initdb", "--auth=trust", "--no-sync")

    def _run(self, program: str, *args: str) -> None:
        """As PostgreSQL's user; raises AssertionError with what was said."""
        argv, said = (_program(program), f"--pgdata={self._folder}/data", *args), self._folder / f"{program}.log"
        with said.open("w") as told:  # no pipe, which what it starts would hold open
            done = subprocess.run(argv, user=_USER, cwd="/", stdout=told, stderr=told, check=False)
        assert done.returncode == 0, f"{' '.join(argv)}: {said.read_text()}"


@contextmanager
def running(folder: Path) -> Iterator[PostgreSQL]:
    """One until the context ends; `folder` becomes its own."""
    folder.mkdir()
    shutil.chown(folder, _USER)
    database = PostgreSQL(folder, free_port())
    database.initialise()
    database.start()
    try:
        yield database
    finally:
        database.stop()


def _program(name: str) -> str:
    """Debian has each version's in a folder of its own."""
    (*_, latest) = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(latest)
