"""The timeline and the samples of recovery: what they keep is bounded, however long the run, and nothing is left out."""

from __future__ import annotations

import random

from chaosd.checkers import Panel
from chaosd.history import NEMESIS, RESTART, RUN, Event, Kind, Op
from chaosd.report.recoveries import SAMPLE, Recoveries, Sample, percentile
from chaosd.report.timeline import STEPS, Timeline
from tests import seeds
from tests.histories import (
    WEB_0,
    attachment,
    claim,
    converged,
    disrupted,
    disruption_done,
    not_converged,
    opened,
    pod,
    read,
    round_began,
    round_ended,
    volume,
    written,
)

SILENCE = 400.0


def timeline(*events: Event, seconds: float = 1.0, kept: int = 200) -> Timeline:
    made, panel = Timeline("default/web", SILENCE, kept), Panel()
    for index, event in enumerate(events):
        made.step(Op(index, 1000.0 + index * seconds, event.process, event.f, event.kind, event.value), panel)
    made.finish()
    return made


def test_a_pods_life_is_told_in_the_phases_of_its_recovery() -> None:
    gone = pod(0, "modified", deleting=True, node="a")
    back = [
        pod(0, "added", "new"),
        pod(0, "modified", "new", node="b"),
        attachment(0, "b"),
        pod(0, "modified", "new", node="b", ready=True),
    ]
    found = timeline(pod(0, "present", node="a", ready=True), gone, pod(0, "deleted"), *back, round_ended())
    spans = [(span.begin, span.end, span.state) for span in found.tracks[WEB_0].pod.spans]
    assert spans == [
        (0.0, 1.0, "ready"),
        (1.0, 2.0, "terminating"),
        (3.0, 4.0, "pending"),
        (4.0, 5.0, "scheduled"),
        (5.0, 6.0, "attached"),
        (6.0, 7.0, "ready"),
    ]


def test_claim_volume_disk_and_node_are_one_row_and_another_disk_stands_out() -> None:
    moved = volume(0, handle="d-other")
    found = timeline(
        claim(0, "present"), volume(0, "present"), pod(0, "present", node="a", ready=True), moved, round_ended()
    )
    first, *_, before, after = found.tracks[WEB_0].disk.spans
    assert first.label == "disk-ssd-web-0 → pv-web-0"
    assert (before.state, before.label) == ("disk", "disk-ssd-web-0 → pv-web-0 → d-web-0 → a")
    assert (after.state, after.label) == ("other-disk", "disk-ssd-web-0 → pv-web-0 → d-other → a")


def test_rounds_have_phases_and_disruptions_an_outcome_and_a_recovery() -> None:
    found = timeline(
        round_began(1),
        *written(WEB_0, 0),
        disrupted("pod-delete", (WEB_0, "pod-0")),
        disruption_done(),
        *converged(),
        read(WEB_0, 0),
        round_ended(),
        round_began(2),
        disrupted("scale"),
        Event(NEMESIS, "scale", Kind.FAIL, {"error": "refused", "blocked": "conflict"}),
        *not_converged(WEB_0, "no pod"),
        Event(RUN, RESTART, Kind.OK, {"round": 2}),
        round_ended(2),
    )
    states = [(span.state, span.label.split(":")[0]) for span in found.rounds.spans]
    phases = ["writing", "disrupting", "recovering", "reading"]
    assert states == [
        *((phase, "round 1") for phase in phases),
        *((phase, "round 2") for phase in phases),
        ("away", "round 2"),
    ]
    told = [(one.kind, one.round, one.outcome, one.error, one.recovered_seconds) for one in found.worst()]
    assert told == [("pod-delete", 1, "done", "", 3.0), ("scale", 2, "not-done", "refused", None)]
    assert [span.state for span in found.acts.spans] == ["done", "not-done"]
    assert found.tracks[WEB_0].hit


def test_a_disruption_that_was_never_answered_is_in_doubt() -> None:
    found = timeline(round_began(1), disrupted("scale"), disrupted("scale"), round_ended())
    assert [one.outcome for one in found.worst()] == ["in-doubt", "in-doubt"]
    assert [(span.begin, span.end, span.state) for span in found.acts.spans] == [
        (1.0, 2.0, "in-doubt"),
        (2.0, 3.0, "in-doubt"),
    ]


def test_what_it_keeps_does_not_grow_with_the_run_and_counts_everything() -> None:
    rng = random.Random(seeds.FRESH)
    made, panel, at, wrote, flaps = Timeline("default/web", SILENCE, 50), Panel(), 0.0, 0, 0
    for index in range(60_000):
        at += rng.choice((0.0, 0.001, 0.3, 30.0))
        kind = index % 3
        event = (
            written(WEB_0, index)[1]
            if kind == 0
            else pod(0, "modified", str(index), node="a", ready=True)
            if kind == 1
            else disrupted("scale")
        )
        wrote, flaps = wrote + (kind == 0), flaps + (kind == 1)
        made.step(Op(index, at, event.process, event.f, event.kind, event.value), panel)
    made.finish()
    track = made.tracks[WEB_0]
    assert made.length < STEPS * made.step_seconds
    assert sum(track.writes.of.values()) == wrote
    assert len(track.writes.of) <= STEPS
    assert sum(span.count for span in track.pod.spans) == flaps
    assert len(track.pod.spans) <= 2 * STEPS
    assert len(made.rounds.spans) <= 2 * STEPS
    assert (made.disruptions_seen, len(made.worst())) == (20_000, 50)
    # Ops are found where they happened, to a step.
    for index in rng.sample(range(60_000), 50):
        assert made.place_of(index) <= made.length


def test_silence_is_cut_out_of_the_axis_and_told() -> None:
    made, panel = Timeline("default/web", SILENCE, 10), Panel()
    for index, at in enumerate((0.0, 60.0, 60.0 + 86_400, 120.0 + 86_400)):
        made.step(Op(index, at, RUN, "round", Kind.INVOKE, round_began(index).value), panel)
    made.finish()
    assert made.length == 60 + 15 + 60
    assert [(span.label, span.begin) for span in made.cuts.spans] == [("nothing for 1 d", 60.0)]
    assert made.cut_seconds == 86_400 - 15
    assert made.time_at(made.place_of(3)) == 120.0 + 86_400


def test_a_clock_that_goes_back_moves_nothing_backwards() -> None:
    made, panel = Timeline("default/web", SILENCE, 10), Panel()
    for index, at in enumerate((100.0, 110.0, 50.0, 115.0)):
        made.step(Op(index, at, RUN, "round", Kind.INVOKE, round_began(index).value), panel)
    assert made.length == 15.0


def test_recovery_is_told_by_kind_and_phase() -> None:
    recoveries, panel = Recoveries(), Panel()
    events = (
        opened(WEB_0),
        disrupted("pod-delete", (WEB_0, "pod-0")),
        disruption_done(),
        pod(0, "deleted"),
        pod(0, "added", "new", node="b"),
        pod(0, "modified", "new", node="b", ready=True),
        *converged(),
        disrupted("scale"),
        *converged(),
    )
    for index, event in enumerate(events):
        op = Op(index, float(index), event.process, event.f, event.kind, event.value)
        panel.step(op)
        recoveries.step(op, panel)
    told = recoveries.as_json()
    assert {kind: {phase: values["p50"] for phase, values in phases.items()} for kind, phases in told.items()} == {
        "pod-delete": {"deleted": 2.0, "scheduled": 3.0, "attached": 3.0, "ready": 4.0, "converged": 6.0},
        "scale": {"converged": 2.0},
    }
    assert recoveries.seconds() == {"pod-delete": [6.0], "scale": [2.0]}


def test_percentiles_lie_between_the_nearest_values() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], percent) for percent in (0, 50, 90, 100)] == [1.0, 2.5, 3.7, 4.0]
    assert percentile([5.0], 99) == 5.0


def test_a_sample_is_bounded_says_so_and_keeps_the_longest() -> None:
    sample = Sample()
    for number in range(3 * SAMPLE):
        sample.add(float(number))
    told = sample.as_json()
    assert (len(sample.seconds), told["count"], told["max"], told["sampled"]) == (SAMPLE, 3 * SAMPLE, 3 * SAMPLE - 1, True)
    assert abs(told["p50"] - 1.5 * SAMPLE) < 0.1 * SAMPLE
