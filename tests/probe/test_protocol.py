"""The protocol: what is read from replies."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from chaosd.probe.protocol import Facts, Program, argv, read_facts

ROOT = "20 1 0:59 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b"
DISK = "21 20 7:1 / /data rw,noatime shared:7 master:1 - ext4 /dev/loop1 rw,errors=remount-ro"
HOSTS = "22 20 254:0 /kubelet/pods/u1/etc-hosts /etc/hosts rw,relatime - ext4 /dev/vda rw,discard"
NODE_FOLDER = "23 20 254:0 /kubelet/pods/u1/volumes/data /data rw,relatime - ext4 /dev/vda rw,discard"


def _facts(*table: str, path: str = "/data") -> Facts:
    return read_facts([f"mount {path}", f"resolved {path}", *(f"mountinfo {line}" for line in table)])


def test_a_path_on_a_disk_of_its_own() -> None:
    facts = _facts(ROOT, DISK, HOSTS)
    assert (facts.mounted, facts.mountinfo) == (True, DISK)
    assert (facts.fs_type, facts.device, facts.mount_root) == ("ext4", "7:1", "/")
    assert (facts.read_only, facts.node_disk) == (False, False)


def test_a_path_on_a_folder_of_the_nodes_own_disk() -> None:
    facts = _facts(ROOT, HOSTS, NODE_FOLDER)
    assert (facts.mounted, facts.node_disk, facts.mount_root) == (True, True, "/kubelet/pods/u1/volumes/data")


def test_a_path_that_nothing_is_mounted_at_lies_on_what_is_above_it() -> None:
    facts = _facts(ROOT, HOSTS)
    assert (facts.mounted, facts.mountinfo, facts.fs_type, facts.device) == (False, "", "overlay", "0:59")
    assert facts.node_disk is False
    below = _facts(ROOT, HOSTS, DISK, path="/data/db")
    assert (below.mounted, below.mountinfo, below.device) == (False, "", "7:1")
    beside = _facts(ROOT, DISK, path="/database")
    assert (beside.mounted, beside.device) == (False, "0:59")


def test_of_several_mounts_at_a_path_the_last_hides_the_others() -> None:
    assert _facts(ROOT, DISK, NODE_FOLDER).mountinfo == NODE_FOLDER
    assert _facts(ROOT, NODE_FOLDER, DISK).mountinfo == DISK


@pytest.mark.parametrize(
    "line",
    [
        "21 20 7:1 / /data ro,noatime - ext4 /dev/loop1 rw",
        "21 20 7:1 / /data rw,noatime - ext4 /dev/loop1 ro,errors=remount-ro",
    ],
)
def test_read_only_is_the_mount_or_its_file_system(line: str) -> None:
    assert _facts(ROOT, line).read_only is True


def test_what_cannot_be_known_without_the_table_or_the_nodes_mount() -> None:
    facts = _facts()
    assert (facts.mounted, facts.read_only, facts.node_disk) == (None, None, None)
    assert (facts.mountinfo, facts.fs_type, facts.device, facts.mount_root) == ("", "", "", "")
    assert _facts("no table of mounts").mounted is None
    assert _facts(ROOT, DISK).node_disk is None


def test_blanks_and_backslashes_stand_as_octal_numbers() -> None:
    facts = _facts(ROOT, r"21 20 7:1 /the\040root /my\040data\134 rw - ext4 /dev/loop1 rw", path="/my data\\")
    assert (facts.mounted, facts.mount_root) == (True, "/the root")


def test_the_root_may_be_the_path() -> None:
    facts = _facts(ROOT, path="/")
    assert (facts.mounted, facts.fs_type) == (True, "overlay")


@pytest.mark.parametrize(("fs_type", "in_memory"), [("tmpfs", True), ("ramfs", True), ("ext4", False), ("nfs4", False)])
def test_file_systems_in_memory(fs_type: str, in_memory: bool) -> None:
    assert _facts(f"21 20 0:50 / /data rw - {fs_type} none rw").in_memory is in_memory


def test_a_file_system_that_journals_data_is_known() -> None:
    assert _facts("21 20 7:1 / /data rw - ext4 /dev/loop1 rw,data=journal").journals_data
    assert not _facts(DISK).journals_data


def test_programs_are_started_with_the_place_and_their_time() -> None:
    assert argv(Program.SHELL, "/data", ".chaosd", "RUN", 60)[:2] == ["sh", "-c"]
    assert argv(Program.AGENT, "/data", ".chaosd", "RUN", 60)[0] == "python3"
    for program in Program:
        words = argv(program, "/data", ".chaosd", "RUN", 60)
        assert words[-5:] == ["chaosd-probe", "/data", ".chaosd", "RUN", "60"]
        assert sum(len(quote(word)) for word in words) < 1_000, "they stand in a URL, of which proxies take 8 KiB at most"
