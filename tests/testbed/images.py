"""The test images, made without a registry: a docker-archive for `ctr image import`, the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from testbed.layout import CACHE

PAUSE = "testbed.local/pause:1"
ARCHIVE = CACHE / "images.tar"

_BUSYBOX, _CATATONIT = Path("/bin/busybox"), Path("/usr/bin/catatonit")
_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]

# The kernel drops a SIGTERM to a process 1 that does not handle it. catatonit passes it on, so that pods end at once.
_INIT = ("/sbin/catatonit", "--")


@dataclass(frozen=True)
class Image:
    name: str
    layer: bytes
    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()

    @property
    def layer_digest(self) -> str:
        return hashlib.sha256(self.layer).hexdigest()

    def config(self) -> bytes:
        document = {
            "architecture": _ARCHITECTURE,
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Cmd": self.command, "Env": ["PATH=/bin:/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{self.layer_digest}"]},
            "history": [{"created_by": "chaosd testbed"}],
        }
        return json.dumps(document).encode()


def write_archive() -> Path:
    """Make all images (milliseconds) and return the archive."""
    busybox, nothing_but_pause = _busybox_layer(), _pause_layer()
    images = [
        Image(PAUSE, nothing_but_pause, ("/pause", "-P")),
        Image("testbed.local/noshell:1", nothing_but_pause, ("/pause", "-P")),
        Image("testbed.local/busybox:1", busybox, _INIT, ("sleep", "inf")),
        Image("testbed.local/nginx:1", busybox, _INIT, ("httpd", "-f", "-p", "80", "-h", "/srv")),
    ]
    temporary = ARCHIVE.with_suffix(".new")
    temporary.write_bytes(_archive(images))
    return temporary.replace(ARCHIVE)


def _pause_layer() -> bytes:
    layer = _Tar()
    layer.file("pause", _CATATONIT.read_bytes(), 0o755)
    return layer.content()


def _busybox_layer() -> bytes:
    layer = _Tar()
    for folder in ("bin", "sbin", "data", "dev", "etc", "proc", "srv", "sys"):
        layer.folder(folder, 0o755)
    layer.folder("tmp", 0o1777)
    layer.file("bin/busybox", _BUSYBOX.read_bytes(), 0o755)
    for applet in subprocess.run([_BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            layer.link(f"bin/{applet}", "busybox")
    layer.file("sbin/catatonit", _CATATONIT.read_bytes(), 0o755)
    layer.file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", 0o644)
    layer.file("etc/group", b"root:x:0:\n", 0o644)
    layer.file("srv/index.html", b"chaosd testbed\n", 0o644)
    return layer.content()


def _archive(images: list[Image]) -> bytes:
    archive = _Tar()
    manifest: list[dict[str, object]] = []
    for digest, layer in {image.layer_digest: image.layer for image in images}.items():
        archive.file(f"{digest}.tar", layer, 0o644)
    for image in images:
        config = image.config()
        name = f"{hashlib.sha256(config).hexdigest()}-{len(manifest)}.json"
        archive.file(name, config, 0o644)
        manifest.append({"Config": name, "RepoTags": [image.name], "Layers": [f"{image.layer_digest}.tar"]})
    archive.file("manifest.json", json.dumps(manifest).encode(), 0o644)
    return archive.content()


class _Tar:
    """A tar in memory. TarInfo's defaults (time 0, owner 0) make it reproducible."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w")

    def file(self, name: str, data: bytes, mode: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), mode
        self._tar.addfile(entry, io.BytesIO(data))

    def folder(self, name: str, mode: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(entry)

    def link(self, name: str, target: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
        self._tar.addfile(entry)

    def content(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()
