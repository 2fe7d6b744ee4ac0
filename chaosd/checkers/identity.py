"""Identity: does the pod that came back have the name and the hostname of the one before?

Pure; judged from what the probe read inside the pod when a session was opened. Source: Kubernetes docs, "StatefulSets",
Stable Network ID: the hostname of each pod is $(statefulset name)-$(ordinal); with setHostnameAsFQDN it has the domain
after it.
"""

from __future__ import annotations

from chaosd.checkers.verdict import Binding, Class, Unknown, Verdict, Violation
from chaosd.history import OBSERVER, Kind, Op


class Identity:
    """Folds the `open` ops of every replica."""

    name = "identity"
    follows = frozenset({"open"})

    def __init__(self) -> None:
        self._host_network = False
        self._violations: dict[str, Violation] = {}
        self._seen = False
        self._unreadable: dict[str, str] = {}

    def step(self, op: Op) -> None:
        """Take in the next op."""
        if op.process == OBSERVER and op.f == "statefulset":
            self._host_network = op.value.get("host_network", False)
        if op.f != "open" or op.kind is not Kind.OK:
            return
        hostname, name = op.value.get("hostname", ""), op.process.split("/", 1)[1]
        if not hostname:
            self._unreadable[op.process] = "the probe could not read the hostname"
            return
        self._unreadable.pop(op.process, None)
        self._seen = True
        if hostname.partition(".")[0] != name and op.process not in self._violations:
            evidence = {"hostname": {"wanted": name, "is": hostname}, "pod_uid": op.value["pod_uid"]}
            binding = Binding(**op.value.get("binding", {}))
            self._violations[op.process] = Violation(
                Class.HOSTNAME_CHANGED, op.process, op.index, -1, binding, evidence=evidence
            )

    def verdict(self) -> Verdict:
        """Fail where a hostname is another than the pod's name, unknown where it was never read."""
        if self._host_network:
            return Verdict(self.name, not_applicable=("hostNetwork: the pods have their nodes' hostnames",))
        unknowns = [Unknown(replica, why) for replica, why in sorted(self._unreadable.items())]
        if not self._seen and not unknowns:
            unknowns.append(Unknown("target", "no session was opened, so no hostname was read"))
        return Verdict(self.name, tuple(self._violations.values()), tuple(unknowns))
