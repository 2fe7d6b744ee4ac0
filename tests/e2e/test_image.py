"""The image that the Dockerfile builds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import manifests
from tests.chaosd_process import Chaosd
from tests.real import RealCluster


def test_the_same_sources_give_the_same_layer(chaosd_image: str, testbed: Any, tmp_path: Path) -> None:
    from testbed import chaosd_image as building

    building.build(tmp_path / "again.tar", anew=True)
    digests = [building.config(archive)["rootfs"]["diff_ids"] for archive in (building.ARCHIVE, tmp_path / "again.tar")]
    assert len(digests[0]) == 1
    assert digests[0] == digests[1]


def test_there_is_nothing_in_it_that_chaosd_does_not_need(chaosd_image: str, testbed: Any) -> None:
    from testbed import chaosd_image as building

    entries = building.entries(building.ARCHIVE)
    programs = {
        Path(entry.name).name for entry in entries if entry.isfile() and entry.mode & 0o111 and "/bin/" in entry.name
    }
    assert programs == {"chaosd", "python3.11"}
    assert not [entry.name for entry in entries if entry.isfile() and entry.mode & 0o6000]
    assert {entry.name for entry in entries if entry.mode & 0o002 and not entry.issym()} == {"tmp", "var/lib/chaosd"}
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries} == {(0, 0, 0)}
    assert sum(entry.size for entry in entries) < 150 * 2**20
    told = building.config(building.ARCHIVE)["config"]
    assert (told["User"], told["Entrypoint"]) == ("65532:65532", ["chaosd"])
    labels = {name.removeprefix("org.opencontainers.image.") for name in told["Labels"]}
    assert {"title", "description", "version", "revision"} <= labels


def test_it_is_the_probe_agent_of_a_target_without_a_shell(
    chaosd_image: str, real: RealCluster, real_namespace: str, run: Callable[..., Chaosd], experiment: Callable[..., Path]
) -> None:
    common = {"namespace": real_namespace, "image": real.bare_image, "storage_class": real.storage_class}
    target = manifests.statefulset(**common)
    # Else the agent would run as its own image's user, who may not write to a volume of root's.
    target["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"runAsUser": 0}
    real.apply(target)
    real.wait_ready(real_namespace, "web")
    agent = {"probe": "agent", "probeImage": chaosd_image}
    done = run("run", experiment(target=agent, rounds=1, disruptions=[{"kind": "pod-delete"}]), "-n", real_namespace)
    assert done.code == 0, done.told
    assert done.verdict["coverage"]["records_verified_cold"] > 0
    assert done.verdict["coverage"]["records_verified_cached"] == 0
