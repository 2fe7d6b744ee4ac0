"""The real Helm on the real cluster."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.manifests import Document
from tests.real import RealCluster

CHART = Path(__file__).resolve().parents[2] / "charts" / "chaosd"


def soak_values(image: str, namespace: str, ledger_class: str, disruptions: list[Document]) -> Document:
    """Values for a soak of the example target, with the ledger on storage of a class that is not tested."""
    repository, _, tag = image.rpartition(":")
    soak = {
        "target": {"namespace": namespace, "statefulset": "web"},
        "workload": {"files": 10, "size": "16Ki", "share": {"bytes": "32Mi", "files": 500}},
        "disruptions": disruptions,
    }
    return {
        "image": {"repository": repository, "tag": tag},
        "experiments": {"soak": soak},
        "ledger": {"persistence": {"size": "1Gi", "storageClass": ledger_class}},
        "daemon": {"leaseSeconds": 8, "drill": "never"},
    }


class Release:
    """A release of the chart: its values are a file, so that every command has the same."""

    def __init__(self, helm: Path, real: RealCluster, name: str, namespace: str, folder: Path) -> None:
        self.name = name
        self.namespace = namespace
        self.full_name = f"{name}-chaosd"
        self.account = f"system:serviceaccount:{namespace}:{self.full_name}"
        self._helm = helm
        self._real = real
        self._values = folder / f"{name}.values.json"
        homes = {f"HELM_{home}_HOME": str(folder / f"helm-{home.lower()}") for home in ("CACHE", "CONFIG", "DATA")}
        self._environment = {**os.environ, **homes, "KUBECONFIG": real.kubeconfig}

    def install(self, values: dict[str, Any], *args: str) -> str:
        """`helm upgrade --install`, and what it told."""
        self._values.write_text(json.dumps(values))
        return self("upgrade", self.name, str(CHART), "--install", f"--values={self._values}", *args)

    def __call__(self, command: str, *args: str) -> str:
        """Run helm in the release's namespace; raises RuntimeError with what it said."""
        words = [self._helm, command, *args, f"--namespace={self.namespace}"]
        done = subprocess.run(words, env=self._environment, capture_output=True, text=True, timeout=500, check=False)
        if done.returncode:
            raise RuntimeError(f"helm {command}: {done.stderr}{done.stdout}")
        return done.stdout

    @property
    def pod(self) -> Any:
        """The daemon's pod, as JSON: the one that is not ending."""
        selector = f"--selector=app.kubernetes.io/instance={self.name},app.kubernetes.io/component=daemon"
        pods = self._real.get("pods", f"--namespace={self.namespace}", selector)["items"]
        [pod] = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return pod

    def served(self, path: str) -> str:
        """What the daemon answers through its Service."""
        service = f"/api/v1/namespaces/{self.namespace}/services/{self.full_name}:http/proxy"
        return self._real.kubectl("get", "--raw", f"{service}{path}")

    @contextmanager
    def forwarded(self) -> Iterator[str]:
        """The address of its Service on this machine, for who is not in the cluster."""
        words = ["port-forward", f"service/{self.full_name}", ":http", f"--namespace={self.namespace}"]
        with subprocess.Popen([*self._real.kubectl_words, *words], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = process.stdout.readline()
            assert told.startswith("Forwarding from 127.0.0.1:"), told
            try:
                yield f"http://{told.split()[2]}"
            finally:
                process.terminate()

    def measured(self, metric: str) -> dict[str, float]:
        """A metric's values, by its labels as they stand there."""
        series = re.findall(rf"^{metric}(\{{.*\}})? (\S+)$", self.served("/metrics"), re.MULTILINE)
        return {labels: float(value) for labels, value in series}

    def logged(self) -> Iterator[dict[str, Any]]:
        """The lines of the daemon's log."""
        text = self._real.kubectl("logs", f"deployment/{self.full_name}", f"--namespace={self.namespace}")
        yield from (json.loads(line) for line in text.splitlines() if line.startswith("{"))

    def runs(self) -> list[str]:
        """The runs that its log names, in their order."""
        return list(dict.fromkeys(line["run"] for line in self.logged() if "run" in line))
