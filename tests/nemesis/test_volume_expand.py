"""`volume-expand`: only chaosd's own targets grow, and the evidence has both capacities."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from chaosd.cluster.port import OWN_LABEL, Claim
from chaosd.errors import BlockedError, NotReadyError, RefusedError, UnreachableError
from chaosd.nemesis.volume_expand import larger
from tests import manifests
from tests.nemesis.stage import spec, stage


def _own() -> dict[str, Any]:
    document = manifests.statefulset(replicas=2)
    document["metadata"]["labels"][OWN_LABEL] = "true"
    return document


async def test_the_claim_has_the_larger_capacity_and_the_others_have_not() -> None:
    async with stage(_own()) as on:
        evidence = await on.done(spec("volume-expand", by="1Gi", ordinal=1))
        assert evidence == {"claim": "disk-web-1", "capacity": {"was": "1Gi", "is": "2048Mi"}}
        assert {name: claim.capacity for name, claim in on.view.claims.items()} == {
            "disk-web-0": "1Gi",
            "disk-web-1": "2048Mi",
        }


async def test_a_target_that_is_not_chaosds_own_is_left() -> None:
    async with stage() as on:
        with pytest.raises(NotReadyError, match="default/web is not chaosd's own"):
            on.prepared(spec("volume-expand", by=2.0))


async def test_a_class_that_does_not_allow_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise RefusedError("only dynamically provisioned pvc can be resized")

    async with stage(_own()) as on:
        monkeypatch.setattr(on.cluster, "expand_claim", refused)
        with pytest.raises(BlockedError, match="cannot be expanded to 2048Mi: only dynamically") as caught:
            await on.done(spec("volume-expand", by=2.0))
        assert caught.value.reason == "refused"


async def test_an_answer_that_was_lost_is_known_by_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(_own()) as on:
        expand, lost = on.cluster.expand_claim, iter([True])

        async def loses(*args: str, **meant: str) -> None:
            await expand(*args, **meant)
            if next(lost, False):
                raise UnreachableError("the connection broke")

        monkeypatch.setattr(on.cluster, "expand_claim", loses)
        evidence = await on.done(spec("volume-expand", by="1Gi", ordinal=0))
        assert evidence["capacity"] == {"was": "1Gi", "is": "2048Mi"}


async def test_a_refusal_after_an_answer_that_was_lost_is_one_where_nothing_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcomes = iter([UnreachableError("the connection broke"), RefusedError("a quota is used up")])

    async def refused(*_: object, **__: object) -> None:
        raise next(outcomes)

    async with stage(_own()) as on:
        monkeypatch.setattr(on.cluster, "expand_claim", refused)
        with pytest.raises(BlockedError, match="a quota is used up"):
            await on.done(spec("volume-expand", by="1Gi", ordinal=0))


@pytest.mark.parametrize(
    ("requested", "by", "wanted"),
    [("1Gi", "1Gi", "2048Mi"), ("20Gi", 1.5, "30720Mi"), ("1000M", 1.1, "1050Mi"), ("10Mi", "1", "11Mi")],
)
def test_sizes_are_added_or_multiplied_and_rounded_up_to_mebibytes(requested: str, by: str | float, wanted: str) -> None:
    assert larger(Claim("ns", "disk", "uid", "Bound", requested=requested), by) == wanted


@pytest.mark.parametrize("by", [1.0, 0.5, "0Gi", "a lot", float("inf")])
def test_what_does_not_grow_is_refused(by: object) -> None:
    with pytest.raises(ValidationError):
        spec("volume-expand", by=by)
