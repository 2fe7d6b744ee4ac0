"""What runs on a node: containerd, kubelet, kube-proxy."""

from __future__ import annotations

import json
from pathlib import Path

from testbed import images, processes
from testbed.layout import BIN, DNS_SERVICE_ADDRESS, NODE_KUBECONFIG, NODES, PODS_CIDR, Node
from testbed.shell import run, succeeds, wait_until

POD_NETWORK = "chaosd-pods"


def start_containerds() -> None:
    """Start every node's containerd and import the images."""
    for node in NODES:
        _start_containerd(node)
    import_images(images.write_archive())


def import_images(archive: Path) -> None:
    """Give every node those of a docker-archive; a name that it knows is then the new one's."""
    for node in NODES:
        ctr = (BIN / "ctr", "--address", node.containerd_socket)
        wait_until(f"containerd of {node.name} answers", lambda c=ctr: succeeds(*c, "version"), 120)  # type: ignore[misc]
        run(*ctr, "--namespace", "k8s.io", "image", "import", archive)


def start_kubelets() -> None:
    for node in NODES:
        _start_kubelet(node)
        _start_kube_proxy(node)


def _start_containerd(node: Node) -> None:
    for folder in (node.folder / "cni", node.run_folder):
        folder.mkdir(parents=True)
    (node.folder / "cni" / "10-pods.conf").write_text(json.dumps(_pod_network(node)))
    config = node.folder / "containerd.toml"
    config.write_text(_containerd_config(node))
    # containerd finds its shim in PATH.
    path = {"PATH": f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    processes.start(f"containerd-{node.number}", [BIN / "containerd", "--config", config], path, node.network)


def _pod_network(node: Node) -> dict[str, object]:
    return {
        "cniVersion": "0.4.0",
        "name": POD_NETWORK,
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "ipMasq": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(node.folder / "cni-addresses"),
            "subnet": node.pod_cidr,
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }


def _containerd_config(node: Node) -> str:
    """Sockets, network namespaces and runc's state all go below folders of the testbed's own, so that `down` finds them.

    restrict_oom_score_adj: without CAP_SYS_RESOURCE runc fails with "can't get final child's PID".
    """
    return f"""
version = 3
root = "{node.folder}/containerd"
state = "{node.run_folder}/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.nri.v1.nri",
]
[grpc]
address = "{node.containerd_socket}"
[plugins."io.containerd.shim.v1.manager"]
socket_dir = "{node.run_folder}/s"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{images.PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{node.folder}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{node.run_folder}/runc"
"""


def _start_kubelet(node: Node) -> None:
    config = node.folder / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(node)))
    argv = [
        BIN / "kubelet",
        f"--config={config}",
        f"--kubeconfig={NODE_KUBECONFIG}",
        f"--root-dir={node.kubelet_folder}",
        f"--cert-dir={node.folder / 'pki'}",
        f"--node-ip={node.address}",
        f"--hostname-override={node.name}",
        "--v=2",
    ]
    processes.start(f"kubelet-{node.number}", argv, network=node.network)


def _kubelet_config(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        # Only the API server and the nodes reach a kubelet's port: it is in their network namespaces alone.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{node.containerd_socket}",
        # No systemd here, and both nodes would want the same cgroups for their QoS classes.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "evictionHard": {"memory.available": "100Mi"},
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": "",  # the host's search domains are no business of the pods
        "podLogsDir": str(node.folder / "pods"),
        "volumePluginDir": str(node.kubelet_folder / "volumeplugins"),
        "healthzPort": 0,
        "syncFrequency": "5s",
        # A volume is mounted only once the node's status said that it is in use; the default is 10s, for each pod's start.
        "nodeStatusUpdateFrequency": "1s",
    }


def _start_kube_proxy(node: Node) -> None:
    config = node.folder / "kube-proxy.json"
    config.write_text(json.dumps(_kube_proxy_config(node)))
    argv = [BIN / "kube-proxy", f"--config={config}"]
    processes.start(f"kube-proxy-{node.number}", argv, network=node.network)


def _kube_proxy_config(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(NODE_KUBECONFIG)},
        "clusterCIDR": PODS_CIDR,
        "hostnameOverride": node.name,
        # Else the answer of a pod on the same bridge goes straight back, past the translation that it needs.
        "iptables": {"masqueradeAll": True},
        # 0 leaves the kernel's connection tracking as it is: it is the host's, not the namespace's.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
