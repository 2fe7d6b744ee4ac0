"""A CSI driver for one host that plays several nodes: disks of a DiskStore, with real attachments and mounts.

Runs in a venv of its own (requirements.txt), with stubs that `build` generates from the protocol's own files:

    python -m testbed.csi_driver DISKS_FOLDER CONTROLLER_SOCKET NODE=KUBELET_FOLDER ...
"""
# The stubs exist only after a build, and without types.
# mypy: disable-error-code="import-untyped, import-not-found, misc, no-untyped-def, no-any-unimported, no-untyped-call"

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import api_pb2 as registration
import api_pb2_grpc as registration_rpc
import csi_pb2 as csi
import csi_pb2_grpc as rpc
import grpc

from testbed.disk_store import POWER_SWITCH, DiskStore, is_mount_point
from testbed.layout import CSI_DRIVER
from testbed.shell import run

_GIBIBYTE = 1 << 30
_log = logging.getLogger("csi-driver")


class Attachments:
    """Which disk is attached to which node, on disk, because a restarted driver must still know."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    def node_of(self, handle: str) -> str | None:
        return self._read().get(handle)

    def attach(self, handle: str, node: str) -> str:
        """Returns the node that has the disk afterwards, which is another one if it was attached before."""
        with self._lock:
            table = self._read()
            holder = table.setdefault(handle, node)
            self._write(table)
        return holder

    def detach(self, handle: str, node: str) -> None:
        """An empty name of the node means: wherever it is attached."""
        with self._lock:
            table = self._read()
            if node in ("", table.get(handle)):
                table.pop(handle, None)
                self._write(table)

    def _read(self) -> dict[str, str]:
        return json.loads(self._file.read_text()) if self._file.exists() else {}

    def _write(self, table: dict[str, str]) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(table))
        temporary.replace(self._file)


class Identity(rpc.IdentityServicer):
    def GetPluginInfo(self, request, context):  # noqa: N802
        return csi.GetPluginInfoResponse(name=CSI_DRIVER, vendor_version="1")

    def GetPluginCapabilities(self, request, context):  # noqa: N802
        kind = csi.PluginCapability
        controller = kind(service=kind.Service(type=kind.Service.CONTROLLER_SERVICE))
        online = kind(volume_expansion=kind.VolumeExpansion(type=kind.VolumeExpansion.ONLINE))
        return csi.GetPluginCapabilitiesResponse(capabilities=[controller, online])

    def Probe(self, request, context):  # noqa: N802
        return csi.ProbeResponse()


class Controller(rpc.ControllerServicer):
    def __init__(self, store: DiskStore, attachments: Attachments) -> None:
        self._store, self._attachments = store, attachments

    def ControllerGetCapabilities(self, request, context):  # noqa: N802
        kind = csi.ControllerServiceCapability
        types = (kind.RPC.CREATE_DELETE_VOLUME, kind.RPC.PUBLISH_UNPUBLISH_VOLUME, kind.RPC.EXPAND_VOLUME)
        return csi.ControllerGetCapabilitiesResponse(capabilities=[kind(rpc=kind.RPC(type=type_)) for type_ in types])

    def CreateVolume(self, request, context):  # noqa: N802
        kind = POWER_SWITCH if request.parameters.get("powerSwitch") == "true" else "d-"
        handle = kind + hashlib.sha256(request.name.encode()).hexdigest()[:20]
        size = request.capacity_range.required_bytes or _GIBIBYTE
        types = [capability.mount.fs_type for capability in request.volume_capabilities if capability.mount.fs_type]
        with self._store.lock(handle):
            if not self._store.image(handle).exists():
                self._store.create(handle, size, *types[:1])
                _log.info("created %s of %d bytes for %s", handle, size, request.name)
        return csi.CreateVolumeResponse(volume=csi.Volume(volume_id=handle, capacity_bytes=size))

    def DeleteVolume(self, request, context):  # noqa: N802
        with self._store.lock(request.volume_id):
            self._store.delete(request.volume_id)
        _log.info("deleted %s", request.volume_id)
        return csi.DeleteVolumeResponse()

    def ControllerExpandVolume(self, request, context):  # noqa: N802
        handle, size = request.volume_id, request.capacity_range.required_bytes
        with self._store.lock(handle):
            size = self._store.grow(handle, size)
        _log.info("expanded %s to %d bytes", handle, size)
        return csi.ControllerExpandVolumeResponse(capacity_bytes=size, node_expansion_required=True)

    def ControllerPublishVolume(self, request, context):  # noqa: N802
        holder = self._attachments.attach(request.volume_id, request.node_id)
        if holder != request.node_id:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{request.volume_id} is attached to {holder}")
        _log.info("attached %s to %s", request.volume_id, request.node_id)
        return csi.ControllerPublishVolumeResponse()

    def ControllerUnpublishVolume(self, request, context):  # noqa: N802
        self._attachments.detach(request.volume_id, request.node_id)
        _log.info("detached %s from %s", request.volume_id, request.node_id)
        return csi.ControllerUnpublishVolumeResponse()

    def ValidateVolumeCapabilities(self, request, context):  # noqa: N802
        answer = csi.ValidateVolumeCapabilitiesResponse
        return answer(confirmed=answer.Confirmed(volume_capabilities=request.volume_capabilities))


class Node(rpc.NodeServicer):
    def __init__(self, store: DiskStore, attachments: Attachments, name: str) -> None:
        self._store, self._attachments, self._name = store, attachments, name

    def NodeGetCapabilities(self, request, context):  # noqa: N802
        kind = csi.NodeServiceCapability
        types = (kind.RPC.STAGE_UNSTAGE_VOLUME, kind.RPC.GET_VOLUME_STATS, kind.RPC.EXPAND_VOLUME)
        return csi.NodeGetCapabilitiesResponse(capabilities=[kind(rpc=kind.RPC(type=type_)) for type_ in types])

    def NodeGetInfo(self, request, context):  # noqa: N802
        return csi.NodeGetInfoResponse(node_id=self._name, max_volumes_per_node=200)

    def NodeStageVolume(self, request, context):  # noqa: N802
        handle, at = request.volume_id, Path(request.staging_target_path)
        if self._attachments.node_of(handle) != self._name:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{handle} is not attached to {self._name}")
        with self._store.lock(handle):
            self._store.ensure_mounted(handle, at, request.volume_capability.mount.mount_flags)
        _log.info("staged %s on %s", handle, self._name)
        return csi.NodeStageVolumeResponse()

    def NodeUnstageVolume(self, request, context):  # noqa: N802
        with self._store.lock(request.volume_id):
            self._store.unmount(request.volume_id, Path(request.staging_target_path))
        _log.info("unstaged %s on %s", request.volume_id, self._name)
        return csi.NodeUnstageVolumeResponse()

    def NodePublishVolume(self, request, context):  # noqa: N802
        target = Path(request.target_path)
        # kubelet may keep a volume staged from one pod to the next, also over a power cut.
        flags = request.volume_capability.mount.mount_flags
        with self._store.lock(request.volume_id):
            self._store.ensure_mounted(request.volume_id, Path(request.staging_target_path), flags)
        if not is_mount_point(target):
            target.mkdir(parents=True, exist_ok=True)
            run("mount", "--bind", request.staging_target_path, target)
            if request.readonly:
                run("mount", "-o", "remount,bind,ro", target)
        return csi.NodePublishVolumeResponse()

    def NodeUnpublishVolume(self, request, context):  # noqa: N802
        target = Path(request.target_path)
        if is_mount_point(target):
            run("umount", target)
        if target.is_dir():
            target.rmdir()
        return csi.NodeUnpublishVolumeResponse()

    def NodeExpandVolume(self, request, context):  # noqa: N802
        handle = request.volume_id
        with self._store.lock(handle):
            grown = self._store.grow_file_system(handle, Path(request.volume_path))
        _log.info("%s the file system of %s on %s", "grew" if grown else "forgot", handle, self._name)
        return csi.NodeExpandVolumeResponse(capacity_bytes=self._store.size_bytes(handle))

    def NodeGetVolumeStats(self, request, context):  # noqa: N802
        stats, usage = os.statvfs(request.volume_path), csi.VolumeUsage
        size = usage(
            unit=usage.BYTES,
            total=stats.f_blocks * stats.f_frsize,
            available=stats.f_bavail * stats.f_frsize,
            used=(stats.f_blocks - stats.f_bfree) * stats.f_frsize,
        )
        inodes = usage(unit=usage.INODES, total=stats.f_files, available=stats.f_favail, used=stats.f_files - stats.f_ffree)
        return csi.NodeGetVolumeStatsResponse(usage=[size, inodes])


class Registration(registration_rpc.RegistrationServicer):
    """How kubelet learns of the driver: it finds the socket in its folder and asks."""

    def __init__(self, endpoint: Path) -> None:
        self._endpoint = endpoint

    def GetInfo(self, request, context):  # noqa: N802
        return registration.PluginInfo(
            type="CSIPlugin", name=CSI_DRIVER, endpoint=str(self._endpoint), supported_versions=["1.0.0"]
        )

    def NotifyRegistrationStatus(self, request, context):  # noqa: N802
        _log.info("registered: %s %s", request.plugin_registered, request.error)
        return registration.RegistrationStatusResponse()


def serve(socket: Path, *services: Callable[[grpc.Server], None]) -> grpc.Server:
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    server = grpc.server(futures.ThreadPoolExecutor(8))
    for add in services:
        add(server)
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server


def main(disks_folder: str, controller_socket: str, *nodes: str) -> None:
    store = DiskStore(Path(disks_folder))
    attachments = Attachments(Path(disks_folder) / "attachments.json")

    def identity(server: grpc.Server) -> None:
        rpc.add_IdentityServicer_to_server(Identity(), server)

    def controller(server: grpc.Server) -> None:
        rpc.add_ControllerServicer_to_server(Controller(store, attachments), server)

    servers = [serve(Path(controller_socket), identity, controller)]
    for name, folder in (node.split("=", 1) for node in nodes):
        endpoint = Path(folder) / "plugins" / CSI_DRIVER / "csi.sock"
        node_service, notice = Node(store, attachments, name), Registration(endpoint)
        servers += [
            serve(endpoint, identity, lambda server, it=node_service: rpc.add_NodeServicer_to_server(it, server)),
            serve(
                Path(folder) / "plugins_registry" / f"{CSI_DRIVER}-reg.sock",
                lambda server, it=notice: registration_rpc.add_RegistrationServicer_to_server(it, server),
            ),
        ]
    for server in servers:
        server.wait_for_termination()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main(*sys.argv[1:])
