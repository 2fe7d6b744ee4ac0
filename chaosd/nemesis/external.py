"""`external`: a command of the user's disturbs a replica, such as by cutting the power of its disk or its node.

Only a crash tests what a disk does with an fsync: the deletion of a pod writes everything back. What the command did is its
own to put right. It is started without a shell, with what it needs to know in its arguments.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from chaosd.cluster.observer import View
from chaosd.cluster.target import Target
from chaosd.errors import DisruptionError, NotReadyError
from chaosd.nemesis.base import Disruption, Prepared, Scene

# What a command may be told; each is of the replica that was drawn.
_TOLD = ("namespace", "pod", "node", "claim", "volume", "handle")
_OUTPUT_BYTES = 1_000


class External(Disruption):
    """Run a command that disturbs one replica; with `crash`, one that takes what was not flushed: finds a disk, a driver or
    a workload that loses what was acknowledged."""

    kind: Literal["external"]
    command: Annotated[
        tuple[str, ...],
        Field(min_length=1, description=f"Program and arguments; told are {', '.join(f'{{{w}}}' for w in _TOLD)}."),
    ]
    crash: Annotated[
        bool, Field(description="It takes away what was not flushed, as a power cut does: counted as a crash.")
    ] = False

    @field_validator("command")
    @classmethod
    def _known_words(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        for word in command:
            try:
                word.format(**dict.fromkeys(_TOLD, ""))
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"{word!r}: {error} is not told; there are {', '.join(_TOLD)}") from error
        return command

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """The replica to disturb, and how: an experiment may have several commands."""
        return {"ordinal": rng.choice(list(ordinals)), "command": list(self.command), "crash": self.crash}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The command for the replica's pod as it is now."""
        target, view = scene.target, scene.observer.view
        name = f"{target.statefulset}-{parameters['ordinal']}"
        pod = view.pods.get(name)
        if pod is None:
            raise NotReadyError(f"{target.namespace}/{name} cannot be disturbed: there is no such pod")
        told = {**_volume_of(view, target, name), "namespace": target.namespace, "pod": name, "node": pod.node}
        command = [word.format(**told) for word in parameters["command"]]
        doomed = {"replica": target.replica(name), "uid": pod.uid, "node": pod.node}
        crash, boot_id = parameters["crash"], _boot_id(view, pod.node)
        more = {"command": command, "crash": crash, "boot_id": boot_id}
        return Prepared((doomed,), None, more, frozenset({name}))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Run it to its end. Raises DisruptionError when it fails, or takes too long."""
        status, output = await _run(prepared.more["command"], scene.timeout_seconds)
        if status:
            raise DisruptionError(f"{prepared.more['command'][0]} ended with status {status}: {output}")
        node = prepared.deletes[0]["node"]
        boot_id = {"was": prepared.more["boot_id"], "is": _boot_id(scene.observer.view, node)}
        return {"output": output, "boot_id": boot_id, "crash": prepared.more["crash"]}


def _volume_of(view: View, target: Target, pod: str) -> dict[str, str]:
    claim = view.claims.get(target.claim(pod))
    volume = view.volumes.get(claim.volume) if claim else None
    return {
        "claim": claim.name if claim else "",
        "volume": claim.volume if claim else "",
        "handle": volume.handle if volume else "",
    }


def _boot_id(view: View, node: str) -> str:
    return view.nodes[node].boot_id if node in view.nodes else ""


async def _run(command: Sequence[str], timeout_seconds: float) -> tuple[int, str]:
    """Exit status and the end of what it printed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise DisruptionError(f"{command[0]} cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout_seconds):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise DisruptionError(f"{command[0]} did not end within {timeout_seconds:.0f} s, and was killed") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace").strip()[-_OUTPUT_BYTES:]
