"""Sequences that begin alike, divided into passes through the model in which nothing is computed twice.

Sorted, sequences that share a beginning stand side by side, and the walk through their common prefix tree is what each
adds to the one before it. A subtree that fits the budget of tokens is one pass; what the sequences of a larger one have
in common goes through first, its keys and values are kept, and its parts follow.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# a beginning shorter than this is computed again in each pass below it: a pass of few tokens costs as much as one of some more
SHORT = 16


@dataclass(frozen=True)
class Question:
    """What the model reads, and the tokens asked for: target i is predicted at the position len(targets) - i from the end."""

    ids: Sequence[int] | NDArray[np.int32]
    targets: Sequence[int]


@dataclass(frozen=True)
class Pass:
    """One flat stream of T tokens behind `before` tokens whose keys and values are kept.

    Attributes:
        ids: (T) what the model reads.
        positions: (T) of each token on its path.
        ends: (T) where in the stream the subtree of a token ends: token i sees token j if j <= i < ends[j].
        units: where in the stream the path begins anew behind what was before; the first is 0.
        before: tokens of the path that were in earlier passes.
        keep: whether later passes read on from this one.
        at: (N) positions in the stream whose prediction is asked for.
        target: (N) the tokens asked for.
        owner: (N) of which question.
    """

    ids: Ints
    positions: Ints
    ends: Ints
    units: list[int]
    before: int
    keep: bool
    at: Ints
    target: Ints
    owner: Ints


class Forest:
    """Questions in the order of their tokens, with what neighbours have in common.

    Attributes:
        tokens: how many go through the model, each shared beginning once (short ones: once a pass).
        plain_tokens: how many would if each question went through alone.
        kept: the longest path of tokens whose keys and values are kept at a time.
    """

    def __init__(self, questions: Sequence[Question], budget: int) -> None:
        """Sort and measure.

        Args:
            questions: each with one token to read and one target at least.
            budget: tokens of a pass.
        """
        self._questions, self._budget = questions, budget
        asked: dict[bytes, list[int]] = {}
        for number, question in enumerate(questions):
            asked.setdefault(_key(question.ids), []).append(number)
        keys = sorted(asked)  # big-endian numbers of one size sort as the tokens do
        self._sequences = [np.frombuffer(key, dtype=">u4") for key in keys]
        self._asked = [asked[key] for key in keys]
        self._lengths = np.array([len(s) for s in self._sequences], dtype=np.int64)
        self._common = np.array([0, *map(_common, self._sequences, self._sequences[1:])], dtype=np.int64)[: len(keys)]
        self._upto = np.concatenate([[0], np.cumsum(self._lengths - self._common)])
        self._first = self._lengths - np.array([max(len(questions[n].targets) for n in group) for group in self._asked], dtype=np.int64)
        self._steps = list(self._divided())
        self.tokens = sum(step.tokens for step in self._steps)
        self.plain_tokens = sum(len(q.ids) for q in questions)
        self.kept = max((step.stop for step in self._steps if step.keep), default=0)

    def __len__(self) -> int:
        """How many questions."""
        return len(self._questions)

    def passes(self) -> Iterator[Pass]:
        """In the order in which they have to go through the model: a pass reads on from the kept ones on its path."""
        for step in self._steps:
            yield self._trunk(step) if step.keep else self._stream(step)

    def _new(self, low: int, high: int, depth: int) -> int:
        """Tokens that the sequences from `low` to `high` add to the first `depth`, which all have in common."""
        return int(self._lengths[low] - depth + self._upto[high] - self._upto[low + 1])

    def _divided(self) -> Iterator[_Step]:
        """Depth first."""
        todo = [(0, len(self._sequences), 0)] if self._sequences else []
        while todo:
            low, high, depth = todo.pop()
            tokens = self._new(low, high, depth)
            if tokens <= self._budget:
                if tokens:
                    yield _Step(low, high, depth, depth, tokens, keep=False)
                continue
            alone = high - low == 1
            end = int(self._lengths[low] if alone else self._common[low + 1 : high].min())
            if alone or end - depth >= SHORT:
                for start in range(depth, end, self._budget):
                    stop = min(start + self._budget, end)
                    yield _Step(low, high, start, stop, stop - start, keep=True)
                depth = end
            if not alone:
                todo += reversed([(*part, depth) for part in self._parts(low, high, end, depth)])

    def _parts(self, low: int, high: int, end: int, depth: int) -> Iterator[tuple[int, int]]:
        """Subtrees below a common beginning of `end` tokens: side by side as many as fit the budget, or one that does not."""
        bounds = [low, *(low + 1 + np.flatnonzero(self._common[low + 1 : high] == end)).tolist(), high]
        start = low
        for this, following in itertools.pairwise(bounds[1:]):
            if self._new(start, following, depth) > self._budget:
                yield start, this
                start = this
        yield start, high

    def _trunk(self, step: _Step) -> Pass:
        """A beginning that several sequences share, or a part of one."""
        ids = self._sequences[step.low][step.start : step.stop].astype(np.int64)
        found = _Found()
        some = slice(step.low, step.high)
        concerned = np.flatnonzero((self._first[some] < step.stop) & (self._lengths[some] > step.start)) + step.low
        where = np.arange(len(ids))
        for number in concerned.tolist():
            self._ask(number, where, step.start, step.stop, found)
        positions = np.arange(step.start, step.stop)
        return Pass(ids, positions, np.full(len(ids), len(ids)), [0], step.start, True, *found.arrays())

    def _stream(self, step: _Step) -> Pass:
        """Whole subtrees: each sequence adds what it does not share with the one before it."""
        depth, at = step.start, 0
        ids, positions = np.empty(step.tokens, np.int64), np.empty(step.tokens, np.int64)
        ends = np.full(step.tokens, step.tokens)
        units: list[int] = []
        path = np.empty(int(self._lengths[step.low : step.high].max()) - depth, np.int64)  # where the tokens of the path are
        found = _Found()
        previous = depth
        for number in range(step.low, step.high):
            shared = depth if number == step.low else int(self._common[number])
            length = int(self._lengths[number])
            ends[path[shared - depth : previous - depth]] = at
            if shared == depth < length:
                units.append(at)
            here = slice(at, at + length - shared)
            ids[here] = self._sequences[number][shared:]
            positions[here] = np.arange(shared, length)
            path[shared - depth : length - depth] = np.arange(here.start, here.stop)
            self._ask(number, path, depth, length, found)
            at, previous = here.stop, length
        return Pass(ids, positions, ends, units, depth, False, *found.arrays())

    def _ask(self, number: int, where: Ints, start: int, stop: int, found: _Found) -> None:
        """What is asked of a sequence at its positions from `start` to `stop`, which are in the stream at `where`."""
        length = int(self._lengths[number])
        for owner in self._asked[number]:
            targets = self._questions[owner].targets
            first = length - len(targets)
            low, high = max(first, start), min(length, stop)
            if low < high:
                found.add(where[low - start : high - start], targets[low - first : high - first], owner)


@dataclass(frozen=True)
class _Step:
    """A pass to be made: sequences, and for one that is kept its part of their common beginning."""

    low: int
    high: int
    start: int
    stop: int
    tokens: int
    keep: bool


class _Found:
    """Predictions asked for, collected."""

    def __init__(self) -> None:
        self._at: list[Ints] = []
        self._target: list[int] = []
        self._owner: list[int] = []

    def add(self, at: Ints, targets: Sequence[int], owner: int) -> None:
        self._at.append(at.copy())
        self._target += targets
        self._owner += [owner] * len(at)

    def arrays(self) -> tuple[Ints, Ints, Ints]:
        at = np.concatenate(self._at) if self._at else np.empty(0, np.int64)
        return at, np.array(self._target, dtype=np.int64), np.array(self._owner, dtype=np.int64)


def _key(ids: Sequence[int] | NDArray[np.int32]) -> bytes:
    return np.asarray(ids, dtype=">u4").tobytes()


def _common(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> int:
    """How many tokens two sequences begin with alike."""
    length = min(len(one), len(other))
    differ = one[:length] != other[:length]
    return int(differ.argmax()) if differ.any() else length
