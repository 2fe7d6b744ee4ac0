"""The target: which container, path and claim an experiment means, and which names follow from it."""

from __future__ import annotations

from typing import Any

import pytest

from chaosd.cluster import objects
from chaosd.cluster import target as targets
from chaosd.cluster.port import StatefulSet
from chaosd.cluster.target import Target
from chaosd.errors import TargetError
from tests import manifests
from tests.manifests import Document


def _statefulset(change: Any = None, **options: Any) -> StatefulSet:
    document: Document = manifests.statefulset(**options)
    if change:
        change(document["spec"])
    return objects.statefulset(document)


def _resolve(found: StatefulSet, *, path: str = "", container: str = "", require_claim: bool = True) -> Target:
    return targets.resolve(found, path=path, container=container, require_claim=require_claim)


def test_without_a_path_it_is_where_the_first_claim_is_mounted() -> None:
    target = _resolve(_statefulset())
    assert (target.container, target.path, target.template) == ("app", "/data", "disk")
    assert target.pods == ("web-0", "web-1")
    assert target.claim("web-1") == "disk-web-1"


def test_a_trailing_slash_is_the_same_path() -> None:
    assert _resolve(_statefulset(), path="/data/").path == "/data"


def _sidecar_first(spec: Document) -> None:
    sidecar = {"name": "proxy", "image": "proxy", "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}
    spec["template"]["spec"]["containers"].insert(0, sidecar)
    spec["template"]["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}]


def test_the_container_is_the_first_that_mounts_it() -> None:
    assert _resolve(_statefulset(_sidecar_first)).container == "app"
    with pytest.raises(TargetError, match="nothing is mounted at /data: name one of /tmp"):
        _resolve(_statefulset(_sidecar_first), path="/data", container="proxy")


def test_ordinals_may_begin_later() -> None:
    def later(spec: Document) -> None:
        spec["ordinals"] = {"start": 3}

    target = _resolve(_statefulset(later))
    assert target.pods == ("web-3", "web-4")
    assert target.replicas_up_to(1) == ("default/web-3",)


@pytest.mark.parametrize(
    ("claim", "pod"),
    [
        ("disk-web-0", "web-0"),
        ("disk-web-12", "web-12"),
        ("disk-web-x", None),
        ("disk-webber-0", None),
        ("other-web-0", None),
        ("disk-web-0-old", None),
    ],
)
def test_whose_claim_it_is(claim: str, pod: str | None) -> None:
    assert _resolve(_statefulset()).pod_of_claim(claim, ("disk",)) == pod


def test_what_it_says_of_a_path_without_a_claim() -> None:
    with pytest.raises(TargetError, match="no claim is behind /data, but emptyDir"):
        _resolve(_statefulset(claim=False), path="/data")
    with pytest.raises(TargetError, match="no container mounts a volumeClaimTemplate: name a path"):
        _resolve(_statefulset(claim=False))
    assert _resolve(_statefulset(claim=False), path="/data", require_claim=False).template == ""


def test_no_label_no_test() -> None:
    with pytest.raises(TargetError, match="is not labelled as a target"):
        _resolve(_statefulset(label=False))
