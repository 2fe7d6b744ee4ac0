"""Identity, by hand-written histories."""

from __future__ import annotations

from chaosd.checkers.identity import Identity
from chaosd.checkers.verdict import Value, Verdict
from chaosd.history import Event
from tests.histories import WEB_0, history, opened, statefulset


def judged(*events: Event) -> Verdict:
    checker = Identity()
    for op in history(*events):
        checker.step(op)
    return checker.verdict()


def test_a_hostname_that_is_the_pods_name_passes() -> None:
    assert judged(opened(WEB_0), opened(WEB_0, "pod-2")) == Verdict("identity")


def test_another_hostname_is_a_violation() -> None:
    verdict = judged(opened(WEB_0), opened(WEB_0, "pod-2", hostname="node-7"))
    (violation,) = verdict.violations
    assert violation.evidence == {"hostname": {"wanted": "web-0", "is": "node-7"}, "pod_uid": "pod-2"}


def test_a_hostname_that_could_not_be_read_is_unknown() -> None:
    assert judged(opened(WEB_0, hostname="")).value is Value.UNKNOWN


def test_no_session_at_all_is_unknown() -> None:
    assert judged().value is Value.UNKNOWN


def test_a_hostname_with_its_domain_passes() -> None:
    assert judged(opened(WEB_0, hostname="web-0.nginx.default.svc.cluster.local")).value is Value.PASS


def test_with_host_network_there_is_no_hostname_to_keep() -> None:
    verdict = judged(statefulset(1, host_network=True), opened(WEB_0, hostname="node-7"))
    assert verdict == Verdict("identity", not_applicable=("hostNetwork: the pods have their nodes' hostnames",))
