"""A measured figure and the limit that it is held to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """What was measured, and whether that is enough."""

    name: str
    value: float
    unit: str
    detail: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the limit, if there is one, is kept."""
        if self.at_least is not None and self.value < self.at_least:
            return False
        return self.at_most is None or self.value <= self.at_most

    def __str__(self) -> str:
        limits = (("at least", self.at_least), ("at most", self.at_most))
        limit = " and ".join(f"{word} {bound:g}" for word, bound in limits if bound is not None)
        judged = f" ({limit}: {'met' if self.met else 'MISSED'})" if limit else ""
        return f"{self.name}: {self.value:,.1f} {self.unit}{judged}\n    {self.detail}"
