"""The cluster and the ledger that the settings name, opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from chaosd.cluster.port import Cluster
from chaosd.errors import ExperimentError, RefusedError, UsageError
from chaosd.ledger import Ledger
from chaosd.settings import Settings


@asynccontextmanager
async def open_cluster(settings: Settings, *manifests: Path | None) -> AsyncIterator[Cluster]:
    """The cluster that the settings name; a sandbox that is empty gets the objects in the `manifests`."""
    # Each is imported only where it is used: the Kubernetes client takes tens of megabytes, the sandbox two.
    if settings.cluster == "sandbox":
        from chaosd.cluster.sandbox import SandboxCluster

        sandbox = await SandboxCluster.open(settings.sandbox_folder)
        try:
            for manifest in dict.fromkeys(manifests) if sandbox.is_empty else ():
                try:
                    await sandbox.apply(_documents(manifest) if manifest else ())
                except RefusedError as error:
                    raise ExperimentError(f"target.manifest {manifest}: {error}") from error
            yield sandbox
        finally:
            await sandbox.close()
    else:
        from chaosd.cluster.kubernetes import KubernetesCluster

        kubernetes = await KubernetesCluster.open(
            kubeconfig=settings.kubeconfig, context=settings.context, qps=settings.qps, burst=settings.burst
        )
        try:
            yield kubernetes
        finally:
            await kubernetes.close()


def open_ledger(settings: Settings) -> Ledger:
    """The ledger that the settings name; the out folder is made. Raises UsageError, LedgerError."""
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {settings.out}: {error.strerror}: name a folder that can be written") from error
    return Ledger.open(settings.ledger_url)


def _documents(manifest: Path) -> list[Mapping[str, Any]]:
    try:
        return [document for document in yaml.safe_load_all(manifest.read_text()) if document]
    except OSError as error:
        raise ExperimentError(f"target.manifest {manifest}: {error.strerror}: name what the sandbox shall apply") from error
    except yaml.YAMLError as error:
        raise ExperimentError(f"target.manifest {manifest}: no YAML: {error}") from error
