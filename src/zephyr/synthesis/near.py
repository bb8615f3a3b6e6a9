"""First turns that are too much alike: Jaccard similarity of their runs of five characters, found exactly.

Two sets whose similarity is at least t share one of the first |A| - ceil(t |A|) + 1 members of either, in any order that is the same
for all sets (the prefix filter of set-similarity joins). Only those members are indexed, so that a text meets few others.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import defaultdict

RUN = 5  # characters


def runs_of(text: str) -> frozenset[str]:
    """The runs of five characters of a text in small letters, all else being one space; a shorter text is one run."""
    plain = " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
    return frozenset(plain[i : i + RUN] for i in range(max(1, len(plain) - RUN + 1)))


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Of what either has, the share that both have; from 0 to 1."""
    both = len(a & b)
    return both / (len(a) + len(b) - both)


class Near:
    """Texts that were seen, each under a name; texts of different groups are not compared."""

    def __init__(self, threshold: float) -> None:
        """Two texts are alike from `threshold` on, 0 to 1."""
        self._threshold = threshold
        self._texts: list[tuple[str, frozenset[str]]] = []
        self._index: dict[tuple[str, str], list[int]] = defaultdict(list)

    def closest(self, text: str, group: str = "") -> tuple[str, float] | None:
        """(name, similarity) of the most similar text at or above the threshold, the first of several; None where there is none."""
        runs = runs_of(text)
        candidates = sorted({i for run in self._prefix(runs) for i in self._index.get((group, run), ())})
        best: tuple[str, float] | None = None
        for i in candidates:
            name, other = self._texts[i]
            found = similarity(runs, other)
            if found >= self._threshold and (best is None or found > best[1]):
                best = name, found
        return best

    def add(self, name: str, text: str, group: str = "") -> None:
        """Remember a text."""
        runs = runs_of(text)
        for run in self._prefix(runs):
            self._index[group, run].append(len(self._texts))
        self._texts.append((name, runs))

    def _prefix(self, runs: frozenset[str]) -> list[str]:
        # the order is that of a hash: the frequent runs of a language are not the first of all texts
        order = sorted(runs, key=lambda run: (zlib.crc32(run.encode("utf-8", "surrogatepass")), run))
        return order[: len(order) - math.ceil(self._threshold * len(order) - 1e-9) + 1]


def nearest(text: frozenset[str], others: list[frozenset[str]]) -> float:
    """The similarity of the most similar of several, 0 where there are none."""
    return max((similarity(text, other) for other in others), default=0.0)
