"""Coverage: what a run did, so that a pass can be weighed. A fold over the history, like a checker without an opinion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from chaosd.checkers.records import How, how_many
from chaosd.history import DRILL, NEMESIS, OBSERVER, RESTART, RUN, Kind, Op, replicas_hit

# What the nemesis does beside disturbing.
_NO_DISRUPTIONS = frozenset({"converge", "undo", "hold"})


class Coverage:
    """Counts of what really happened."""

    def __init__(self) -> None:
        self.restarts = 0
        self.disruptions: Counter[str] = Counter()
        self.not_done: Counter[str] = Counter()
        self.blocked: Counter[str] = Counter()  # by reason: what was refused, and for what a round was held back
        self.warnings: list[str] = []
        self.crashes = 0
        self.replicas_hit: set[str] = set()
        self.node_moves = 0
        self.scaled_to_zero = 0
        self.drill_passed = False  # in this run, before it began
        self.acknowledged: Counter[How] = Counter()
        self.not_acknowledged: Counter[str] = Counter()
        self.bytes_written = 0
        self.reads: Counter[str] = Counter()
        self.bytes_verified = 0
        self.retired = 0
        self.watch_gaps = 0
        self._nodes: dict[str, str] = {}  # on which each replica's pod was last
        self.rounds = 0  # that ended
        self._last_round = 0

    def step(self, op: Op) -> None:
        """Take in the next op."""
        if op.process == RUN:
            self.restarts += op.f == RESTART
            if op.f == "round" and op.kind is Kind.OK:
                # One that chaosd died in, or after, ends once more when it is started again.
                self.rounds += op.value["round"] != self._last_round
                self._last_round = op.value["round"]
            self.warnings += [op.value["warning"]] if op.f == "warning" else []
            self.drill_passed |= op.f == DRILL and not op.value["missed"]
        elif op.process == OBSERVER:
            self.watch_gaps += op.f == "watch" and op.value["change"] == "gap"
        elif op.process == NEMESIS:
            self._nemesis(op)
        elif op.kind is not Kind.INVOKE:
            self._data(op)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, as it stands in `verdict.json`."""
        return {
            "rounds": self.rounds,
            "disruptions": dict(sorted(self.disruptions.items())),
            "disruptions_not_done": dict(sorted(self.not_done.items())),
            "disruptions_blocked": dict(sorted(self.blocked.items())),
            "crashes": self.crashes,
            "replicas_hit": sorted(self.replicas_hit),
            "node_moves": self.node_moves,
            "scaled_to_zero": self.scaled_to_zero,
            "drill_passed": self.drill_passed,
            "files_acknowledged": self.acknowledged[How.CREATE],
            "overwrites_acknowledged": self.acknowledged[How.REPLACE] + self.acknowledged[How.OVERWRITE],
            "log_entries_acknowledged": self.acknowledged[How.APPEND],
            "bytes_acknowledged": self.bytes_written,
            "writes_failed": self.not_acknowledged["fail"],
            "writes_unanswered": self.not_acknowledged["info"],
            "records_verified_cold": self.reads["cold"],
            "records_verified_cached": self.reads["cached"],
            "bytes_verified": self.bytes_verified,
            "readings_failed": self.reads["failed"],
            "records_retired": self.retired,
            "watch_gaps": self.watch_gaps,
            "warnings": self.warnings,
            "chaosd_restarts": self.restarts,
        }

    def _nemesis(self, op: Op) -> None:
        self.blocked.update([op.value["blocked"]] if "blocked" in op.value else [])
        if op.f in _NO_DISRUPTIONS:
            return
        if op.kind is Kind.INVOKE:
            self.replicas_hit |= replicas_hit(op)
            return
        self.crashes += bool(op.value.get("evidence", {}).get("crash"))
        counted = self.disruptions if op.kind is Kind.OK else self.not_done
        counted[op.f] += 1
        self.scaled_to_zero += op.kind is Kind.OK and op.f == "scale" and op.value["evidence"]["to"] == 0

    def _data(self, op: Op) -> None:
        if op.f == "open":
            self._opened(op)
        elif op.f == "write":
            self._written(op)
        elif op.f == "read":
            records = how_many(op.value["sequences"])
            finding = op.value["finding"] if op.kind is Kind.OK else "failed"
            self.reads[op.value["cache"] if finding in ("intact", "unsettled") else finding] += records
            self.bytes_verified += op.value.get("bytes", 0)
        elif op.f == "delete" and op.kind is Kind.OK:
            self.retired += how_many(op.value["sequences"])

    def _opened(self, op: Op) -> None:
        if op.kind is Kind.OK and (node := op.value.get("binding", {}).get("node")):
            self.node_moves += self._nodes.get(op.process, node) != node
            self._nodes[op.process] = node

    def _written(self, op: Op) -> None:
        if op.kind is Kind.OK:
            self.acknowledged[How(op.value.get("how", How.CREATE))] += 1
            self.bytes_written += op.value["length"]
        else:
            self.not_acknowledged[op.kind] += 1


def notes(coverage: Mapping[str, Any]) -> Iterator[str]:
    """What weakens a verdict, whatever it says; of coverage as it stands in `verdict.json`."""
    yield from coverage["warnings"]
    if coverage["records_verified_cached"] and not coverage["records_verified_cold"]:
        yield (
            "no reading was cold: each may have come from the page cache of the pod's node, since its file system takes no "
            "O_DIRECT, and it was not proven that pages were dropped"
        )
    if restarts := coverage["chaosd_restarts"]:
        yield f"chaosd itself died and was started again {restarts} times: what it was doing then is counted as unanswered"
