"""Binding: does each replica still have its claim, its claim its volume, its volume its disk?

Pure; judged from what the informers saw of claims, volumes and pods. What a replica had when the run first saw it whole
is the baseline. Source: Kubernetes docs, "StatefulSets", Stable Storage; "Persistent Volumes", Binding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chaosd.checkers.verdict import Binding, Class, Unknown, Verdict, Violation
from chaosd.history import NEMESIS, OBSERVER, RUN, Kind, Op, disruptions_of

Seen = Mapping[str, Any]

# What bindings are judged by, and another right than that to the target's namespace is needed for.
_NEEDED = frozenset({"volume", "attachment", "node"})
_WITH_NAMESPACE = "deleted with its namespace"
# What leaves a claim with another volume.
_REPLACED = frozenset({Class.CLAIM_REPLACED, Class.VOLUME_REBOUND})


@dataclass(slots=True)
class ClaimHistory:
    """One claim of a replica: how it was first seen bound (`first`, at op `since`), and how it is now.

    `wanted` says that its replica was wanted at some time of this run: a claim that an earlier scale left is nobody's
    promise. `moved`: it is on another volume than at first, which was told. `may_go`: why the StatefulSet's retention
    policy allows its deletion, once it does.
    """

    replica: str
    ordinal: int
    first: Binding | None = None
    since: int = -1
    now: Seen | None = None
    changed_at: int = -1
    wanted: bool = False
    moved: bool = False
    may_go: str = ""


class BindingChecker:
    """Folds observations of the StatefulSet, its pods, claims and volumes."""

    name = "binding"
    follows: frozenset[str] = frozenset()

    def __init__(self) -> None:
        # UIDs of the claims that the last op showed to have gone by policy: what was written to them is no longer owed.
        self.released: tuple[str, ...] = ()
        self.claims: dict[str, ClaimHistory] = {}
        self._statefulset: Seen = {}
        self._present: set[str] | None = None  # since a watch of claims began: those that it told
        self._volumes: dict[str, Seen] = {}
        self._present_volumes: set[str] = set()
        self._deleted_by_policy: dict[str, str] = {}  # claims by name, and why
        self._gone_unseen: dict[str, tuple[str, str]] = {}  # claims by name: their replicas, and the policy that may be why
        self._round_ended_at = -1
        self._made_anew = False  # the StatefulSet, since it was first seen
        self._lasting: dict[tuple[str, Class], Violation] = {}
        self._settled: list[Violation] = []  # of claims that have a new baseline since
        self._mismatches: dict[str, Violation] = {}
        self._unseen: dict[str, str] = {}

    def step(self, op: Op) -> None:
        """Take in the next op."""
        self.released = ()
        if op.process == OBSERVER and op.f in _FOLDS:
            _FOLDS[op.f](self, op)
        elif op.process == RUN and op.f == "round" and op.kind is Kind.OK:
            self._round_ended_at = op.index
            self._forget_volumes()
        elif op.process == NEMESIS and op.kind is Kind.INVOKE:
            for kind, disruption in disruptions_of(op):
                if kind in ("scale", "scale-flap"):
                    self._scaling_asked(disruption)

    def verdict(self) -> Verdict:
        """Compares what each claim was bound to first with what it is bound to now."""
        if self._statefulset and not self._statefulset.get("template_claims"):
            return Verdict(self.name, not_applicable=("the StatefulSet has no volumeClaimTemplates",))
        now = {(n, v.failure): v for n, claim in self.claims.items() for v in self._violations(n, claim)}
        violations = (*self._settled, *{**self._lasting, **now}.values(), *self._mismatches.values())
        return Verdict(
            self.name,
            violations=violations,
            unknowns=tuple(self._unknowns()),
            by_policy=tuple(f"{name}: {why}" for name, why in sorted(self._deleted_by_policy.items())),
            not_applicable=self._not_applicable(),
            measured={"claims": len(self.claims)},
        )

    def _violations(self, name: str, claim: ClaimHistory) -> Iterator[Violation]:
        if claim.first is None or not claim.wanted:
            return
        if claim.now is None:
            yield self._violation(claim, Class.CLAIM_MISSING, {"claim": name, "seen_last": claim.first.claim_uid})
            return
        if claim.now["uid"] != claim.first.claim_uid:
            evidence = {"claim_uid": {"was": claim.first.claim_uid, "is": claim.now["uid"]}}
            yield self._violation(claim, Class.CLAIM_REPLACED, {**evidence, "volume_now": claim.now.get("volume", "")})
        elif claim.now.get("phase") == "Lost":
            yield self._violation(claim, Class.CLAIM_LOST, {"phase": "Lost", "volume": claim.first.volume})
        elif claim.now.get("volume", "") != claim.first.volume:
            evidence = {"volume": {"was": claim.first.volume, "is": claim.now.get("volume", "")}}
            yield self._violation(claim, Class.VOLUME_REBOUND, evidence)
        else:
            yield from self._handle_changed(claim)
            yield from self._double_bound(claim)

    def _handle_changed(self, claim: ClaimHistory) -> Iterator[Violation]:
        assert claim.first is not None, "asked by _violations"
        volume = self._volumes.get(claim.first.volume)
        if volume and claim.first.handle and volume.get("handle", "") != claim.first.handle:
            evidence = {"volume_handle": {"was": claim.first.handle, "is": volume.get("handle", "")}}
            yield self._violation(claim, Class.HANDLE_CHANGED, evidence)

    def _double_bound(self, claim: ClaimHistory) -> Iterator[Violation]:
        """A claim that came to a volume or disk which another claim has already (kubernetes/kubernetes#23886, #111006);
        who was there first is not accused, nor one of which it was told that it came there."""
        assert claim.first is not None, "asked by _violations"
        if claim.moved:
            return
        volume = self._volumes.get(claim.first.volume, {})
        owner = volume.get("claim_uid", "")
        if owner and owner != claim.first.claim_uid and volume["name"] in self._present_volumes:
            evidence = {"volume": volume["name"], "claim_uid": claim.first.claim_uid, "volume_is_claimed_by": owner}
            owners = (c.replica for c in self.claims.values() if c.first and c.first.claim_uid == owner)
            yield self._violation(claim, Class.DOUBLE_BOUND, evidence, *owners)
            return
        for other in self.claims.values():
            if other.first is None or other.now is None or other.since >= claim.since:
                continue
            if other.first.volume == claim.first.volume and not owner:
                evidence = {"volume": claim.first.volume, "claims": [other.first.claim, claim.first.claim]}
                yield self._violation(claim, Class.DOUBLE_BOUND, evidence, other.replica)
            elif other.first.handle and self._disk(other.first) == self._disk(claim.first):
                evidence = {"volume_handle": other.first.handle, "volumes": [other.first.volume, claim.first.volume]}
                yield self._violation(claim, Class.DOUBLE_BOUND, evidence, other.replica)

    def _disk(self, binding: Binding) -> tuple[str, str]:
        return self._volumes.get(binding.volume, {}).get("driver", ""), binding.handle

    def _keep(self, op: Op, name: str, claim: ClaimHistory) -> None:
        """What a claim or its volume was once is told even if it is put right again; that a claim is missing may be the
        moment before it is made anew, and is told by what came of it. Once it is bound to another volume, that is what it
        is held against from then on."""
        for violation in self._violations(name, claim):
            if violation.failure in _REPLACED and claim.now and claim.now.get("phase") == "Bound":
                self._settled.append(violation)
                for failure in _REPLACED:
                    self._lasting.pop((name, failure), None)
                self._bound(op, claim, claim.now)
                claim.moved = True
            elif violation.failure is not Class.CLAIM_MISSING:
                self._lasting.setdefault((name, violation.failure), violation)

    def _bound(self, op: Op, claim: ClaimHistory, now: Seen) -> None:
        handle = self._volumes.get(now["volume"], {}).get("handle", "")
        claim.first, claim.since = Binding(now["name"], now["uid"], now["volume"], handle), op.index

    def _violation(self, claim: ClaimHistory, failure: Class, evidence: Seen, *shared_with: str) -> Violation:
        assert claim.first is not None, "a claim never seen bound breaks no promise"
        since, first = claim.since, claim.first
        return Violation(failure, claim.replica, claim.changed_at, since, first, evidence=evidence, shared_with=shared_with)

    def _unknowns(self) -> Iterator[Unknown]:
        yield from (Unknown(kind, why) for kind, why in sorted(self._unseen.items()))
        if not self._statefulset:
            yield Unknown("target", "the StatefulSet was never seen")
        for name, (replica, policy) in self._gone_unseen.items():
            yield Unknown(replica, f"claim {name} went while nobody watched: {policy}, or a fault")
        for name, claim in self.claims.items():
            if not claim.wanted:
                continue
            if claim.first is None and claim.now is not None:
                yield Unknown(claim.replica, f"claim {name} was never seen bound")
            elif claim.first and "volume" not in self._unseen and claim.first.volume not in self._volumes:
                yield Unknown(claim.replica, f"volume {claim.first.volume} of claim {name} was not seen")

    def _not_applicable(self) -> tuple[str, ...]:
        plain = sorted(v["name"] for v in self._volumes.values() if not v.get("driver"))
        return tuple(f"{name}: no CSI driver, so no volume handle" for name in plain)

    def _statefulset_seen(self, op: Op) -> None:
        """Claims of replicas that are not wanted any more may go where the policy says so."""
        self._made_anew |= self._statefulset.get("uid", op.value.get("uid")) != op.value.get("uid")
        self._statefulset = op.value
        for claim in self.claims.values():
            claim.wanted |= self._is_wanted(claim.ordinal)
            if self._is_gone and self._policy("retention_when_deleted") == "Delete":
                claim.may_go = claim.may_go or "deleted with its StatefulSet, as whenDeleted: Delete asks"
        if not self._is_gone:
            self._scaled_away(lambda ordinal: not self._is_wanted(ordinal))

    @property
    def _is_gone(self) -> bool:
        return self._statefulset.get("change") == "deleted" or bool(self._statefulset.get("deleting"))

    def _is_wanted(self, ordinal: int) -> bool:
        first = self._statefulset.get("first_ordinal", 0)
        return not self._is_gone and first <= ordinal < first + self._statefulset.get("replicas", 0)

    def _scaling_asked(self, disruption: Seen) -> None:
        """The watch may skip a count that did not last."""
        first = self._statefulset.get("first_ordinal", 0)
        self._scaled_away(lambda ordinal: ordinal >= first + disruption["to"])

    def _policy(self, which: str) -> str:
        return str(self._statefulset.get(which, "Retain"))

    def _scaled_away(self, is_away: Callable[[int], bool]) -> None:
        if self._policy("retention_when_scaled") != "Delete":
            return
        for claim in self.claims.values():
            if is_away(claim.ordinal):
                claim.may_go = claim.may_go or "deleted on scale-down, as whenScaled: Delete asks"

    def _pod_seen(self, op: Op) -> None:
        value = op.value
        replica = f"{value['namespace']}/{value['name']}"
        if value["change"] == "deleted":
            return
        if value.get("ready") and not value.get("deleting") and self._is_wanted(value["ordinal"]):
            self._kept(replica)
        if replica in self._mismatches:
            return
        for template in self._statefulset.get("template_claims", ()):
            wanted, mounted = f"{template}-{value['name']}", value.get("claims", {}).get(template)
            if mounted not in (wanted, None):
                evidence = {"claim": {"wanted": wanted, "mounted": mounted}, "pod_uid": value["uid"]}
                owner = self.claims.get(mounted)
                self._mismatches[replica] = Violation(
                    Class.CLAIM_MISMATCH,
                    replica,
                    op.index,
                    -1,
                    Binding(claim=wanted),
                    evidence=evidence,
                    shared_with=(owner.replica,) if owner else (),
                )

    def _kept(self, replica: str) -> None:
        """A replica that runs again on the claim that it had: the policy let it stay, and no longer lets it go."""
        for claim in self.claims.values():
            if claim.replica == replica and claim.now and not claim.now.get("deleting"):
                claim.may_go = ""

    def _watch(self, op: Op) -> None:
        kind, change = op.value["kind"], op.value["change"]
        if change == "synced":
            self._unseen.pop(kind, None)
        if kind == "volume" and change == "began":
            self._present_volumes.clear()
        if kind == "claim" and change == "began":
            self._present = set()
        elif kind == "claim" and change == "synced" and self._present is not None:
            for name, claim in self.claims.items():
                if claim.now is not None and name not in self._present:
                    self._gone_unwatched(op, name, claim)
            self._present = None

    def _gone_unwatched(self, op: Op, name: str, claim: ClaimHistory) -> None:
        """Deleted between a run and a later one: where the policy may have asked for it, no fault can be told from it."""
        if claim.first and (policy := self._policy_that_may_have_acted()):
            self._gone_unseen[name] = claim.replica, policy
            self._let_go(claim)
        else:
            claim.now, claim.changed_at = None, op.index

    def _policy_that_may_have_acted(self) -> str:
        """While nobody watched: a count that did not last is not seen any more, a StatefulSet that was made anew is."""
        if self._policy("retention_when_scaled") == "Delete":
            return "whenScaled: Delete"
        return "whenDeleted: Delete" if self._made_anew and self._policy("retention_when_deleted") == "Delete" else ""

    def _let_go(self, claim: ClaimHistory) -> None:
        assert claim.first is not None, "only what was bound is let go"
        self.released = (*self.released, claim.first.claim_uid)
        claim.first, claim.now, claim.may_go = None, None, ""

    def _claim_seen(self, op: Op) -> None:
        value = op.value
        replica = f"{value['namespace']}/{value['pod']}"
        claim = self.claims.setdefault(value["name"], ClaimHistory(replica, value["ordinal"]))
        if self._present is not None:
            self._present.add(value["name"])
        claim.wanted |= self._is_wanted(claim.ordinal)
        if not self._is_gone:
            self._scaled_away(lambda ordinal: ordinal == claim.ordinal and not self._is_wanted(ordinal))
        gone = value["change"] == "deleted"
        self._let_go_by_policy(claim, value, gone)
        now = None if gone else value
        if _differs(claim.now, now):
            claim.changed_at = op.index
        claim.now = now
        if claim.first is None and now and now.get("phase") == "Bound":
            self._bound(op, claim, now)
        self._keep(op, value["name"], claim)

    def _let_go_by_policy(self, claim: ClaimHistory, value: Seen, gone: bool) -> None:
        if claim.first is None:
            return
        remade = value["uid"] != claim.first.claim_uid
        remade_unwatched = self._present is not None and claim.now is not None and value["uid"] != claim.now["uid"]
        if remade_unwatched and (policy := self._policy_that_may_have_acted()):
            self._gone_unseen[value["name"]] = claim.replica, policy
            self._let_go(claim)
        elif claim.may_go and (gone or remade):
            self._deleted_by_policy[value["name"]] = claim.may_go
            self._let_go(claim)

    def _namespace_seen(self, op: Op) -> None:
        """It is being deleted, and with it every claim. That is seen a moment late, so some may have gone before: in that
        round, and not in one that ended without them."""
        for name, claim in self.claims.items():
            if claim.now is not None:
                claim.may_go = claim.may_go or _WITH_NAMESPACE
            elif claim.first and claim.changed_at > self._round_ended_at:
                self._deleted_by_policy[name] = _WITH_NAMESPACE
                self._let_go(claim)

    def _volume_seen(self, op: Op) -> None:
        value = op.value
        if value["change"] == "deleted":
            self._present_volumes.discard(value["name"])
            return
        self._present_volumes.add(value["name"])
        self._volumes[value["name"]] = value
        for name, claim in self.claims.items():
            first = claim.first
            if first and first.volume == value["name"]:
                other_handle = first.handle and first.handle != value.get("handle", "")
                if other_handle or value.get("claim_uid", first.claim_uid) != first.claim_uid:
                    claim.changed_at = op.index
                    self._keep(op, name, claim)
                elif not first.handle:
                    claim.first = replace(first, handle=value.get("handle", ""))

    def _forget_volumes(self) -> None:
        """Those that are gone and no claim is held against: a policy may let a claim have a new one in every round."""
        held_against = {claim.first.volume for claim in self.claims.values() if claim.first}
        known = self._present_volumes | held_against
        self._volumes = {name: seen for name, seen in self._volumes.items() if name in known}

    def _unobservable(self, op: Op) -> None:
        if op.value["kind"] in _NEEDED:
            self._unseen[op.value["kind"]] = op.value["error"]


def _differs(was: Seen | None, now: Seen | None) -> bool:
    if was is None or now is None:
        return was is not now
    return any(was.get(key) != now.get(key) for key in ("uid", "volume", "phase"))


_FOLDS = {
    "statefulset": BindingChecker._statefulset_seen,
    "pod": BindingChecker._pod_seen,
    "claim": BindingChecker._claim_seen,
    "volume": BindingChecker._volume_seen,
    "namespace": BindingChecker._namespace_seen,
    "unobservable": BindingChecker._unobservable,
    "watch": BindingChecker._watch,
}
