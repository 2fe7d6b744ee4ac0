"""Faults planted in a real Kubernetes itself: in its claims, volumes, attachments, names, in the order of its pods and in
etcd. Each is found under its class, no other is reported, and what follows from it stands in its evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import manifests
from tests.chaosd_process import Chaosd
from tests.e2e.lasting import Lasting
from tests.manifests import Document
from tests.real import RealCluster
from tests.waiting import until

# Every file stays owed; what cannot come back is not waited for long, and what can has time on a busy machine, too.
WORKLOAD = {"files": 8, "keep": 1.0}
SHORT = {"converge": "15s", "write": "10s", "read": "15s", "probe": "15s"}
DELETIONS = [{"kind": "pod-delete"}]
CLAIM, OTHER_CLAIM = "disk-web-1", "disk-web-0"


class Target:
    """The StatefulSet `web`, whose replica web-1 is what faults are planted under, and runs on it."""

    def __init__(
        self,
        real: RealCluster,
        namespace: str,
        start: Callable[..., Chaosd],
        run: Callable[..., Chaosd],
        experiment: Callable[..., Path],
        folder: Path,
    ) -> None:
        self.real = real
        self.namespace = namespace
        self.verify: Callable[[], Chaosd] = lambda: run("verify")
        self._start = start
        self._run = run
        self._experiment = experiment
        self._folder = folder
        self.afterwards = ExitStack()  # objects of no namespace do not go with it

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """In the namespace."""
        return self.real.kubectl(f"--namespace={self.namespace}", *args, stdin=stdin)

    def get(self, *args: str) -> Any:
        """Of the namespace."""
        return self.real.get(f"--namespace={self.namespace}", *args)

    def deploy(self, **options: Any) -> str:
        """Returns the handle of web-1's disk. Started at once, unless told otherwise: that is sooner."""
        defaults = {"image": self.real.image, "storage_class": self.real.storage_class, "pod_management": "Parallel"}
        self.real.apply(manifests.statefulset(namespace=self.namespace, **{**defaults, **options}))
        self.real.wait_ready(self.namespace, "web")
        return self.real.handle(self.namespace, CLAIM) if options.get("replicas", 2) > 1 else ""

    def done(self, **over: Any) -> Chaosd:
        """A run to its end."""
        return self._run("run", self._experiment(**{"workload": WORKLOAD, **over}), "-n", self.namespace)

    def passed(self) -> None:
        """A run after which there is something to harm, and nothing harmed."""
        done = self.done(rounds=1, disruptions=DELETIONS)
        assert done.code == 0, done.told

    def disturbed(self, plant: Callable[[], object]) -> Chaosd:
        """A run of one round, in whose disruption the fault is planted."""
        lasting = Lasting(self._folder)
        path = self._experiment(rounds=1, workload=WORKLOAD, timeouts=SHORT, disruptions=[lasting.disruption])
        with self._start("run", path, "-n", self.namespace) as process:
            process.until_line(lambda line: "round 1" in line)
            lasting.until_begun()
            plant()
            lasting.end()
            process.wait()
        return process

    def volume(self, claim: str = CLAIM) -> Any:
        """The PersistentVolume behind a claim."""
        return self.real.get("pv", self.get("pvc", claim)["spec"]["volumeName"])

    def forget_volume(self) -> Any:
        """Delete web-1's PersistentVolume as if nobody used it; returns what it was. The disk stays."""
        volume = self.volume()
        name = volume["metadata"]["name"]
        self.real.kubectl("delete", "pv", name, "--wait=false")
        self.real.kubectl("patch", "pv", name, "--type=merge", '--patch={"metadata": {"finalizers": null}}')
        self.real.kubectl("wait", f"pv/{name}", "--for=delete", "--timeout=180s")
        return volume

    def make_volume(self, like: Any, *, name: str = "", handle: str = "", **over: Any) -> None:
        """A PersistentVolume as another one is or was, for the same claim, with some of it replaced."""
        claim = {**like["spec"]["claimRef"], "resourceVersion": None}
        spec = {**like["spec"], "claimRef": claim, **over}
        spec["csi"] = {**spec["csi"], "volumeHandle": handle or spec["csi"]["volumeHandle"]}
        metadata = {"name": name or like["metadata"]["name"], "annotations": like["metadata"]["annotations"]}
        self.real.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})

    def until_bound(self) -> None:
        self.kubectl("wait", f"pvc/{CLAIM}", "--for=jsonpath={.status.phase}=Bound", "--timeout=180s")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody uses web-1's volume: kubelet never unmounts one that becomes another under a running pod."""
        volume = self.volume()["metadata"]["name"]
        self.kubectl("scale", "statefulset/web", "--replicas=0")
        until(lambda: not _attachments(self, volume), f"{volume} to be detached")
        yield
        self.kubectl("scale", "statefulset/web", "--replicas=2")
        self.real.wait_ready(self.namespace, "web")

    def replace_pod(self) -> None:
        """Delete web-1, and wait until it is Ready again."""
        self.kubectl("delete", "pod", "web-1")
        self.real.wait_ready(self.namespace, "web")


@pytest.fixture
def target(
    real: RealCluster,
    real_namespace: str,
    start: Callable[..., Chaosd],
    run: Callable[..., Chaosd],
    experiment: Callable[..., Path],
    tmp_path: Path,
) -> Iterator[Target]:
    target = Target(real, real_namespace, start, run, experiment, tmp_path)
    with target.afterwards:
        yield target


def test_a_claim_whose_volume_was_deleted_is_lost_until_the_volume_is_made_again(target: Target) -> None:
    """As docs/failures.md says how to mend it."""
    handle = target.deploy()
    forgotten: list[Any] = []

    def plant() -> None:
        forgotten.append(target.forget_volume())
        target.kubectl("wait", f"pvc/{CLAIM}", "--for=jsonpath={.status.phase}=Lost", "--timeout=180s")

    found = _only(target.disturbed(plant), "claim_lost", CLAIM, handle)
    assert _consequences(found) == {"not_recovered"}
    target.make_volume(forgotten[0])
    target.until_bound()
    assert _consequences(_only(target.verify(), "claim_lost", CLAIM, handle)) == {"not_recovered"}


def test_a_claim_that_a_quota_keeps_from_being_made_anew_is_missing(target: Target) -> None:
    handle = target.deploy()

    def plant() -> None:
        target.kubectl("create", "quota", "full", "--hard=persistentvolumeclaims=0")
        in_force = "--for=jsonpath={.status.hard.persistentvolumeclaims}=0"
        target.kubectl("wait", "quota/full", in_force, "--timeout=180s")
        target.kubectl("delete", "pvc", CLAIM, "--wait=false")
        target.kubectl("delete", "pod", "web-1")
        target.kubectl("wait", f"pvc/{CLAIM}", "--for=delete", "--timeout=180s")

    found = _only(target.disturbed(plant), "claim_missing", CLAIM, handle)
    assert found["evidence"]["claim"] == CLAIM


def test_a_volume_that_was_made_anew_on_another_disk_is_handle_changed(target: Target, testbed: Any) -> None:
    """A hand-written volume, while nobody watched; the pod that comes then stands on an empty disk."""
    handle = target.deploy()
    other = _new_disk(target, testbed, handle)
    target.passed()
    with target.away():
        target.make_volume(target.forget_volume(), handle=other)
        target.until_bound()
    found = _only(target.verify(), "handle_changed", CLAIM, handle)
    assert found["evidence"]["volume_handle"] == {"was": handle, "is": other}
    assert {"reformatted", "lost"} <= _consequences(found)


def test_a_claim_that_a_restored_etcd_binds_to_another_volume_is_volume_rebound(target: Target, testbed: Any) -> None:
    """No API can do it; the pod that comes then stands on an empty disk."""
    handle = target.deploy()
    other = _new_disk(target, testbed, handle)
    volume = target.volume()
    was = volume["metadata"]["name"]
    now = was[:-1] + ("0" if was[-1] != "0" else "1")

    def plant() -> None:
        # Of no claim, or the controller puts it right at once; and of no class, so that no other claim takes it.
        target.make_volume(volume, name=now, handle=other, claimRef=None, storageClassName="")
        with target.away():
            testbed.overwrite_in_etcd(f"persistentvolumeclaims/{target.namespace}/{CLAIM}", was, now)

    found = _only(target.disturbed(plant), "volume_rebound", CLAIM, handle)
    assert found["evidence"]["volume"] == {"was": was, "is": now}
    assert {"reformatted", "lost"} <= _consequences(found)


def test_a_second_volume_on_the_same_disk_is_double_bound(target: Target) -> None:
    """It was written by hand for the replica that is scaled up."""
    target.deploy(replicas=1, pod=_on_one_node(target))
    first = target.volume(OTHER_CLAIM)
    handle, second = first["spec"]["csi"]["volumeHandle"], f"{target.namespace}-second"
    reference = {"namespace": target.namespace, "name": CLAIM}
    target.make_volume(first, name=second, claimRef=reference, persistentVolumeReclaimPolicy="Retain")
    target.afterwards.callback(target.real.kubectl, "delete", "pv", second, "--wait=false")
    steps = [
        {"name": "write", "write": 8},
        {"name": "scale up", "disrupt": {"kind": "scale", "to": 2}},
        {"name": "write more", "write": 8, "disrupt": {"kind": "pod-delete", "count": "all"}, "verify": True},
    ]
    done = target.done(steps=steps, timeouts=SHORT | {"converge": "180s"}, rounds=None, disruptions=[])
    found = _only(done, "double_bound", CLAIM, handle)
    assert found["evidence"]["volumes"] == [first["metadata"]["name"], second]
    assert "foreign" in _consequences(found)


def test_a_pod_that_is_given_another_claim_is_claim_mismatch(target: Target) -> None:
    """By an admission policy; what both replicas see on the volume that they share are consequences."""
    target.deploy(pod=_on_one_node(target))

    def plant() -> None:
        _give_other_claim(target)
        target.replace_pod()

    found = _only(target.disturbed(plant), "claim_mismatch", CLAIM, "")
    assert found["evidence"]["claim"] == {"wanted": CLAIM, "mounted": OTHER_CLAIM}
    assert "foreign" in _consequences(found)


def test_a_disk_that_is_detached_in_use_and_attached_to_another_node_is_attached_elsewhere(target: Target) -> None:
    target.deploy()
    volume = target.volume()["metadata"]["name"]
    node = target.get("pod", "web-1")["spec"]["nodeName"]
    other = next(name for name in _nodes(target) if name != node)

    found = _only(target.disturbed(lambda: _attach(target, volume, other)), "attached_elsewhere", "", "")
    evidence = found["evidence"]
    assert (evidence["volume"], evidence["pod_node"], evidence["attached_to"]) == (volume, node, [other])


def test_a_disk_that_no_node_can_reach_is_not_recovered(target: Target) -> None:
    """A volume in a zone that has no node any more."""
    target.deploy()
    volume = target.volume()["metadata"]["name"]
    gone = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["gone"]}
    affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [gone]}]}}}

    def plant() -> None:
        _patch(target, "pv", volume, {"spec": affinity})
        target.kubectl("delete", "pod", "web-1")
        target.kubectl("wait", "pod/web-1", "--for=create", "--timeout=180s")
        target.kubectl("wait", "pod/web-1", "--for=condition=PodScheduled=false", "--timeout=180s")

    found = _only(target.disturbed(plant), "not_recovered", CLAIM, "")
    assert "node affinity" in found["evidence"]["state"]


def test_a_mount_option_that_the_kernel_refuses_is_not_recovered_and_no_damage(target: Target) -> None:
    target.deploy()
    volume = target.volume()["metadata"]["name"]

    def plant() -> None:
        _patch(target, "pv", volume, {"spec": {"mountOptions": ["nosuch"]}})
        target.kubectl("scale", "statefulset/web", "--replicas=1")
        until(lambda: not _attachments(target, volume), f"{volume} to be detached")
        target.kubectl("scale", "statefulset/web", "--replicas=2")
        target.real.event(target.namespace, "FailedMount", "bad option")

    found = _only(target.disturbed(plant), "not_recovered", CLAIM, "")
    assert "bad option, bad superblock" in found["evidence"]["events"]["FailedMount"]


def test_a_pod_that_is_made_before_its_turn_is_order_violated(target: Target) -> None:
    """By hand, and owned by the StatefulSet, while web-0 is on its way: until its configuration is there."""
    target.kubectl("create", "configmap", "needed")
    needs = {
        "name": "needs",
        "image": target.real.image,
        "command": ["true"],
        "envFrom": [{"configMapRef": {"name": "needed"}}],
    }
    target.deploy(pod_management="OrderedReady", pod={"initContainers": [needs]})

    def plant() -> None:
        early = target.get("pod", "web-1")
        target.kubectl("delete", "configmap", "needed")
        target.kubectl("scale", "statefulset/web", "--replicas=0")
        target.kubectl("wait", "pod/web-0", "pod/web-1", "--for=delete", "--timeout=180s")
        target.kubectl("scale", "statefulset/web", "--replicas=2")
        target.kubectl("wait", "pod/web-0", "--for=create", "--timeout=180s")
        _make_pod(target, early)
        target.kubectl("create", "configmap", "needed")
        target.real.wait_ready(target.namespace, "web")

    found = _only(target.disturbed(plant), "order_violated", "", "")
    assert found["evidence"]["problem"] == "web-0 had not been Ready when web-1 was created"


def test_a_hostname_that_somebody_set_in_the_pod_is_hostname_changed(target: Target) -> None:
    """Who debugs a pod with a privileged container shares its hostname."""
    handle = target.deploy()
    target.passed()
    debug = ("debug", "web-1", f"--image={target.real.image}", "--profile=sysadmin", "--quiet", "--container=debugger")
    target.kubectl(*debug, "--", "hostname", "other")
    state = "{.status.ephemeralContainerStatuses[0].state.terminated.exitCode}"
    target.kubectl("wait", "pod/web-1", f"--for=jsonpath={state}=0", "--timeout=180s")
    found = _only(target.verify(), "hostname_changed", CLAIM, handle)
    assert found["evidence"]["hostname"] == {"wanted": "web-1", "is": "other"}


def test_a_claim_that_grew_while_its_file_system_did_not_is_not_expanded(target: Target, testbed: Any) -> None:
    """A driver that forgets to grow the file system, and says that it did."""
    handle = target.deploy(storage_class=testbed.xfs_storage_class)
    target.kubectl("label", "statefulset", "web", "chaosd.io/own=true")
    target.passed()
    testbed.disks.stick(handle)
    done = target.done(rounds=1, disruptions=[{"kind": "volume-expand", "by": "1Gi", "ordinal": 1}])
    found = _only(done, "not_expanded", CLAIM, handle)
    assert done.verdict["coverage"]["disruptions"] == {"volume-expand": 1}
    assert found["evidence"]["capacity"] == {"was": "1Gi", "is": "2Gi"}
    size = found["evidence"]["total_bytes"]
    assert size["was"] == size["is"] < 1 << 30


def _only(done: Chaosd, failure: str, claim: str, handle: str) -> Any:
    """The one violation that there is, of web-1; of nobody else anything is unknown."""
    assert done.code == 1, done.told
    assert done.verdict["violations_by_class"] == {failure: 1}, json.dumps(done.verdict["violations"], indent=1)
    assert {unknown["subject"].rpartition("/")[2] for unknown in done.verdict["unknown"]} <= {"web-1"}
    (found,) = done.verdict["violations"]
    assert (found["pod"], found["claim"], found["volume_handle"]) == ("web-1", claim, handle)
    return found


def _consequences(found: Any) -> set[str]:
    return {consequence["class"] for consequence in found["evidence"].get("consequences", ())}


def _patch(target: Target, kind: str, name: str, patch: Document) -> None:
    target.kubectl("patch", kind, name, "--type=merge", f"--patch={json.dumps(patch)}")


def _new_disk(target: Target, testbed: Any, like: str) -> str:
    """An empty disk; it goes with its volume, or at the latest with the testbed."""
    handle = f"d-{target.namespace}"
    testbed.disks.create(handle, testbed.disks.image(like).stat().st_size)
    return handle


def _nodes(target: Target) -> list[str]:
    return [node["metadata"]["name"] for node in target.real.get("nodes")["items"]]


def _on_one_node(target: Target) -> Document:
    """Replicas that share a disk must share a node, where the disk is ReadWriteOnce."""
    return {"nodeSelector": {"kubernetes.io/hostname": _nodes(target)[0]}}


def _attachments(target: Target, volume: str) -> list[Any]:
    found = target.real.get("volumeattachments")["items"]
    return [attachment for attachment in found if attachment["spec"]["source"]["persistentVolumeName"] == volume]


def _attach(target: Target, volume: str, node: str) -> None:
    """Take a volume from its pod's node and attach it to another one."""
    (present,) = _attachments(target, volume)
    ours = f"{target.namespace}-elsewhere"
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment"}
    target.real.apply({**kind, "metadata": {"name": ours}, "spec": {**present["spec"], "nodeName": node}})
    target.afterwards.callback(target.real.kubectl, "delete", "volumeattachment", ours, "--wait=false")

    def attached() -> bool:
        """The controller may make the first one anew meanwhile."""
        found = {a["metadata"]["name"]: a.get("status", {}).get("attached") for a in _attachments(target, volume)}
        for name in found.keys() - {ours}:
            target.real.kubectl("delete", "volumeattachment", name, "--ignore-not-found")
        return bool(found[ours])

    until(attached, f"{volume} to be attached to {node}")


def _make_pod(target: Target, like: Any) -> None:
    """A pod as another one was, on any node."""
    kept = ("name", "namespace", "labels", "ownerReferences")
    metadata = {key: like["metadata"][key] for key in kept}
    spec = {key: value for key, value in like["spec"].items() if key != "nodeName"}
    target.kubectl("create", "--filename=-", stdin=json.dumps({**like, "metadata": metadata, "spec": spec}))


def _give_other_claim(target: Target) -> None:
    """From now on pods of the namespace get web-0's claim in place of web-1's."""
    kind, name = {"apiVersion": "admissionregistration.k8s.io/v1"}, target.namespace
    index = f'object.spec.volumes.map(v, has(v.persistentVolumeClaim) && v.persistentVolumeClaim.claimName == "{CLAIM}")'
    place = f'"/spec/volumes/" + string({index}.indexOf(true)) + "/persistentVolumeClaim/claimName"'
    replaced = f'[JSONPatch{{op: "replace", path: {place}, value: "{OTHER_CLAIM}"}}]'
    namespaced = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": target.namespace}}}
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {**namespaced, "resourceRules": [pods]},
        "matchConditions": [{"name": "mounts", "expression": f"{index}.exists(is, is)"}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": replaced}}],
    }
    binding = {"policyName": name, "matchResources": namespaced}
    metadata = {"name": name}
    target.real.apply(
        {**kind, "kind": "MutatingAdmissionPolicy", "metadata": metadata, "spec": policy},
        {**kind, "kind": "MutatingAdmissionPolicyBinding", "metadata": metadata, "spec": binding},
    )
    for what in ("mutatingadmissionpolicybinding", "mutatingadmissionpolicy"):
        target.afterwards.callback(target.real.kubectl, "delete", what, name)
    until(lambda: _claim_given(target) == OTHER_CLAIM, "the admission policy to be in force")


def _claim_given(target: Target) -> str:
    """Which claim a pod would get that asks for web-1's."""
    volume = {"name": "disk", "persistentVolumeClaim": {"claimName": CLAIM}}
    spec = {"containers": [{"name": "app", "image": target.real.image}], "volumes": [volume]}
    asks = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks"}, "spec": spec}
    made = target.kubectl("create", "--filename=-", "--dry-run=server", "--output=json", stdin=json.dumps(asks))
    return str(json.loads(made)["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"])
