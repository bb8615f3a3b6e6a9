"""Means with intervals, for measurements that come in groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


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

    def row(self) -> dict[str, float]:
        """As a plain object."""
        return asdict(self)


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
    items = sum(n for _, n in used)
    if not items:
        return None
    mean = sum(value for value, _ in used) / items
    count = len(used)
    if count < 2:
        return Estimate(mean, -math.inf, math.inf, items, count)
    # variance of a ratio estimator: residuals of the group sums around the ratio (Cochran, Sampling Techniques, 6.4)
    variance = count / (count - 1) * sum((value - mean * n) ** 2 for value, n in used) / items**2
    half = student_t_975(count - 1) * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half, items, count)
