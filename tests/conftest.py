"""The command line; fixtures of the tests that need a real cluster, shared by tests/conformance and tests/e2e; the fresh
seed, which is told whatever comes of the tests; and how hypothesis looks for examples."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import chaosd_main, seeds
from tests.real import RealCluster

# How long an example takes says how busy the machine is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_report_header() -> str:
    """Told first, so that it is known of a session that does not come to its end, too."""
    return seeds.told()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is that tests need, as in CI, one that is skipped fails: nobody would read why."""
    report = yield
    if report.skipped and os.environ.get("CHAOSD_TEST_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"CHAOSD_TEST_NO_SKIPS is set, and it was skipped: {report.longrepr}"
    return report


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> chaosd_main.Main:
    """Runs `chaosd` with arguments in this process."""
    return chaosd_main.running(monkeypatch, capsys)


@pytest.fixture(scope="session")
def real() -> RealCluster:
    """The real cluster."""
    return RealCluster.of_environment() if os.environ.get("KUBECONFIG") else RealCluster.of_testbed()


@pytest.fixture
def real_namespace(real: RealCluster) -> Iterator[str]:
    """A namespace of the test's own on the real cluster."""
    name = real.make_namespace()
    yield name
    real.remove_namespaces([name])
