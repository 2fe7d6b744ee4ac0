"""The daemon with a PostgreSQL that goes away: in the middle of a round, and at the start."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from chaosd.ledger import Ledger
from tests import postgresql
from tests.chaosd_process import Chaosd, get
from tests.e2e.conftest import EXPERIMENTS
from tests.postgresql import PostgreSQL
from tests.waiting import until


@pytest.fixture
def database() -> Iterator[PostgreSQL]:
    with tempfile.TemporaryDirectory() as folder:  # its user must reach it, and pytest's folders are root's alone
        Path(folder).chmod(0o755)
        with postgresql.running(Path(folder) / "own") as database:
            yield database


def _ready(address: str) -> tuple[int, str]:
    return get(f"{address}/readyz")


def _daemon(tmp_path: Path, database: PostgreSQL) -> Chaosd:
    document = yaml.safe_load((EXPERIMENTS / "soak.yaml").read_text()) | {"workload": {"files": 2, "size": "4Ki"}}
    document["target"]["manifest"] = str(EXPERIMENTS / "targets" / "web.yaml")
    path = tmp_path / "soak.yaml"
    path.write_text(yaml.safe_dump(document))
    where = ("--cluster", "sandbox", "--sandbox-dir", tmp_path / "sandbox", "--out", tmp_path / "out")
    env = {"CHAOSD_DRILL": "never"}
    return Chaosd("daemon", path, *where, "--ledger", database.url, "--listen", "127.0.0.1:0", env=env)


def test_a_database_that_goes_in_mid_round_ends_disruptions_until_it_is_back_and_nothing_is_lost(
    tmp_path: Path, database: PostgreSQL
) -> None:
    with _daemon(tmp_path, database) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " soak: round 3 done" in line)
        database.stop()
        until(lambda: _ready(address)[0] == 503, "the daemon to be unready")
        assert "postgresql" in _ready(address)[1]
        daemon.until_line(lambda line: " soak: ledger postgresql" in line)
        disturbed = sum(": pod-delete default" in line or ": scale " in line for line in daemon.stderr)
        time.sleep(3)
        assert sum(": pod-delete default" in line or ": scale " in line for line in daemon.stderr) == disturbed
        database.start()
        daemon.until_line(lambda line: " soak: goes on with this run" in line)
        daemon.until_line(lambda line: " soak: round 6 done" in line)
        until(lambda: _ready(address) == (200, "ok\n"), "the daemon to be ready")
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told
    with Ledger.open(database.url) as ledger:
        run = ledger.run()
        assert run is not None
        indices = [op.index for op in ledger.history(run)]
    assert indices == list(range(len(indices)))
    assert "violations 0" in [line for line in daemon.stderr if " done: " in line][-1]


def test_a_daemon_that_is_started_before_its_database_waits_for_it(tmp_path: Path, database: PostgreSQL) -> None:
    database.stop()
    with _daemon(tmp_path, database) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: "warning ledger postgresql+psycopg://" in line)
        assert _ready(address)[0] == 503
        database.start()
        daemon.until_line(lambda line: " soak: round 2 done" in line)
        until(lambda: _ready(address) == (200, "ok\n"), "the daemon to be ready")
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told
