"""Steps: the expectations of a scripted experiment, each with what was expected and what was seen.

Pure. An expectation is evaluated when its step is over, from what the history told meanwhile, and its result is an op
of its own (`expect`), so that the verdict can be made again from the history. What cannot be shown on this target, such
as an empty disk on one already in use, is "not shown" and no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaosd.checkers.records import how_many
from chaosd.checkers.verdict import Binding, Class, Unknown, Verdict, Violation
from chaosd.history import NEMESIS, OBSERVER, Kind, Op
from chaosd.quantities import KUBERNETES_QUANTITY

Seen = Mapping[str, Any]
SHOWN, NOT_SHOWN, VIOLATED = "shown", "not shown", "violated"


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of proof: of whom, what was expected, what was seen, and whether that shows it."""

    replica: str
    expected: str
    seen: str
    result: str


@dataclass(slots=True)
class _Step:
    """What happened since the step began."""

    claims_before: Mapping[str, Seen] = field(default_factory=dict)
    pods_before: Mapping[str, Seen] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)  # (pod, created | ready | stopping | gone)
    deleted: list[str] = field(default_factory=list)  # pods that the nemesis deleted
    read_intact: dict[str, int] = field(default_factory=dict)


class Steps:
    """Folds everything that an expectation may ask about, and the `expect` ops themselves."""

    name = "steps"
    follows = frozenset({"open", "read"})

    def __init__(self) -> None:
        self._target: Seen = {}
        self._pods: dict[str, Seen] = {}
        self._claims: dict[str, Seen] = {}
        self._volumes: dict[str, Seen] = {}
        self._opened: dict[str, Seen] = {}
        self._first_opened: dict[str, Seen] = {}
        self._step = _Step()
        self._violations: list[Violation] = []
        self._unknowns: list[Unknown] = []
        self._results: list[dict[str, Any]] = []

    def step(self, op: Op) -> None:
        """Take in the next op."""
        if op.process == OBSERVER:
            self._observed(op)
        elif op.f == "round" and op.kind is Kind.INVOKE:
            self._step = _Step(claims_before=dict(self._claims), pods_before=dict(self._pods))
        elif op.process == NEMESIS and op.kind is Kind.INVOKE:
            self._step.deleted += [d["replica"].split("/")[1] for d in op.value.get("deletes", ())]
        elif op.f == "open" and op.kind is Kind.OK:
            self._opened[op.process] = op.value
            self._first_opened.setdefault(f"{op.process}:{op.value.get('binding', {}).get('claim_uid', '')}", op.value)
        elif op.f == "read" and op.kind is Kind.OK and op.value["finding"] == "intact":
            records = how_many(op.value["sequences"])
            self._step.read_intact[op.process] = self._step.read_intact.get(op.process, 0) + records
        elif op.f == "expect" and op.kind is Kind.OK:
            self._expected(op)

    def verdict(self) -> Verdict:
        """Fail where an expectation was violated; unknown where the evidence for one was missing."""
        return Verdict(
            self.name, tuple(self._violations), tuple(self._unknowns), measured={"expectations": list(self._results)}
        )

    def evaluate(self, expectation: str, parameters: Mapping[str, str]) -> list[Shown]:
        """What the step shows of `expectation`, one line for each replica it is about."""
        lines = list(EXPECTATIONS[expectation].evaluate(self, parameters))
        nothing = Shown(self._target.get("name", ""), expectation, "nothing in this step is about it", NOT_SHOWN)
        return lines or [nothing]

    def _observed(self, op: Op) -> None:
        value = op.value
        if op.f == "statefulset":
            self._target = value
        elif op.f == "pod":
            self._pod(value)
        elif op.f in ("claim", "volume"):
            held = self._claims if op.f == "claim" else self._volumes
            if value["change"] == "deleted":
                held.pop(value["name"], None)
                if op.f == "claim":
                    self._first_opened.pop(f"{value['namespace']}/{value['pod']}:{value['uid']}", None)
            else:
                held[value["name"]] = value

    def _pod(self, value: Seen) -> None:
        name, known = value["name"], self._pods.get(value["name"])
        if value["change"] == "deleted":
            self._pods.pop(name, None)
            self._step.events.append((name, "gone"))
            return
        if known is None or known["uid"] != value["uid"]:
            self._step.events.append((name, "created"))
            known = {}
        if value.get("deleting") and not known.get("deleting"):
            self._step.events.append((name, "stopping"))
        if value.get("ready") and not known.get("ready"):
            self._step.events.append((name, "ready"))
        self._pods[name] = value

    def _expected(self, op: Op) -> None:
        value = op.value
        self._results.append({k: value[k] for k in ("step", "expectation", "replica", "expected", "seen", "result")})
        if value["result"] == VIOLATED:
            failure = EXPECTATIONS[value["expectation"]].failure
            assert failure is not None, "what has no class is never violated"
            evidence = {k: value[k] for k in ("step", "expectation", "expected", "seen")}
            self._violations.append(Violation(failure, value["replica"], op.index, -1, Binding(), evidence=evidence))

    def _replicas(self) -> Iterator[tuple[str, int]]:
        first = self._target.get("first_ordinal", 0)
        for ordinal in range(first, first + self._target.get("replicas", 0)):
            yield f"{self._target['name']}-{ordinal}", ordinal

    def _key(self, pod: str) -> str:
        return f"{self._target['namespace']}/{pod}"

    def _claim_of(self, pod: str, template: str) -> Seen:
        return self._claims.get(f"{template}-{pod}", {})

    def _handle(self, claim: Seen) -> str:
        return str(self._volumes.get(claim.get("volume", ""), {}).get("handle", ""))

    def _opened_now(self, pod: str) -> Seen:
        """What a session with the replica's present pod told; nothing where there was none yet."""
        opened = self._opened.get(self._key(pod), {})
        return opened if opened.get("pod_uid") == self._pods.get(pod, {}).get("uid") else {}

    # The expectations.

    def own_claims(self, parameters: Mapping[str, str]) -> Iterator[Shown]:
        """Every replica has a claim of its own, Bound to a volume of its own."""
        volumes = [c.get("volume", "") for c in self._claims.values()]
        handles = [self._handle(c) for c in self._claims.values()]
        for pod, _ in self._replicas():
            for template in self._target.get("template_claims", ()):
                claim = self._claim_of(pod, template)
                modes = ",".join(claim.get("access_modes", ()))
                volume = claim.get("volume", "")
                met = (
                    claim.get("phase") == "Bound"
                    and volumes.count(volume) == 1
                    and (not self._handle(claim) or handles.count(self._handle(claim)) == 1)
                    and claim.get("capacity") == parameters.get("capacity", claim.get("capacity"))
                    and modes == parameters.get("accessModes", modes)
                )
                wanted = " ".join(["Bound", *parameters.values()])
                yield Shown(
                    self._key(pod),
                    f"claim {template}-{pod} of its own, {wanted}, on a volume of its own",
                    f"{_claim_text(claim)}, {claim.get('capacity', '')} {modes}, "
                    f"handle {self._handle(claim) or 'none'}, node {self._pods.get(pod, {}).get('node', '')}",
                    SHOWN if met else VIOLATED,
                )

    def started_in_order(self, _: Mapping[str, str]) -> Iterator[Shown]:
        """Pods were created in the order of their ordinals, each after the one before was Running and Ready."""
        created = [pod for pod, event in self._step.events if event == "created"]
        yield from self._in_order(created, sorted(created, key=_ordinal), ("created", "ready"), "starts", "Ready")

    def stopped_in_order(self, _: Mapping[str, str]) -> Iterator[Shown]:
        """Pods left from the highest ordinal down, each gone before the next was told to stop."""
        stopped = [pod for pod, event in self._step.events if event == "stopping"]
        yield from self._in_order(
            stopped, sorted(stopped, key=_ordinal, reverse=True), ("stopping", "gone"), "stops", "gone"
        )

    def _in_order(
        self, seen: list[str], wanted: list[str], phases: tuple[str, str], verb: str, done: str
    ) -> Iterator[Shown]:
        if self._target.get("pod_management") == "Parallel":
            yield Shown(self._target["name"], "an order", "podManagementPolicy is Parallel: none is promised", NOT_SHOWN)
            return
        if not seen:
            yield Shown(self._target["name"], f"pods {verb[:-1]} in order", f"no pod {verb} in this step", NOT_SHOWN)
        # A pod that was Ready twice, as after a failed probe, counts from the first time.
        told = (f"{pod} {event}" for pod, event in self._step.events if event in phases and pod in wanted)
        events = list(dict.fromkeys(told))
        expected = [f"{pod} {phase}" for pod in wanted for phase in phases]
        # The last pod may still be on its way when the step ends.
        met = events == expected[: len(events)] and len(events) >= len(expected) - 1
        for pod in wanted:
            yield Shown(
                self._key(pod),
                f"{pod} {verb} in its turn, each {done} before the next: {', '.join(expected)}",
                ", ".join(events),
                SHOWN if met else VIOLATED,
            )

    def claims_unchanged(self, _: Mapping[str, str]) -> Iterator[Shown]:
        """Every claim that was there when the step began is Bound to the same volume still."""
        for name, before in sorted(self._step.claims_before.items()):
            now = self._claims.get(name, {})
            met = all(now.get(k) == before.get(k) for k in ("uid", "volume", "phase"))
            yield Shown(self._key(before["pod"]), _claim_text(before), _claim_text(now), SHOWN if met else VIOLATED)

    def claim_count(self, parameters: Mapping[str, str]) -> Iterator[Shown]:
        """There are as many claims as said."""
        bound = sorted(n for n, c in self._claims.items() if c.get("phase") == "Bound")
        met = len(bound) == int(parameters["count"])
        yield Shown(
            self._target["name"],
            f"{parameters['count']} claims Bound",
            f"{len(bound)}: {', '.join(bound)}",
            SHOWN if met else VIOLATED,
        )

    def pod_replaced(self, _: Mapping[str, str]) -> Iterator[Shown]:
        """A deleted pod came back: another UID; the same name, hostname, claim, volume."""
        for pod in self._step.deleted:
            before, now = self._step.pods_before.get(pod, {}), self._pods.get(pod, {})
            opened = self._opened_now(pod)
            hostname = opened.get("hostname", pod).partition(".")[0]
            claims_before = [_claim_text(self._step.claims_before.get(c, {})) for c in before.get("claims", {}).values()]
            claims_now = [_claim_text(self._claims.get(c, {})) for c in now.get("claims", {}).values()]
            met = (
                bool(now)
                and now["uid"] != before.get("uid")
                and (hostname == pod or self._target.get("host_network", False))
                and claims_now == claims_before
            )
            yield Shown(
                self._key(pod),
                f"another UID than {before.get('uid')}, hostname {pod}, {'; '.join(claims_before)}",
                f"UID {now.get('uid', 'none')}, hostname {opened.get('hostname', 'unread')}, {'; '.join(claims_now)}, "
                f"node {now.get('node', '')}",
                (SHOWN if opened else NOT_SHOWN) if met else VIOLATED,
            )

    def new_disk_empty(self, _: Mapping[str, str]) -> Iterator[Shown]:
        """A disk that nobody used holds nothing but what its file system made."""
        for pod, _ordinal_of_pod in self._replicas():
            claim_uid = self._opened.get(self._key(pod), {}).get("binding", {}).get("claim_uid", "")
            first = self._first_opened.get(f"{self._key(pod)}:{claim_uid}", {})
            entries = list(first.get("entries", ()))
            met = bool(first) and set(entries) <= {"lost+found"}
            yield Shown(
                self._key(pod),
                f"{first.get('path', 'the path')} of a new disk holds at most lost+found",
                f"{', '.join(entries) or 'nothing'}{'' if met else ': the disk was in use before'}",
                SHOWN if met else NOT_SHOWN,
            )

    def files_kept(self, _: Mapping[str, str]) -> Iterator[Shown]:
        """Files that were acknowledged before the pod was deleted are there after it, byte for byte."""
        for pod in self._step.deleted:
            count = self._step.read_intact.get(self._key(pod), 0)
            yield Shown(
                self._key(pod),
                "the files written before are there, byte for byte",
                f"{count} files read back intact from the new pod",
                SHOWN if count else NOT_SHOWN,
            )

    def path_is_mount(self, _: Mapping[str, str]) -> Iterator[Shown]:
        """The path is a mount of the volume and not the container's own disk."""
        for pod, _ordinal_of_pod in self._replicas():
            opened = self._opened_now(pod)
            seen = opened.get("mountinfo", "") or "no mount at the path"
            mounted = opened.get("mounted")
            yield Shown(
                self._key(pod),
                f"{opened.get('path', 'the path')} is a mount of the volume",
                seen if mounted is not None else "no session with this pod told its mounts",
                NOT_SHOWN if mounted is None else SHOWN if mounted else VIOLATED,
            )


@dataclass(frozen=True, slots=True)
class Expectation:
    """How to evaluate it, the class of a violation of it (None: it is shown or not, and never violated, since another
    checker accuses), and the parameters that it takes."""

    evaluate: Callable[[Steps, Mapping[str, str]], Iterator[Shown]]
    failure: Class | None
    parameters: Mapping[str, str] = field(default_factory=dict)  # name to the pattern of its values
    required: frozenset[str] = frozenset()


_MODE = "(ReadWriteOnce|ReadOnlyMany|ReadWriteMany|ReadWriteOncePod)"
_MODES = f"{_MODE}(,{_MODE})*"

EXPECTATIONS: Mapping[str, Expectation] = {
    "own-claims": Expectation(
        Steps.own_claims, Class.CLAIM_MISMATCH, {"capacity": KUBERNETES_QUANTITY, "accessModes": _MODES}
    ),
    "started-in-order": Expectation(Steps.started_in_order, Class.ORDER_VIOLATED),
    "stopped-in-order": Expectation(Steps.stopped_in_order, Class.ORDER_VIOLATED),
    "claims-unchanged": Expectation(Steps.claims_unchanged, Class.CLAIM_REPLACED),
    "claim-count": Expectation(Steps.claim_count, Class.CLAIM_MISSING, {"count": r"\d+"}, frozenset({"count"})),
    "pod-replaced": Expectation(Steps.pod_replaced, Class.HOSTNAME_CHANGED),
    "new-disk-empty": Expectation(Steps.new_disk_empty, None),
    "files-kept": Expectation(Steps.files_kept, None),
    "path-is-mount": Expectation(Steps.path_is_mount, Class.NOT_MOUNTED),
}


def _ordinal(pod: str) -> int:
    return int(pod.rpartition("-")[2])


def _claim_text(claim: Seen) -> str:
    if not claim:
        return "no claim"
    return f"claim {claim['name']} ({claim['uid']}) {claim.get('phase', '')} to {claim.get('volume', 'nothing')}"
