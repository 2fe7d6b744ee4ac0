"""`chaosd report` and `chaosd diff`: each format says what the ledger says, and nothing in the ledger can break one."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml
from markdown_it import MarkdownIt

from chaosd import experiment
from chaosd.checkers import Panel
from chaosd.checkers.verdict import Class
from chaosd.checkpoint import taken
from chaosd.coverage import Coverage
from chaosd.history import Event, Kind, Op
from chaosd.ledger import Ledger, Run
from chaosd.payload import BLOCK_BYTES, Label, Origin, classify, make_record
from chaosd.report import files
from chaosd.report.document import Report
from chaosd.report.formats import FILES
from chaosd.resumption import Unanswered
from tests.chaosd_main import Main
from tests.histories import (
    WEB_0,
    WEB_1,
    converged,
    disrupted,
    disruption_done,
    listed,
    pod,
    read,
    round_began,
    round_ended,
    watch,
    write,
    written,
)
from tests.report.ledgers import BEGAN, keep, url
from tests.test_report import LOST, SOUND, verdict

ALL = ",".join(FILES)
SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "report.schema.json"
DIRTY = "<script>alert(1)</script>&\"'`|@team\x00\x1b[31m]]>"
SEED = 7
LABEL = Label(Origin("RUN", WEB_0, "claim-web-0", "d-web-0", "pod-1"), 0, 4, "00000000")


def damaged() -> tuple[Event, ...]:
    """A history in which a file of four blocks was read with a byte changed, with the evidence that a worker gives."""
    record = bytearray(make_record(SEED, LABEL))
    record[BLOCK_BYTES + 1000] ^= 0xFF
    finding = classify(bytes(record), SEED, LABEL)
    told = read(WEB_0, 0, finding=finding.state, block=finding.block, evidence=dict(finding.evidence))
    length = {"length": 4 * BLOCK_BYTES}
    before = SOUND[: SOUND.index(write(WEB_0, 0, Kind.INVOKE))]
    act = (disrupted("pod-delete", (WEB_0, "pod-0")), disruption_done(), *converged())
    return (*before, write(WEB_0, 0, Kind.INVOKE, **length), write(WEB_0, 0, Kind.OK, **length), *act, told, round_ended())


def report(main: Main, folder: Path, *more: object) -> Report:
    """The report of the latest run, which is in every format in the folder now."""
    told = main("report", "--out", folder, "--format", ALL, *more)
    assert told.code == 0, told.errors
    return Report.model_validate_json((folder / "report.json").read_text())


class _Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(folder: Path) -> _Page:
    return _Page((folder / "report.html").read_text())


def test_the_verdict_is_on_top_in_one_sentence_and_says_what_it_does_not_say(tmp_path: Path, main: Main) -> None:
    events = (*SOUND, disrupted("pod-delete", (WEB_0, "pod-0")), disruption_done(), *converged(), read(WEB_0, 0))
    keep(tmp_path, *events, verdict=verdict(*events).as_json())
    told = report(main, tmp_path)
    assert told.sentence == (
        "Everything that the storage of default/web acknowledged was still there, unchanged and on the same disks, after "
        "1 disruption."
    )
    assert any("so nothing is said of fsync" in line for line in told.does_not_say)
    assert (told.state, told.state_told, told.judged_again) == ("finished", "", "")
    text = page(tmp_path).text
    places = [text.index(part) for part in ("Pass", told.sentence, "What it rests on", "What happened when")]
    assert places == sorted(places)
    assert told.run_again in text


def test_a_violation_is_shown_with_the_bytes_beside_those_expected_whose_they_are_and_what_happened(
    tmp_path: Path, main: Main
) -> None:
    keep(tmp_path, *damaged(), verdict=verdict(*damaged()).as_json(), seed=SEED)
    (proof,) = report(main, tmp_path).proofs
    assert proof.dump is not None
    assert (proof.dump.block, proof.dump.offset, proof.dump.part, proof.dump.made_again) == (1, 5096, "the filler", True)
    record = make_record(SEED, LABEL)
    for row in proof.dump.rows:
        assert record[row.offset :].hex().startswith(row.expected)
    (changed,) = [row for row in proof.dump.rows if row.expected != row.found]
    assert changed.offset <= 5096 < changed.offset + 8
    assert proof.dump.rows[0].offset < changed.offset  # with what is before it
    assert proof.expected == {
        "run": "RUN",
        "replica": WEB_0,
        "claim_uid": "claim-web-0",
        "volume_handle": "d-web-0",
        "pod_uid": "pod-1",
        "file": "00000000",
        "sequence": "0",
    }
    assert proof.kept_until is not None
    assert "acknowledged" in proof.kept_until.told
    told = [moment.told for moment in proof.moments]
    assert "pod-delete default/web-0" in told or "pod-delete" in told
    assert any(line.startswith("read 1 record in .chaosd/RUN/00000000: corrupt, block 1") for line in told)
    found = page(tmp_path)
    assert ("a", {"href": "#v1", "aria-label": "violation 1"}) in found.tags
    assert any(attributes.get("id") == "v1" for _, attributes in found.tags)
    assert f"{record[5096]:02x}" in found.text
    assert f"{record[5096] ^ 0xFF:02x}" in found.text


def test_whose_data_stands_there_instead_is_told(tmp_path: Path, main: Main) -> None:
    other = Label(Origin("RUN", WEB_1, "claim-web-1", "d-web-1", "pod-9"), 0, 1, "00000000")
    finding = classify(make_record(SEED, other), SEED, Label(LABEL.origin, 0, 1, LABEL.file))
    events = (*SOUND, read(WEB_0, 0, finding=finding.state, block=0, evidence=dict(finding.evidence)))
    keep(tmp_path, *events, verdict=verdict(*events).as_json(), seed=SEED)
    (proof,) = report(main, tmp_path).proofs
    assert (proof.expected or {})["replica"] == WEB_0
    assert (proof.found["replica"], proof.found["volume_handle"]) == (WEB_1, "d-web-1")
    assert "What stands there names itself" in page(tmp_path).text


def test_the_page_asks_for_nothing_and_has_no_script(tmp_path: Path, main: Main) -> None:
    keep(tmp_path, *damaged(), verdict=verdict(*damaged()).as_json())
    report(main, tmp_path)
    raw, found = (tmp_path / "report.html").read_text(), page(tmp_path)
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in found.tags}
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert attributes.get("href", "#").startswith("#")  # type: ignore[union-attr]
    assert not re.search(r"url\(|@import|https?://", raw)


def test_nothing_in_a_ledger_is_taken_for_markup(tmp_path: Path, main: Main) -> None:
    events = (
        *SOUND,
        pod(0, "modified", DIRTY, ready=True, node=DIRTY),
        disrupted(takes=[DIRTY]),
        Event("nemesis", "pod-delete", Kind.FAIL, {"error": DIRTY}),
        read(WEB_0, 0, finding="corrupt", block=0, file=DIRTY, evidence={DIRTY: DIRTY, "names_itself": {"run": DIRTY}}),
    )
    target = "default/<b>web</b>"
    document = verdict(*events, aborted=DIRTY).model_copy(update={"target": target, "experiment": DIRTY, "notes": (DIRTY,)})
    stored = json.dumps({"name": DIRTY, "description": DIRTY, "timeouts": {}})
    keep(tmp_path, *events, verdict=document.as_json(), target=target, experiment=stored)
    report(main, tmp_path)
    found = page(tmp_path)
    assert not {"script", "b"} & {tag for tag, _ in found.tags}
    assert "<script>alert(1)</script>" in found.text
    suite = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert suite.failures == 1
    ElementTree.parse(tmp_path / "junit.xml")
    # As GitHub reads it before it cleans up: tables, and tags passed through.
    rendered = MarkdownIt("commonmark").enable("table").render((tmp_path / "report.md").read_text())
    told = _Page(re.sub(r"<code>.*?</code>", "", rendered))  # nobody is called from code
    assert not {"script", "b"} & {tag for tag, _ in told.tags}
    assert "@team" not in told.text
    assert [tag for tag, _ in told.tags].count("td") == 3


def test_junit_has_a_testcase_for_each_class_and_is_green_for_a_pass_only(tmp_path: Path, main: Main) -> None:
    sound = (*SOUND, read(WEB_0, 0))
    for name, events in (("pass", sound), ("fail", LOST), ("unknown", SOUND), ("aborted", sound)):
        aborted = "ended by SIGTERM" if name == "aborted" else ""
        keep(tmp_path, *events, name=name.upper(), verdict=verdict(*events, aborted=aborted).as_json())
        told = main("report", name.upper(), "--out", tmp_path, "--format", "junit")
        assert told.code == 0
        (suite,) = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
        cases = {case.name: [type(result).__name__ for result in case.result] for case in suite}
        assert set(cases) == {*map(str, Class), "seen", "finished"}
        assert {case.classname for case in suite} == {"default.web"}
        assert (suite.failures, suite.errors, suite.skipped) == {
            "pass": (0, 0, 0),
            "fail": (1, 0, 0),
            "unknown": (0, 1, len(Class)),
            "aborted": (0, 1, 0),
        }[name]
        if name == "fail":
            assert cases["lost"] == ["Failure"]
            assert "acknowledged_at" in next(case for case in suite if case.name == "lost").result[0].text


def test_a_csv_has_every_op_of_the_history(tmp_path: Path, main: Main) -> None:
    run = keep(tmp_path, *damaged(), Event("=cmd", "f", Kind.OK, {"a": 'b"\n'}))
    report(main, tmp_path)
    rows = list(csv.reader(io.StringIO((tmp_path / "ops.csv").read_text(), newline="")))
    with Ledger.open(url(tmp_path)) as ledger:
        ops = list(ledger.history(run))
    assert rows[0] == ["index", "time", "process", "f", "kind", "value"]
    assert [(int(row[0]), float(row[1]), row[4], json.loads(row[5])) for row in rows[1:]] == [
        (op.index, op.time, str(op.kind), op.value) for op in ops
    ]
    assert rows[-1][2] == "'=cmd"


def test_the_document_keeps_to_its_schema_and_the_schema_is_current(tmp_path: Path, main: Main) -> None:
    assert main("schema", "report").out == SCHEMA.read_text(), "make schema"
    keep(tmp_path, *damaged(), verdict=verdict(*damaged()).as_json())
    report(main, tmp_path)
    document = json.loads((tmp_path / "report.json").read_text())
    assert set(document) == set(json.loads(SCHEMA.read_text())["properties"])
    assert document["verdict"] == json.loads(verdict(*damaged()).as_json())


def test_a_run_that_is_still_running_or_was_killed_says_so_in_every_format(tmp_path: Path, main: Main) -> None:
    keep(tmp_path, *LOST)
    told = main("report", "--out", tmp_path, "--format", ALL)
    assert told.code == 0
    assert "It was killed, or cannot reach its ledger" in told.error
    found = Report.model_validate_json((tmp_path / "report.json").read_text())
    assert (found.state, found.sentence) == ("killed", "So far: default/web broke 1 promise: 1 lost.")
    for name in ("html", "markdown", "junit"):
        assert "killed" in (tmp_path / FILES[name]).read_text(), name


def test_an_empty_run_has_a_report_that_promises_nothing(tmp_path: Path, main: Main) -> None:
    keep(tmp_path)
    found = report(main, tmp_path)
    assert (found.verdict.verdict, found.ops, found.disruptions_seen) == ("unknown", 0, 0)
    assert "No disruption happened: this says only that undisturbed data stays." in found.does_not_say
    assert "Nothing was journaled yet." in page(tmp_path).text
    assert (tmp_path / "ops.csv").read_text() == "index,time,process,f,kind,value\n"


def test_a_verdict_that_this_version_would_not_give_stands_and_the_report_says_so(tmp_path: Path, main: Main) -> None:
    keep(tmp_path, *LOST, verdict=verdict(*SOUND, read(WEB_0, 0)).as_json())
    found = report(main, tmp_path)
    assert found.verdict.verdict == "pass"
    assert "finds 1 lost in this history" in found.judged_again
    assert found.judged_again in page(tmp_path).text


def test_what_cannot_be_made_is_refused_and_leaves_nothing(
    tmp_path: Path, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path, *LOST)
    told = main("report", "--out", tmp_path, "--format", "html,pdf")
    assert (told.code, "--format pdf: there are html, junit, json, markdown, csv" in told.error) == (2, True)
    told = main("report", "NONE", "--out", tmp_path)
    assert (told.code, "has no run NONE: there are RUN" in told.error) == (2, True)
    (tmp_path / "file").write_text("")
    told = main("report", "--ledger", url(tmp_path), "--out", tmp_path / "file")
    assert (told.code, "name a folder that can be written" in told.error) == (2, True)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setitem(files._RENDER, "html", _full)  # type: ignore[arg-type]
    assert main("report", "--out", tmp_path, "--format", "csv,html").code == 2
    assert sorted(tmp_path.iterdir()) == before


def _full(_: Any) -> str:
    raise OSError(28, "No space left on device")


def test_a_folder_in_the_way_of_one_file_leaves_none(tmp_path: Path, main: Main) -> None:
    keep(tmp_path, *SOUND, verdict=verdict(*SOUND).as_json())
    (tmp_path / "report.html").mkdir()
    before = sorted(tmp_path.iterdir())
    told = main("report", "--out", tmp_path, "--format", "json,html")
    assert (told.code, "report.html is a folder where a report is to be" in told.error) == (2, True)
    assert sorted(tmp_path.iterdir()) == before


def test_the_experiment_in_a_report_can_be_run_again(tmp_path: Path, main: Main) -> None:
    soak = experiment.load(SCHEMA.parents[1] / "experiments" / "soak.yaml")
    keep(tmp_path, *LOST, experiment=soak.model_dump_json(by_alias=True), cluster="sandbox v1")
    found = report(main, tmp_path)
    assert found.run_again == "chaosd run soak.yaml --seed 7 --cluster sandbox"
    again = experiment.parse(json.dumps(found.experiment), "report.json")
    assert again.model_copy(update={"schema_": ""}) == soak.model_copy(update={"schema_": ""})


def _rounds(seconds: int) -> tuple[Event, ...]:
    """Twelve rounds that recover in about so many seconds."""
    told: list[Event] = list(SOUND)
    for number in range(1, 13):
        told += (round_began(number, WEB_0), disrupted("pod-delete", (WEB_0, f"pod-{number}")), disruption_done())
        told += [watch("synced")] * (seconds + number % 3)
        told += (*converged(), listed(WEB_0, 0), read(WEB_0, 0), round_ended(number))
    return tuple(told)


async def test_a_compacted_run_is_judged_by_its_checkpoint_and_says_what_went(tmp_path: Path, main: Main) -> None:
    events = (*_rounds(5), *written(WEB_0, 1), read(WEB_0, 1, finding="missing"), round_began(13, WEB_0), round_ended(13))
    run = keep(tmp_path, *events)
    whole = report(main, tmp_path)
    assert not [line for line in whole.does_not_say if "were let go" in line]
    with Ledger.open(url(tmp_path)) as ledger:
        panel, coverage, ops = Panel(), Coverage(), list(ledger.history(run))
        tenth = next(op for op in ops if op.f == "round" and op.kind is Kind.OK and op.value["round"] == 10)
        for op in ops[: tenth.index + 1]:
            panel.step(op)
            coverage.step(op)
        await ledger.compact(
            run, taken(tenth.index, panel, coverage, Unanswered.after(tenth)), tenth.time + 1, ledger.epoch(run)
        )
        assert len(list(ledger.history(run))) < len(ops) / 2
    found = report(main, tmp_path)
    assert any(line.startswith("The ops of 10 rounds are old and were let go") for line in found.does_not_say)
    assert found.verdict.violations == whole.verdict.violations
    assert found.verdict.coverage == whole.verdict.coverage
    assert found.verdict.recovery == whole.verdict.recovery
    assert found.disruptions_seen == 2
    assert "were let go" in page(tmp_path).text


def test_a_run_that_is_compacted_while_it_is_reported_is_judged_by_its_checkpoint(
    tmp_path: Path, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = keep(tmp_path, *_rounds(2), *written(WEB_0, 3), round_began(5, WEB_0), round_ended(5), read(WEB_0, 3))
    whole, history = report(main, tmp_path), Ledger.history
    with Ledger.open(url(tmp_path)) as ledger:
        ops = list(ledger.history(run))
        panel, coverage = Panel(), Coverage()
        for op in ops[:-1]:
            panel.step(op)
            coverage.step(op)
        asyncio.run(
            ledger.compact(run, taken(ops[-2].index, panel, coverage, Unanswered.after(ops[-2])), ops[-1].time, epoch=0)
        )

    def torn(ledger: Ledger, run: Run, first: int = 0) -> Iterator[Op]:
        """The first op was read before it went."""
        return history(ledger, run, first) if first else iter([*ops[:1], *history(ledger, run, 1)])

    monkeypatch.setattr(Ledger, "history", torn)
    found = report(main, tmp_path)
    assert found.verdict.verdict == whole.verdict.verdict
    assert found.verdict.coverage == whole.verdict.coverage


def test_two_runs_are_compared_by_verdict_classes_coverage_and_recovery(tmp_path: Path, main: Main) -> None:
    old, new = _rounds(5), (*_rounds(20), *written(WEB_0, 1), read(WEB_0, 1, finding="missing"))
    keep(tmp_path, *old, name="OLD", verdict=verdict(*old).as_json())
    keep(tmp_path, *new, name="NEW", verdict=verdict(*new).as_json())
    told = json.loads(main("diff", "OLD", "NEW", "--out", tmp_path, "--json").out)
    assert (told["a"]["verdict"], told["b"]["verdict"]) == ("pass", "fail")
    assert told["violations_by_class"] == {"lost": {"a": 0, "b": 1}}
    (recovery,) = told["recovery"]
    assert (recovery["kind"], recovery["count_a"], recovery["slower"]) == ("pod-delete", 12, "b")
    assert recovery["p"] < 0.001
    assert told["coverage"]["files_acknowledged"] == {"a": 1, "b": 2}
    shown = main("diff", "OLD", "NEW", "--out", tmp_path).out
    assert "the verdict was pass and is fail" in shown
    assert "recovery from pod-delete takes longer in B" in shown


def test_runs_that_recover_alike_are_not_told_apart(tmp_path: Path, main: Main) -> None:
    events = _rounds(5)
    for name in ("OLD", "NEW"):
        keep(tmp_path, *events, name=name, verdict=verdict(*events).as_json(), began=BEGAN + len(name))
    told = main("diff", "OLD", "NEW", "--out", tmp_path)
    assert told.code == 0
    assert "nothing differs in the verdict" in told.out
    assert main("diff", "OLD", "ODL", "--out", tmp_path).code == 2
