"""Ratios with intervals: against known values, against a table, against a bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zephyr.evals.statistics import ratio, student_t_975

# Student's t, 97.5% point: any printed table
TABLE = {
    1: 12.7062,
    2: 4.3027,
    3: 3.1824,
    4: 2.7764,
    5: 2.5706,
    6: 2.4469,
    8: 2.3060,
    10: 2.2281,
    15: 2.1314,
    20: 2.0860,
    30: 2.0423,
    39: 2.0227,
    60: 2.0003,
    120: 1.9799,
    1000: 1.9623,
}


@pytest.mark.parametrize("df", TABLE)
def test_students_t_against_a_table(df: int) -> None:
    assert student_t_975(df) == pytest.approx(TABLE[df], abs=1e-4)


def test_students_t_falls_to_the_normal() -> None:
    values = [student_t_975(df) for df in range(1, 400)]
    assert values == sorted(values, reverse=True)
    assert student_t_975(10**9) == pytest.approx(1.959963984540054, abs=1e-8)


def test_one_item_a_group_is_the_textbook_interval_of_a_mean() -> None:
    values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]
    estimate = ratio([(v, 1) for v in values])
    assert estimate is not None
    half = 2.364624 * np.std(values, ddof=1) / math.sqrt(8)
    assert estimate.value == 5.0
    assert estimate.ci95 == pytest.approx([5 - half, 5 + half], rel=1e-5)
    assert (estimate.items, estimate.groups) == (8, 8)


def test_groups_not_items_are_independent() -> None:
    """The same items in fewer groups that agree within themselves: a wider interval, and the same as of the groups alone."""
    apart = ratio([(float(i % 2), 1) for i in range(40)])
    together = ratio([(6.0 * (i % 2), 6) for i in range(40)])
    assert apart is not None and together is not None
    assert together.value == apart.value == 0.5
    assert together.ci95 == pytest.approx(apart.ci95)
    as_if = ratio([(float(i % 2), 1) for i in range(240)])
    assert as_if is not None and as_if.high - as_if.low < 0.5 * (together.high - together.low)


def test_against_a_bootstrap_over_groups() -> None:
    """Groups of unequal size whose means spread: the linearised error is the bootstrap's, within its own noise."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 7, 60)
    sums = rng.binomial(sizes, rng.beta(2, 1, 60)).astype(float)
    estimate = ratio(list(zip(sums.tolist(), sizes.tolist(), strict=True)))
    assert estimate is not None and estimate.value == pytest.approx(sums.sum() / sizes.sum())
    draws = rng.integers(0, 60, (20_000, 60))
    spread = (sums[draws].sum(1) / sizes[draws].sum(1)).std()
    error = (estimate.high - estimate.low) / 2 / student_t_975(59)
    # a bootstrap divides by n, not n - 1; 20,000 draws know a standard deviation to 0.5%
    assert error * math.sqrt(59 / 60) == pytest.approx(spread, rel=0.04)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(2000):
        level = rng.normal(0.6, 0.2, 20)
        groups = [(float(rng.normal(m, 0.3, 4).sum()), 4) for m in level]
        estimate = ratio(groups)
        assert estimate is not None
        covered += estimate.low <= 0.6 <= estimate.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)  # four standard errors


def test_few_groups() -> None:
    assert ratio([]) is None and ratio([(0.0, 0)]) is None
    one = ratio([(3.0, 4), (0.0, 0)])
    assert one is not None and (one.value, one.groups, one.ci95) == (0.75, 1, None)
    two = ratio([(1.0, 1), (0.0, 1)])
    assert two is not None and two.ci95 is not None
    assert two.ci95 == pytest.approx([0.5 - 12.7062 * 0.5, 0.5 + 12.7062 * 0.5], rel=1e-4)
