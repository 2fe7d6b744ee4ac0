"""`csi-restart`: the plugin's pod on the replica's node is another, and no other pod is touched."""

from __future__ import annotations

import pytest

from chaosd.cluster.port import Pod
from chaosd.errors import BlockedError
from tests import manifests
from tests.nemesis.stage import Stage, spec, stage

# In the sandbox a StatefulSet stands for the DaemonSet: a pod that goes comes back where fewest are.
PLUGIN = manifests.statefulset(namespace="storage", name="plugin", replicas=2, claim=False, label=False)
SELECTOR = {"app": "plugin"}


def _plugins(on: Stage) -> dict[str, Pod]:
    return {pod.node: pod for pod in on.cluster.store.all(Pod, "storage")}


async def test_the_plugin_on_the_replicas_node_is_replaced() -> None:
    async with stage(manifests.statefulset(replicas=2), PLUGIN) as on:
        await on.scene.observer.wait(lambda _: all(p.ready for p in _plugins(on).values()) or None, 5, "the plugin")
        before, uids, node = _plugins(on), on.uids, on.view.pods["web-1"].node
        evidence = await on.done(spec("csi-restart", namespace="storage", selector=SELECTOR, ordinal=1))
        after = _plugins(on)
        assert (evidence["gone"], evidence["uid"], evidence["node"]) == ([before[node].uid], after[node].uid, node)
        assert after[node].ready
        assert [where for where in after if after[where].uid != before[where].uid] == [node]
        assert on.uids == uids


async def test_a_plugin_that_is_not_found_is_said() -> None:
    async with stage(manifests.statefulset(replicas=1)) as on:
        with pytest.raises(BlockedError, match=r"there are 0 pods in storage with .* not one: correct") as caught:
            await on.done(spec("csi-restart", namespace="storage", selector=SELECTOR))
        assert caught.value.reason == "not_ready"


def test_its_rights_are_in_the_plugins_namespace() -> None:
    needed = set(spec("csi-restart", namespace="storage", selector=SELECTOR).needs("default"))
    assert needed == {(verb, "pods", "storage") for verb in ("list", "watch", "delete")}
