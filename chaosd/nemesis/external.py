"""`external`: a command or a URL of the user's disturbs a replica, such as by cutting the power of its disk or its node.

Only a crash tests what a disk does with an fsync: the deletion of a pod writes everything back. A command is started
without a shell, with what it needs to know in its arguments; a URL is told the same as a JSON object. What undoes it is the
user's own, too, and must be safe to repeat.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import aiohttp
from pydantic import Field, field_validator, model_validator

from chaosd.cluster.observer import View
from chaosd.cluster.port import Cluster
from chaosd.cluster.target import Target
from chaosd.errors import DisruptionError
from chaosd.nemesis.base import Prepared, Scene
from chaosd.nemesis.pods import OfOnePod, doomed, names, picked

# What is told; each is of the replica that was picked.
_TOLD = ("namespace", "pod", "node", "claim", "volume", "handle")
_WORDS = ", ".join(f"{{{word}}}" for word in _TOLD)
_OUTPUT_BYTES = 1_000
_URL = r"^(https?://\S+)?$"


class External(OfOnePod):
    """Have a command or a URL of yours disturb one replica; finds disks, drivers and workloads that lose what was
    acknowledged, where it crashes a node or a disk.

    A command ends with status 0 when it has happened, a URL answers with one below 400; else nobody knows. The evidence has
    the node's boot id before and after. A URL is sent a POST with a JSON object: namespace, pod, node, claim, volume,
    handle, and the run."""

    no_rights: ClassVar[str] = "none of the cluster's: what your command needs is its own"
    undone: ClassVar[str] = "What `undo` or `undoUrl` undoes; it is told the same."

    kind: Literal["external"]
    command: Annotated[tuple[str, ...], Field(description=f"Program and arguments; told are {_WORDS}.")] = ()
    undo: Annotated[tuple[str, ...], Field(description="Program and arguments that undo it; told are the same.")] = ()
    url: Annotated[str, Field(pattern=_URL, description="In the place of a command.")] = ""
    undo_url: Annotated[str, Field(alias="undoUrl", pattern=_URL, description="In the place of an undo.")] = ""
    crash: Annotated[
        bool, Field(description="It takes away what was not flushed, as a power cut does: counted as a crash.")
    ] = False

    @field_validator("command", "undo")
    @classmethod
    def _known_words(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        for word in command:
            try:
                word.format(**dict.fromkeys(_TOLD, ""))
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"{word!r}: {error} is not told; there are {', '.join(_TOLD)}") from error
        return command

    @model_validator(mode="after")
    def _either(self) -> External:
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command or url")
        if self.undo and self.undo_url:
            raise ValueError("give either undo or undoUrl")
        return self

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """The replica to disturb, and how."""
        how: dict[str, Any] = {"url": self.url} if self.url else {"command": list(self.command)}
        if self.undo or self.undo_url:
            how["undo"] = {"url": self.undo_url} if self.undo_url else {"command": list(self.undo)}
        return {**super().draw(rng, ordinals, turn), **how, "crash": self.crash}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The call for the replica's pod as it is now, and the one that undoes it."""
        (pod,) = picked(scene, parameters)
        view = scene.observer.view
        told = {**_volume_of(view, scene.target, pod.name), "namespace": pod.namespace, "pod": pod.name, "node": pod.node}
        undo = {"kind": "external", **_call(parameters["undo"], told, scene.by)} if "undo" in parameters else None
        more = {"crash": parameters["crash"], "boot_id": _boot_id(view, pod.node), **_call(parameters, told, scene.by)}
        return Prepared(doomed(scene, [pod]), undo, more, names([pod]))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Have it done. Raises DisruptionError when it fails, or takes too long."""
        output = await _made(prepared.more, scene.timeout_seconds)
        node = prepared.deletes[0]["node"]
        boot_id = {"was": prepared.more["boot_id"], "is": _boot_id(scene.observer.view, node)}
        return {"output": output, "boot_id": boot_id, "crash": prepared.more["crash"]}

    @classmethod
    async def heal(cls, cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
        """The command or URL that undoes it. Raises DisruptionError when it fails: then it stays to be undone."""
        output = await _made(undo, timeout_seconds)
        return f"{_name(undo)} undid it{f': {output}' if output else ''}"


def _call(parameters: Mapping[str, Any], told: Mapping[str, str], by: str) -> dict[str, Any]:
    """A command or a URL as plain JSON, with everything that it is told."""
    if "url" in parameters:
        return {"url": parameters["url"], "body": {**told, "run": by}}
    return {"command": [word.format(**told) for word in parameters["command"]]}


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


def _name(call: Mapping[str, Any]) -> str:
    return str(call["url"] if "url" in call else call["command"][0])


async def _made(call: Mapping[str, Any], timeout_seconds: float) -> str:
    """The end of what it answered. Raises DisruptionError when it failed, or took too long."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await (_posted(call["url"], call["body"]) if "url" in call else _run(call["command"]))
    except TimeoutError as error:
        raise DisruptionError(f"{_name(call)} did not end within {timeout_seconds:.0f} s, and was given up") from error


async def _posted(url: str, body: Mapping[str, str]) -> str:
    try:
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
            output = (await answer.text(errors="replace")).strip()[-_OUTPUT_BYTES:]
    except aiohttp.ClientError as error:
        raise DisruptionError(f"{url} cannot be reached: {error}") from error
    if answer.status >= 400:
        raise DisruptionError(f"{url} answered {answer.status}: {output}")
    return output


async def _run(command: Sequence[str]) -> str:
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
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    output = told.decode(errors="replace").strip()[-_OUTPUT_BYTES:]
    if process.returncode:
        raise DisruptionError(f"{command[0]} ended with status {process.returncode}: {output}")
    return output
