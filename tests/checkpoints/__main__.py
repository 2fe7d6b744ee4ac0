"""Writes this version's checkpoint, from a simulated run in which a fault is found and a register is in doubt."""

from __future__ import annotations

import json

from chaosd import checkpoint
from chaosd.history import RUN, Kind
from tests.test_checkpoint import FOLDER, found_in, known_after, run_with_findings

if __name__ == "__main__":
    ops = run_with_findings()
    last = max(op.index for op in ops if op.process == RUN and op.f == "round" and op.kind is Kind.OK)
    folds = known_after(ops[: last + 1])
    written = {
        "shape": checkpoint.shape(),
        "index": last,
        "state": checkpoint.taken(last, *folds).state,
        "found": found_in(*folds[:2]),
    }
    (FOLDER / f"{checkpoint.VERSION}.json").write_text(json.dumps(written, separators=(",", ":")) + "\n")
