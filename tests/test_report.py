"""The report: verdict.json keeps to its schema, and report.txt says everything that a reader must know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaosd.checkers import Panel
from chaosd.coverage import Coverage
from chaosd.history import RUN, Event, Kind
from chaosd.report import text
from chaosd.report.verdict import Verdict, make_verdict
from tests.histories import (
    WEB_0,
    WEB_1,
    claim,
    deleted,
    disrupted,
    history,
    listed,
    opened,
    pod,
    read,
    round_began,
    statefulset,
    volume,
    watch,
    write,
    written,
)

SCHEMA = json.loads((Path(__file__).resolve().parents[1] / "docs" / "verdict.schema.json").read_text())
SOUND = (
    statefulset(1),
    claim(0),
    volume(0),
    pod(0, "present", ready=True),
    watch("synced"),
    opened(WEB_0),
    round_began(1, WEB_0),
    *written(WEB_0, 0),
    listed(WEB_0, 0),
)


def verdict(*events: Event, aborted: str = "", kind: str = "kubernetes") -> Verdict:
    panel, coverage = Panel(), Coverage()
    for op in history(*events):
        panel.step(op)
        coverage.step(op)
    return make_verdict(
        panel.judge(),
        aborted=aborted,
        run="01RUN",
        experiment="soak",
        seed=7,
        started_at=1_700_000_000.0,
        ended_at=1_700_000_012.5,
        cluster={"kind": kind, "version": "v1.37.2"},
        target="default/web",
        coverage=coverage.as_json(),
    )


def _keeps_to(schema: Any, value: Any, where: str = "$") -> None:
    """Fields are all there and no others, with the types that the schema says; as far as this schema goes."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        assert value is None or not isinstance(value, dict), where
        return
    if "enum" in schema:
        assert value in schema["enum"], where
    elif schema.get("type") == "object" and "properties" in schema:
        assert set(value) == set(schema["properties"]), where
        for name, part in schema["properties"].items():
            _keeps_to(part, value[name], f"{where}.{name}")
    elif schema.get("type") == "array":
        for number, item in enumerate(value):
            _keeps_to(schema.get("items", {}), item, f"{where}[{number}]")


LOST = (*SOUND, read(WEB_0, 0, finding="missing"))
CORRUPT = (*SOUND, read(WEB_0, 0, finding="corrupt", block=3, evidence={"bits": 1}))


@pytest.mark.parametrize("events", [(*SOUND, read(WEB_0, 0)), LOST, CORRUPT, SOUND])
def test_the_document_keeps_to_its_schema(events: tuple[Event, ...]) -> None:
    _keeps_to(SCHEMA, json.loads(verdict(*events).as_json()))


def test_a_violation_names_what_is_damaged_and_where() -> None:
    document = json.loads(verdict(*CORRUPT).as_json())
    assert (document["verdict"], document["violations_by_class"]) == ("fail", {"corrupt": 1})
    (found,) = document["violations"]
    del found["evidence"]
    assert found == {
        "class": "corrupt",
        "namespace": "default",
        "statefulset": "web",
        "pod": "web-0",
        "claim": "disk-ssd-web-0",
        "volume_handle": "d-web-0",
        "file": ".chaosd/RUN/00000000",
        "block": 3,
    }
    told = text.render(verdict(*CORRUPT))
    assert told.startswith("FAIL: a promise was broken")
    assert "CORRUPT default/web-0, claim disk-ssd-web-0, disk d-web-0, file .chaosd/RUN/00000000, block 3" in told


def test_a_pass_says_what_it_does_not_say() -> None:
    told = text.render(verdict(*SOUND, disrupted("pod-delete", (WEB_0, "pod-0")), read(WEB_0, 0)))
    assert told.startswith("PASS: ")
    assert "no node or disk lost power" in told
    assert "SIMULATED" not in told
    assert "seed        7" in told


def test_a_sandbox_says_so_everywhere() -> None:
    simulated = verdict(*SOUND, read(WEB_0, 0), kind="sandbox")
    assert "SIMULATED: says nothing of any real storage" in text.render(simulated)
    assert "on a simulated cluster" in text.summary(simulated)


def test_what_was_not_seen_is_listed() -> None:
    told = text.render(verdict(*SOUND, aborted="ended by SIGTERM"))
    assert told.startswith("UNKNOWN: ")
    assert "aborted     ended by SIGTERM" in told
    assert "default/web-0: 1 acknowledged records were not read back" in told
    assert text.summary(verdict(*SOUND)).startswith("verdict: unknown (1 thing not seen")


def test_steps_tell_what_was_expected_and_seen() -> None:
    line = {"step": "one", "expectation": "claim-count", "replica": "web", "expected": "3", "seen": "3", "result": "shown"}
    told = text.render(verdict(*SOUND, read(WEB_0, 0), Event(RUN, "expect", Kind.OK, line)))
    assert "step: one\n  [shown] web claim-count\n      expected  3\n      seen      3\n" in told


def test_a_run_without_a_cold_reading_says_so() -> None:
    cached, cold = read(WEB_0, 0, cache="cached"), read(WEB_0, 0)
    (note,) = verdict(*SOUND, cached).notes
    assert note.startswith("no reading was cold: ")
    assert f"notes:\n  {note}\n" in text.render(verdict(*SOUND, cached))
    assert verdict(*SOUND, cached).verdict == "pass"
    assert verdict(*SOUND, cached, cold).notes == verdict(*SOUND).notes == ()


def test_coverage_counts_what_really_happened() -> None:
    coverage = Coverage()
    events = [
        round_began(1),
        *written(WEB_0, 0),
        write(WEB_0, 1, Kind.INVOKE),
        write(WEB_0, 1, Kind.INFO),
        disrupted("pod-delete", (WEB_1, "pod-1")),
        Event("nemesis", "pod-delete", Kind.OK, {}),
        disrupted("scale"),
        Event("nemesis", "scale", Kind.FAIL, {"blocked": "conflict"}),
        read(WEB_0, 0),
        read(WEB_0, 0, cache="cached"),
        *deleted(WEB_0, 0, Kind.INVOKE, Kind.OK),
        watch("gap"),
        Event(RUN, "round", Kind.OK, {"round": 1}),
    ]
    for op in history(*events):
        coverage.step(op)
    told = coverage.as_json()
    assert told == {
        "rounds": 1,
        "disruptions": {"pod-delete": 1},
        "disruptions_not_done": {"scale": 1},
        "disruptions_blocked": {"conflict": 1},
        "crashes": 0,
        "replicas_hit": [WEB_1],
        "node_moves": 0,
        "scaled_to_zero": 0,
        "drill_passed": False,
        "files_acknowledged": 1,
        "overwrites_acknowledged": 0,
        "log_entries_acknowledged": 0,
        "writes_failed": 0,
        "writes_unanswered": 1,
        "bytes_acknowledged": 4096,
        "records_verified_cold": 1,
        "records_verified_cached": 1,
        "bytes_verified": 8192,
        "readings_failed": 0,
        "records_retired": 1,
        "watch_gaps": 1,
        "warnings": [],
        "chaosd_restarts": 0,
    }


def test_coverage_counts_moves_to_another_node_and_scalings_to_zero() -> None:
    coverage = Coverage()
    on = [{"binding": {"node": node}} for node in ("node-1", "node-1", "node-2", "node-1")]
    opened = [Event(WEB_0, "open", Kind.OK, value) for value in on]
    scaled = [Event("nemesis", "scale", Kind.OK, {"evidence": {"from": 2, "to": to}}) for to in (1, 0)]
    drill = Event(RUN, "drill", Kind.OK, {"planted": 45, "missed": []})
    for op in history(*opened, *scaled, drill):
        coverage.step(op)
    told = coverage.as_json()
    assert (told["node_moves"], told["scaled_to_zero"], told["drill_passed"]) == (2, 1, True)
