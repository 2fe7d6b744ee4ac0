"""What came of gates, told by webhooks that answer, hang or fail."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from chaosd import webhook
from chaosd.daemon import logs, notifying
from chaosd.daemon.notifying import Notifier, body
from chaosd.metrics import Metrics
from chaosd.report.gate import GateStatus, status
from chaosd.settings import Webhook
from tests.report.test_gate import ENDED, KNOWN, VERDICT
from tests.test_webhook import Receiver, hook


def _gate(**verdict: Any) -> GateStatus:
    return status(replace(KNOWN, verdict=VERDICT | verdict), ENDED + 1)


class Told:
    """A notifier, its counts and its log."""

    def __init__(self, *hooks: Webhook) -> None:
        self._registry = CollectorRegistry()
        self.notifier = Notifier(Metrics(self._registry), logs.opened("text"), hooks)

    def count(self, outcome: str, name: str = "team") -> float | None:
        return self._registry.get_sample_value("chaosd_webhook_deliveries_total", {"webhook": name, "outcome": outcome})


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_LEAST_SECONDS", 0.001)
    monkeypatch.setattr(webhook, "_MOST_SECONDS", 0.01)
    monkeypatch.setattr(notifying, "_LAST_SECONDS", 120.0)


async def test_each_is_told_the_document_of_the_api_and_counted_from_0(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver = Receiver()
    async with receiver.serving() as url:
        told = Told(hook(tmp_path, url))
        assert (told.count("delivered"), told.count("failed")) == (0, 0)
        async with told.notifier.open():
            told.notifier.tell(_gate(verdict="fail", violations_by_class={"lost": 1}))
    [(headers, sent)] = receiver.got
    assert GateStatus.model_validate_json(sent).why == "run R found violations: 1 lost"
    assert headers["X-Chaosd-Delivery"] == "R"
    assert (told.count("delivered"), told.count("failed")) == (1, 0)
    log = capfd.readouterr().err
    assert "run R was told by webhook team" in log
    assert "secret-path" not in log


async def test_only_verdicts_that_are_asked_for_are_told(tmp_path: Path) -> None:
    receiver = Receiver()
    async with receiver.serving() as url:
        told = Told(hook(tmp_path, url, verdicts=("fail", "unknown")))
        async with told.notifier.open():
            for verdict in ("pass", "fail", "unknown"):
                told.notifier.tell(_gate(verdict=verdict))
    assert [json.loads(sent)["last"]["verdict"] for _, sent in receiver.got] == ["fail", "unknown"]


async def test_one_that_hangs_holds_up_no_other_and_the_end_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notifying, "_LAST_SECONDS", 1.0)
    (tmp_path / "other").mkdir()
    hanging, answering = Receiver(hangs=True), Receiver()
    loop = asyncio.get_running_loop()
    async with hanging.serving() as bad, answering.serving() as good:
        told = Told(hook(tmp_path, bad), hook(tmp_path / "other", good).model_copy(update={"name": "good"}))
        async with told.notifier.open():
            began = loop.time()
            for _ in range(3):
                told.notifier.tell(_gate())
            assert loop.time() - began < 30
            async with asyncio.timeout(120):
                while told.count("delivered", "good") != 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            began = loop.time()
        assert loop.time() - began < 30
    assert (told.count("delivered"), told.count("failed")) == (0, 3)
    assert capfd.readouterr().err.count("was not told by webhook team: the daemon ended") == 3


async def test_what_waits_is_bounded_and_the_oldest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifying, "_MOST_WAITING", 2)
    receiver = Receiver()
    async with receiver.serving() as url:
        told = Told(hook(tmp_path, url))
        for run in "ABCD":
            told.notifier.tell(_gate(run=run))
        assert told.count("failed") == 2
        async with told.notifier.open():
            pass
    assert [headers["X-Chaosd-Delivery"] for headers, _ in receiver.got] == ["C", "D"]


async def test_one_that_is_given_up_is_counted_and_the_next_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver = Receiver([404, 204])
    async with receiver.serving() as url:
        told = Told(hook(tmp_path, url))
        async with told.notifier.open():
            told.notifier.tell(_gate())
            told.notifier.tell(_gate(run="S"))
    assert (told.count("delivered"), told.count("failed")) == (1, 1)
    assert "warning nightly: a run was not told by webhook team: it answers 404 (attempt 1)" in capfd.readouterr().err


def test_slack_is_told_a_line_in_which_nothing_is_markup(tmp_path: Path) -> None:
    one = hook(tmp_path, "http://x", format="slack")
    gate = _gate(verdict="unknown", unknown=[{"subject": "<!channel>", "missing": "a & b"}])
    assert json.loads(body(one, gate)) == {
        "text": "gate nightly: unknown: &lt;!channel&gt;: a &amp; b (run R, ended 1970-01-12 13:46:40 UTC)"
    }
