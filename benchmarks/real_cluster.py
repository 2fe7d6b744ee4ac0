"""The real cluster that is measured on, and a namespace of the measurement's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.real import RealCluster

_ROOT = Path(__file__).resolve().parents[1]


def of_testbed() -> RealCluster:
    """That of tests/testbed, which is started: no other has disks with a power switch, or may be treated so."""
    from tests.real import RealCluster

    sys.path.insert(0, str(_ROOT / "tests"))  # where the testbed's own modules look for each other
    return RealCluster.of_testbed()


def of_environment() -> RealCluster:
    """KUBECONFIG's, else the testbed's."""
    from tests.real import RealCluster

    return RealCluster.of_environment() if os.environ.get("KUBECONFIG") else of_testbed()


@contextmanager
def own_namespace(real: RealCluster) -> Iterator[str]:
    """A namespace until the context ends."""
    name = real.make_namespace()
    try:
        yield name
    finally:
        real.remove_namespaces([name])
