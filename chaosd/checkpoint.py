"""What the folds over a history know, as plain JSON and back: so that a run goes on from there, and its old ops may go.

Pure. Every attribute of every fold is written down by its name, and what has no JSON of its own with the name of its type.
A checkpoint must be readable as long as its run may go on, by later versions of chaosd, too: whoever changes what a fold
knows raises VERSION and translates what older ones wrote (tests/test_checkpoint.py notices).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from chaosd.checkers import Panel, binding, mount, ordering, recovery, steps, verdict
from chaosd.checkers.records import Document, How, Record, Replica
from chaosd.compaction import Checkpoint
from chaosd.coverage import Coverage
from chaosd.errors import LedgerError
from chaosd.history import Kind, Op
from chaosd.payload import Label, Origin
from chaosd.resumption import Unanswered

VERSION = 1

_DATACLASSES: tuple[type[Any], ...] = (
    *(Origin, Label, Record, Document, Replica),
    *(verdict.Binding, verdict.Violation, verdict.Unknown),
    *(binding.ClaimHistory, mount._Baseline, ordering._PodState, recovery._Life, recovery._Summary, steps._Step),
)
_ENUMS: tuple[type[Enum], ...] = (verdict.Class, How, Kind)
# Names are what is written: without the underscore of those that are private to their module.
_TYPES: Mapping[str, type[Any]] = {known.__name__.lstrip("_"): known for known in (*_DATACLASSES, *_ENUMS)}
_NAMES: Mapping[type[Any], str] = {known: name for name, known in _TYPES.items()}
_FIELDS = {known: tuple(field.name for field in fields(known)) for known in _DATACLASSES}
_PLAIN = frozenset({str, int, float, bool, type(None)})
_TYPE, _OF = "$", "of"  # no key of an op's value begins with it


def taken(index: int, panel: Panel, coverage: Coverage, unanswered: Unanswered) -> Checkpoint:
    """What they know after the op of that index. Raises TypeError for what has no JSON, which is a mistake in a fold."""
    folds = {name: _attributes(fold) for name, fold in _folds(panel, coverage, unanswered).items()}
    return Checkpoint(index, {"version": VERSION, "ends": panel.episode_ends(), "crashed": panel.crashed, "folds": folds})


def restore(checkpoint: Checkpoint, panel: Panel, coverage: Coverage, unanswered: Unanswered) -> None:
    """Let new folds know it. Raises LedgerError for what another version of chaosd wrote."""
    state = checkpoint.state
    if state["version"] != VERSION:
        raise LedgerError(
            f"a run's checkpoint has version {state['version']}, this chaosd knows {VERSION}: use the chaosd that wrote it"
        )
    intern: dict[Any, Any] = {}
    for name, fold in _folds(panel, coverage, unanswered).items():
        for attribute, value in state["folds"].get(name, {}).items():  # a check that is new begins here
            _set(fold, attribute, _decoded(value, intern))
    panel.recall(state["ends"], state["crashed"])


def shape() -> dict[str, list[str]]:
    """What a checkpoint of this version consists of: the attributes of each fold and type."""
    folds = _folds(Panel(), Coverage(), Unanswered())
    told = {name: sorted(vars(fold)) for name, fold in folds.items()}
    return {**told, **{_NAMES[known]: sorted(names) for known, names in _FIELDS.items()}}


def _folds(panel: Panel, coverage: Coverage, unanswered: Unanswered) -> dict[str, Any]:
    return {**panel.checkers, "coverage": coverage, "unanswered": unanswered}


def _attributes(fold: Any) -> dict[str, Any]:
    return {name: _encoded(value) for name, value in vars(fold).items()}


def _set(fold: Any, attribute: str, value: Any) -> None:
    known = vars(fold)[attribute]
    if isinstance(known, dict):  # perhaps one that counts, or makes what is missing
        known.clear()
        known.update(value)
    else:
        setattr(fold, attribute, value)


def _encoded(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [_encoded(part) for part in value]
    if names := _FIELDS.get(kind):
        return {_TYPE: _NAMES[kind], **{name: _encoded(getattr(value, name)) for name in names}}
    if kind in _NAMES:
        return {_TYPE: _NAMES[kind], _OF: value.value}
    if isinstance(value, str):  # an enumeration's that nobody tells from its text
        return str(value)
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value):
            return {key: _encoded(part) for key, part in value.items()}
        return {_TYPE: "map", _OF: [[_encoded(key), _encoded(part)] for key, part in value.items()]}
    if isinstance(value, set | frozenset):
        return {_TYPE: kind.__name__, _OF: sorted(map(_encoded, value), key=repr)}
    if isinstance(value, Op):
        return {_TYPE: "op", _OF: [_encoded(part) for part in value]}
    if kind is tuple:
        return {_TYPE: "tuple", _OF: [_encoded(part) for part in value]}
    raise TypeError(f"a checkpoint cannot hold {kind.__name__}")


def _decoded(value: Any, intern: dict[Any, Any]) -> Any:
    """`intern` holds what is the same for many, such as who wrote their records, and is told once in memory."""
    if isinstance(value, list):
        return [_decoded(part, intern) for part in value]
    if not isinstance(value, dict):
        return value
    if _TYPE not in value:
        return {key: _decoded(part, intern) for key, part in value.items()}
    name = value[_TYPE]
    if name in _COLLECTIONS:
        return _COLLECTIONS[name](_decoded(value[_OF], intern))
    kind = _TYPES[name]
    if not is_dataclass(kind):
        return kind(value[_OF])
    made = kind(**{field: _decoded(part, intern) for field, part in value.items() if field != _TYPE})
    return intern.setdefault(made, made) if kind is Origin else made


_COLLECTIONS: Mapping[str, Callable[[Any], Any]] = {
    "map": dict,
    "set": set,
    "frozenset": frozenset,
    "tuple": tuple,
    "op": lambda parts: Op(*parts),
}
