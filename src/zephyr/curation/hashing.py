"""Runs of words and min-hashes, many texts at a time: no Python is run for a word.

A word is what the contamination gate calls one (`zephyr.text.contamination.words`): letters and digits, compatible characters made one,
without capitals; where no spaces stand between words, a character. A text of ASCII alone is brought there by one table.

A hash of a word is a polynomial over its bytes modulo 2**64, taken from running sums over the whole batch; a run of n words is a sum of
its words' hashes by odd factors, mixed. All of it is whole numbers: the same on every machine.

MinHash: Broder 1997, "On the resemblance and containment of documents". Bands: Indyk and Motwani 1998, as in Leskovec, Rajaraman and
Ullman, "Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zephyr.text.contamination import words

U64 = NDArray[np.uint64]
Ints = NDArray[np.int64]
# what is no letter or digit is a space; what is beyond ASCII has been looked at
_TABLE = bytes(b if b >= 128 else ord(chr(b).lower()) if chr(b).isalnum() else 32 for b in range(256))
_MARKS = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u2022\u00a0"  # quotation marks, dashes, dots: most of what is not ASCII in English
_OTHERS = re.compile(r"[^\x00-\x7f]")
_FEW = 64  # different characters that are looked at one by one
_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_UNBASE = np.uint64(pow(int(_BASE), -1, 1 << 64))
_SPACE = 32


def key64(*texts: str) -> int:
    """64 bits that stand for texts, each by itself."""
    joined = "\x1f".join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "little")


def fold(text: str) -> bytes:
    """The words of a text, with spaces between, as bytes: those that `words` finds, most of the time without asking it."""
    if text.isascii():
        return text.encode("ascii").translate(_TABLE)
    for mark in _MARKS:
        text = text.replace(mark, " ")
    if text.isascii():
        return text.encode("ascii").translate(_TABLE)
    text = unicodedata.normalize("NFKC", text).casefold()
    others = set(_OTHERS.findall(text))
    if len(others) > _FEW:
        return " ".join(words(text)).encode("utf-8")
    for other in others:
        found = " ".join(words(other))  # nothing, itself, or in scripts without spaces a word of its own
        if found != other or words(f"a{other}a") != [f"a{other}a"]:
            text = text.replace(other, f" {found} ")
    return text.encode("utf-8").translate(_TABLE)


@dataclass(frozen=True)
class Words:
    """The words of several texts, in order: the hash of each, and the number of the text it is in, which never falls."""

    hashes: U64
    texts: Ints

    @staticmethod
    def of(texts: Sequence[bytes]) -> Words:
        """Of folded texts."""
        joined = b" ".join(texts) + b" "
        letters = np.frombuffer(joined, np.uint8)
        is_letter = np.empty(len(letters) + 1, np.bool_)
        is_letter[0] = False
        np.not_equal(letters, _SPACE, out=is_letter[1:])
        edges = np.flatnonzero(is_letter[1:] != is_letter[:-1])
        starts, ends = edges[::2], edges[1::2]
        powers, unpowers = _powers(len(letters))
        sums = np.zeros(len(letters) + 1, np.uint64)
        np.cumsum(letters * powers[: len(letters)], out=sums[1:])
        hashes = _mixed((sums[ends] - sums[starts]) * unpowers[starts])
        bounds = np.cumsum([len(text) + 1 for text in texts])
        return Words(hashes, np.searchsorted(bounds, starts, side="right"))

    def regrouped(self, groups: Ints) -> Words:
        """The same words, each in the group of its text; those of a text whose group is negative are left out. Groups must not fall."""
        of = groups[self.texts]
        kept = of >= 0
        return Words(self.hashes[kept], of[kept])

    def runs(self, n: int, *, short: bool = True) -> Words:
        """The runs of n words of each text; of a text with fewer, all of it as one run, or with `short=False` nothing."""
        count = len(self.hashes) - n + 1
        full = Words(np.empty(0, np.uint64), np.empty(0, np.int64))
        if count > 0:
            sums = np.zeros(count, np.uint64)
            for k in range(n):
                sums += self.hashes[k : k + count] * _factor(k)
            whole = self.texts[:count] == self.texts[n - 1 :]
            full = Words(_mixed(sums[whole]), self.texts[:count][whole])
        return full._with(self._short(n)) if short else full

    def _short(self, n: int) -> Words:
        """Every text that has words, but fewer than n, as one run."""
        texts, starts, counts = np.unique(self.texts, return_index=True, return_counts=True)
        few = np.flatnonzero(counts < n)
        hashes = [self.hashes[starts[i] : starts[i] + counts[i]] for i in few]
        sums = [np.sum(h * np.array([_factor(k) for k in range(len(h))], np.uint64), dtype=np.uint64) for h in hashes]
        return Words(_mixed(np.array(sums, np.uint64)), texts[few])

    def _with(self, other: Words) -> Words:
        if not len(other.texts):
            return self
        texts = np.concatenate([self.texts, other.texts])
        order = np.argsort(texts, kind="stable")
        return Words(np.concatenate([self.hashes, other.hashes])[order], texts[order])

    def whole(self, count: int) -> U64:
        """A hash of all words of each of `count` texts, in their order; 0 where there are none."""
        powers, unpowers = _powers(len(self.hashes) + 1)
        sums = np.zeros(len(self.hashes) + 1, np.uint64)
        np.cumsum(self.hashes * powers[: len(self.hashes)], out=sums[1:])
        bounds = self.bounds(count)
        found = _mixed((sums[bounds[1:]] - sums[bounds[:-1]]) * unpowers[bounds[:-1]])
        found[bounds[1:] == bounds[:-1]] = 0
        return found

    def bounds(self, count: int) -> Ints:
        """Where the words of each of `count` texts begin, and at the end where the last ends: [count + 1]."""
        return np.searchsorted(self.texts, np.arange(count + 1))


_held: tuple[U64, U64] = (np.ones(1, np.uint64), np.ones(1, np.uint64))


def _powers(length: int) -> tuple[U64, U64]:
    """Powers of the base and of its inverse, `length` of them or more. The longest that were asked for are held: the others begin alike."""
    global _held
    if length > len(_held[0]):
        powers, unpowers = (np.full(1 << max(16, (length - 1).bit_length()), factor) for factor in (_BASE, _UNBASE))
        powers[0] = unpowers[0] = 1
        _held = np.cumprod(powers), np.cumprod(unpowers)
    return _held


@functools.cache
def _factor(k: int) -> np.uint64:
    return np.uint64(key64("run", str(k)) | 1)


def _mixed(x: U64) -> U64:
    """Bits spread over all 64: the last step of splitmix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class MinHash:
    """Min-hashes of sets, and the bands that make candidates of two.

    Args:
        bands: how many bands there are.
        rows: min-hashes in one of them.
    """

    def __init__(self, bands: int, rows: int) -> None:
        self.bands, self.rows = bands, rows
        numbers = np.array([key64("permutation", str(i)) for i in range(bands * rows)], np.uint64)
        self._factors = ((numbers & np.uint64(0xFFFFFFFF)).astype(np.uint32) | np.uint32(1))[:, None]
        self._offsets = (numbers >> np.uint64(32)).astype(np.uint32)[:, None]
        self._weights = np.array([key64("band", str(i)) | 1 for i in range(rows)], np.uint64)

    def signatures(self, runs: Words, count: int) -> NDArray[np.uint32]:
        """The min-hashes of `count` texts, [count, bands * rows]; of a text without runs, all are the greatest number."""
        found = np.full((count, self.bands * self.rows), 0xFFFFFFFF, np.uint32)
        high = (runs.hashes >> np.uint64(32)).astype(np.uint32)
        bounds = runs.bounds(count)
        for i in np.flatnonzero(bounds[1:] > bounds[:-1]):
            hashed = high[bounds[i] : bounds[i + 1]] * self._factors
            hashed += self._offsets
            hashed.min(axis=1, out=found[i])
        return found

    def keys(self, signatures: NDArray[np.uint32], alone: U64) -> U64:
        """The key of every band, [bands, count]: texts with a key in common are candidates.

        Args:
            signatures: [count, bands * rows].
            alone: [count], for texts without runs a key that is theirs alone; 0 for the others.
        """
        in_bands = signatures.reshape(len(signatures), self.bands, self.rows).astype(np.uint64) + np.uint64(1)
        keys = _mixed((in_bands * self._weights).sum(axis=2, dtype=np.uint64)).T.copy()
        keys[:, alone != 0] = alone[alone != 0]
        return keys


def jaccard(a: U64, b: U64) -> float:
    """How much two sets have in common of what they have in all, 0 to 1; both sorted, without repeats. 1 of two that are empty."""
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    small, large = (a, b) if len(a) <= len(b) else (b, a)
    at = np.searchsorted(large, small)
    at[at == len(large)] = 0
    shared = int(np.count_nonzero(large[at] == small))
    return shared / (len(a) + len(b) - shared)
