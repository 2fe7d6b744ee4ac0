"""A network namespace for each node, joined by a bridge in the first one. Nothing is added to the host's own network."""

from __future__ import annotations

from pathlib import Path

from testbed.layout import CONTROL_PLANE, NODES, Node
from testbed.shell import run

_BRIDGE = "nodes"


def up() -> None:
    for node in NODES:
        run("ip", "netns", "add", node.network)
        _inside(node, "ip", "link", "set", "lo", "up")
        _inside(node, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    _inside(CONTROL_PLANE, "ip", "link", "add", _BRIDGE, "type", "bridge")
    _inside(CONTROL_PLANE, "ip", "address", "add", f"{CONTROL_PLANE.address}/24", "dev", _BRIDGE)
    _inside(CONTROL_PLANE, "ip", "link", "set", _BRIDGE, "up")
    for node in NODES[1:]:
        _plug_in(node)
    _route_pods()


def _plug_in(node: Node) -> None:
    cable = f"to-{node.name}"
    _inside(CONTROL_PLANE, "ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", node.network)
    _inside(CONTROL_PLANE, "ip", "link", "set", cable, "master", _BRIDGE, "up")
    _inside(node, "ip", "address", "add", f"{node.address}/24", "dev", "eth0")
    _inside(node, "ip", "link", "set", "eth0", "up")
    _inside(node, "ip", "route", "add", "default", "via", CONTROL_PLANE.address)


def _route_pods() -> None:
    for node in NODES:
        for other in NODES:
            if other != node:
                _inside(node, "ip", "route", "add", other.pod_cidr, "via", other.address)


def down() -> None:
    """Deletes the namespaces; veth pairs, bridges, routes and iptables rules go with them."""
    for node in NODES:
        if Path(f"/run/netns/{node.network}").exists():
            run("ip", "netns", "delete", node.network)


def _inside(node: Node, *argv: str) -> None:
    # Not `ip netns exec`: that makes a mount namespace too, and mounts made in it would be seen nowhere else.
    run("nsenter", f"--net=/run/netns/{node.network}", *argv)
