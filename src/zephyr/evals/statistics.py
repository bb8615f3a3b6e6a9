"""Means with intervals, for measurements that come in groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A ratio of sums over groups, with a 95% interval in which the groups, not the items, are independent."""

    value: float
    low: float
    high: float
    items: int
    groups: int

    @property
    def ci95(self) -> list[float] | None:
        """[low, high], or None where there is one group only, from which no spread can be told."""
        return [self.low, self.high] if self.groups > 1 else None


def student_t_975(df: int) -> float:
    """The 97.5% point of Student's t with `df` >= 1 degrees of freedom, to 1e-9.

    Sources: Abramowitz & Stegun 26.7.3 and 26.7.4, inverted by bisection; beyond 100 degrees of freedom the expansion 26.7.5.
    """
    z = 1.959963984540054
    if df > 100:
        terms = [
            z,
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
            (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
        ]
        return sum(term / float(df) ** power for power, term in enumerate(terms))
    low, high = 0.0, math.pi / 2  # the angle atan(t / sqrt(df))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, df) < 0.95 else (low, middle)
    return math.tan(low) * math.sqrt(df)


def _central(angle: float, df: int) -> float:
    """The probability that |t| < sqrt(df) * tan(angle)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = df % 2
    term = cosine if odd else 1.0
    total = term if df > 1 else 0.0
    for k in range(2 + odd, df, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def ratio(groups: Sequence[tuple[float, int]]) -> Estimate | None:
    """Sum of values / sum of items over independent groups, with its interval by linearisation.

    Args:
        groups: (sum of the values, number of items) of each group, a prompt or a dialogue; groups without items are left out.

    Returns:
        None where there are no items; an interval of NaN bounds never: with one group it is the whole line.
    """
    used = [(value, n) for value, n in groups if n]
    if not used:
        return None
    mean, variance, items = _linearised(used)
    if len(used) < 2:
        return Estimate(mean, -math.inf, math.inf, items, len(used))
    half = student_t_975(len(used) - 1) * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half, items, len(used))


def share(groups: Sequence[tuple[float, int]]) -> Estimate | None:
    """The same for values from 0 to 1, with an interval that stays there and has a width even if all values are equal.

    It is Wilson's interval at the effective number of items n and the point t of Student's t with (groups - 1) degrees of freedom::

        (p + t^2 / 2n +- t sqrt(p (1 - p) / n + t^2 / 4n^2)) / (1 + t^2 / n)

    n = p (1 - p) / V, which is the number of items over the design effect, with V the linearised variance of `ratio`; at most the
    number of items. Where V is 0 (every group has the same share) it tells nothing of the spread, and n is the number of groups.

    Sources: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference"; the effective number of items
    in it: Korn & Graubard 1998, "Confidence Intervals for Proportions with Small Expected Number of Positive Counts Estimated
    From Survey Data"; Franco, Little, Louis & Slud 2019, "Comparative Study of Confidence Intervals for Proportions in Complex
    Sample Surveys".

    Args:
        groups: (sum of the values, number of items) of each group; groups without items are left out.

    Returns:
        None where there are no items; with one group, the interval is all of 0 to 1.
    """
    used = [(value, n) for value, n in groups if n]
    if not used:
        return None
    p, variance, items = _linearised(used)
    if len(used) < 2:
        return Estimate(p, 0.0, 1.0, items, 1)
    n = min(p * (1 - p) / variance, items) if variance > 0 else len(used)
    t2 = student_t_975(len(used) - 1) ** 2
    middle, half = p + t2 / (2 * n), math.sqrt(t2 * (p * (1 - p) / n + t2 / (4 * n**2)))
    low, high = ((middle + side) / (1 + t2 / n) for side in (-half, half))
    return Estimate(p, max(low, 0.0), min(high, 1.0), items, len(used))  # Wilson's ends are within 0 and 1 but for rounding


def _linearised(groups: Sequence[tuple[float, int]]) -> tuple[float, float, int]:
    """(ratio of the sums, its variance by linearisation, number of items); of one group alone no variance can be told: 0.

    Residuals of the group sums around the ratio: Cochran, Sampling Techniques, 6.4.
    """
    count, items = len(groups), sum(n for _, n in groups)
    mean = sum(value for value, _ in groups) / items
    if count < 2:
        return mean, 0.0, items
    residuals = [value - mean * n for value, n in groups]
    if max(map(abs, residuals)) < 1e-12 * items:  # nought but for rounding
        return mean, 0.0, items
    return mean, count / (count - 1) * sum(r**2 for r in residuals) / items**2, items
