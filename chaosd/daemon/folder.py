"""The experiments of a daemon: the files of a folder, read anew when they change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from chaosd import experiment as experiments
from chaosd.errors import ExperimentError, UsageError
from chaosd.experiment import Experiment

_SUFFIXES = (".yaml", ".yml")
_UNREADABLE = "\0"  # begins no text


@dataclass(frozen=True, slots=True)
class Loaded:
    """An experiment, and the manifest that an empty sandbox is given for it."""

    experiment: Experiment
    manifest: Path


@dataclass(frozen=True, slots=True)
class Reading:
    """What the files say now, by their names: those that can be run, and why others cannot."""

    loaded: Mapping[str, Loaded]
    refused: Mapping[str, str]


class ExperimentFolder:
    """A folder of experiments, or one file. A file that was broken since it was read stands as it was."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError where there is none."""
        if not path.exists():
            raise UsageError(f"{path}: there is no such file or folder: name an experiment, or a folder of them")
        self._path = path
        self._is_folder = path.is_dir()  # also while it is away
        self._texts: dict[str, str] = {}
        self._loaded: dict[str, Loaded] = {}
        self._refused: dict[str, str] = {}

    def read(self) -> Reading | None:
        """What changed the files say since they were last read; None where they say the same. Raises UsageError for a
        folder that cannot be read."""
        try:
            texts = dict(self._found())
        except OSError as error:
            raise UsageError(f"{self._path}: {error.strerror}: let the daemon read it") from error
        if texts == self._texts:
            return None
        for name, text in texts.items():
            if self._texts.get(name) != text:
                self._take(name, text)
        self._texts = texts
        for gone in (*(self._loaded.keys() - texts.keys()), *(self._refused.keys() - texts.keys())):
            self._loaded.pop(gone, None)
            self._refused.pop(gone, None)
        twice = dict(_named_twice(self._loaded))
        loaded = {name: one for name, one in self._loaded.items() if name not in twice}
        return Reading(loaded, {**self._refused, **twice})

    def _found(self) -> Iterator[tuple[str, str]]:
        """Names and texts; of a file that cannot be read, why."""
        for file in sorted(self._path.iterdir()) if self._is_folder else [self._path]:
            if self._is_folder and (file.suffix not in _SUFFIXES or file.name.startswith(".")):
                continue
            try:
                yield file.name, file.read_text(errors="replace")
            except OSError as error:
                yield file.name, f"{_UNREADABLE}{error.strerror}"

    def _take(self, name: str, text: str) -> None:
        if text.startswith(_UNREADABLE):
            self._refused[name] = f"{name}: {text.removeprefix(_UNREADABLE)}: let the daemon read it"
            return
        try:
            experiment = experiments.parse(text, name)
            _refuse_unfit(experiment, name)
        except ExperimentError as error:
            self._refused[name] = str(error)
        else:
            self._refused.pop(name, None)
            folder = self._path if self._is_folder else self._path.parent
            self._loaded[name] = Loaded(experiment, folder / experiment.target.manifest)


def _refuse_unfit(experiment: Experiment, name: str) -> None:
    """Raises ExperimentError for what is an experiment, and none for a daemon."""
    if experiment.schedule and experiment.is_endless:
        raise ExperimentError(f"{name}: its schedule begins runs that never end: give it rounds or a duration")
    if experiment.steps and not experiment.schedule:
        raise ExperimentError(f"{name}: it is a script, which has an end: give it a schedule, or disruptions for steps")


def _named_twice(loaded: Mapping[str, Loaded]) -> Iterator[tuple[str, str]]:
    """Of files whose experiments have one name, all but the first."""
    first: dict[str, str] = {}
    for file, one in sorted(loaded.items()):
        name = one.experiment.name
        if first.setdefault(name, file) != file:
            yield file, f"{file}: {first[name]} has an experiment of the name {name}, too: give it another"
