"""The real cluster of the tests that are marked e2e: the one that KUBECONFIG names, else the one of tests/testbed."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from tests.manifests import Document
from tests.waiting import until

T = TypeVar("T")


def is_ready(pod: Document) -> bool:
    """Whether a pod's condition Ready is true."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))


class RealCluster:
    """A cluster that kubectl reaches, and what its workloads are made of."""

    def __init__(
        self, kubeconfig: str, kubectl: str, *, image: str, bare_image: str, storage_class: str, target: Path
    ) -> None:
        self.kubeconfig = kubeconfig
        self.target = target  # a kustomization of experiments/targets that runs here
        self.image = image
        self._bare_image = bare_image
        self.storage_class = storage_class
        self._kubectl = kubectl

    @classmethod
    def of_environment(cls) -> RealCluster:
        """The cluster in KUBECONFIG. The variables CHAOSD_E2E_IMAGE, _BARE_IMAGE, _STORAGE_CLASS and _TARGET (a
        kustomization) replace what the tests would take there."""
        kubectl = shutil.which("kubectl")
        if kubectl is None:
            raise RuntimeError("kubectl is not in PATH: install it, or unset KUBECONFIG to use tests/testbed")
        return cls(
            os.environ["KUBECONFIG"],
            kubectl,
            image=os.environ.get("CHAOSD_E2E_IMAGE", "nginx"),
            bare_image=os.environ.get("CHAOSD_E2E_BARE_IMAGE", ""),
            storage_class=os.environ.get("CHAOSD_E2E_STORAGE_CLASS", "standard"),
            target=Path(os.environ.get("CHAOSD_E2E_TARGET", "experiments/targets")),
        )

    @classmethod
    def of_testbed(cls) -> RealCluster:
        """The cluster of tests/testbed, which `tests/e2e/run` has started."""
        from testbed.fixture import Testbed
        from testbed.layout import BIN

        testbed = Testbed.up()
        return cls(
            str(testbed.kubeconfig),
            str(BIN / "kubectl"),
            image="testbed.local/nginx:1",
            bare_image="testbed.local/noshell:1",
            storage_class=testbed.storage_class,
            target=testbed.target,
        )

    @property
    def bare_image(self) -> str:
        """An image that has no shell, and runs for ever."""
        if not self._bare_image:
            raise RuntimeError("CHAOSD_E2E_BARE_IMAGE must name an image without a shell that runs for ever")
        return self._bare_image

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl; raises RuntimeError with what it said."""
        done = subprocess.run(
            [*self.kubectl_words, *args], input=stdin, capture_output=True, text=True, timeout=400, check=False
        )
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *args: str) -> Any:
        """`kubectl get` as JSON."""
        return json.loads(self.kubectl("get", *args, "--output=json"))

    def apply(self, *documents: Document) -> None:
        """`kubectl apply`."""
        self.kubectl("apply", "--filename=-", stdin="\n---\n".join(map(json.dumps, documents)))

    def make_namespace(self) -> str:
        """A new namespace."""
        name = f"chaosd-e2e-{secrets.token_hex(4)}"
        self.kubectl("create", "namespace", name)
        self.kubectl("wait", "serviceaccount/default", f"--namespace={name}", "--for=create", "--timeout=180s")
        return name

    def remove_namespaces(self, names: Iterable[str]) -> None:
        """Delete them with all that is in them; their volumes go with their claims."""
        for name in names:
            self.kubectl("delete", "namespace", name, "--wait=false")

    def start_web(self, namespace: str) -> None:
        """Apply the project's own example target, and wait until its replicas are Ready."""
        self.kubectl("apply", f"--namespace={namespace}", f"--kustomize={self.target}")
        self.wait_ready(namespace, "web")

    def wait_ready(self, namespace: str, statefulset: str) -> None:
        """Wait until every replica is Ready."""
        self.kubectl("rollout", "status", f"statefulset/{statefulset}", f"--namespace={namespace}", "--timeout=300s")

    def handle(self, namespace: str, claim: str) -> str:
        """The disk behind a bound claim."""
        volume = self.get("pvc", claim, f"--namespace={namespace}")["spec"]["volumeName"]
        return str(self.get("pv", volume)["spec"]["csi"]["volumeHandle"])

    def event(self, namespace: str, reason: str, words: str) -> None:
        """Wait until an event with that reason says these words."""
        told = ("events", f"--namespace={namespace}", f"--field-selector=reason={reason}")
        until(lambda: any(words in one["message"] for one in self.get(*told)["items"]), f"an event {reason}: {words}")

    def until_gone(self, namespace: str) -> None:
        """Wait until neither the namespace is there nor a volume of its claims."""

        def gone() -> bool:
            volumes = [one["spec"].get("claimRef", {}).get("namespace") for one in self.get("pv")["items"]]
            return namespace not in {*volumes, *(one["metadata"]["name"] for one in self.get("namespaces")["items"])}

        until(gone, f"{namespace} and its volumes to be gone", 300, every_seconds=1.0)

    def settled(self, look: Callable[[], T]) -> T:
        """What a look finds once nothing moves any more: of what is Ready, more is told a moment later."""
        found: list[T] = []

        def same_again() -> bool:
            found.append(look())
            return len(found) > 1 and found[-1] == found[-2]

        until(same_again, "nothing to move any more", every_seconds=3.0)
        return found[-1]

    @property
    def kubectl_words(self) -> list[str]:
        """A command that begins with kubectl, for who starts it himself."""
        return [self._kubectl, f"--kubeconfig={self.kubeconfig}"]

    @property
    def kubectl_command(self) -> str:
        """The same as words of a shell."""
        return shlex.join(self.kubectl_words)

    @property
    def path(self) -> Path:
        """The kubeconfig as a path."""
        return Path(self.kubeconfig)
