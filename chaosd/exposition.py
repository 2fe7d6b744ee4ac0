"""Metrics in Prometheus' text format, a family at a time.

The client's own exposition makes the text of each series' name and labels anew at every scrape, which takes most of a
second for a hundred targets. Here that text is made once and kept while the series is there, and whoever serves it can do
something else between two families. What comes out is the same, byte for byte. Source of the format: Prometheus docs,
"Exposition formats".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.utils import floatToGoString

Family = Counter | Gauge | Histogram

# The texts before the values of a child's samples; and the values: the one, or those of a histogram's buckets and its sum.
_Series = tuple[tuple[str, ...], tuple[Callable[[], float], ...]]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Exposition:
    """What a scrape is told of some families."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = [_Family(family) for family in families]

    def texts(self) -> Iterator[str]:
        """The text of each family, made when it is asked for."""
        return (family.text() for family in self._families)


class _Family:
    """One family, with its children as the last scrape found them: for each the text before its values, and how to get
    these."""

    def __init__(self, family: Family) -> None:
        about = next(iter(family.describe()))
        self._family = family
        self._name = about.name
        told = f"{about.name}_total" if about.type == "counter" else about.name
        self._head = f"# HELP {told} {about.documentation}\n# TYPE {told} {about.type}\n"
        self._children: Mapping[Sequence[str], Family] = {}
        self._series: dict[Sequence[str], _Series] = {}

    def text(self) -> str:
        self._look()
        parts = [self._head]
        for names, values in self._series.values():
            if len(names) == 1:
                value = values[0]()
                parts += names[0], floatToGoString(value) if value else "0.0", "\n"
                continue
            *buckets, total = (value() for value in values)
            counts = list(accumulate(buckets))
            for name, value in zip(names, (*counts, counts[-1], total), strict=True):
                parts += name, floatToGoString(value) if value else "0.0", "\n"
        return "".join(parts)

    def _look(self) -> None:
        """Which children there are. The client's own way to ask for them makes a sample with all its labels of each."""
        children: Any = self._family._metrics if self._family._labelnames else {(): self._family}
        if children == self._children:
            return
        known, self._series = self._series, {}
        for labels, child in children.items():
            same = self._children.get(labels) is child
            self._series[labels] = known[labels] if same else self._made(labels, child)
        self._children = dict(children)

    def _made(self, labels: Sequence[str], child: Family) -> _Series:
        own = dict(zip(self._family._labelnames, labels, strict=True))
        names = tuple(f"{self._name}{s.name}{_labels({**own, **s.labels})} " for s in child._child_samples())
        if isinstance(child, Histogram):
            return names, (*(bucket.get for bucket in child._buckets), child._sum.get)
        return names, (child._value.get,)


def _labels(labels: Mapping[str, str]) -> str:
    told = ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in sorted(labels.items()))
    return f"{{{told}}}" if told else ""
