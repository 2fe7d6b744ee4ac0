"""What happened when, small enough to be drawn: a fold over a history of any length, of bounded size.

The rule: the axis has at most STEPS steps, which grow as the run does. What lies within one step of a lane is one mark that
tells how many it stands for; nothing is left out. Silence longer than a run may keep is cut out of the axis, and marked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaosd.checkers import Panel
from chaosd.checkers.records import how_many
from chaosd.history import COMPACTED, NEMESIS, OBSERVER, RESTART, RUN, Kind, Op, in_words, replicas_hit
from chaosd.nemesis import DISRUPTIONS
from chaosd.report.runs import duration

STEPS = 600
_LEAST_STEP_SECONDS = 0.05
_CUT_TO_SECONDS = 15.0
_OUTCOMES = {Kind.OK: "done", Kind.FAIL: "not-done", Kind.INFO: "in-doubt"}


@dataclass(slots=True)
class Span:
    """Something that lasted, in seconds on the axis; `count` of them where they were too short to be told apart."""

    begin: float
    end: float
    state: str
    label: str
    count: int = 1


class Lane:
    """Spans, one after the other."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def add(self, span: Span, step: float) -> None:
        """The next one; with the one before it where both are shorter than a step and lie in the same."""
        before = self.spans[-1] if self.spans else None
        if before and _are_one(before, span, step):
            before.end, before.label = span.end, ""
            before.count += span.count
            before.state = before.state if before.state == span.state else "several"
        else:
            self.spans.append(span)

    def coarsen(self, step: float) -> None:
        """To longer steps."""
        spans, self.spans = self.spans, []
        for span in spans:
            self.add(span, step)


class States(Lane):
    """What something was, and since when; a state without a name is not drawn."""

    def __init__(self) -> None:
        super().__init__()
        self._now = Span(0.0, 0.0, "", "")

    @property
    def state(self) -> str:
        """What it is."""
        return self._now.state

    @property
    def label(self) -> str:
        """What is told of it."""
        return self._now.label

    def set(self, at: float, state: str, label: str, step: float) -> None:
        """What it is from now on."""
        now = self._now
        if (now.state, now.label) == (state, label):
            return
        self.close(at, step)
        self._now = Span(at, at, state, label)

    def close(self, at: float, step: float) -> None:
        """What it was until now."""
        if self._now.state:
            self._now.end = at
            self.add(self._now, step)
        self._now = Span(at, at, "", "")


class Counts:
    """How often something happened in each step."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}

    def add(self, step: int, count: int) -> None:
        """So many more in a step."""
        self.of[step] = self.of.get(step, 0) + count

    def coarsen(self) -> None:
        """To steps of twice the length."""
        of, self.of = self.of, {}
        for step, count in of.items():
            self.add(step // 2, count)


@dataclass(slots=True)
class Track:
    """One replica: its pod's life, what its path stands on, and what was written and read."""

    pod: States = field(default_factory=States)
    disk: States = field(default_factory=States)
    writes: Counts = field(default_factory=Counts)
    reads: Counts = field(default_factory=Counts)
    failed: Counts = field(default_factory=Counts)
    hit: bool = False
    claim: str = ""
    claim_uid: str = ""
    volume: str = ""
    handle: str = ""
    node: str = ""
    first_disk: tuple[str, ...] = ()  # claim, volume and handle that it was seen on first
    attached_to: dict[str, str] = field(default_factory=dict)  # nodes, by the attachment's name

    @property
    def counts(self) -> tuple[Counts, ...]:
        """All of them."""
        return (self.writes, self.reads, self.failed)


@dataclass(slots=True)
class Disruption:
    """One act of the nemesis. `recovered_seconds` is from its begin until the target had converged, None where it had not;
    times in seconds since the epoch."""

    index: int
    kind: str
    words: str
    round: int
    began_at: float
    seconds: float = 0.0
    outcome: str = "in-doubt"
    error: str = ""
    recovered_seconds: float | None = None


class Timeline:
    """Folds everything. Of disruptions it keeps those that recovery from took longest, and those that had none."""

    def __init__(self, target: str, longest_silence: float, disruptions_kept: int) -> None:
        self.rounds = States()
        self.acts = Lane()
        self.cuts = Lane()
        self.tracks: dict[str, Track] = {}
        self.step_seconds = _LEAST_STEP_SECONDS
        self.length = 0.0  # of the axis, in seconds
        self.cut_seconds = 0.0
        self.disruptions: list[Disruption] = []
        self.disruptions_seen = 0
        self.compacted = 0  # rounds whose ops went
        self._namespace = target.partition("/")[0]
        self._longest_silence = longest_silence
        self._kept = disruptions_kept
        self._time: float | None = None
        self._starts: list[tuple[int, float]] = []  # of each step: index and time of its first op
        self._act: tuple[float, Disruption] | None = None
        self._open: Disruption | None = None
        self._round = 0
        self._round_name = ""

    def step(self, op: Op, _: Panel) -> None:
        """Take in the next op."""
        self._advance(op)
        if op.process == OBSERVER:
            if take := _SEEN.get(op.f):
                take(self, op)
        elif op.process == NEMESIS:
            self._nemesis(op)
        elif op.process == RUN:
            self._of_the_run(op)
        elif op.kind is not Kind.INVOKE:
            self._data(op)

    def finish(self) -> None:
        """Nothing comes after."""
        if self._open:
            self._keep(self._open)
            self._open = None
        self._leave_open()
        for states in self._states():
            states.close(self.length, self.step_seconds)

    def place_of(self, index: int) -> float:
        """Where an op is on the axis, to a step."""
        return max(0, bisect_right(self._starts, (index, float("inf"))) - 1) * self.step_seconds

    def time_at(self, place: float) -> float:
        """What time it was there, to a step, in seconds since the epoch."""
        if not self._starts:
            return 0.0
        step = min(int(place / self.step_seconds), len(self._starts) - 1)
        return self._starts[step][1]

    # The axis.

    def _advance(self, op: Op) -> None:
        """Time that goes back is taken for no time."""
        if self._time is None:
            self._time = op.time
            self._starts.append((op.index, op.time))
        passed = op.time - self._time
        if passed <= 0:
            return
        self._time = op.time
        if passed > self._longest_silence:
            cut = min(_CUT_TO_SECONDS, passed)
            self.cut_seconds += passed - cut
            self.cuts.add(Span(self.length, self.length + cut, "cut", f"nothing for {duration(passed)}"), self.step_seconds)
            passed = cut
        self.length += passed
        while self.length >= STEPS * self.step_seconds:
            self._coarsen()
        while len(self._starts) <= self.length / self.step_seconds:
            self._starts.append((op.index, op.time))

    def _coarsen(self) -> None:
        self.step_seconds *= 2
        self._starts = self._starts[::2]
        for lane in (self.acts, self.cuts, *self._states()):
            lane.coarsen(self.step_seconds)
        for track in self.tracks.values():
            for counts in track.counts:
                counts.coarsen()

    def _states(self) -> Iterator[States]:
        yield self.rounds
        for track in self.tracks.values():
            yield from (track.pod, track.disk)

    def _track(self, replica: str) -> Track:
        track = self.tracks.get(replica)
        if track is None:
            track = self.tracks[replica] = Track()
        return track

    # What the workers did.

    def _data(self, op: Op) -> None:
        track = self.tracks.get(op.process) or self._track(op.process)
        step = int(self.length / self.step_seconds)
        if op.f == "write":
            (track.writes if op.kind is Kind.OK else track.failed).add(step, 1)
        elif op.f == "read":
            records = how_many(op.value.get("sequences", ()))
            if op.kind is not Kind.OK:
                track.failed.add(step, records)
            else:
                track.reads.add(step, records)
        elif op.f == "open" and op.kind is Kind.OK:
            binding = op.value.get("binding", {})
            for part in ("claim", "claim_uid", "volume", "handle", "node"):
                setattr(track, part, binding.get(part, ""))
            self._stands_on(track)

    # What the nemesis did, and the run.

    def _nemesis(self, op: Op) -> None:
        if op.f in DISRUPTIONS:
            if op.kind is Kind.INVOKE:
                self._begun(op)
            else:
                self._done(op)
        elif op.f == "converge":
            if op.kind is Kind.INVOKE:
                self._phase("recovering")
                return
            self._phase("reading")
            if self._open:
                if op.kind is Kind.OK:
                    self._open.recovered_seconds = op.time - self._open.began_at
                self._keep(self._open)
                self._open = None

    def _leave_open(self) -> None:
        """An act that was never answered."""
        if self._act:
            self.acts.add(Span(self._act[0], self.length, "in-doubt", self._act[1].words), self.step_seconds)
            self._act = None

    def _begun(self, op: Op) -> None:
        self._leave_open()
        if self._open:
            self._keep(self._open)
        self._open = Disruption(op.index, op.f, in_words(op), self._round, op.time)
        self._act = (self.length, self._open)
        self._phase("disrupting")
        for replica in replicas_hit(op):
            self._track(replica).hit = True

    def _done(self, op: Op) -> None:
        if self._act is None:
            return
        began, disruption = self._act
        disruption.seconds, disruption.outcome = op.time - disruption.began_at, _OUTCOMES[op.kind]
        disruption.error = op.value.get("error", "")
        self.acts.add(Span(began, self.length, disruption.outcome, disruption.words), self.step_seconds)
        self._act = None

    def _keep(self, disruption: Disruption) -> None:
        self.disruptions_seen += 1
        self.disruptions.append(disruption)
        if len(self.disruptions) >= 2 * self._kept:
            self._drop()

    def _drop(self) -> None:
        """All but those that recovery from took longest; where there was none, it took for ever."""

        def took(disruption: Disruption) -> float:
            recovered = disruption.recovered_seconds
            return recovered if recovered is not None else float("inf")

        self.disruptions = sorted(self.disruptions, key=took, reverse=True)[: self._kept]

    def worst(self) -> list[Disruption]:
        """Those that are kept, in their order."""
        self._drop()
        return sorted(self.disruptions, key=lambda disruption: disruption.index)

    def _of_the_run(self, op: Op) -> None:
        if op.f == RESTART:
            self._phase("away")
        elif op.f == COMPACTED:
            first, last = op.value["rounds"]
            self.compacted += last - first + 1
        elif op.f == "round" and op.kind is Kind.INVOKE:
            self._round, self._round_name = op.value["round"], op.value["name"]
            self._phase("writing")
        elif op.f == "round":
            self.rounds.close(self.length, self.step_seconds)

    def _phase(self, phase: str) -> None:
        self.rounds.set(self.length, phase, f"round {self._round}: {self._round_name}", self.step_seconds)

    # What the observer saw.

    def _pod(self, op: Op) -> None:
        value = op.value
        track = self._track(f"{value['namespace']}/{value['name']}")
        if value["change"] == "deleted":
            track.pod.set(self.length, "", "", self.step_seconds)
            return
        if node := value.get("node", ""):
            track.node = node
        track.pod.set(self.length, _life(value, track), f"pod {value['uid']} {_where(value)}", self.step_seconds)
        self._stands_on(track)

    def _claim(self, op: Op) -> None:
        track, gone = self._seen_of(op), op.value["change"] == "deleted"
        if track:
            track.claim, track.claim_uid = ("", "") if gone else (op.value["name"], op.value["uid"])
            track.volume = "" if gone else op.value.get("volume", "")
            self._stands_on(track)

    def _volume(self, op: Op) -> None:
        track, gone = self._seen_of(op), op.value["change"] == "deleted"
        if track and op.value["name"] == track.volume:
            track.handle = "" if gone else op.value.get("handle", "")
            self._stands_on(track)

    def _attachment(self, op: Op) -> None:
        track, value = self._seen_of(op), op.value
        if track is None:
            return
        if value["change"] == "deleted" or not value.get("attached"):
            track.attached_to.pop(value["name"], None)
        else:
            track.attached_to[value["name"]] = value["node"]
            if track.pod.state == "scheduled" and value["node"] == track.node:
                track.pod.set(self.length, "attached", track.pod.label, self.step_seconds)

    def _seen_of(self, op: Op) -> Track | None:
        pod = op.value.get("pod")
        return self._track(f"{self._namespace}/{pod}") if pod else None

    def _stands_on(self, track: Track) -> None:
        disk = (track.claim_uid, track.volume, track.handle)
        if not any(disk):
            track.disk.set(self.length, "", "", self.step_seconds)
            return
        if all(disk):
            track.first_disk = track.first_disk or disk
        state = "other-disk" if all(disk) and disk != track.first_disk else "disk"
        parts = [part for part in (track.claim, track.volume, track.handle, track.node) if part]
        track.disk.set(self.length, state, " → ".join(parts), self.step_seconds)


def _are_one(before: Span, span: Span, step: float) -> bool:
    short = before.end - before.begin < step and span.end - span.begin < step
    return short and int(before.begin / step) == int(span.begin / step)


def _life(pod: Mapping[str, Any], track: Track) -> str:
    if pod.get("deleting"):
        return "terminating"
    if pod.get("ready"):
        return "ready"
    if not pod.get("node"):
        return "pending"
    return "attached" if pod["node"] in track.attached_to.values() else "scheduled"


def _where(pod: Mapping[str, Any]) -> str:
    return f"on {pod['node']}" if pod.get("node") else "on no node yet"


_SEEN: Mapping[str, Callable[[Timeline, Op], None]] = {
    "pod": Timeline._pod,
    "claim": Timeline._claim,
    "volume": Timeline._volume,
    "attachment": Timeline._attachment,
}
