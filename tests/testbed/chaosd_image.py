"""The product's own image: built by its Dockerfile, without a registry, on a base of Debian's, and given to the nodes."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

from testbed import nodes
from testbed.layout import CACHE, HERE, VENV
from testbed.lock import one_at_a_time
from testbed.shell import run, succeeds

ROOT = HERE.parents[1]
NAME = "testbed.local/chaosd:1"

# With the Python that the lock files are for (3.11). Documents would be a third of it.
_SUITE, _PYTHON = "bookworm", "3.11"
_PACKAGES = "python3-venv,ca-certificates"
_UNPACKED = tuple(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "locale", "man"))
_BASE = f"localhost/chaosd-base:{hashlib.sha256(repr((_SUITE, _PACKAGES, _UNPACKED)).encode()).hexdigest()[:12]}"
_LOCKS = ("image.txt", "build.txt")

ARCHIVE = CACHE / "chaosd-image.tar"
_WHEELS = CACHE / "wheels"
_STORAGE = CACHE / "buildah"
_FOLDERS = ("--root", _STORAGE / "root", "--runroot", _STORAGE / "run")


def give_to_nodes() -> str:
    """Every node has the image of the sources as they are now; its name. Some minutes the very first time, half a minute
    after the sources changed."""
    stamp = ARCHIVE.with_suffix(".stamp")
    with one_at_a_time():  # several processes of tests ask for it at once
        if not (stamp.exists() and stamp.read_text() == _sources_key()):
            build(ARCHIVE)
            stamp.write_text(_sources_key())
        nodes.import_images(ARCHIVE)
    return NAME


def build(archive: Path, *, anew: bool = False) -> None:
    """The image as a docker-archive; `anew`: without what is left of earlier builds."""
    prepare()
    print("building the image of chaosd", flush=True)
    settings = _STORAGE / "pip.conf"
    settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    mounts = (f"--volume={_WHEELS}:/wheels:ro", f"--volume={settings}:/etc/pip.conf:ro")
    how = ("--pull-never", "--quiet", "--timestamp=0", "--no-cache" if anew else "--layers", f"--build-arg=BASE={_BASE}")
    run(*_buildah("build", *how, *mounts, f"--tag={NAME}", ROOT))
    archive.unlink(missing_ok=True)
    run(*_buildah("push", "--quiet", NAME, f"docker-archive:{archive}:{NAME}"))


def config(archive: Path) -> dict[str, Any]:
    """What an archive's image says of itself."""
    with tarfile.open(archive) as tar:
        found: dict[str, Any] = json.loads(_member(tar, json.loads(_member(tar, "manifest.json"))[0]["Config"]))
    return found


def entries(archive: Path) -> list[tarfile.TarInfo]:
    """What is in an archive's only layer."""
    with tarfile.open(archive) as tar:
        [name] = json.loads(_member(tar, "manifest.json"))[0]["Layers"]
        with tarfile.open(fileobj=tar.extractfile(name)) as layer:
            return layer.getmembers()


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file, name
    return file.read()


def prepare() -> None:
    """What the image is made of and the sources do not have: its base, and packages."""
    _STORAGE.mkdir(parents=True, exist_ok=True)
    if not succeeds(*_buildah("inspect", "--type=image", _BASE)):
        _make_base()
    _download_wheels()


def _make_base() -> None:
    print(f"making a base for the image of Debian {_SUITE}", flush=True)
    tar = _STORAGE / "base.tar"
    run("mmdebstrap", "--quiet", "--variant=essential", f"--include={_PACKAGES}", *_UNPACKED, _SUITE, tar)
    container = run(*_buildah("from", "scratch")).strip()
    run(*_buildah("add", "--quiet", container, tar, "/"))
    run(*_buildah("commit", "--quiet", "--rm", container, _BASE))
    tar.unlink()


def _download_wheels() -> None:
    """Here, where pip finds its index as ever; so the build needs no network."""
    locks, stamp = [ROOT / "requirements" / name for name in _LOCKS], _WHEELS / ".stamp"
    key = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    exactly = ("--no-deps", "--only-binary=:all:", f"--python-version={_PYTHON}", "--require-hashes")
    for lock in locks:
        wanted = (*exactly, "--requirement", lock, "--dest", _WHEELS)
        run(VENV / "bin" / "pip", "download", "--quiet", "--disable-pip-version-check", *wanted)
    stamp.write_text(key)


def _buildah(*words: str | Path) -> list[str | Path]:
    return ["env", "STORAGE_DRIVER=overlay", "BUILDAH_ISOLATION=chroot", "buildah", *_FOLDERS, *words]


def _sources_key() -> str:
    """Of all that the Dockerfile takes."""
    named = ("Dockerfile", ".dockerignore", "image/rootfs.py", "pyproject.toml", "README.md")
    modules = (path for path in (ROOT / "chaosd").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    files = sorted((*modules, *(ROOT / name for name in named), *(ROOT / "requirements" / lock for lock in _LOCKS)))
    digest = hashlib.sha256(_BASE.encode())
    for file in files:
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()
