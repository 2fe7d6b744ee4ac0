"""Power cuts on the testbed: what an honest disk keeps, what a lying one loses, and what is lost when the probe leaves out
an fsync of its own. Each cut falls into a burst of writes, and must be judged rightly on its own.

The cluster is that of tests/testbed, which is started: no other has disks with a power switch.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks import real_cluster
from benchmarks.figure import Figure
from chaosd import commands
from chaosd.experiment import Experiment
from chaosd.probe import protocol
from chaosd.probe.protocol import Program
from chaosd.run import Ending
from chaosd.settings import Settings

if TYPE_CHECKING:
    from tests.real import RealCluster

_RUNS, _ROUNDS = 5, 10  # side by side, one after the other
_CUTS = _RUNS * _ROUNDS
_SEED = 1
_BURST = {"files": 100, "size": "64Ki", "keep": 1.0}
# Without the fsync of the folder a name is safe as soon as anything else is fsynced. So only files are written, each put
# after the other, and the power goes at the first write of the disk: then a file that was acknowledged is not yet named.
_PUTS = {"files": 16, "size": "64Ki", "keep": 1.0, "registers": {"count": 0}, "log": {"entries": 0}}
_LENGTHS = "stat -c '%s %n' /data/.chaosd/0*/*"
# What the probe does, and what its double does instead.
_FOLDER_SYNC = ('"$run/" 2>&1 && sync "$run" "$stage" 2>&1', '"$run/" 2>&1')
# This one is missed on xfs only: ext4 writes a file out when it is closed if it was cut to nothing when it was opened
# (auto_da_alloc), and the fsync of the folder then waits for it (data=ordered).
_FILE_SYNC = (" conv=fsync 2>&1 >", " 2>&1 >")


@dataclass(frozen=True)
class _Disk:
    mode: str = "honest"
    file_system: str = "ext4"


@dataclass(frozen=True)
class _Told:
    """What one run told of its cuts, and what there really is: names of files."""

    verdicts: Sequence[str]
    found: int  # cuts after which there were more violations than before
    acknowledged: set[str]
    damaged: set[str]
    whole: set[str]  # has its full length, says the disk

    @property
    def lost(self) -> set[str]:
        """What was acknowledged and is not there, or not as a whole."""
        return self.acknowledged - self.whole


def measure() -> Iterator[Figure]:
    """Cuts that were judged rightly."""
    real, rng = real_cluster.of_testbed(), random.Random(_SEED)
    somewhere = sorted(rng.sample(range(1, 200), _ROUNDS))
    honest = _cut(real, _Disk(), _BURST, somewhere)
    passed = sum(told.verdicts.count("pass") for told in honest)
    yield Figure("cuts of an honest disk that passed", passed, f"of {_CUTS}", _files(honest), at_least=_CUTS)
    yield _found("cuts of a lying disk that were found", _cut(real, _Disk(mode="lying"), _BURST, somewhere))
    with _probe_without(_FOLDER_SYNC):
        told = _cut(real, _Disk(), _PUTS, [1])
    yield _found("cuts that were found without the probe's fsync of the folder", told)
    with _probe_without(_FILE_SYNC):
        told = _cut(real, _Disk(file_system="xfs"), _PUTS, [1])
    yield _found("cuts that were found without the probe's fsync of the file", told)


def _found(name: str, told: Sequence[_Told]) -> Figure:
    unseen = sum(len(t.lost - t.damaged) for t in told)
    wrong = sum(len(t.damaged & t.whole) for t in told)
    detail = f"{_files(told)}; {unseen} of these not found, {wrong} others found"
    found = sum(t.found for t in told) if not unseen and not wrong else 0
    return Figure(name, found, f"of {_CUTS}", detail, at_least=_CUTS)


def _files(told: Sequence[_Told]) -> str:
    acknowledged, lost = sum(len(t.acknowledged) for t in told), sum(len(t.lost) for t in told)
    return f"{acknowledged:,} files acknowledged, {lost:,} of them gone"


@contextmanager
def _probe_without(sync: tuple[str, str]) -> Iterator[None]:
    """The shell program without one of its fsyncs."""
    sh, option, source = protocol.argv(Program.SHELL, "", "", "", 0)[:3]
    assert source.count(sync[0]) == 1, f"the probe has no {sync[0]!r} to leave out"
    double = (sh, option, source.replace(*sync))
    with mock.patch.dict(protocol._STARTED, {Program.SHELL: double}):
        yield


def _cut(real: RealCluster, disk: _Disk, workload: Mapping[str, Any], after_writes: Sequence[int]) -> list[_Told]:
    """Runs with a cut in each round, each on a disk of its own."""
    namespaces = [real.make_namespace() for _ in range(_RUNS)]
    try:
        for namespace in namespaces:
            _start(real, namespace, disk)
        with tempfile.TemporaryDirectory() as folder:
            outs = [Path(folder) / namespace for namespace in namespaces]
            asyncio.run(_run_all(real, dict(zip(namespaces, outs, strict=True)), workload, after_writes))
            return [_told(real, namespace, out) for namespace, out in zip(namespaces, outs, strict=True)]
    finally:
        real.remove_namespaces(namespaces)


def _start(real: RealCluster, namespace: str, disk: _Disk) -> None:
    from testbed.fixture import Testbed
    from tests import manifests

    testbed = Testbed()
    storage_class = testbed.power_xfs_storage_class if disk.file_system == "xfs" else testbed.power_storage_class
    options = {"image": real.image, "storage_class": storage_class, "replicas": 1}
    real.apply(manifests.statefulset(namespace=namespace, **options))
    real.wait_ready(namespace, "web")
    testbed.disks.set_mode(real.handle(namespace, "disk-web-0"), disk.mode)


async def _run_all(
    real: RealCluster, outs: Mapping[str, Path], workload: Mapping[str, Any], after_writes: Sequence[int]
) -> None:
    from tests import cuts

    disruptions = [cuts.cut(real, number) for number in after_writes]
    async with asyncio.TaskGroup() as runs:
        for number, (namespace, out) in enumerate(outs.items()):
            target = {"statefulset": "web", "namespace": namespace}
            document = {"name": "power", "target": target, "workload": workload, "rounds": _ROUNDS}
            experiment = Experiment.model_validate({**document, "seed": _SEED + number, "disruptions": disruptions})
            settings = Settings(kubeconfig=real.path, out=out)
            runs.create_task(commands.run_experiment(settings, experiment, None, Ending()))


def _told(real: RealCluster, namespace: str, out: Path) -> _Told:
    from tests import cuts

    ops = cuts.history(out)
    counted = [0, *cuts.violations(ops)]
    found = sum(after > before for before, after in itertools.pairwise(counted))
    listed = real.kubectl("exec", "web-0", f"--namespace={namespace}", "--", "sh", "-c", _LENGTHS)
    whole = {Path(name).name for length, name in map(str.split, listed.splitlines()) if length == "65536"}
    return _Told(cuts.decided(ops), found, cuts.acknowledged(ops), cuts.found_damaged(ops), whole)
