"""Guards of state, each refusing for its own reason, and nothing refusing what is well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaosd.cluster.port import Autoscaler, StatefulSet
from chaosd.guards import REASONS, Guards, Situation, gitops, unsafe

WEB = StatefulSet("default", "web", "uid", 3, current_revision="a", update_revision="a", updated_replicas=3)
WELL = Situation(statefulset=WEB, found=3, terminating=False, late={}, takes=frozenset({"web-0"}), scales=False)
HPA = Autoscaler("default", "web", "hpa", "HorizontalPodAutoscaler", "StatefulSet/web")


def reason(guards: dict[str, Any] | None = None, *, web: dict[str, Any] | None = None, **met: Any) -> str:
    situation = replace(WELL, statefulset=replace(WEB, **(web or {})), **met)
    refusal = unsafe(Guards.model_validate(guards or {}), situation)
    if refusal is None:
        return ""
    assert refusal.reason in REASONS
    assert refusal.why
    return refusal.reason


def test_what_is_well_is_not_refused() -> None:
    assert reason() == ""


def test_what_is_being_deleted_is_let_go() -> None:
    assert reason(terminating=True) == "terminating"
    assert reason(web={"deleting": True}) == "terminating"


def test_what_has_not_converged_is_let_be() -> None:
    assert reason(late={"web-1": "no pod"}) == "not_converged"


ROLLING = {"current_revision": "a", "update_revision": "b"}


@pytest.mark.parametrize(
    ("web", "expected"),
    [
        (ROLLING | {"updated_replicas": 2}, "rollout"),
        (ROLLING | {"updated_replicas": 0}, "rollout"),
        (ROLLING | {"updated_replicas": 1, "partition": 2}, ""),  # a canary, as far as its partition lets it go
        (ROLLING | {"updated_replicas": 0, "partition": 2}, "rollout"),
        (ROLLING | {"updated_replicas": 0, "partition": 3}, ""),
        (ROLLING | {"updated_replicas": 2, "partition": 6, "first_ordinal": 5}, ""),
        (ROLLING | {"updated_replicas": 0, "update_strategy": "OnDelete"}, "rollout"),
        (ROLLING | {"updated_replicas": 3, "update_strategy": "OnDelete"}, "rollout"),
        ({"update_strategy": "OnDelete"}, ""),
    ],
)
def test_a_rollout_is_not_disturbed(web: dict[str, Any], expected: str) -> None:
    assert reason(web=web) == expected


def test_whose_count_an_autoscaler_owns_is_not_scaled() -> None:
    assert reason(scales=True, autoscalers=(HPA,)) == "autoscaler"
    assert reason(scales=False, autoscalers=(HPA,)) == ""
    assert reason(scales=True, autoscalers=(replace(HPA, target="Deployment/web"),)) == ""


@pytest.mark.parametrize(
    ("limit", "takes", "expected"),
    [
        (1, ["web-0"], ""),
        (1, ["web-0", "web-1"], "unavailable"),
        (0, ["web-0"], "unavailable"),
        ("67%", ["web-0", "web-1"], ""),
        ("66%", ["web-0", "web-1"], "unavailable"),  # of 3, rounded down: 1
        ("100%", ["web-0", "web-1", "web-2"], ""),
    ],
)
def test_no_more_are_unavailable_than_may_be(limit: int | str, takes: list[str], expected: str) -> None:
    assert reason({"maxUnavailable": limit}, takes=frozenset(takes)) == expected


def test_what_was_scaled_away_before_is_unavailable_too() -> None:
    fewer, one = {"replicas": 2}, frozenset({"web-0"})
    assert reason({"maxUnavailable": 1}, web=fewer, takes=one) == "unavailable"
    assert reason({"maxUnavailable": 2}, web=fewer, takes=one) == ""
    assert reason({"maxUnavailable": 0}, web=fewer, takes=frozenset()) == "", "up again is always allowed"


def test_a_disruption_that_takes_none_is_none_too_many() -> None:
    assert reason({"maxUnavailable": 0}, takes=frozenset()) == ""


@pytest.mark.parametrize(
    ("min_free", "expected"), [("10%", "room"), ("5%", ""), ("51Ki", ""), ("52Ki", "room"), ("0%", ""), (0, "")]
)
def test_a_volume_that_is_nearly_full_is_let_be(min_free: str | int, expected: str) -> None:
    space = {"default/web-0": (1 << 20, 1 << 20), "default/web-1": (51 << 10, 1000 << 10)}
    assert reason({"minFree": min_free}, space=space) == expected


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "web:apps/StatefulSet:default/web"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "Flux"),
        ({"labels": {"app": "web"}}, ""),
    ],
)
def test_who_manages_it_from_a_repository_is_told(marks: dict[str, Any], expected: str) -> None:
    assert gitops(replace(WEB, **marks)) == expected


@pytest.mark.parametrize(
    ("guards", "namespace", "why"),
    [
        ({}, "default", ""),
        ({}, "kube-system", "guards.denyNamespaces has kube-system"),
        ({"denyNamespaces": ["prod-*"]}, "prod-eu", "guards.denyNamespaces has prod-*"),
        ({"denyNamespaces": []}, "kube-system", ""),
        ({"allowNamespaces": ["soak-*", "test"]}, "soak-1", ""),
        ({"allowNamespaces": ["soak-*", "test"]}, "testing", "guards.allowNamespaces has only soak-*, test"),
        ({"allowNamespaces": []}, "default", "guards.allowNamespaces has only nothing"),
        ({"allowNamespaces": ["*"], "denyNamespaces": ["d?fault"]}, "default", "guards.denyNamespaces has d?fault"),
    ],
)
def test_a_namespace_is_tested_only_if_it_may_be(guards: dict[str, Any], namespace: str, why: str) -> None:
    assert Guards.model_validate(guards).denies(namespace) == why
