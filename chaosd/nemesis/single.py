"""Every disruption that is one of its own, by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from chaosd.nemesis.base import Disruption
from chaosd.nemesis.container_kill import ContainerKill
from chaosd.nemesis.csi_restart import CsiRestart
from chaosd.nemesis.external import External
from chaosd.nemesis.node_drain import NodeDrain
from chaosd.nemesis.pod_delete import PodDelete
from chaosd.nemesis.pod_evict import PodEvict
from chaosd.nemesis.recreate import Recreate
from chaosd.nemesis.reschedule import Reschedule
from chaosd.nemesis.rollout_restart import RolloutRestart
from chaosd.nemesis.scale import Scale
from chaosd.nemesis.scale_flap import ScaleFlap
from chaosd.nemesis.volume_expand import VolumeExpand

SINGLE: Mapping[str, type[Disruption]] = {
    "pod-delete": PodDelete,
    "pod-evict": PodEvict,
    "container-kill": ContainerKill,
    "scale": Scale,
    "scale-flap": ScaleFlap,
    "rollout-restart": RolloutRestart,
    "node-drain": NodeDrain,
    "reschedule": Reschedule,
    "recreate": Recreate,
    "csi-restart": CsiRestart,
    "volume-expand": VolumeExpand,
    "external": External,
}

AnySingle = Annotated[
    PodDelete
    | PodEvict
    | ContainerKill
    | Scale
    | ScaleFlap
    | RolloutRestart
    | NodeDrain
    | Reschedule
    | Recreate
    | CsiRestart
    | VolumeExpand
    | External,
    Field(discriminator="kind"),
]
