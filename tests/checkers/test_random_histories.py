"""Random histories: storage that keeps its word is never accused, whatever else breaks; one injected fault always is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chaosd import payload
from chaosd.checkers import Value
from chaosd.checkers.records import How, Record
from tests.checkers import model
from tests.checkers.model import RUN_FOLDER, SEED, World
from tests.histories import classes

SEEDS = st.integers(0, 2**32 - 1)
POLICIES = st.sampled_from(["Retain", "Delete"])
TROUBLE = st.sampled_from([0.0, 0.05, 0.2, 0.5])
GRACES = st.sampled_from([["30"], ["30", "0"]])
ALL = tuple(How)


@settings(max_examples=60)
@given(SEEDS, POLICIES, TROUBLE, GRACES)
def test_storage_that_keeps_its_word_is_never_accused(seed: int, policy: str, trouble: float, graces: list[str]) -> None:
    world = asyncio.run(model.lived(seed, rounds=3, trouble=trouble, policy=policy, graces=graces))
    assert world.judge().violations == ()
    judgement = asyncio.run(world.verify())
    assert judgement.violations == ()
    if trouble == 0.0:
        assert judgement.value is Value.PASS, judgement.unknowns


# Faults. Each takes effect on one replica, and says which class it is, or nothing where there is nothing to harm.

Fault = Callable[[World, random.Random], str | None]


def _one(world: World, rng: random.Random, *hows: How) -> Iterator[tuple[dict[str, bytes], str, Record]]:
    """An owed record, with the files of its disk and its path; none where nothing is owed."""
    found = [(ordinal, record) for ordinal in (0, 1) for record in world.owed(ordinal, *hows)]
    if found:
        ordinal, record = rng.choice(found)
        yield world.disk_of(ordinal).files, f"{RUN_FOLDER}/{record.file}", record


def removed(world: World, rng: random.Random) -> str | None:
    for files, path, _ in _one(world, rng, *ALL):
        del files[path]
        return "lost"
    return None


def flipped(world: World, rng: random.Random) -> str | None:
    for files, path, record in _one(world, rng, *ALL):
        # Of a log only the bytes of acknowledged entries are owed; the first one is.
        changed = bytearray(files[path])
        changed[rng.randrange(record.length)] ^= 1 << rng.randrange(8)
        files[path] = bytes(changed)
        return "corrupt"
    return None


def cut_short(world: World, rng: random.Random) -> str | None:
    for files, path, record in _one(world, rng, How.CREATE, How.REPLACE, How.OVERWRITE):
        files[path] = files[path][: rng.randrange(record.length)]
        return "torn"
    return None


def zeroed(world: World, rng: random.Random) -> str | None:
    for files, path, record in _one(world, rng, How.CREATE, How.REPLACE, How.OVERWRITE):
        at = rng.randrange(record.length // payload.SECTOR_BYTES) * payload.SECTOR_BYTES
        files[path] = files[path][:at] + bytes(payload.SECTOR_BYTES) + files[path][at + payload.SECTOR_BYTES :]
        return "torn"
    return None


def rewound(world: World, rng: random.Random) -> str | None:
    """The last acknowledged entry of a log is gone."""
    for files, path, record in _one(world, rng, How.APPEND):
        files[path] = files[path][: -record.length] if len(files[path]) > record.length else b""
        entries = [
            r for ordinal in (0, 1) for r in world.owed(ordinal, How.APPEND) if files is world.disk_of(ordinal).files
        ]
        held = sum(r.length for r in entries if r.file == record.file)
        return "lost" if len(files[path]) < held and not len(files[path]) % record.length else None
    return None


def of_another_run(world: World, rng: random.Random) -> str | None:
    for files, path, record in _one(world, rng, How.CREATE):
        files[path] = payload.make_record(SEED, replace(record.label, origin=replace(record.origin, run="OTHER")))
        return "foreign"
    return None


def of_another_pod(world: World, rng: random.Random) -> str | None:
    for files, path, record in _one(world, rng, How.CREATE):
        files[path] = payload.make_record(SEED, replace(record.label, origin=replace(record.origin, pod_uid="other")))
        return "double_writer"
    return None


def came_back(world: World, rng: random.Random) -> str | None:
    """A file that was deleted with acknowledgement, or never written."""
    for files, path, _ in _one(world, rng, *ALL):
        files[f"{RUN_FOLDER}/{rng.choice(['00009999', 'l000999'])}"] = files[path]
        return "unexpected"
    return None


def wiped(world: World, rng: random.Random) -> str | None:
    for files, _, _ in _one(world, rng, *ALL):
        disk = next(disk for disk in world.disks.values() if disk.files is files)
        disk.files.clear()
        disk.folders.intersection_update({"/data"})
        return "lost"
    return None


def made_anew(world: World, rng: random.Random) -> str | None:
    """mkfs."""
    for files, _, _ in _one(world, rng, *ALL):
        disk = next(disk for disk in world.disks.values() if disk.files is files)
        disk.files.clear()
        disk.folders.intersection_update({"/data"})
        disk.name = "new"
        return "reformatted"
    return None


def claim_made_anew(world: World, rng: random.Random) -> str | None:
    """Its files are copied back or not."""
    for files, _, record in _one(world, rng, *ALL):
        ordinal = int(record.origin.replica[-1])
        folders = world.disk_of(ordinal).folders
        world.make_claim(ordinal)
        if rng.random() < 0.5:
            world.disk_of(ordinal).files, world.disk_of(ordinal).folders = files, folders
        return "claim_replaced"
    return None


def older_snapshot(world: World, rng: random.Random) -> str | None:
    """A disk as it was at the end of an earlier round."""
    for files, _, _ in _one(world, rng, *ALL):
        ordinal, disk = next((n, world.disk_of(n)) for n in (0, 1) if world.disk_of(n).files is files)
        taken = [snapshot[disk.name] for snapshot in world.snapshots if disk.name in snapshot]
        older = rng.choice(taken) if taken else disk
        owed = world.owed(ordinal, How.CREATE, How.REPLACE, How.OVERWRITE)
        found = {record.file: older.files.get(f"{RUN_FOLDER}/{record.file}", b"") for record in owed}
        labels = {file: payload.read_label(data[: payload.BLOCK_BYTES]) for file, data in found.items()}
        disk.files, disk.folders = dict(older.files), set(older.folders)
        if any((label := labels[r.file]) and label[0].sequence < r.sequence for r in owed):
            return "stale"
        # What else is older, such as a register in doubt, is told where it was found.
        return "lost or stale" if not all(found.values()) else None
    return None


FAULTS: Mapping[str, Fault] = {
    fault.__name__: fault
    for fault in (
        removed,
        flipped,
        cut_short,
        zeroed,
        rewound,
        of_another_run,
        of_another_pod,
        came_back,
        wiped,
        made_anew,
        claim_made_anew,
        older_snapshot,
    )
}


@settings(max_examples=100)
@given(SEEDS, POLICIES, TROUBLE, st.sampled_from(list(FAULTS)))
def test_one_fault_is_one_violation_of_its_class(seed: int, policy: str, trouble: float, name: str) -> None:
    world = asyncio.run(model.lived(seed, rounds=3, trouble=trouble, policy=policy, graces=["30"]))
    assert asyncio.run(world.verify()).violations == ()
    expected = FAULTS[name](world, random.Random(seed))
    assume(expected)
    world.replace_pods()
    (found,) = classes(asyncio.run(world.verify()))
    assert expected
    assert found in expected.split(" or ")


@settings(max_examples=20)
@given(SEEDS, TROUBLE)
def test_disks_that_changed_places_are_foreign_both(seed: int, trouble: float) -> None:
    world = asyncio.run(model.lived(seed, rounds=2, trouble=trouble, policy="Retain", graces=["30"]))
    assert asyncio.run(world.verify()).violations == ()
    assume(world.owed(0, *ALL) and world.owed(1, *ALL))
    first, second = world.disk_of(0), world.disk_of(1)
    first.files, second.files = second.files, first.files
    world.replace_pods()
    assert classes(asyncio.run(world.verify())) == ["foreign", "foreign"]
