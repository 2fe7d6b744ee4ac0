"""The test images, made without a registry: a docker-archive for `ctr image import`, the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.layout import CACHE

PAUSE = "testbed.local/pause:1"
ARCHIVE = CACHE / "images.tar"

_BUSYBOX, _CATATONIT, _PYTHON = Path("/bin/busybox"), Path("/usr/bin/catatonit"), Path("/usr/bin/python3")
# Of Debian's standard library: what no program in a container needs, and what is three quarters of it.
_LEFT_OUT = {"__pycache__", "config", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter"}
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
            "config": {"Entrypoint": self.entrypoint, "Cmd": self.command, "Env": ["PATH=/usr/bin:/bin:/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{self.layer_digest}"]},
            "history": [{"created_by": "chaosd testbed"}],
        }
        return json.dumps(document).encode()


def write_archive() -> Path:
    """Make all images (in a second) and return the archive."""
    busybox, nothing_but_pause, python = _busybox_layer(), _pause_layer(), _python_layer()
    images = [
        Image(PAUSE, nothing_but_pause, ("/pause", "-P")),
        Image("testbed.local/noshell:1", nothing_but_pause, ("/pause", "-P")),
        Image("testbed.local/busybox:1", busybox, _INIT, ("sleep", "inf")),
        Image("testbed.local/nginx:1", busybox, _INIT, ("httpd", "-f", "-p", "80", "-h", "/srv")),
        Image("testbed.local/agent:1", python, (), ("python3",)),
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


def _python_layer() -> bytes:
    """Debian's Python with its standard library, and the shared libraries of both; no shell, nothing else."""
    executable = _PYTHON.resolve()
    ask = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    library = Path(subprocess.run([_PYTHON, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    files = [executable, *sorted(_library_files(library))]
    layer = _Tar()
    for folder in ("dev", "etc", "proc", "sys"):
        layer.folder(folder, 0o755)
    layer.folder("tmp", 0o1777)
    for file in [*files, *sorted(_shared_libraries([executable, *(f for f in files if f.suffix == ".so")]))]:
        layer.file(str(file).lstrip("/"), file.read_bytes(), 0o755)
    layer.link("usr/bin/python3", executable.name)
    return layer.content()


def _library_files(library: Path) -> Iterator[Path]:
    for folder, inside, names in os.walk(library):
        inside[:] = [name for name in inside if name.partition("-")[0] not in _LEFT_OUT]
        yield from (path for name in names if (path := Path(folder, name)).is_file() and not path.is_symlink())


def _shared_libraries(binaries: list[Path]) -> set[Path]:
    """Their paths, the dynamic loader's too, as the loader of the container will look for them."""
    told = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=True, env={"PATH": os.defpath}).stdout
    return {Path(word) for line in told.splitlines() for word in line.split() if word.startswith("/") and ":" not in word}


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
