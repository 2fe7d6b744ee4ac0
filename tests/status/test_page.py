"""The status page: what stands on it, that nothing in it is taken for HTML, and that little is drawn anew."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from chaosd.checkers.verdict import Value
from chaosd.status.document import Status, Target
from chaosd.status.page import Page, aged, part_of, whole
from tests.status.statuses import AT, Refused, experiment, judged, replica, running, status, violation

HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>\'"&</td></time>'


class _Read(HTMLParser):
    """Its elements, the ids among them, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.ids: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.text += data


def _page(told: Status, *, can_pause: bool = False) -> _Read:
    return _Read(aged(whole(told, Page().parts(told), "e-1", "layout", can_pause=can_pause), told.at))


def test_it_tells_everything_without_a_script() -> None:
    text = " ".join(_page(status()).text.split())
    for told in (
        "Nothing broken",
        "Experiments: 1 running.",
        "round 3: pod-delete, writes, since 5 s ago",
        "last: pod-delete default/web-1, 9 s ago",
        "pass so far, 2 min ago 2023-11-14 22:13:00 UTC",
        "disk-ssd-web-0 pv-0 d-0 node-1",
        "goes on for ever",
    ):
        assert told in text, text


def test_a_violation_is_told_with_its_class_its_target_and_its_age() -> None:
    told = status(experiment(judged=judged(Value.FAIL, violations=1)), violations=(violation(),))
    text = " ".join(_page(told).text.split())
    assert "Fail 1 promise is broken." in text
    assert "corrupt on default/web-0, file .chaosd/RUN/00000001, disk d-0" in text
    assert "found by soak on default/web, 30 s ago" in text


def test_violations_that_are_not_listed_are_counted() -> None:
    told = status(violations=(violation(),), violations_count=1_001)
    assert "1,000 more are in the ledger" in _page(told).text


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (status(), "Nothing broken"),
        (status(experiment(judged=None)), "Not known yet"),
        (status(experiment(), experiment("other", judged=judged(Value.UNKNOWN))), "Not known yet"),
        (status(not_ready="the ledger is on a full disk"), "Not ready"),
        (status(not_ready="the ledger is on a full disk", violations=(violation(),)), "Fail"),
        (Status(at=AT, not_ready="the cluster was not reached yet"), "Not ready"),
        (Status(at=AT, not_ready=""), "Not known yet"),
    ],
)
def test_it_promises_no_more_than_every_verdict_does(told: Status, word: str) -> None:
    assert f"<h1>{word}</h1>" in Page().parts(told)["overall"]


def test_a_sandbox_is_said_to_be_simulated() -> None:
    run = running().model_copy(update={"cluster": "sandbox v1.37"})
    assert "Simulated." in _page(status(experiment(run=run))).text
    assert "Simulated." not in _page(status()).text


def test_paused_experiments_and_refused_files_say_why() -> None:
    told = status(
        experiment(state="paused", why="the kill switch is thrown", run=None, next_at=AT + 3600),
        refused=(Refused(file="b.yaml", why="no YAML"),),
    )
    text = " ".join(_page(told).text.split())
    assert "paused the kill switch is thrown" in text
    assert "in 1 h 2023" in text
    assert "Refused b.yaml: no YAML" in text


def test_nothing_in_names_or_evidence_is_taken_for_html() -> None:
    run = running(phase="writes", disruption=HOSTILE).model_copy(update={"run": HOSTILE})
    found = violation(
        replica=HOSTILE, failure=HOSTILE, file=HOSTILE, handle=HOSTILE, experiment=HOSTILE, target=HOSTILE, claim=HOSTILE
    )
    replicas = (replica(HOSTILE, pod=HOSTILE, claim=HOSTILE, volume=HOSTILE, handle=HOSTILE, node=HOSTILE),)
    told = status(
        experiment(HOSTILE, target=HOSTILE, why=HOSTILE, run=run),
        targets=(Target(target=HOSTILE, experiment=HOSTILE, replicas=replicas),),
        violations=(found,),
        refused=(Refused(file=HOSTILE, why=HOSTILE),),
        not_ready=HOSTILE,
    )
    harmless = status(refused=(Refused(file="x", why="y"),), violations=(violation(),), not_ready="z")
    page, plain = _page(told, can_pause=True), _page(harmless, can_pause=True)
    assert "img" not in page.elements
    assert page.elements.count("script") == 1, "its own"
    assert "onerror" not in page.attributes
    assert page.text.count("alert(2)") >= 15, "it is shown as it is"
    assert len(page.ids) == len(set(page.ids)) == len(plain.ids)


def test_every_part_has_one_element_on_the_page() -> None:
    told = status(experiment("a"), experiment("b"))
    ids = _page(told).ids
    for part in Page().parts(told):
        assert ids.count(part) == 1


def test_only_what_has_changed_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page()
    before = page.parts(status(experiment("a"), experiment("b")))
    drawn = []
    draw = Page._part

    def noted(self: Page, id_: str, draws: str, shown: object) -> tuple[object, str]:
        known = self._drawn.get(id_)
        part = draw(self, id_, draws, shown)
        drawn.extend([id_] if known is not part else [])
        return part

    monkeypatch.setattr(Page, "_part", noted)
    after = page.parts(status(experiment("a", run=running(4)), experiment("b")))
    changed = part_of("experiment", "a")
    assert drawn == [changed]
    assert {id_ for id_ in after if after[id_] != before[id_]} == {changed}


def test_the_form_is_there_only_where_it_can_be_used() -> None:
    assert "form" not in _page(status()).elements
    assert "form" in _page(status(), can_pause=True).elements


def test_ages_are_told_as_of_now() -> None:
    html = '<time data-at="1000"><b></b> x</time>'
    assert [_Read(aged(html, now)).text.removesuffix(" x") for now in (1000.5, 1012, 1060, 1000 + 90 * 60, 1000 - 120)] == [
        "just now",
        "12 s ago",
        "1 min ago",
        "1 h 30 min ago",
        "in 2 min",
    ]
