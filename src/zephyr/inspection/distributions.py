"""How often which value is there: numbers in bins, names with their counts. Nothing in it depends on the order of the rows.

Values are counted to three digits, so that memory does not grow with the data; means, ends and bins that double are of the exact values.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from zephyr.inspection.cards import line

NAMES = 10_000  # different ones, beyond which they are identifiers and not counted
BINS = 12
DASH = "\N{EN DASH}"
_EACH = 15  # whole numbers so far apart at most get a bin each
_MOST = 1e15
_MICRO = 1_000_000  # sums are of whole millionths: a sum of floats depends on their order

Scale = Literal["even", "doubling"]


@dataclass(frozen=True)
class Bin:
    """Values from `low` up to, but without, `high`; where it is of one value alone, the two are the same."""

    low: float
    high: float
    count: int
    whole: bool = False

    @property
    def label(self) -> str:
        """As it is written below an axis and in a table."""
        if self.low == self.high:
            text = f"{self.low:,g}"
        elif self.whole:
            last = self.high - 1
            text = f"{self.low:,.0f}" if last == self.low else f"{self.low:,.0f}{DASH if self.low >= 0 else ' to '}{last:,.0f}"
        else:
            text = f"{self.low:g} to {self.high:g}"
        return text.replace("-", "\N{MINUS SIGN}")


class Numbers:
    """A distribution of numbers.

    Args:
        unit: what is counted, in the plural.
        scale: bins of even width, or such that each is twice as wide as the one before.
    """

    def __init__(self, unit: str, scale: Scale = "even") -> None:
        self.unit, self.scale = unit, scale
        self.count = 0
        self.low, self.high = math.inf, -math.inf
        self._sum = 0
        self._values: Counter[float] = Counter()
        self._powers: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """One more; what is not finite, or beyond all measure, is passed over."""
        if not abs(value) <= _MOST:
            return
        self.count += 1
        self.low, self.high = min(self.low, value), max(self.high, value)
        self._sum += value * _MICRO if isinstance(value, int) else round(value * _MICRO)
        self._values[value if isinstance(value, int) and -1000 < value < 1000 else float(f"{value:.3g}")] += 1
        if self.scale == "doubling":
            self._powers[math.frexp(value)[1] if value >= 1 else 0] += 1

    @property
    def mean(self) -> float | None:
        """The mean, None of nothing."""
        return self._sum / _MICRO / self.count if self.count else None

    @property
    def median(self) -> float | None:
        """The median to three digits, of an even number the lower one; None of nothing."""
        seen = 0
        for value in sorted(self._values):
            seen += self._values[value]
            if 2 * seen >= self.count:
                return value
        return None

    def bins(self) -> list[Bin]:
        """From the lowest value to the highest; those between that are empty, too."""
        if not self.count:
            return []
        return self._doubling() if self.scale == "doubling" else self._even()

    def _doubling(self) -> list[Bin]:
        ends = range(min(self._powers), max(self._powers) + 1)
        return [Bin(2 ** (k - 1) if k else 0, 2**k if k else 1, self._powers[k], whole=True) for k in ends]

    def _even(self) -> list[Bin]:
        whole = all(value == int(value) for value in self._values)
        low, high = min(self._values), max(self._values)  # as they are counted
        if (high - low) / BINS <= 0:
            return [Bin(low, low, self.count)]
        if whole and high - low <= _EACH and max(-low, high) < 1000:
            return [Bin(value, value, self._values[value]) for value in range(int(low), int(high) + 1)]
        width = _nice((high - low) / BINS)
        width = max(1.0, width) if whole else width
        if (most := max(-low, high)) >= 1000:  # no finer than values are counted
            width = max(width, 10.0 ** (math.floor(math.log10(most)) - 2))
        found: Counter[int] = Counter()
        for value, count in self._values.items():
            found[math.floor(value / width + 1e-9)] += count
        steps = range(min(found), max(found) + 1)
        return [Bin(round(k * width, 9), round((k + 1) * width, 9), found[k], whole) for k in steps]

    def json(self) -> dict[str, Any]:
        """Its figures and bins."""
        bins = [{"from": b.low, "to": b.high, "count": b.count} for b in self.bins()]
        ends = {"min": self.low, "max": self.high} if self.count else {"min": None, "max": None}
        return {"unit": self.unit, "count": self.count, **ends, "mean": self.mean, "median": self.median, "bins": bins}


def _nice(width: float) -> float:
    """The next width that people count in: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * (1 - 1e-9))


class Names:
    """How often each name is there, and the mean of a score by name, where there is one.

    Args:
        unit: what is counted, in the plural.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.count = 0
        self._counts: Counter[str] | None = Counter()
        self._scores: Counter[str] = Counter()
        self._scored: Counter[str] = Counter()

    def add(self, name: str, score: float | None = None) -> None:
        """One more of a name."""
        self.count += 1
        if self._counts is None:
            return
        plain = line(name, 80)
        self._counts[plain] += 1
        if score is not None and abs(score) <= _MOST:
            self._scored[plain] += 1
            self._scores[plain] += round(score * _MICRO)
        if len(self._counts) > NAMES:
            self._counts = None
            self._scores.clear()
            self._scored.clear()

    @property
    def too_many(self) -> bool:
        """There are more different ones than are counted."""
        return self._counts is None

    def counts(self) -> dict[str, int]:
        """The most frequent first; {} where there are too many."""
        found = self._counts or Counter()
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def means(self) -> dict[str, float]:
        """The mean score of those that have one."""
        return {name: self._scores[name] / _MICRO / n for name, n in self._scored.items()}

    def json(self) -> dict[str, Any]:
        """The counts, and the mean scores where there are any."""
        means = {name: round(mean, 6) for name, mean in sorted(self.means().items())}
        return {"unit": self.unit, "count": self.count, "counts": self.counts() if not self.too_many else None} | (
            {"mean_score": means} if means else {}
        )
