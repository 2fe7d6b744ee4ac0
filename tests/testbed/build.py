"""Builds what the testbed runs, into the cache: programs, protocol stubs, the CSI driver's venv. Once, then instant."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from testbed.layout import BIN, CACHE, HERE, MODULES, STUBS, TOOLS, VENV
from testbed.shell import TestbedError, run

# So many modules, because their versions of k8s.io/* differ. Each names its programs as `tool`s.
_MODULES = ("k8s", "node", "csi", "dns")
_TOOL_MODULES = ("helm", "kube-score")
_FLAGS = ("-trimpath", "-buildvcs=false")
_ENVIRONMENT = {"CGO_ENABLED": "0"}
_REQUIREMENTS = HERE / "requirements.txt"


def build() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    if not _has_stamp(BIN, _programs_key()):
        _build_programs()
    build_tools()
    if not _has_stamp(VENV, _venv_key()):
        _make_venv()
    if not _has_stamp(STUBS, _stubs_key()):
        _generate_stubs()


def _build_programs() -> None:
    for module in _MODULES:
        _go_build(module, BIN, f"-s -w {_version_flags()}")
    (BIN / "server").replace(BIN / "etcd")  # go names a program after its folder
    _stamp(BIN, _programs_key())


def build_tools() -> None:
    """What tests run beside the testbed, or beside another cluster."""
    if _has_stamp(TOOLS, _tools_key()):
        return
    for module in _TOOL_MODULES:
        _go_build(module, TOOLS, "-s -w")
    _stamp(TOOLS, _tools_key())


def _go_build(module: str, folder: Path, linker: str) -> None:
    if shutil.which("go") is None:
        raise TestbedError("go is not installed: the testbed's programs are built from Go modules (go.mod says which Go)")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"building the programs of mods/{module} (26 minutes for all, cold, on 2 cores)", flush=True)
    command = ["go", "build", "-o", f"{folder}/", *_FLAGS, "-ldflags", linker, "tool"]
    subprocess.run(command, cwd=MODULES / module, env={**os.environ, **_ENVIRONMENT}, check=True)


def _version_flags() -> str:
    """Without a version in it, kubectl and the API server refuse each other's."""
    version = run("go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes", cwd=MODULES / "k8s").strip()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    variables = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in variables.items())


def _make_venv() -> None:
    print("making the CSI driver's venv", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    run(sys.executable, "-m", "venv", VENV)
    run(VENV / "bin" / "pip", "install", "--quiet", "--require-hashes", "--requirement", _REQUIREMENTS)
    _stamp(VENV, _venv_key())


def _generate_stubs() -> None:
    print("generating the stubs of the CSI protocol", flush=True)
    shutil.rmtree(STUBS, ignore_errors=True)
    STUBS.mkdir(parents=True)
    csi = _module_folder("github.com/container-storage-interface/spec")
    registration = _module_folder("k8s.io/kubelet") / "pkg/apis/pluginregistration/v1"
    for folder, file in ((csi, "csi.proto"), (registration, "api.proto")):
        out = (f"--python_out={STUBS}", f"--grpc_python_out={STUBS}")
        run(VENV / "bin" / "python", "-m", "grpc_tools.protoc", "-I", folder, *out, file)
    _stamp(STUBS, _stubs_key())


def _module_folder(module: str) -> Path:
    run("go", "mod", "download", module, cwd=MODULES / "k8s")
    return Path(run("go", "list", "-m", "-f", "{{.Dir}}", module, cwd=MODULES / "k8s").strip())


def _programs_key() -> str:
    return _go_key(_MODULES)


def _tools_key() -> str:
    return _go_key(_TOOL_MODULES)


def _go_key(modules: Iterable[str]) -> str:
    files = [MODULES / module / name for module in modules for name in ("go.mod", "go.sum")]
    return _key(files, *_FLAGS, *_ENVIRONMENT.items())


def _venv_key() -> str:
    return _key([_REQUIREMENTS], sys.version)


def _stubs_key() -> str:
    return _key([MODULES / "k8s" / "go.mod", _REQUIREMENTS])


def _key(files: Iterable[Path], *settings: object) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _has_stamp(folder: Path, key: str) -> bool:
    stamp = folder / ".stamp"
    return stamp.exists() and stamp.read_text() == key


def _stamp(folder: Path, key: str) -> None:
    (folder / ".stamp").write_text(key)
