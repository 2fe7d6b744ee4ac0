"""A gate on a schedule, installed by the chart: its verdict is an Event, a metric, an answer of the API and a signed
webhook over TLS, a pipeline waits for it, and whoever has the token pauses it."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaosd_process import chaosd, get
from tests.e2e.helm import Release
from tests.e2e.receiver import Receiver
from tests.manifests import Document
from tests.real import RealCluster, is_ready
from tests.waiting import until

PAUSED = "chaosd.io/paused"
# Begun each minute by the clock of a zone with half hours; each run is of one round.
NIGHTLY: Document = {
    "schedule": {"cron": "* * * * *", "timeZone": "Asia/Kolkata"},
    "workload": {"files": 5, "size": "4Ki", "share": {"bytes": "32Mi", "files": 500}},
    "disruptions": [{"kind": "pod-delete"}],
    "require": {"rounds": 1, "disruptions": {"pod-delete": 1}, "records": 5},
    "duration": "5m",
}


@pytest.mark.timeout(1200)  # four runs, each of which waits for its minute and for a pod
def test_its_verdict_is_told_in_every_way_a_pipeline_waits_for_it_and_who_has_the_token_pauses_it(
    release: Release, values: Callable[..., Document], real: RealCluster, web: str, lab: str, chaosd_image: str
) -> None:
    receiver, secret, token = Receiver(real, lab, chaosd_image), secrets.token_hex(32), secrets.token_urlsafe(32)
    receiver.start()
    held = {"url": f"{receiver.url}\n", "secret": f"{secret}\n", "ca.crt": receiver.authority}
    receiver.make("Secret", "chaosd-team", stringData=held)
    receiver.make("Secret", "chaosd-pause", stringData={"token": token})
    nightly = {**NIGHTLY, "target": {"namespace": web, "statefulset": "web"}}
    hook = {"name": "team", "existingSecret": "chaosd-team", "signed": True, "ca": True}
    page = {"pause": {"existingSecret": "chaosd-pause"}}
    release.install(
        values([], experiments={"nightly": nightly}, webhooks=[hook], statusPage=page), "--wait", "--timeout=400s"
    )
    with release.forwarded() as address:
        daemon = _Daemon(address, token)
        passed = daemon.until_passed(since=0)
        _is_told_everywhere(release, real, web, passed["run"])
        until(lambda: any(_run(one) == passed["run"] for one in receiver.got), "the webhook is told")
        for message in receiver.got:
            _is_signed(message, secret)
            assert message["path"] == "/hooks/of-the-team"
        asked_at = daemon.gate()["now"]
        waited = chaosd("gate", "--remote", address, "--name", "nightly", "--wait", "--timeout", "5m")
        assert (waited.code, "gate nightly: pass (run " in waited.told) == (0, True), waited.told
        assert daemon.gate()["last"]["began"] > asked_at

        _only_the_token_pauses(daemon, real, web)
        _nothing_begins_while_it_is_paused(daemon, release, real, web)
        assert daemon.throw("resume", f"{token}x") == 401
        assert daemon.experiment()["state"] == "paused"
        resumed_at = daemon.gate()["now"]
        assert daemon.throw("resume", token) == 200
        again = daemon.until_passed(since=resumed_at)
        assert PAUSED not in _annotations(real, web)
        until(lambda: any(_run(one) == again["run"] for one in receiver.got), "the webhook is told of that, too")
    told = "chaosd_webhook_deliveries_total"
    # Who receives a message has it before the daemon counts it.
    until(lambda: _measured(release, told, 'webhook="team"', 'outcome="delivered"') >= 3, "deliveries are counted")
    assert _measured(release, told, 'webhook="team"', 'outcome="failed"') == 0
    for leaked in (secret, token, "of-the-team"):
        assert not any(leaked in line["event"] for line in release.logged())


class _Daemon:
    """The daemon's Service, asked from outside."""

    def __init__(self, address: str, token: str) -> None:
        self._address, self.token = address, token

    def gate(self) -> Any:
        """How the gate stands, whether it passes or not."""
        return json.loads(get(f"{self._address}/api/gate/nightly")[1])

    def experiment(self) -> Any:
        """What it does now."""
        [one] = json.loads(get(f"{self._address}/api/status")[1])["experiments"]
        return one

    def until_passed(self, since: float) -> Any:
        """The first run that began since then and passes, as the API answers with 200."""

        def passes() -> bool:
            status, body = get(f"{self._address}/api/gate/nightly")
            told = json.loads(body)
            return status == 200 and told["last"]["began"] >= since and bool(told["passed"])

        until(passes, f"a run since {since} passes", 500)
        return self.gate()["last"]

    def throw(self, action: str, token: str | None, **headers: str) -> int:
        """Pause or resume the target; the answer's status."""
        target = self.experiment()["target"]
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(
            f"{self._address}/api/{action}", json.dumps({"target": target}).encode(), headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


def _is_told_everywhere(release: Release, real: RealCluster, web: str, run: str) -> None:
    chosen = ("--field-selector=reason=ChaosdVerdict", f"--namespace={web}")
    told = f"pass, 0 violations, at the end of run {run}"
    until(lambda: told in [event["message"] for event in real.get("events", *chosen)["items"]], "an Event")
    assert _measured(release, "chaosd_gate_last_verdict", 'experiment="nightly"', 'verdict="pass"') == 1
    assert abs(_measured(release, "chaosd_gate_last_timestamp_seconds", 'experiment="nightly"') - time.time()) < 300


def _measured(release: Release, metric: str, *labels: str) -> float:
    [value] = [value for found, value in release.measured(metric).items() if all(one in found for one in labels)]
    return value


def _run(message: Document) -> str:
    return str(json.loads(message["body"])["last"]["run"])


def _is_signed(message: Document, secret: str) -> None:
    """As docs/gate.md tells whoever receives it."""
    headers, body = message["headers"], message["body"].encode()
    timestamp = headers["X-Chaosd-Timestamp"]
    expected = "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(expected, headers["X-Chaosd-Signature"])
    assert abs(time.time() - int(timestamp)) < 600
    assert headers["X-Chaosd-Delivery"] == _run(message)


def _only_the_token_pauses(daemon: _Daemon, real: RealCluster, web: str) -> None:
    assert daemon.throw("pause", None) == 401
    assert daemon.throw("pause", f"{daemon.token}x") == 401
    assert daemon.throw("pause", daemon.token, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert PAUSED not in _annotations(real, web)
    assert daemon.experiment()["state"] != "paused"
    assert daemon.throw("pause", daemon.token) == 200
    assert _annotations(real, web)[PAUSED] == "true"


def _nothing_begins_while_it_is_paused(daemon: _Daemon, release: Release, real: RealCluster, web: str) -> None:
    """A run that was under way is cut short; the next minute's does not begin, and the daemon, which works, is ready."""
    until(lambda: daemon.experiment()["state"] == "paused", "the status says so")
    assert PAUSED in daemon.experiment()["why"]
    until(lambda: len(_ready(real, web)) == 2, "what was disturbed is ready again")
    before, runs = _ready(real, web), release.runs()
    time.sleep(75)  # in which another minute comes
    assert (_ready(real, web), release.runs()) == (before, runs)
    assert daemon.gate()["running"] is None
    assert PAUSED in daemon.gate()["held_up"]
    assert release.measured("chaosd_paused") == {"": 1.0}
    assert release.served("/readyz") == "ok\n"


def _annotations(real: RealCluster, web: str) -> Document:
    return dict(real.get("statefulset", "web", f"--namespace={web}")["metadata"].get("annotations", {}))


def _ready(real: RealCluster, namespace: str) -> set[str]:
    """The UIDs of the pods that are ready and not ending."""
    pods = real.get("pods", f"--namespace={namespace}")["items"]
    return {pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"] and is_ready(pod)}
