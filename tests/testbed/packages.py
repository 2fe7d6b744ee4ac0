"""The Debian packages that the testbed, and the tests on it, need."""

from __future__ import annotations

import subprocess

from testbed.shell import run

NEEDED = (
    "buildah",  # builds the image of chaosd
    "busybox-static",  # the root file system of the test images
    "catatonit",  # their first process, and the pause container
    "conntrack",  # kube-proxy cleans up with it
    "containernetworking-plugins",
    "e2fsprogs",
    "iproute2",
    "iptables",
    "mmdebstrap",  # makes a base for that image
    "mount",
    "openssl",
    "postgresql",  # the tests keep a ledger in one of their own
    "prometheus",  # the tests have it scrape chaosd
    "python3-venv",  # the CSI driver's packages, where python3 is Debian's
    "runc",
    "socat",
    "util-linux",
    "xfsprogs",
)


def missing() -> list[str]:
    # One name that dpkg does not know makes the status 1; the others are answered all the same.
    ask = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *NEEDED]
    answers = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.splitlines()
    return [name for name in NEEDED if f"{name} installed" not in answers]


def install() -> None:
    absent = missing()
    if not absent:
        print("all there:", " ".join(NEEDED))
        return
    print("installing:", " ".join(absent), flush=True)
    subprocess.run(["apt-get", "update"], check=True)
    subprocess.run(["apt-get", "install", "--yes", "--no-install-recommends", *absent], check=True)
    print("installed:", run("dpkg-query", "--show", *absent))
