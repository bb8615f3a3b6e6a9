"""The audit's statistics, against tables and against their definitions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr.audit.measures import binomial_tail, chi_square_tail, normal_tails, pearson, spearman, uniformity


# the 95% and 99.9% points of chi-square: Abramowitz & Stegun, table 26.8
@pytest.mark.parametrize(
    ("df", "p05", "p001"),
    [(1, 3.84146, 10.828), (2, 5.99147, 13.816), (3, 7.81473, 16.266), (4, 9.48773, 18.467), (9, 16.9190, 27.877), (100, 124.342, 149.449)],
)
def test_chi_square(df: int, p05: float, p001: float) -> None:
    assert chi_square_tail(p05, df) == pytest.approx(0.05, abs=2e-6)
    assert chi_square_tail(p001, df) == pytest.approx(0.001, abs=1e-6)
    assert chi_square_tail(0, df) == 1 and 0 <= chi_square_tail(1e4, df) < 1e-100


def test_normal() -> None:
    assert normal_tails(1.959963984540054) == pytest.approx(0.05) == normal_tails(-1.959963984540054)


def test_uniformity_adds_groups_up() -> None:
    assert uniformity([[10, 20]]) == (pytest.approx(10 / 3), 1)
    assert uniformity([[10, 20], [5, 5, 5], [7]]) == (pytest.approx(10 / 3), 3)


@given(st.integers(1, 60), st.integers(1, 9), st.data())
def test_binomial(n: int, tenths: int, data: st.DataObject) -> None:
    k, p = data.draw(st.integers(0, n)), Fraction(tenths, 10)
    exact = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    assert binomial_tail(k, n, tenths / 10) == pytest.approx(float(exact), rel=1e-9)


def test_correlations() -> None:
    # Pearson and Spearman of four points, by hand
    points = [(1.0, 2.0), (2.0, 1.0), (3.0, 4.0), (4.0, 30.0)]
    line, ranks = pearson(points), spearman(points)
    assert line is not None and ranks is not None
    assert line.value == pytest.approx(43.5 / math.sqrt(5 * 578.75))
    assert ranks.value == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert line.low == pytest.approx(math.tanh(math.atanh(line.value) - 1.959963984540054)) and line.low < line.value < line.high


def test_equal_values_share_a_rank() -> None:
    found = spearman([(1, 1), (1, 2), (2, 3), (3, 4), (3, 5)])
    same = pearson([(0.5, 0), (0.5, 1), (2, 2), (3.5, 3), (3.5, 4)])
    assert found is not None and same is not None and found.value == pytest.approx(same.value)


def test_no_correlation_where_there_is_none_to_tell() -> None:
    assert pearson([(1, 2), (2, 3), (3, 5)]) is None
    assert pearson([(1, 2)] * 9) is None and spearman([(i, 3) for i in range(9)]) is None
    assert pearson([(0.1 + 0.2, i) for i in range(5)] + [(0.3, 9)]) is None  # different by rounding alone


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=4, max_size=30))
def test_ranks_do_not_mind_the_scale(points: list[tuple[int, int]]) -> None:
    ranks, stretched = spearman(points), spearman([(math.exp(x), y**3) for x, y in points])
    assert (ranks is None) == (stretched is None)
    if ranks and stretched:
        assert ranks.value == pytest.approx(stretched.value)
        assert -1 <= ranks.low <= ranks.value <= ranks.high <= 1
