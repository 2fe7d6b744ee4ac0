"""`reschedule`: the volume moves to another node with its pod, where one may have it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaosd.cluster.port import Attachment, Volume
from chaosd.errors import NotReadyError
from tests.nemesis.stage import Stage, spec, stage


def _volume(on: Stage, pod: str) -> Volume:
    return on.view.volumes[on.view.claims[f"disk-{pod}"].volume]


async def test_the_pod_and_its_volume_move_to_another_node() -> None:
    async with stage() as on:
        was, volume, disruption = on.view.pods["web-1"].node, _volume(on, "web-1"), spec("reschedule", ordinal=1)
        prepared = on.prepared(disruption)
        evidence = await disruption.invoke(on.scene, prepared)
        now = on.view.pods["web-1"]
        assert evidence["node"] == {"was": was, "is": now.node}
        assert now.node != was
        attached = [a.node for a in on.cluster.store.all(Attachment) if a.volume == volume.name and a.attached]
        assert attached == [now.node]
        assert _volume(on, "web-1") == volume
        await on.healed(prepared.undo)
        assert not on.node(was).unschedulable


async def test_it_is_blocked_where_the_volume_may_be_on_no_other_node() -> None:
    async with stage() as on:
        node = on.view.pods["web-1"].node
        here = ((("kubernetes.io/hostname", "In", (node,)),),)
        await on.put(replace(_volume(on, "web-1"), node_terms=here), replace(on.node(node), labels=_named(node)))
        with pytest.raises(NotReadyError, match=r"the node affinity of pvc-.* allows no other node"):
            on.prepared(spec("reschedule", ordinal=1))
        assert on.prepared(spec("reschedule", ordinal=0)).more["elsewhere"]


async def test_it_is_blocked_where_no_other_node_takes_pods() -> None:
    async with stage() as on:
        other = next(node for node in on.view.all_nodes.values() if node.name != on.view.pods["web-1"].node)
        for unfit in (replace(other, tainted=True), replace(other, unschedulable=True), replace(other, ready=False)):
            await on.put(unfit)
            with pytest.raises(NotReadyError, match="no other node is Ready and takes pods"):
                on.prepared(spec("reschedule", ordinal=1))


def _named(node: str) -> dict[str, str]:
    return {"kubernetes.io/hostname": node}
