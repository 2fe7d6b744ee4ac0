"""Quantities of storage, as Kubernetes writes them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from chaosd.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20Gi", 20 << 30),
        ("1.5Gi", 3 << 29),
        (".5Ki", 512),
        ("0", 0),
        ("1024", 1024),
        ("1e9", 10**9),
        ("12E2", 1200),
        ("2E", 2 * 10**18),
        ("1Pi", 1 << 50),
        ("128974848000m", None),
        ("1 Gi", None),
        ("Gi", None),
        ("", None),
    ],
)
def test_a_quantity_is_so_many_bytes_or_none(text: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(ValueError, match="is no quantity as Kubernetes has them"):
            parse_quantity(text)
    else:
        assert parse_quantity(text) == Decimal(value)
