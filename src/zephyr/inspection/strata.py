"""A sample of each stratum: the rows of the lowest seeded hashes, so the same of the same rows in whatever order they come."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from zephyr.inspection.cards import Card
from zephyr.records import prompt_id_of, seeded_unit

STRATA = 500  # of which samples are kept; were there more, memory would grow with the data
OTHERS = "others"

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Key:
    """What a row is sampled by: a hash of the seed and of what the row says, and where it stood, for rows that say the same."""

    luck: float
    where: str
    identity: str

    @staticmethod
    def of(seed: int, where: str, texts: Iterable[str]) -> Key:
        """The key of a row with these texts."""
        identity = prompt_id_of("\x1e".join(texts).encode("utf-8", "replace").decode("utf-8"))
        return Key(seeded_unit(seed, "inspect", identity), where, identity)


class Lowest(Generic[Kept]):
    """Of all that was offered, that with the lowest keys; what says the same counts once.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[float, str]] = []  # the highest of those that are kept first
        self._kept: dict[str, tuple[Key, Kept]] = {}
        self._times: dict[str, int] = {}

    def offer(self, key: Key, make: Callable[[], Kept]) -> None:
        """Something that may be kept; it is made only then."""
        if (same := self._kept.get(key.identity)) is not None:
            self._times[key.identity] += 1
            if key.where < same[0].where:
                self._kept[key.identity] = key, make()
            return
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (-key.luck, key.identity))
        elif self._heap and key.luck < -self._heap[0][0]:
            _, gone = heapq.heapreplace(self._heap, (-key.luck, key.identity))
            del self._kept[gone], self._times[gone]
        else:
            return
        self._kept[key.identity], self._times[key.identity] = (key, make()), 1

    def items(self) -> list[tuple[Key, Kept]]:
        """What is kept, in the order of the keys."""
        return sorted(self._kept.values(), key=lambda item: (item[0].luck, item[0].where))

    def times(self, key: Key) -> int:
        """How often this was offered that is kept, and what says the same: all of it, for what is in the end kept was never let go."""
        return self._times[key.identity]

    def values(self) -> list[Kept]:
        """What is kept, without its keys."""
        return [value for _, value in self.items()]


@dataclass(frozen=True)
class Stratum:
    """A stratum: what its rows have in common, how many there are, and some of them."""

    label: str
    count: int
    cards: tuple[Card, ...]


class Samples:
    """Counts and samples by label.

    Args:
        each: how many are kept of a label.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self.counts: Counter[str] = Counter()
        self._kept: dict[str, Lowest[Card]] = {}

    def add(self, label: str, key: Key, card: Callable[[], Card], times: int = 1) -> None:
        """One more of a label, or several that say the same."""
        self.counts[label] += times
        if label not in self._kept:
            self._kept[label] = Lowest(self._each)
        self._kept[label].offer(key, card)

    def cards(self, label: str) -> tuple[Card, ...]:
        """The sample of a label."""
        return tuple(self._kept[label].values()) if label in self._kept else ()

    def strata(self, most: int, first: Sequence[str] = ()) -> list[Stratum]:
        """The labels of `first` in their order, then the most frequent; what is over `most` together, as one."""
        place = {label: i for i, label in enumerate(first)}
        order = sorted(self.counts, key=lambda label: (place.get(label, len(place)), -self.counts[label], label))
        found = [Stratum(label, self.counts[label], self.cards(label)) for label in order[:most]]
        if rare := order[most:]:
            together: Lowest[Card] = Lowest(self._each)
            for label in rare:
                for key, card in self._kept[label].items() if label in self._kept else ():
                    together.offer(key, lambda card=card: card)  # type: ignore[misc]  # mypy types no default of a lambda
            found.append(Stratum(f"{OTHERS} ({len(rare):,} strata)", sum(self.counts[label] for label in rare), tuple(together.values())))
        return found


class Grouping:
    """One way to divide rows into strata, with coarser ways to fall back on where it makes too many of them.

    Args:
        each: how many are kept of a stratum.
        levels: how many ways there are, from fine to coarse.
    """

    def __init__(self, each: int, levels: int) -> None:
        self._levels: list[Samples | None] = [Samples(each) for _ in range(levels)]

    def add(self, labels: Sequence[str], key: Key, card: Callable[[], Card]) -> None:
        """A row, with its label at each level."""
        for i, label in enumerate(labels):
            level = self._levels[i]
            if level is not None:
                level.add(label, key, card)
                if len(level.counts) > STRATA:  # for good: which labels came first must make no difference
                    self._levels[i] = None

    @property
    def coarse(self) -> bool:
        """Whether there were too many strata for the finest way."""
        return self._levels[0] is None

    def samples(self) -> Samples:
        """The finest that is left; empty where none is."""
        return next((level for level in self._levels if level is not None), Samples(0))
