"""Near-duplicates: candidates by bands of min-hashes, each compared exactly, and which of them stays.

Of texts that are near each other the first stays: a row is left out if it is near a row *that stays* and comes before it. Before all
others come test rows that the user has named (what is measured on should not depend on what is learnt), then rows come in the order of
the data. So rows that are added at the end leave out none that were there, and how the data is cut decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zephyr.curation import again
from zephyr.curation.compare import NEAR_DIALOGUE, NEAR_PROMPT, NEAR_TEST, Bools, Fates
from zephyr.curation.hashing import Ints, jaccard
from zephyr.curation.index import Texts
from zephyr.curation.keep import keep_array, load_array
from zephyr.curation.work import KEPT, Work
from zephyr.recipe import NearConfig, NearPromptsConfig

# of texts that share a band, each is compared with so many that come right before it, and with so many that come first: in a crowd of
# thousands, all with all would be millions of comparisons
NEIGHBOURS = 8
PAIRS_AT_ONCE = 1 << 15

Jobs = Callable[[str, list[dict[str, Any]]], None]


def leave_out_near(fates: Fates, kind: str, near: NearConfig, do: Jobs) -> int:
    """Leave out what is near something that stays.

    Args:
        fates: what became of the rows so far.
        kind: `prompts` or `dialogues`.
        near: what counts as near.
        do: has jobs done, by as many processes as there are.

    Returns:
        How many pairs were compared.
    """
    apart = isinstance(near, NearPromptsConfig) and near.keep == "apart"
    test = fates.column("test") > 0
    # true comes last
    behind = ~test if apart else ~(test & (fates.column("drawn") == 0))
    pairs = candidates(fates, kind, near.bands, behind)
    if apart:
        pairs = pairs[test[pairs[:, 0]] != test[pairs[:, 1]]]
    if not len(pairs):
        return 0
    similarity = _compared(fates.work, kind, pairs, fates, do)
    close = similarity >= near.threshold
    reason = NEAR_DIALOGUE if kind == "dialogues" else NEAR_TEST if apart else NEAR_PROMPT
    _decide(fates, pairs[close], similarity[close], behind, reason)
    return len(pairs)


def candidates(fates: Fates, kind: str, bands: int, behind: Bools) -> Ints:
    """Pairs of rows that share a band, [pairs, 2]: the numbers of two rows, the one that comes before the other first."""
    owners = _owners(fates)
    stays = fates.fate[owners] == KEPT
    rows = owners[stays]
    order_of = behind[rows]
    total = np.int64(len(fates.fate))
    found = np.empty(0, np.int64)
    for band in range(bands):
        keys = np.concatenate([np.asarray(part[band]) for part in _keys(fates.work, kind)])[stays]
        order = np.lexsort((order_of, keys))  # stable: within a band in the order of the data
        for first, second in _neighbours(keys[order]):
            found = np.append(found, rows[order[first]] * total + rows[order[second]])
        found = np.unique(found)
    return np.stack([found // total, found % total], axis=1)


def _neighbours(keys: NDArray[np.uint64]) -> Iterator[tuple[Ints, Ints]]:
    """Places with the same key, in pairs: each with those right before it, and with the first."""
    count = len(keys)
    fresh = np.ones(count, np.bool_)
    fresh[1:] = keys[1:] != keys[:-1]
    if fresh.all():
        return
    starts = np.maximum.accumulate(np.where(fresh, np.arange(count), 0))
    for step in range(1, NEIGHBOURS + 1):
        second = np.flatnonzero(starts[step:] <= np.arange(count - step)) + step
        if not len(second):
            return
        yield second - step, second
    for step in range(NEIGHBOURS):
        second = np.flatnonzero(starts + step + NEIGHBOURS < np.arange(count))  # nearer ones are above
        if len(second):
            yield starts[second] + step, second


def _owners(fates: Fates) -> Ints:
    """The numbers of the rows that have keys, in their order."""
    found = [int(fates.starts[i]) + np.flatnonzero(fates.work.rows(i)["fate"] == KEPT) for i in range(len(fates.work.pieces))]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _keys(work: Work, kind: str) -> Iterator[NDArray[Any]]:
    for number in range(len(work.pieces)):
        path = work.path("index", number, f".{kind}.npy")
        if path.exists():  # a piece without a row that stays has none
            yield load_array(path)


def _decide(fates: Fates, pairs: Ints, similarity: NDArray[np.float32], behind: Bools, reason: int) -> None:
    """Go through the rows in their order: one that is near one that stays does not."""
    a, b = pairs[:, 0], pairs[:, 1]
    order = np.lexsort((a, behind[a], b, behind[b]))
    gone: set[int] = set()
    for first, second, near in zip(a[order].tolist(), b[order].tolist(), similarity[order].tolist(), strict=True):
        if second not in gone and first not in gone:
            gone.add(second)
            fates.leave_out(np.array([second]), reason, np.array([first]))
            fates.similarity[second] = near


# --- comparing exactly -------------------------------------------------------------------------------------------


def _compared(work: Work, kind: str, pairs: Ints, fates: Fates, do: Jobs) -> NDArray[np.float32]:
    """How like the texts of every pair are."""
    keep_array(work.path("near", f"{kind}.wanted", ".npy"), np.unique(pairs))
    keep_array(work.path("near", f"{kind}.pairs", ".npy"), pairs)
    keep_array(work.path("near", "starts", ".npy"), fates.starts)
    wanted = np.unique(np.searchsorted(fates.starts, np.unique(pairs), side="right") - 1)
    do(f"{kind} that may be near-duplicates", [{"do": "sets", "kind": kind, "number": int(n)} for n in wanted])
    parts = range(0, len(pairs), PAIRS_AT_ONCE)
    do(f"pairs of {kind} compared", [{"do": "pairs", "kind": kind, "number": n} for n in range(len(parts))])
    return np.concatenate([load_array(work.path("near", f"{kind}.{n:05}", ".similarity.npy")) for n in range(len(parts))])


def write_sets(work: Work, kind: str, number: int) -> dict[str, Any]:
    """Keep the runs of words of those rows of a piece that are compared."""
    values_path, bounds_path = (work.path("near", f"{kind}.{number:05}", f".{what}.npy") for what in ("runs", "bounds"))
    if bounds_path.exists():
        return {}
    mine = _wanted_in(work, kind, number)
    texts = Texts([kept.record for kept in again.dialogues(work, number, mine)])
    sets = texts.run_sets(kind, work.near()[kind].ngram)
    keep_array(values_path, np.concatenate(sets))
    keep_array(bounds_path, np.cumsum([0, *map(len, sets)]))
    return {}


def _wanted_in(work: Work, kind: str, number: int) -> Ints:
    """The rows of a piece that are compared, counted from its first."""
    starts, wanted = load_array(work.path("near", "starts", ".npy")), load_array(work.path("near", f"{kind}.wanted", ".npy"))
    low, high = np.searchsorted(wanted, starts[number : number + 2])
    found: Ints = np.asarray(wanted[low:high]) - starts[number]
    return found


def write_similarity(work: Work, kind: str, number: int) -> dict[str, Any]:
    """Keep how like the texts of some pairs are."""
    path = work.path("near", f"{kind}.{number:05}", ".similarity.npy")
    if path.exists():
        return {}
    all_pairs = load_array(work.path("near", f"{kind}.pairs", ".npy"))
    pairs = np.asarray(all_pairs[number * PAIRS_AT_ONCE : (number + 1) * PAIRS_AT_ONCE])
    starts = np.asarray(load_array(work.path("near", "starts", ".npy")))
    pieces = np.searchsorted(starts, pairs, side="right") - 1
    sets = _Sets(work, kind)
    threshold = work.near()[kind].threshold
    found = [
        sets.similarity((int(p[0]), int(a - starts[p[0]])), (int(p[1]), int(b - starts[p[1]])), threshold)
        for (a, b), p in zip(pairs, pieces, strict=True)
    ]
    keep_array(path, np.array(found, np.float32))
    return {}


class _Sets:
    """The runs that `write_sets` kept."""

    def __init__(self, work: Work, kind: str) -> None:
        self._work, self._kind = work, kind
        self._open: dict[int, tuple[NDArray[Any], Ints, dict[int, int]]] = {}

    def similarity(self, a: tuple[int, int], b: tuple[int, int], threshold: float) -> float:
        """The Jaccard index of two rows, each (piece, number in it); 0 where their sizes alone keep it below the threshold."""
        (values_a, from_a, to_a), (values_b, from_b, to_b) = self._bounds(*a), self._bounds(*b)
        small, large = sorted((to_a - from_a, to_b - from_b))
        if small < threshold * large:
            return 0.0
        return jaccard(values_a[from_a:to_a], values_b[from_b:to_b])

    def _bounds(self, piece: int, row: int) -> tuple[NDArray[Any], int, int]:
        if piece not in self._open:
            values = load_array(self._work.path("near", f"{self._kind}.{piece:05}", ".runs.npy"))
            bounds = np.asarray(load_array(self._work.path("near", f"{self._kind}.{piece:05}", ".bounds.npy")))
            at = {int(row): i for i, row in enumerate(_wanted_in(self._work, self._kind, piece))}
            self._open[piece] = values, bounds, at
        values, bounds, at = self._open[piece]
        i = at[row]
        return values, int(bounds[i]), int(bounds[i + 1])
