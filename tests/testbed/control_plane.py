"""etcd, the API server, the controllers, the scheduler and DNS: processes in the first node's network namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from testbed import credentials, processes
from testbed.layout import (
    ADMIN_KUBECONFIG,
    API_PORT,
    BIN,
    CONTROL_PLANE,
    DNS_SERVICE_ADDRESS,
    ETCD_PORT,
    LOGS,
    NODE_KUBECONFIG,
    RUN,
    SERVICE_CIDR,
    STATE,
)
from testbed.shell import TestbedError, run, succeeds, wait_until

API_SERVER = "kube-apiserver"
_ETCD = f"http://127.0.0.1:{ETCD_PORT}"
_API_SOCKET = RUN / "api.sock"

_DNS_OBJECTS = f"""
apiVersion: v1
kind: Service
metadata: {{name: kube-dns, namespace: kube-system}}
spec:
  clusterIP: {DNS_SERVICE_ADDRESS}
  ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53, protocol: TCP}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: kube-dns-1, namespace: kube-system, labels: {{kubernetes.io/service-name: kube-dns}}}}
addressType: IPv4
endpoints: [{{addresses: ["{CONTROL_PLANE.address}"]}}]
ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53, protocol: TCP}}]
"""

_COREFILE = f"""
.:53 {{
  bind {CONTROL_PLANE.address}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {NODE_KUBECONFIG}
  }}
}}
"""


def start_api() -> None:
    """Start etcd, the API server and the way to it from outside; returns at once."""
    etcd = [BIN / "etcd", f"--data-dir={STATE / 'etcd'}", "--unsafe-no-fsync", f"--listen-client-urls={_ETCD}"]
    _start("etcd", *etcd, f"--advertise-client-urls={_ETCD}", "--listen-peer-urls=http://127.0.0.1:2380")
    _start(
        API_SERVER,
        BIN / "kube-apiserver",
        f"--etcd-servers={_ETCD}",
        f"--advertise-address={CONTROL_PLANE.address}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--tls-cert-file={credentials.API_CERTIFICATE}",
        f"--tls-private-key-file={credentials.API_KEY}",
        f"--service-account-key-file={credentials.SERVICE_ACCOUNT_KEY}",
        f"--service-account-signing-key-file={credentials.SERVICE_ACCOUNT_KEY}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--token-auth-file={credentials.TOKENS}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",  # names of nodes are in no DNS: exec would hang
    )
    # Two relays over a unix socket, because that crosses network namespaces: loopback here to loopback there.
    _start("api-inside", "socat", f"UNIX-LISTEN:{_API_SOCKET},fork,unlink-early", f"TCP:127.0.0.1:{API_PORT}")
    outside = f"TCP-LISTEN:{API_PORT},bind=127.0.0.1,fork,reuseaddr"
    processes.start("api-outside", ["socat", outside, f"UNIX-CONNECT:{_API_SOCKET}"])


def start_controllers() -> None:
    """Start what needs an API server; returns at once."""
    kubeconfig, alone = f"--kubeconfig={NODE_KUBECONFIG}", "--leader-elect=false"
    _start(
        "kube-controller-manager",
        BIN / "kube-controller-manager",
        kubeconfig,
        alone,
        f"--service-account-private-key-file={credentials.SERVICE_ACCOUNT_KEY}",
        f"--root-ca-file={credentials.API_CERTIFICATE}",
        "--use-service-account-credentials=true",
        respawn=True,
    )
    _start("kube-scheduler", BIN / "kube-scheduler", kubeconfig, alone, respawn=True)


def start_dns() -> None:
    corefile = STATE / "Corefile"
    corefile.write_text(_COREFILE)
    _start("coredns", BIN / "coredns", "-conf", corefile)
    kubectl("apply", "--filename=-", stdin=_DNS_OBJECTS)


def wait_for_api() -> None:
    def ready() -> bool:
        if not processes.recorded(API_SERVER).alive():
            raise TestbedError(f"the API server ended: {LOGS / API_SERVER}.log says why")
        return succeeds(*_kubectl("get", "--raw", "/readyz"))

    wait_until("the API server is ready", ready, 240)


def stop_api_server() -> None:
    """Kill the API server, as a crash would. Port 6443 on loopback still accepts and then closes each connection."""
    processes.kill([processes.recorded(API_SERVER)])


def start_api_server() -> None:
    """Start it again with the arguments it had, and wait until it is ready."""
    processes.restart(API_SERVER)
    wait_for_api()


@contextmanager
def api_server_stopped() -> Iterator[None]:
    stop_api_server()
    try:
        yield
    finally:
        start_api_server()


def kubectl(*args: str, stdin: str | None = None) -> str:
    """Run kubectl as the administrator."""
    return run(*_kubectl(*args), stdin=stdin)


def _kubectl(*args: str) -> list[str]:
    return [str(BIN / "kubectl"), f"--kubeconfig={ADMIN_KUBECONFIG}", *args]


def _start(name: str, *argv: object, respawn: bool = False) -> None:
    processes.start(name, argv, network=CONTROL_PLANE.network, respawn=respawn)
