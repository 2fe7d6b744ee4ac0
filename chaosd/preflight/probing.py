"""What the probe tells of each replica's pod, by the program and the session that a run would use; it writes nothing."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from chaosd.cluster.port import Cluster
from chaosd.cluster.target import Target
from chaosd.errors import ChaosdError, ForbiddenError, TargetError
from chaosd.experiment import Experiment
from chaosd.preflight.patience import well_at_last
from chaosd.probe.protocol import Facts, Program
from chaosd.probe.session import Place, Session, open_session

# The folder itself, where the identity file stands: a run's own is not there before the run.
_NO_RUN = "."
_IDENTITY = "identity"
_IDENTITY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Seen:
    """What a session told. `cache` is how the identity file was read (`cold`, `cached`), empty where none is there yet."""

    program: Program
    container: str
    facts: Facts
    cache: str


@dataclass(frozen=True, slots=True)
class Untried:
    """Why no session was opened: it would leave something behind."""

    why: str


Look = Seen | Untried | ChaosdError


async def look(cluster: Cluster, experiment: Experiment, target: Target) -> Mapping[str, Look]:
    """Every replica's pod at the same time, by name; of one that cannot be looked at, the error."""

    async def at_last(pod: str) -> Look:
        return await well_at_last(lambda: _look(cluster, experiment, target, pod), _is_final, experiment.timeouts.probe)

    looks = await asyncio.gather(*map(at_last, target.pods))
    return dict(zip(target.pods, looks, strict=True))


def _is_final(found: Look) -> bool:
    """Another look finds nothing else: the pod told what was asked, or is not made for it, or may not be asked."""
    return isinstance(found, Seen | Untried | TargetError | ForbiddenError)


async def _look(cluster: Cluster, experiment: Experiment, target: Target, pod: str) -> Look:
    """Without the agent's image: its container, once added, stays as long as the pod does."""
    spec = experiment.target
    stays = f"a run adds a container of {spec.probe_image}, which stays as long as the pod does: it is not tried here"
    if spec.probe_image and spec.program is Program.AGENT:
        return Untried(stays)
    program = spec.program or Program.SHELL
    place = Place(target, spec.folder, _NO_RUN, f"preflight.{secrets.token_hex(4)}", program)
    try:
        async with open_session(cluster, place, pod, experiment.timeouts.probe) as session:
            return Seen(session.program, session.container, session.facts, await _cache(session))
    except TargetError as error:
        return Untried(f"{stays} ({error})") if spec.probe_image else error
    except ChaosdError as error:
        return error


async def _cache(session: Session) -> str:
    if session.facts.identity is None:
        return ""
    return (await session.sums([_IDENTITY], _IDENTITY_BYTES))[_IDENTITY].cache
