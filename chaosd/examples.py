"""Examples of every command, as its `--help` and the reference show them: a command line, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXAMPLES: Mapping[str, Sequence[tuple[str, str]]] = {
    "run": (
        ("chaosd run statefulset/db -n shop", "five random rounds on one StatefulSet"),
        ("chaosd run experiments/soak.yaml --rounds 20 --seed 7", "the decisions of an earlier run once more"),
        ("chaosd run experiments/soak.yaml --cluster sandbox --duration 10m", "without a cluster, in a simulated one"),
    ),
    "plan": (
        ("chaosd plan statefulset/db -n shop", "what a run would touch and decide; only reads"),
        ("chaosd plan experiments/drain.yaml --seed 7 --json", "for a script"),
    ),
    "preflight": (
        ("chaosd preflight statefulset/db -n shop", "whether rights, labels or room are missing, and how to mend it"),
        ("chaosd preflight experiments/gate.yaml --context staging", "on another cluster of the kubeconfig"),
    ),
    "verify": (
        ("chaosd verify", "what the latest run, and older ones, are owed"),
        ("chaosd verify --run 01K8Z3J5T9V2B7N4M6Q8R0W1XY --ledger sqlite:///soak.db", "one run of another ledger"),
    ),
    "undo": (
        ("chaosd undo", "whatever dead runs left on any target"),
        ("chaosd undo statefulset/db -n shop", "on this one alone, even where its ledger is gone"),
    ),
    "pause": (
        ("chaosd pause statefulset/db -n shop", "nobody disrupts it any more"),
        ("chaosd pause namespace/shop", "nor anything else there"),
    ),
    "resume": (("chaosd resume namespace/shop", "runs may begin there again"),),
    "drill": (
        ("chaosd drill", "every fault, in simulated clusters, in less than a minute"),
        ("chaosd drill --class lost --class stale --count 20 --seed 7", "two classes, many times, repeatable"),
        ("chaosd drill --cluster kubernetes --storage-class fast", "on real storage, in a namespace of its own"),
    ),
    "gate": (
        ("chaosd gate experiments/gate.yaml", "may this ship? Ends with 0, 1 or 3"),
        ("chaosd gate experiments/gate.yaml --fail-fast --seed 7", "in a pipeline that is to end with the first violation"),
        ("chaosd gate my-gate.yaml --storage-class fast --storage-class slow", "a driver, on targets made for it"),
    ),
    "daemon": (
        ("chaosd daemon experiments/soak.yaml --listen 127.0.0.1:9187", "rounds for ever, with /metrics"),
        ("chaosd daemon experiments/ --ledger postgresql+psycopg://chaosd@db/chaosd", "a folder of them"),
    ),
    "shutdown": (
        ("chaosd shutdown experiments/ --deployment chaosd -n chaosd", "before the chart is uninstalled"),
        ("chaosd shutdown experiments/soak.yaml", "of a daemon that has ended already"),
    ),
    "history": (
        ("chaosd history", "the last twenty runs of chaosd-out/chaosd.db"),
        ("chaosd history --limit 5 --ledger sqlite:///soak.db --json", "of another ledger, for a script"),
    ),
    "show": (
        ("chaosd show", "what came of the latest run, so far where it still runs"),
        ("chaosd show 01K8Z3J5T9V2B7N4M6Q8R0W1XY --json", "of one, as verdict.json"),
    ),
    "report": (
        ("chaosd report", "the latest run as a page, chaosd-out/report.html"),
        ("chaosd report latest --format junit,markdown --out results", "for a pipeline"),
    ),
    "diff": (
        ("chaosd diff 01K8Z3J5T9V2B7N4M6Q8R0W1XY latest", "a new driver against the old"),
        ("chaosd diff 01K8Z3J5T9V2B7N4M6Q8R0W1XY latest --json", "for a script"),
    ),
    "disruptions": (
        ("chaosd disruptions", "what can be done to a target"),
        ("chaosd disruptions --rules", "the rights that it takes, for a Role"),
    ),
    "schema": (
        ("chaosd schema > experiment.schema.json", "for an editor"),
        ("chaosd schema verdict", "of verdict.json"),
    ),
}


def told(command: str) -> str:
    """The examples of a command, as they stand at the end of its help."""
    return "\n".join(["Examples:", *(f"  # {what}\n  {line}" for line, what in EXAMPLES[command])])
