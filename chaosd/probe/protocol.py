"""The probe's protocol, version 1. Pure: requests as bytes, replies as lines.

A request is a line `NONCE VERB ARGUMENTS`, and for `begin` and `put` the bytes that the arguments announce. A reply is
lines of text and a last line `NONCE end COUNT`, where COUNT is how many lines there are at least (hex and names come
from other programs and are not counted; hex is held against the digest that `sums` told). The nonce tells this reply
from one of an earlier request, and the end from a reply cut off without an error (kubernetes/kubernetes#124571).

    hello                     facts about the pod and the path; writes nothing
    begin  + LENGTH, bytes    make the folders; write the identity file where there is none
    put N  + N times (NAME LENGTH, bytes)    store whole files: fsync, rename, fsync of the folder
    sums NAME…                digest of each file, and whether it was read past the page cache
    fetch NAME                the bytes of a file, as hex
    list                      names in the run's folder, one a line
    drop NAME…                delete files, fsync the folder
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from chaosd.errors import ProbeError

# The longest request line that every shell reads well: names of one batch stay far below it.
MAX_NAMES = 256
PROGRAM = resources.files("chaosd.probe").joinpath("shell.sh").read_text()


@dataclass(frozen=True, slots=True)
class Facts:
    """What `hello` tells. `mount` is the path as the pod sees it; `mountinfo` the line of the mount at it, or empty;
    `mounted` whether there is one, None where the table of mounts could not be read;
    what is free is what the container's user may still take, None where that was not told."""

    mount: str
    lacks: tuple[str, ...]
    present: bool
    hostname: str
    boot_id: str
    identity: str
    entries: tuple[str, ...]
    mountinfo: str
    mounted: bool | None
    free_bytes: int | None
    free_files: int | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What `put` tells: files that are durable, files that are surely not there and why, and, where the rename or the
    folder's fsync failed, why nobody knows of the rest."""

    durable: frozenset[str]
    failed: Mapping[str, str]
    unknown: str


@dataclass(frozen=True, slots=True)
class Sum:
    """What `sums` tells of one file: its digest and `cold` or `cached`; or that it is absent; or an error."""

    digest: str = ""
    cache: str = ""
    absent: bool = False
    irregular: str = ""
    error: str = ""


def argv(mount: str, folder: str, run: str, lifetime_seconds: int) -> list[str]:
    """How the shell program is started in a container."""
    return ["sh", "-c", PROGRAM, "chaosd-probe", mount, folder, run, str(lifetime_seconds)]


def blocks(length: int) -> int:
    """How many blocks of 64 KiB to read at most of a file that should have `length` bytes; shows that it has more."""
    return length // 65536 + 1


def put_request(files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Arguments and bytes of a `put`."""
    parts = (part for name, data in files.items() for part in (f"{name} {len(data)}\n".encode(), data))
    return str(len(files)), b"".join(parts)


def read_facts(lines: Iterable[str]) -> Facts:
    """The reply to `hello`."""
    told: dict[str, list[str]] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        told.setdefault(word, []).append(rest)
    mount, table = _first(told, "mount"), told.get("mountinfo", ())
    # The kernel's table has the path behind symbolic links and doubled slashes.
    mountinfo = _mount_at(_first(told, "resolved") or mount, table)
    space = [int(number) for number in _first(told, "space").split()]
    return Facts(
        mount=mount,
        lacks=tuple(told.get("lacks", ())),
        present="absent" not in told,
        hostname=_first(told, "hostname"),
        boot_id=_first(told, "boot"),
        identity=_first(told, "identity"),
        entries=tuple(told.get("entry", ())),
        mountinfo=mountinfo,
        mounted=bool(mountinfo) if table else None,
        free_bytes=space[0] * space[1] if space else None,
        # File systems that make inodes as they go say that there are none (statfs(2) on btrfs).
        free_files=space[3] if space and space[2] else None,
    )


def read_stored(names: Iterable[str], lines: Iterable[str]) -> Stored:
    """The reply to a `put` of `names`."""
    durable: set[str] = set()
    failed: dict[str, str] = {}
    unknown = ""
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "stored":
            durable.update(rest.split())
        elif word == "failed":
            name, _, why = rest.partition(" ")
            failed[name] = why or "the input ended"
        elif word == "unknown":
            unknown = rest
        else:
            raise ProbeError(f"the probe said {line!r} in reply to put: it is not of protocol 1")
    if not unknown and set(names) - durable - set(failed):
        unknown = "the probe did not say what became of it"
    return Stored(frozenset(durable), failed, unknown)


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


def _mount_at(path: str, table: Iterable[str]) -> str:
    """The line of the mount at `path`: the last one, as a later mount hides an earlier (proc(5), mountinfo)."""
    found = ""
    for line in table:
        fields = line.split(" ")
        if len(fields) > 4 and fields[4].replace("\\040", " ") == path.rstrip("/"):
            found = line
    return found
