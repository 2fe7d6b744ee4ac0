"""Gathers below one folder what the image holds: the base's interpreter with its standard library, chaosd with its
packages, the shared libraries of all. Nothing else, so no shell and no package manager. Same input, same bytes.

The Dockerfile runs it with the base's interpreter: `python3 rootfs.py VENV ROOTFS`.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from py_compile import PycInvalidationMode

Ignore = Callable[[str, list[str]], list[str]]

# Of the standard library: what no program in a container needs, and what is three quarters of it.
_NEEDLESS = {"config", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tests", "tkinter"}
_NOT_OURS = {"__pycache__", "dist-packages", "site-packages"}
# The official client's generated classes are two thirds of all packages; chaosd uses its connection layer alone.
_GENERATED = tuple(f"kubernetes/{client}/{kind}" for client in ("client", "aio/client") for kind in ("api", "models"))
# The C library loads it by name when a thread is ended.
_LOADED_BY_NAME = "libgcc_s.so.1"
# By its cache the loader finds libraries of /usr/local; names and certificates are looked up by the others.
_OF_THE_BASE = ("/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/ssl/certs/ca-certificates.crt")
_WRITABLE = ("tmp", "var/lib/chaosd")


def gather(venv: Path, rootfs: Path) -> None:
    """Everything keeps the path that it has in the base."""
    interpreter, library = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    _copy_tree(library, rootfs, _needless)
    _copy_tree(venv, rootfs, _unused)
    binaries = [interpreter, *rootfs.rglob("*.so"), *rootfs.rglob("*.so.*")]
    for file in [interpreter, *_libraries(binaries, rootfs), *(Path(name) for name in _OF_THE_BASE if Path(name).exists())]:
        _copy(file, rootfs)
    _inside(rootfs, interpreter.with_name("python3")).symlink_to(interpreter.name)
    for name in ("dev", "etc", "proc", "sys", *_WRITABLE):
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    for name in _WRITABLE:
        (rootfs / name).chmod(0o1777)
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/:/\nchaosd:x:65532:65532:chaosd:/var/lib/chaosd:/\n")
    (rootfs / "etc/group").write_text("root:x:0:\nchaosd:x:65532:\n")
    _compile(rootfs)
    _set_times(rootfs)


def _needless(folder: str, names: list[str]) -> list[str]:
    """Debian's `config` has the architecture in its name; modules of such names are files."""
    left_out = _NEEDLESS | _NOT_OURS
    return [name for name in names if name.partition("-")[0] in left_out and Path(folder, name).is_dir()]


def _unused(folder: str, names: list[str]) -> list[str]:
    if folder.endswith(_GENERATED):
        return [name for name in names if name != "__init__.py"]
    if Path(folder).name == "bin":
        return [name for name in names if not name.startswith(("chaosd", "python"))]
    return [name for name in names if name in ("__pycache__", "test", "tests") and Path(folder, name).is_dir()]


def _copy_tree(source: Path, rootfs: Path, ignore: Ignore) -> None:
    shutil.copytree(source, _inside(rootfs, source), symlinks=True, ignore=ignore)


def _copy(file: Path, rootfs: Path) -> None:
    inside = _inside(rootfs, file)
    inside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, inside)


def _inside(rootfs: Path, path: Path) -> Path:
    return rootfs / path.relative_to("/")


def _libraries(binaries: Iterable[Path], rootfs: Path) -> set[Path]:
    """Their paths in the base, the loader's too, as it will look for them; not those that packages bring along."""
    told = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607
    words = {Path(word) for line in told.splitlines() for word in line.split() if word.startswith("/") and ":" not in word}
    c_library = next(path for path in words if path.name == "libc.so.6")
    return {path for path in words if not path.is_relative_to(rootfs)} | {c_library.with_name(_LOADED_BY_NAME)}


def _compile(rootfs: Path) -> None:
    """The file system is read only at run time. What is compiled is never compared with a source's time."""
    mode = PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(rootfs, maxlevels=30, quiet=2, stripdir=rootfs, prependdir="/", invalidation_mode=mode)


def _set_times(rootfs: Path) -> None:
    moment = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in (rootfs, *rootfs.rglob("*")):
        os.utime(path, (moment, moment), follow_symlinks=False)


if __name__ == "__main__":
    gather(*(Path(argument).resolve() for argument in sys.argv[1:]))
