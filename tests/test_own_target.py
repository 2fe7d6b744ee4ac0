"""A target of chaosd's own: made only with all rights, and deleted whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from chaosd import own_target as target
from chaosd.cluster import objects
from chaosd.cluster import target as targets
from chaosd.cluster.sandbox import manifest
from chaosd.drill import on_cluster
from chaosd.errors import AbortedError, NotReadyError, RefusedError, RightsError, UnreachableError
from chaosd.own_target import Wanted, own_target, statefulset
from chaosd.preflight.rights import NAMESPACED_WISHES, RIGHTS, Placed, placed
from chaosd.run import Ending
from chaosd.settings import Settings
from tests.cluster.kubernetes.api_server import ApiServer, page, refuses, says, serving, status

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
Json = dict[str, Any]


def _needed(namespace: str) -> list[Placed]:
    return placed(namespace, (*RIGHTS, ("delete", "pods")))


class Api:
    """An API server that makes what it is asked to, whose replicas are ready at once unless they are `waiting` for what a
    container waits for."""

    def __init__(self, server: ApiServer, kubeconfig: Path) -> None:
        self.server = server
        self.told: list[str] = []
        self.lacking: set[str] = set()
        self.waiting = ""
        self.warning = "no such image"
        self.reclaim_policy = "Delete"
        self.namespace = ""
        self._settings = Settings(cluster="kubernetes", kubeconfig=kubeconfig)
        server.on("POST", REVIEWS, self._review)
        server.on("POST", "/api/v1/namespaces", self._make_namespace)

    def own_target(self, ending: Ending | None = None, **wanted: Any) -> Any:
        """The context under test."""
        return own_target(self._settings, Wanted("drill", **wanted), _needed, ending or Ending(), self.told.append)

    def asked(self, *methods: str) -> list[str]:
        """Requests with these methods, but for reviews of rights: method and last part of the path."""
        found = [(method, path) for method, path, *_ in self.server.requests if method in methods and path != REVIEWS]
        return [f"{method} {path.replace(self.namespace, 'NS').rpartition('/')[2]}" for method, path in found]

    async def _review(self, request: web.Request) -> Json:
        asked = (await request.json())["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        return {"status": {"allowed": f"{asked['verb']} {resource}" not in self.lacking}}

    async def _make_namespace(self, request: web.Request) -> Json:
        self.namespace = (await request.json())["metadata"]["name"]
        inside, core = f"/apis/apps/v1/namespaces/{self.namespace}", f"/api/v1/namespaces/{self.namespace}"
        self.server.on("DELETE", core, says({}))
        self.server.on("POST", f"{inside}/statefulsets", self._make_statefulset)
        self.server.on("GET", f"{core}/pods", says(page()))
        self.server.on("GET", f"{core}/persistentvolumeclaims", says(page()))
        warning = {"type": "Warning", "reason": "Failed", "message": self.warning, "involvedObject": {"name": "drill-0"}}
        warning["metadata"] = {"name": "e", "namespace": self.namespace, "uid": "e"}
        self.server.on("GET", f"{core}/events", says(page(warning)))
        return {}

    async def _make_statefulset(self, request: web.Request) -> Json:
        found = await request.json()
        found["metadata"] |= {"uid": "s", "generation": 1}
        found["status"] = {"observedGeneration": 1}
        core = f"/api/v1/namespaces/{self.namespace}"
        self.server.on("GET", f"/apis/apps/v1/namespaces/{self.namespace}/statefulsets/drill", says(found))
        self.server.on("GET", f"{core}/pods", says(page(*(self._pod(f"drill-{n}") for n in (0, 1)))))
        claims = [self._claim(f"disk-drill-{n}", f"pv-{n}") for n in (0, 1)]
        self.server.on("GET", f"{core}/persistentvolumeclaims", says(page(*claims)))
        for number in (0, 1):
            volume = {"metadata": {"name": f"pv-{number}", "uid": f"v{number}"}}
            volume["spec"] = {"persistentVolumeReclaimPolicy": self.reclaim_policy}
            self.server.on("GET", f"/api/v1/persistentvolumes/pv-{number}", says(volume))
        return {}

    def _pod(self, name: str) -> Json:
        ready = "False" if self.waiting else "True"
        waits: Json = {"waiting": {"reason": self.waiting}} if self.waiting else {"running": {}}
        return {
            "metadata": {"name": name, "namespace": self.namespace, "uid": name},
            "spec": {"containers": [{"name": "shell"}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "shell", "containerID": "c://1", "state": waits}],
            },
        }

    def _claim(self, name: str, volume: str) -> Json:
        meta = {"name": name, "namespace": self.namespace, "uid": name}
        return {"metadata": meta, "spec": {"volumeName": volume}, "status": {"phase": "Bound"}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    server = ApiServer()
    async with serving(server, tmp_path):
        yield Api(server, tmp_path / "kubeconfig")


async def test_it_is_made_yields_once_it_is_ready_and_is_deleted(api: Api) -> None:
    async with api.own_target() as namespace:
        assert namespace == api.namespace
        assert namespace.startswith("chaosd-drill-")
        assert api.asked("POST", "DELETE") == ["POST namespaces", "POST statefulsets"]
    assert api.asked("POST", "DELETE") == ["POST namespaces", "POST statefulsets", "DELETE NS"]
    assert api.told[0] == f"namespace {namespace}"
    assert api.told[-1] == f"namespace {namespace} is deleted"


async def test_without_the_rights_nothing_is_made_and_all_that_lack_are_named(api: Api) -> None:
    api.lacking = {"create namespaces", "get pods", "delete pods"}
    with pytest.raises(RightsError, match="lack create on namespaces; get, delete on pods: grant them"):
        async with api.own_target():
            pass
    assert api.asked("POST", "DELETE") == []


async def test_a_namespace_that_admission_forbids_is_a_matter_of_rights(api: Api) -> None:
    api.server.on("POST", "/api/v1/namespaces", refuses(403, "names must begin with a team"))
    with pytest.raises(RightsError, match=r"the Namespace chaosd-drill-\w+ may not be made: .*begin with a team"):
        async with api.own_target():
            pass
    assert api.asked("DELETE") == []


async def test_it_is_deleted_when_the_statefulset_is_refused(api: Api) -> None:
    make = api._make_namespace

    async def refusing(request: web.Request) -> Json:
        made = await make(request)
        api.server.on("POST", f"/apis/apps/v1/namespaces/{api.namespace}/statefulsets", refuses(422, "spec.image"))
        return made

    api.server.on("POST", "/api/v1/namespaces", refusing)
    with pytest.raises(RefusedError, match=r"spec\.image"):
        async with api.own_target():
            pass
    assert api.asked("DELETE") == ["DELETE NS"]


async def test_it_is_deleted_when_the_answer_to_its_making_was_lost(api: Api) -> None:
    make = api._make_namespace

    async def loses(request: web.Request) -> web.Response:
        await make(request)
        return status(504, "the answer is lost")

    api.server.on("POST", "/api/v1/namespaces", loses)
    with pytest.raises(UnreachableError):
        async with api.own_target():
            pass
    assert api.asked("DELETE") == ["DELETE NS"]


async def test_an_image_that_cannot_be_pulled_is_told_with_what_the_cluster_said(api: Api) -> None:
    api.waiting = "ImagePullBackOff"
    words = "is not ready after 0 s: name another --image .*ImagePullBackOff.*drill-0: Failed: no such image"
    with pytest.raises(NotReadyError, match=words):
        async with api.own_target():
            pass
    assert api.asked("DELETE") == ["DELETE NS"]


async def test_a_storage_class_that_is_not_there_is_not_waited_for(api: Api) -> None:
    api.waiting, api.warning = "ContainerCreating", 'storageclass.storage.k8s.io "fsat" not found'
    with pytest.raises(NotReadyError, match=r'after 0 s: name another --image or --storage-class.*"fsat" not found'):
        async with api.own_target(storage_class="fsat"):
            pass
    assert api.asked("DELETE") == ["DELETE NS"]


async def test_replicas_that_do_not_come_are_waited_for_until_the_deadline(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "READY_SECONDS", 0.1)
    api.waiting = "ContainerCreating"
    with pytest.raises(NotReadyError, match="ContainerCreating"):
        async with api.own_target():
            pass
    assert [line for line in api.told if "ContainerCreating" in line] == api.told[1:2], "told once"
    assert api.asked("DELETE") == ["DELETE NS"]


async def test_a_signal_ends_the_waiting(api: Api) -> None:
    api.waiting, ending = "ContainerCreating", Ending()
    asyncio.get_running_loop().call_later(0.2, ending.because, "ended by SIGINT")
    with pytest.raises(AbortedError, match="ended by SIGINT"):
        async with api.own_target(ending):
            pass
    assert api.asked("DELETE") == ["DELETE NS"]


async def test_it_is_deleted_when_what_is_done_in_it_fails_or_is_cancelled(api: Api) -> None:
    async def drill(error: BaseException) -> None:
        async with api.own_target():
            raise error

    for number, error in enumerate((RuntimeError(), asyncio.CancelledError()), 1):
        with pytest.raises(type(error)):
            await drill(error)
        assert api.asked("DELETE")[number - 1].startswith("DELETE ")
        assert len(api.asked("DELETE")) == number


async def test_it_is_left_where_that_is_wanted(api: Api) -> None:
    async with api.own_target(keep=True):
        pass
    assert api.asked("DELETE") == []
    assert api.told[-1] == f"kept: kubectl delete namespace {api.namespace}"


async def test_what_cannot_be_deleted_is_told(api: Api) -> None:
    async with api.own_target():
        api.server.on("DELETE", f"/api/v1/namespaces/{api.namespace}", refuses(403, "not any more"))
    assert api.told[-1] == f"namespace {api.namespace} is left: kubectl delete namespace {api.namespace}"


async def test_what_is_deleted_already_is_deleted(api: Api) -> None:
    for code in (404, 409):
        async with api.own_target():
            api.server.on("DELETE", f"/api/v1/namespaces/{api.namespace}", refuses(code, "gone, or going"))
        assert api.told[-1] == f"namespace {api.namespace} is deleted"


async def test_volumes_that_stay_are_told(api: Api) -> None:
    api.reclaim_policy = "Retain"
    async with api.own_target():
        pass
    assert api.told[-1] == "its storage class retains volumes: kubectl delete persistentvolume pv-0 pv-1, and their disks"


def test_the_manifest_is_a_target_of_two_replicas_with_a_disk_each() -> None:
    document = statefulset("mine", Wanted("drill", "image", "class"))
    manifest.check(document)
    found = objects.statefulset({**document, "metadata": {**document["metadata"], "uid": "s"}})
    resolved = targets.resolve(found, path="", container="", require_claim=True)
    assert (resolved.key, resolved.replicas, resolved.path) == ("mine/drill", 2, "/data")
    (claim,) = document["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "class"
    assert document["spec"]["template"]["spec"]["containers"][0]["image"] == "image"
    (claim,) = statefulset("mine", Wanted("drill"))["spec"]["volumeClaimTemplates"]
    assert "storageClassName" not in claim["spec"], "the cluster's default"


def test_the_cluster_role_in_the_docs_has_the_rights_that_are_asked_for() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "drill.md").read_text()
    role = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    granted = {
        (verb, _with_group(resource, rule["apiGroups"][0]))
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    done = {(verb, resource) for verb, resource, _ in on_cluster._needed("mine")}
    assert granted == {*target.RIGHTS, *target.RIGHTS_INSIDE, *done, *NAMESPACED_WISHES}


def _with_group(resource: str, group: str) -> str:
    """`statefulsets/scale` of `apps` as `statefulsets.apps/scale`."""
    plural, *sub = resource.split("/")
    return "/".join([f"{plural}.{group}" if group else plural, *sub])
