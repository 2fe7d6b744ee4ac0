"""The Mann-Whitney U test, against values that others computed, and against itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.report.significance import MIN_VALUES, SIGNIFICANT, mann_whitney

SAMPLES = st.lists(st.integers(0, 30).map(float), min_size=MIN_VALUES, max_size=40)


@pytest.mark.parametrize(
    ("first", "second", "u", "p"),
    [
        # SciPy 1.17.1, scipy.stats.mannwhitneyu(method="asymptotic", use_continuity=True): without ties, and with.
        (
            [0.8, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46],
            [1.15, 0.88, 0.9, 0.74, 1.21, 1.5, 1.3, 1.1],
            50.0,
            0.39861511972572516,
        ),
        (
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
            [11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0],
            0.0,
            0.0009391056991171899,
        ),
        (
            [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0],
            [1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0],
            20.0,
            0.010118581997593598,
        ),
        (
            [3.0, 5.0, 5.0, 7.0, 8.0, 8.0, 9.0, 12.0, 14.0],
            [5.0, 8.0, 9.0, 10.0, 13.0, 15.0, 15.0, 18.0, 20.0, 21.0],
            16.5,
            0.0216596465247957,
        ),
    ],
)
def test_it_gives_what_is_known(first: list[float], second: list[float], u: float, p: float) -> None:
    found = mann_whitney(first, second)
    assert found is not None
    assert found.u == u
    assert found.p == pytest.approx(p, rel=1e-9)


def test_too_few_values_say_nothing() -> None:
    assert mann_whitney([1.0] * (MIN_VALUES - 1), [2.0] * 100) is None
    assert mann_whitney([1.0] * 100, []) is None


def test_values_that_are_all_the_same_differ_by_chance() -> None:
    found = mann_whitney([1.0] * 20, [1.0] * 20)
    assert found is not None
    assert (found.p, found.larger) == (1.0, 0.5)


@given(SAMPLES, SAMPLES)
def test_it_is_the_same_from_both_sides_and_counts_the_pairs(first: list[float], second: list[float]) -> None:
    one, other = mann_whitney(first, second), mann_whitney(second, first)
    assert one is not None
    assert other is not None
    assert one.p == pytest.approx(other.p)
    assert one.larger == pytest.approx(1 - other.larger)
    assert one.u == sum((a > b) + (a == b) / 2 for a in first for b in second)
    assert 0 <= one.p <= 1


@given(SAMPLES)
def test_a_sample_does_not_differ_from_itself(sample: list[float]) -> None:
    found = mann_whitney(sample, sample)
    assert found is not None
    assert found.p >= SIGNIFICANT
