"""What a PromQL expression reads: the metrics, with the labels that it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser as promql

from dashboards.asking import substituted


def read_by(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that an expression reads, and the labels by which it is chosen. Raises ValueError where it is none."""
    yield from _read_by(promql.parse(substituted(expression)))


def _read_by(node: Any) -> Iterator[tuple[str, set[str]]]:
    if isinstance(node, promql.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
    elif isinstance(node, promql.MatrixSelector):
        yield from _read_by(node.vector_selector)
    elif isinstance(node, promql.BinaryExpr):
        yield from _read_by(node.lhs)
        yield from _read_by(node.rhs)
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from _read_by(argument)
    elif isinstance(node, promql.AggregateExpr | promql.ParenExpr | promql.UnaryExpr | promql.SubqueryExpr):
        yield from _read_by(node.expr)
    else:
        assert isinstance(node, promql.NumberLiteral | promql.StringLiteral), type(node)
