"""Experiments: the model of `experiments/*.yaml`, and how a file becomes one.

Parsed once, here; every error names the place in the file and the mend.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from chaosd.checkers.steps import EXPECTATIONS
from chaosd.errors import ExperimentError
from chaosd.generator import Decision, Plan, random_rounds, stream
from chaosd.guards import Guards
from chaosd.nemesis import AnyDisruption, Together
from chaosd.probe.protocol import Program
from chaosd.quantities import Seconds
from chaosd.requirements import Requirements
from chaosd.schedule import Schedule
from chaosd.workload.spec import Workload

_CONFIG = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
# Names and folders go into shell words and file names of the probe.
_FOLDER = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$"
# Source: Kubernetes docs, "Object Names and IDs", DNS subdomain names.
_OBJECT_NAME = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"


# By name, or as NAME: {PARAMETER: VALUE}.
Expected = str | dict[str, dict[str, str | int]]


class TargetSpec(BaseModel):
    """Which StatefulSet, and which of its paths."""

    model_config = _CONFIG

    namespace: Annotated[str, Field(pattern=_OBJECT_NAME, description="Its namespace.")] = "default"
    statefulset: Annotated[str, Field(pattern=_OBJECT_NAME, description="Its name.")]
    path: Annotated[
        str, Field(pattern=r"^(/.*)?$", description="Where the data lie; left out: where the first claim is mounted.")
    ] = ""
    container: Annotated[str, Field(description="The container; left out: the first that mounts the path.")] = ""
    folder: Annotated[str, Field(pattern=_FOLDER, description="chaosd's own folder, below the path.")] = ".chaosd"
    probe: Annotated[
        Literal["auto", "shell", "agent"],
        Field(
            description="What runs beside the volume: `shell`, by exec in the container; `agent`, in probeImage, else in "
            "the container's own Python; `auto`: the shell where the container has one, else the agent in probeImage."
        ),
    ] = "auto"
    probe_image: Annotated[
        str,
        Field(
            alias="probeImage",
            pattern=r"^\S*$",
            description="An image with python3; each pod gets an ephemeral container of it that stays while the pod does.",
        ),
    ] = ""

    @field_validator("folder")
    @classmethod
    def _inside(cls, folder: str) -> str:
        if {".", ".."} & set(folder.split("/")):
            raise ValueError("it lies below the path: name it without . and ..")
        return folder

    @model_validator(mode="after")
    def _image_is_used(self) -> TargetSpec:
        if self.probe == "shell" and self.probe_image:
            raise ValueError("probe: shell runs in the target's own container: leave probeImage out, or set probe: agent")
        return self

    @property
    def program(self) -> Program | None:
        """Which program probes; None: what the container allows."""
        return None if self.probe == "auto" else Program(self.probe)

    require_claim: Annotated[
        bool, Field(alias="requireClaim", description="Refuse a path that no claim is behind, such as an emptyDir.")
    ] = True
    manifest: Annotated[
        str, Field(description="What the sandbox applies when it is empty; relative to the experiment's file.")
    ] = "targets/web.yaml"


class Timeouts(BaseModel):
    """How long is waited for what, at most."""

    model_config = _CONFIG

    converge: Annotated[Seconds, Field(gt=0, description="For the target to converge after a disruption.")] = 300.0
    disrupt: Annotated[Seconds, Field(gt=0, description="For a disruption to have happened.")] = 300.0
    probe: Annotated[Seconds, Field(gt=0, description="For a pod to be Ready, and for each reply of its probe.")] = 30.0
    write: Annotated[Seconds, Field(gt=0, description="For a round's files, once nothing else is awaited.")] = 120.0
    read: Annotated[Seconds, Field(gt=0, description="For everything that is owed to be read back.")] = 300.0


class Step(BaseModel):
    """One step of a script: write, disrupt, wait until converged, read back, and evaluate what is expected."""

    model_config = _CONFIG

    name: Annotated[str, Field(description="What the step shows.")]
    write: Annotated[int, Field(ge=0, le=10_000, description="Files to each replica.")] = 0
    disrupt: AnyDisruption | None = None
    verify: Annotated[bool, Field(description="Read back everything that is owed.")] = False
    expect: Annotated[
        tuple[Expected, ...],
        Field(description="Expectations by name, or as NAME: {PARAMETER: VALUE}."),
    ] = ()

    @field_validator("expect")
    @classmethod
    def _known(cls, expect: tuple[Expected, ...]) -> tuple[Expected, ...]:
        for name, parameters in _named(expect):
            known = EXPECTATIONS.get(name)
            if known is None:
                raise ValueError(f"no expectation is called {name!r}{_nearest(name, EXPECTATIONS)}")
            if wrong := set(parameters) - set(known.parameters):
                raise ValueError(f"{name} takes no parameter {min(wrong)!r}; it takes {sorted(known.parameters)}")
            if missing := known.required - set(parameters):
                raise ValueError(f"{name} needs the parameter {min(missing)!r}")
            for parameter, value in parameters.items():
                if not re.fullmatch(known.parameters[parameter], value):
                    raise ValueError(f"{name}: {parameter} cannot be {value!r}: write {known.parameters[parameter]}")
        return expect

    @model_validator(mode="after")
    def _scale_or_write(self) -> Step:
        if self.write and self.disrupt and self.disrupt.kind == "scale":
            raise ValueError("a step that scales does not write, since its replicas come and go: write in a step before it")
        if isinstance(self.disrupt, Together) and any(part.kind == "scale" for part in self.disrupt.disruptions):
            raise ValueError("what a step scales to lasts: scale in a step of its own, or use scale-flap")
        return self

    @property
    def expectations(self) -> tuple[tuple[str, Mapping[str, str]], ...]:
        """Names and parameters."""
        return tuple(_named(self.expect))


class Experiment(BaseModel):
    """What is done to which target, and when it ends: random rounds drawn from `disruptions`, or scripted `steps`."""

    model_config = _CONFIG

    schema_: Annotated[str, Field(alias="$schema", description="For editors.")] = ""
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63, description="Its name.")]
    description: Annotated[str, Field(description="What it is for.")] = ""
    target: TargetSpec
    workload: Workload = Workload()
    seed: Annotated[int | None, Field(ge=0, lt=1 << 63, description="Left out: drawn anew, and told.")] = None
    rounds: Annotated[int | None, Field(ge=1, description="Random rounds; left out: until the duration, or stopped.")] = (
        None
    )
    duration: Annotated[Seconds | None, Field(gt=0, description="No round begins after it.")] = None
    disruptions: Annotated[tuple[AnyDisruption, ...], Field(description="What random rounds are drawn from.")] = ()
    steps: Annotated[tuple[Step, ...], Field(description="The script.")] = ()
    timeouts: Timeouts = Timeouts()
    guards: Guards = Guards()
    require: Annotated[Requirements | None, Field(description="The coverage without which a pass does not count.")] = None
    schedule: Annotated[
        Schedule | None, Field(description="When a daemon begins its runs; left out: one run, that goes on for ever.")
    ] = None

    @model_validator(mode="after")
    def _one_kind(self) -> Experiment:
        if bool(self.disruptions) == bool(self.steps):
            raise ValueError("give either disruptions, for random rounds, or steps, for a script")
        if self.steps and (self.rounds is not None or self.duration is not None):
            raise ValueError("rounds and duration are for random rounds: a script ends with its last step")
        return self

    @property
    def is_endless(self) -> bool:
        """Whether its rounds go on until somebody stops them."""
        return self.rounds is None and self.duration is None and not self.steps and self.require is None

    @property
    def ends_when_covered(self) -> bool:
        """Whether it goes on until it has done what it requires, or its time is over."""
        return self.require is not None and self.rounds is None and not self.steps

    def plans(self, seed: int, replicas: int, first_ordinal: int) -> Iterator[Plan]:
        """The rounds or steps, one after the other, for a target of so many replicas."""
        ordinals = range(first_ordinal, first_ordinal + replicas)
        if self.disruptions:
            yield from random_rounds(seed, self.disruptions, ordinals, self.workload.files, self.rounds)
        else:
            yield from scripted_steps(seed, self.steps, ordinals)


def scripted_steps(seed: int, steps: Sequence[Step], ordinals: range) -> Iterator[Plan]:
    """Each step as it is written; the count that a step scales to holds until another does."""
    replicas = len(ordinals)
    for number, step in enumerate(steps, 1):
        decision = None
        if step.disrupt:
            present = range(ordinals.start, ordinals.start + replicas)
            drawn = step.disrupt.draw(stream(seed, "nemesis", number), present, number - 1)
            decision = Decision(step.disrupt.kind, drawn, step.disrupt)
            if step.disrupt.kind == "scale":
                replicas = drawn["to"]
        # What a step scales to lasts; everything else is put right before the next.
        heal = step.disrupt is not None and step.disrupt.kind != "scale"
        yield Plan(number, step.name, replicas, step.write, decision, heal, step.verify, step.expectations)


def load(path: Path) -> Experiment:
    """The experiment in a file. Raises ExperimentError with the place and the mend."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ExperimentError(
            f"{path}: {error.strerror}: name an experiment file, such as experiments/soak.yaml"
        ) from error
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{path} is no text: {error}") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Experiment:
    """The experiment in a YAML text. Raises ExperimentError, which names `source`, line and column."""
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise ExperimentError(f"{where}: no YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ExperimentError(f"{source}: no YAML: {error}") from error
    if not isinstance(document, dict):
        raise ExperimentError(
            f"{source}: an experiment is a mapping with `name` and `target`, not {type(document).__name__}"
        )
    return _validated(document, f"{source}: ")


def schema() -> str:
    """The JSON Schema of an experiment file."""
    made = Experiment.model_json_schema(by_alias=True)
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(made, indent=2) + "\n"


def _named(expect: Sequence[Expected]) -> Iterator[tuple[str, Mapping[str, str]]]:
    for entry in expect:
        if isinstance(entry, str):
            yield entry, {}
        else:
            yield from ((name, {key: str(value) for key, value in given.items()}) for name, given in entry.items())


def _explain(document: Mapping[str, Any], error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            name = str(problem["loc"][-1])
            yield f"{place}: unknown field{_nearest(name, _fields_at(problem['loc'][:-1]))}"
        elif problem["type"] == "union_tag_invalid":
            named, known = problem["ctx"]["tag"], re.findall(r"'([^']+)'", problem["ctx"]["expected_tags"])
            yield f"{place}: no such kind as {named!r}{_nearest(named, known)}"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            yield f"{place}: {message}" if place else message


def _fields_at(place: Sequence[int | str]) -> Iterable[str]:
    """The names that the schema allows at a place of the document."""
    made = Experiment.model_json_schema(by_alias=True)
    node = made
    for part in place:
        node = _resolved(made, node)
        options = node.get("discriminator", {}).get("mapping", {})
        if isinstance(part, int):
            node = node["items"]
        elif part in options:
            node = {"$ref": options[part]}
        else:
            node = node["properties"][part]
    return list(_resolved(made, node).get("properties", ()))


def _resolved(made: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """The schema node itself, behind references and behind `or null`."""
    for option in node.get("anyOf", ()):
        if option.get("type") != "null":
            node = option
            break
    while "$ref" in node:
        node = made["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return dict(node)


def _nearest(name: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f": did you mean {match[0]}?" if match else f": there are {', '.join(sorted(known))}"


def default_for(statefulset: str) -> Experiment:
    """What `run statefulset/NAME` does: five random rounds of deleted pods and scaling down and up. Raises ExperimentError
    for what is no name."""
    return _validated(
        {
            "name": "default",
            "target": {"statefulset": statefulset},
            "rounds": 5,
            "disruptions": [{"kind": "pod-delete", "weight": 3}, {"kind": "scale", "weight": 1}],
        }
    )


def overlay(experiment: Experiment, given: Mapping[str, Any]) -> Experiment:
    """The experiment with some of its fields replaced, and checked again. Raises ExperimentError."""
    return _validated({**experiment.model_dump(by_alias=True, exclude_unset=True), **given})


def _validated(document: Mapping[str, Any], where: str = "") -> Experiment:
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        raise ExperimentError(where + "; ".join(_explain(document, error))) from error
