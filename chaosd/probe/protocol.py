"""The probe's protocol, version 2. Pure: requests as bytes, replies as lines.

The program is started by a few words that read it from its stdin; requests follow it there.

A request is a line `NONCE VERB ARGUMENTS`, and for `begin` and `store` the bytes that are announced. A reply is
lines of text and a last line `NONCE end COUNT`, where COUNT is how many lines there are at least (hex and names come
from other programs and are not counted; hex is held against the digest that `sums` told). The nonce tells this reply
from one of an earlier request, and the end from a reply cut off without an error (kubernetes/kubernetes#124571).

    hello                     facts about the pod and the path; writes nothing
    begin  + LENGTH, bytes    make the folders; write the identity file where there is none
    store P O A + P + O + A times (NAME LENGTH, bytes)
                              put the first P as whole files: fsync, rename, fsync of the folder; write the next O over
                              files from their start on, in place: fsync; append the last A to the end of files: fsync,
                              of the folder too where one is new
    sums MOST NAME…           digest of each file, and whether it was read past the page cache
    fetch MOST NAME           the bytes of a file, as hex
    list                      names in the run's folder, one a line
    drop NAME…                delete files, fsync the folder

MOST is in units of 64 KiB: of each file no more is read. Two programs speak it: shell.sh, for any container with `sh`,
and agent.py, for any with Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib import resources

from chaosd.errors import ProbeError

# The longest request line that every shell reads well: names of one batch stay far below it.
MAX_NAMES = 256
_SOURCES = resources.files("chaosd.probe")
_HOSTS = "/etc/hosts"
_NOTHING: Mapping[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class Facts:
    """What `hello` tells. `mount` is the path as the pod sees it; `mountinfo` the line of the mount at it, or empty;
    `mounted` whether there is one, None where the table of mounts could not be read;
    what is free is what the container's user may still take, None where that was not told. `fsid` is the file system's
    id of statfs(2), which is its own only for ext4; `uuid` is empty where the kernel does not tell it. `folders` and
    `strays` are what stands beside the identity file in chaosd's folder: the folders of runs, and what is no folder.

    `fs_type`, `device` (MAJOR:MINOR), `mount_root` (which folder of the file system is mounted) and `read_only` (the mount,
    or its file system, such as after errors=remount-ro) are of the mount that the path lies on, whether it is at the path
    or above it; empty and None where the table could not be read. `node_disk`: whether that is the file system that kubelet
    mounts /etc/hosts from, the node's own; None where there is no such mount. `journals_data`: the file system takes
    O_DIRECT and reads through the page cache all the same (ext4 with data=journal; Linux, Documentation/admin-guide/ext4).

    `identity` is the first line of the identity file, or what stands there that is no file; None where there is no such
    file, or where `identity_error` says why it could not be read."""

    mount: str
    lacks: tuple[str, ...]
    present: bool
    hostname: str
    boot_id: str
    identity: str | None
    identity_error: str
    entries: tuple[str, ...]
    mountinfo: str
    mounted: bool | None
    free_bytes: int | None
    free_files: int | None
    total_bytes: int | None
    fsid: str
    uuid: str
    folders: tuple[str, ...]
    strays: tuple[str, ...]
    fs_type: str
    device: str
    mount_root: str
    read_only: bool | None
    node_disk: bool | None
    journals_data: bool

    @property
    def in_memory(self) -> bool:
        """Whether no reading can be cold, since the page cache is all there is. Linux 6.6 and later open files there with
        O_DIRECT all the same."""
        return self.fs_type in ("tmpfs", "ramfs")


@dataclass(frozen=True, slots=True)
class Stored:
    """What a write tells: files that are durable, files that surely are as they were, and files of which nobody knows, such
    as after a failed fsync of the folder; with the reasons."""

    durable: frozenset[str]
    failed: Mapping[str, str]
    unknown: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sum:
    """What `sums` tells of one file: its digest and `cold` or `cached`; or that it is absent; or an error."""

    digest: str = ""
    cache: str = ""
    absent: bool = False
    irregular: str = ""
    error: str = ""


class Program(StrEnum):
    """Which program a probe is."""

    SHELL = "shell"
    AGENT = "agent"


def argv(program: Program, mount: str, folder: str, run: str, lifetime_seconds: int) -> list[str]:
    """How a program is started in a container: it reads itself first (`opening`)."""
    return [*_STARTED[program], "chaosd-probe", mount, folder, run, str(lifetime_seconds)]


def opening(program: Program) -> bytes:
    """What is written to its stdin before the first request: the program itself. With it the URL of the exec would be
    longer than the 8 KiB that many proxies take."""
    return _OPENINGS[program]


_END = "# the program ends here"
# A shell's `read` takes no byte more from a pipe than its line (POSIX); an input that ends early is no program.
_READ_BY_SHELL = f"""program=''
while IFS= read -r line; do
  [ "$line" != '{_END}' ] || {{ eval "$program"; exit; }}
  program="$program$line
"
done
exit 1"""
_OPENINGS = {
    Program.SHELL: f"{_SOURCES.joinpath('shell.sh').read_text()}{_END}\n".encode(),
    Program.AGENT: _SOURCES.joinpath("agent.py").read_bytes(),
}
_STARTED = {
    Program.SHELL: ("sh", "-c", _READ_BY_SHELL),
    # -I: neither the folder that the container starts in nor its environment says where modules are.
    Program.AGENT: ("python3", "-I", "-c", f"import sys; exec(sys.stdin.buffer.read({len(_OPENINGS[Program.AGENT])}))"),
}


def blocks(length: int) -> int:
    """How many blocks of 64 KiB to read at most of a file that should have `length` bytes; shows that it has more."""
    return length // 65536 + 1


def write_request(
    put: Mapping[str, bytes], overwrite: Mapping[str, bytes] = _NOTHING, append: Mapping[str, bytes] = _NOTHING
) -> tuple[str, bytes]:
    """Arguments and bytes of a `store`."""
    parts: list[bytes] = []
    for files in (put, overwrite, append):
        for name, data in files.items():
            parts += f"{name} {len(data)}\n".encode(), data
    return f"{len(put)} {len(overwrite)} {len(append)}", b"".join(parts)


def read_facts(lines: Iterable[str]) -> Facts:
    """The reply to `hello`."""
    told: dict[str, list[str]] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        told.setdefault(word, []).append(rest)
    mount, table = _first(told, "mount"), told.get("mountinfo", ())
    # The kernel's table has the path behind symbolic links and doubled slashes.
    path = (_first(told, "resolved") or mount).rstrip("/") or "/"
    mounts = [parsed for line in table if (parsed := _parse_mount(line))]
    below, hosts = _covering(path, mounts), _covering(_HOSTS, mounts)
    at_path = below if below and below.point == path else None
    space = [int(number) for number in _first(told, "space").split()]
    return Facts(
        mount=mount,
        lacks=tuple(told.get("lacks", ())),
        present="absent" not in told,
        hostname=_first(told, "hostname"),
        boot_id=_first(told, "boot"),
        identity=told["identity"][0] if "identity" in told else None,
        identity_error=_first(told, "unreadable"),
        entries=tuple(told.get("entry", ())),
        mountinfo=at_path.line if at_path else "",
        mounted=at_path is not None if mounts else None,
        free_bytes=space[0] * space[1] if space else None,
        # File systems that make inodes as they go say that there are none (statfs(2) on btrfs).
        free_files=space[3] if space and space[2] else None,
        total_bytes=space[4] * space[1] if len(space) > 4 else None,
        fsid=_first(told, "fsid"),
        uuid=_first(told, "uuid"),
        folders=tuple(told.get("folder", ())),
        strays=tuple(told.get("stray", ())),
        fs_type=below.fs_type if below else "",
        device=below.device if below else "",
        mount_root=below.root if below else "",
        read_only=below.read_only if below else None,
        node_disk=below.device == hosts.device if below and hosts and hosts.point == _HOSTS else None,
        journals_data=below.journals_data if below else False,
    )


def read_stored(names: Iterable[str], lines: Iterable[str]) -> Stored:
    """The reply to a `store` of `names`."""
    durable: set[str] = set()
    told: dict[str, dict[str, str]] = {"failed": {}, "unknown": {}}
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "stored":
            durable.update(rest.split())
        elif word in told:
            name, _, why = rest.partition(" ")
            told[word][name] = why or "the input ended"
        else:
            raise ProbeError(f"the probe said {line!r} in reply to a write: it is not of protocol 2")
    left = set(names) - durable - set(told["failed"])
    unknown = {name: told["unknown"].get(name, "the probe did not say what became of it") for name in left}
    return Stored(frozenset(durable), told["failed"], unknown)


def read_sums(lines: Iterable[str]) -> dict[str, Sum]:
    """The reply to `sums`, by name."""
    sums = {}
    for line in lines:
        name, word, *rest = line.split(maxsplit=2)
        detail = rest[0] if rest else ""
        if word == "absent":
            gone = "No such file or directory" in detail
            sums[name] = Sum(absent=True) if gone else Sum(error=detail)
        elif word == "irregular":
            sums[name] = Sum(irregular=detail)
        elif word == "failed":
            sums[name] = Sum(error=detail)
        else:
            sums[name] = Sum(digest=detail.split(maxsplit=1)[0] if detail else "", cache=word)
    return sums


def read_bytes(lines: Sequence[str]) -> tuple[bytes, str]:
    """The reply to `fetch`: the bytes, and `cold` or `cached`. Raises ProbeError when they could not be read."""
    if not lines or not lines[0].startswith("cache "):
        raise ProbeError(lines[0] if lines else "the probe gave no bytes")
    return bytes.fromhex("".join(lines[1:])), lines[0].split()[1]


def read_names(lines: Sequence[str]) -> list[str]:
    """The reply to `list`; empty where the folder is not there. Raises ProbeError when it could not be read."""
    refuse_failure(lines)
    return [name for name in lines[1:] if name]


def refuse_failure(lines: Iterable[str]) -> None:
    """Raises ProbeError when a reply that should be empty says `failed`."""
    for line in lines:
        if line.startswith("failed"):
            raise ProbeError(line.removeprefix("failed").strip())


def _first(told: Mapping[str, Sequence[str]], word: str) -> str:
    return told[word][0] if told.get(word) else ""


@dataclass(frozen=True, slots=True)
class _Mount:
    """A line of the table of mounts (proc(5), mountinfo)."""

    line: str
    device: str
    root: str
    point: str
    fs_type: str
    read_only: bool
    journals_data: bool


@lru_cache(maxsize=1_000)  # a pod's table hardly ever changes, and is told again and again
def _parse_mount(line: str) -> _Mount | None:
    """None for what is no such line. The fields before the dash vary in number."""
    fields, _, rest = line.partition(" - ")
    before, after = fields.split(" "), rest.split(" ")
    if len(before) < 6 or not after[0]:
        return None
    options = {*before[5].split(","), *after[-1].split(",")}
    place = (before[2], _unescaped(before[3]), _unescaped(before[4]))
    return _Mount(line, *place, after[0], "ro" in options, "data=journal" in options)


def _unescaped(field: str) -> str:
    """Blanks, tabs, newlines and backslashes stand as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _covering(path: str, mounts: Sequence[_Mount]) -> _Mount | None:
    """The mount that a path lies on: the one nearest above it, and of several there the last, which hides the others."""
    found = None
    for mount in mounts:
        above = mount.point == path or path.startswith(mount.point.rstrip("/") + "/")
        if above and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found
