"""Somebody's server of webhooks in the cluster: https, with a certificate of an authority of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import trustme

from tests.manifests import Document
from tests.real import RealCluster

_NAME, _PORT = "receiver", 8443
_PROGRAM = Path(__file__).with_name("https_receiver.py")
_LABELS = {"app": _NAME}


class Receiver:
    """A pod of chaosd's image, which has Python, behind a Service."""

    def __init__(self, real: RealCluster, namespace: str, image: str) -> None:
        host = f"{_NAME}.{namespace}.svc"
        authority = trustme.CA()
        self.authority = authority.cert_pem.bytes().decode()
        self.url = f"https://{host}/hooks/of-the-team"
        self._certificate = authority.issue_cert(host)
        self._real, self._image, self._here = real, image, f"--namespace={namespace}"

    def start(self) -> None:
        """Make it, and wait until it serves."""
        chain = "".join(one.bytes().decode() for one in self._certificate.cert_chain_pems)
        held = {"tls.crt": chain, "tls.key": self._certificate.private_key_pem.bytes().decode()}
        self.make("Secret", _NAME, stringData=held)
        self.make("ConfigMap", _NAME, data={_PROGRAM.name: _PROGRAM.read_text()})
        self.make("Service", _NAME, spec={"selector": _LABELS, "ports": [{"port": 443, "targetPort": _PORT}]})
        self.make("Pod", _NAME, spec=self._pod())
        self._real.kubectl("wait", f"pod/{_NAME}", self._here, "--for=condition=Ready", "--timeout=300s")

    def make(self, kind: str, name: str, **fields: Any) -> None:
        """Make an object in its namespace."""
        document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": _LABELS}, **fields}
        self._real.kubectl("create", "--filename=-", self._here, stdin=json.dumps(document))

    @property
    def got(self) -> list[Document]:
        """Every message so far, with its `path`, `headers` and `body`."""
        lines = self._real.kubectl("logs", _NAME, self._here).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _pod(self) -> Document:
        """One that a namespace of restricted pods takes."""
        command = ["python3", "-I", f"/program/{_PROGRAM.name}", str(_PORT), "/tls/tls.crt", "/tls/tls.key"]
        mounts = {"program": {"configMap": {"name": _NAME}}, "tls": {"secret": {"secretName": _NAME}}}
        container = {
            "name": _NAME,
            "image": self._image,
            "command": command,
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "readinessProbe": {"httpGet": {"path": "/", "port": _PORT, "scheme": "HTTPS"}, "periodSeconds": 1},
            "volumeMounts": [{"name": name, "mountPath": f"/{name}", "readOnly": True} for name in mounts],
        }
        return {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{"name": name, **source} for name, source in mounts.items()],
        }
