"""The statistics of the audit: how far chance alone would go. What is here is small; nothing is asked of a library for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# what is not chance any more: a test is at fault once in a thousand, and what it finds must be large enough to matter, too
ALPHA = 0.001
ENOUGH = 20  # pairs, prompts or answers that a judgment is made on
FIXED = 0.95  # a share that is as good as all


@dataclass(frozen=True)
class Correlation:
    """A correlation coefficient with a 95% interval, and how many points it is of."""

    value: float
    low: float
    high: float
    n: int


def chi_square_tail(statistic: float, df: int) -> float:
    """The probability that chi-square with `df` >= 1 degrees of freedom is at least `statistic`.

    The incomplete gamma function at whole and half numbers, by its recurrence: Abramowitz & Stegun 6.5.21 and 26.4.4-5.
    """
    if statistic <= 0:
        return 1.0
    x = statistic / 2
    tail, a = (math.erfc(math.sqrt(x)), 0.5) if df % 2 else (math.exp(-x), 1.0)
    while a < df / 2:
        tail += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(tail, 1.0)


def uniformity(counts: Sequence[Sequence[int]]) -> tuple[float, int]:
    """Pearson's chi-square statistic, and its degrees of freedom, of counts that should be equal within each group; groups add up."""
    statistic, df = 0.0, 0
    for group in counts:
        expected = sum(group) / len(group)
        if expected and len(group) > 1:
            statistic += sum((count - expected) ** 2 / expected for count in group)
            df += len(group) - 1
    return statistic, df


def binomial_tail(successes: int, n: int, p: float) -> float:
    """The probability of at least so many successes in `n` trials that succeed with probability `p`, 0 < p < 1."""
    terms = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
        for k in range(successes, n + 1)
    )
    return min(math.fsum(map(math.exp, terms)), 1.0)


def normal_tails(z: float) -> float:
    """The probability that a standard normal number is at least as far from 0 as `z`, on either side."""
    return math.erfc(abs(z) / math.sqrt(2))


def spearman(points: Sequence[tuple[float, float]]) -> Correlation | None:
    """The rank correlation: Pearson's of the ranks, equal values sharing the mean of theirs; None where there is none."""
    return pearson(list(zip(_ranks([x for x, _ in points]), _ranks([y for _, y in points]), strict=True)))


def pearson(points: Sequence[tuple[float, float]]) -> Correlation | None:
    """The linear correlation; its interval by Fisher's transformation. None for fewer than 4 points, or where one side does not vary."""
    n = len(points)
    if n < 4:
        return None
    mean_x, mean_y = _mean(x for x, _ in points), _mean(y for _, y in points)
    xx, yy, xy = (
        math.fsum((x - mean_x) ** 2 for x, _ in points),
        math.fsum((y - mean_y) ** 2 for _, y in points),
        math.fsum((x - mean_x) * (y - mean_y) for x, y in points),
    )
    if xx <= 1e-18 * n * max(1.0, mean_x**2) or yy <= 1e-18 * n * max(1.0, mean_y**2):
        return None
    r = max(-1.0, min(1.0, xy / math.sqrt(xx) / math.sqrt(yy)))
    if abs(r) == 1:
        return Correlation(r, r, r, n)
    z, half = math.atanh(r), 1.959963984540054 / math.sqrt(n - 3)
    return Correlation(r, math.tanh(z - half), math.tanh(z + half), n)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for i in order[start : end + 1]:
            ranks[i] = (start + end) / 2
        start = end + 1
    return ranks
