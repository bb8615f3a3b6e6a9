"""What is seen by comparing rows: those that are there twice, ids that repeat, prompts in both splits. By hashes, in the order of the rows.

It decides as `zephyr.sources.collect` does, of any number of rows: memory is some tens of bytes a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zephyr.curation import inputs
from zephyr.curation.hashing import Ints
from zephyr.curation.shapes import SHAPES
from zephyr.curation.work import KEPT, LEFT_OUT, Work

Bools = NDArray[np.bool_]
# what may become of a row beside what the index says
DUPLICATE, SAME_PROMPT, SAME_TEXTS, ID_REPEATS, IN_TRAIN, IN_TEST, NEAR_PROMPT, NEAR_TEST, NEAR_DIALOGUE, NOT_SELECTED, SHAPE = range(3, 14)
REASONS = {
    DUPLICATE: "duplicate of an earlier row",
    SAME_PROMPT: "same prompt as an earlier row",
    SAME_TEXTS: "same texts as an earlier row",
    ID_REPEATS: "invalid: the id repeats with different content",
    IN_TRAIN: "the prompt is in the train split, too",
    IN_TEST: "the prompt is in the test split, too",
    NEAR_PROMPT: "near-duplicate prompt",
    NEAR_TEST: "near a prompt of the test split",
    NEAR_DIALOGUE: "near-duplicate dialogue",
    NOT_SELECTED: "not selected",
    SHAPE: "invalid: the row is of another shape",
}


@dataclass
class Fates:
    """What became of every row: a number, for those that are like another which one that is, and how like.

    Attributes:
        work: what the rows are of.
        starts: the number of the first row of every piece, and at the end of all rows: [pieces + 1].
        before: of every piece, how many lines of its part are ahead of it.
        fate: [rows].
        other: [rows], the number of another row, or -1.
        similarity: [rows].
        given: the numbers of rows whose split was drawn, and given for a row that says the same.
    """

    work: Work
    starts: Ints
    before: list[int]
    fate: NDArray[np.uint8]
    other: Ints
    similarity: NDArray[np.float32]
    given: set[int] = field(default_factory=set)

    @staticmethod
    def of(work: Work) -> Fates:
        """As the index says."""
        counts, before = [], []
        lines: Counter[int] = Counter()
        for number, piece in enumerate(work.pieces):
            about = work.about(number)
            counts.append(about["rows"])
            before.append(lines[piece.part])
            lines[piece.part] += about["lines"]
        starts = np.cumsum([0, *counts])
        rows = int(starts[-1])
        fates = Fates(work, starts, before, np.zeros(rows, np.uint8), np.full(rows, -1, np.int64), np.zeros(rows, np.float32))
        fates.fate[:] = fates.column("fate")
        return fates

    def column(self, name: str) -> NDArray[Any]:
        """What the index says of every row, but that a row whose split was `given`, too, was not `drawn`."""
        parts = [np.asarray(self.work.rows(i)[name]) for i in range(len(self.work.pieces))]
        found = np.concatenate(parts) if parts else np.empty(0, np.uint8)
        if name == "drawn" and self.given:
            found[list(self.given)] = 0
        return found

    def place(self, row: int) -> str:
        """Where a row stood, as a user looks for it."""
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        place = int(self.work.rows(number)["place"][row - self.starts[number]])
        return inputs.where(self.work.pieces[number], place, self.before[number])

    def kept(self) -> Ints:
        """The numbers of the rows that stay so far, in order."""
        return np.flatnonzero(self.fate == KEPT)

    def asides(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(the number of a row, what the index says of it) of all rows that were put aside by themselves."""
        for number in range(len(self.work.pieces)):
            for entry in self.work.about(number)["aside"]:
                yield int(self.starts[number]) + entry["row"], entry

    def leave_out(self, rows: Ints, reason: int, others: Ints | None = None) -> None:
        """Rows that do not stay, and which row is why."""
        self.fate[rows] = reason
        if others is not None:
            self.other[rows] = others

    def counts(self) -> dict[str, int]:
        """How many rows do not stay, by reason."""
        found: Counter[str] = Counter(entry["reason"] for _, entry in self.asides())
        codes, numbers = np.unique(self.fate[self.fate > LEFT_OUT], return_counts=True)
        found.update({REASONS[int(code)]: int(n) for code, n in zip(codes, numbers, strict=True)})
        return dict(found)


def compare(fates: Fates) -> list[tuple[int, str]]:
    """Leave out what is there twice, and what is in both splits.

    Returns:
        The numbers of the rows that are at fault, in order, each with what is wrong: those that the index found, ids that stand for two
        things, rows of another shape than the first of their file.
    """
    bad = [(row, entry["problem"]) for row, entry in fates.asides() if entry["problem"]]
    bad += _shapes(fates)
    bad += _repeated(fates)
    return sorted(bad)


# --- shapes ------------------------------------------------------------------------------------------------------


def _shapes(fates: Fates) -> list[tuple[int, str]]:
    """A file has one shape: a row of another was put there by mistake, or is read as what it is not."""
    names, work = list(SHAPES), fates.work
    first: dict[int, tuple[int, int]] = {}
    bad = []
    for number, piece in enumerate(work.pieces):
        shape, start = np.asarray(work.rows(number)["shape"]), int(fates.starts[number])
        known = np.flatnonzero(shape < len(names))
        if len(known):
            first.setdefault(piece.part, (int(shape[known[0]]), start + int(known[0])))
        for i in known[shape[known] != first[piece.part][0]] if len(known) else ():
            row, (theirs, at) = start + int(i), first[piece.part]
            if fates.fate[row] == KEPT:
                fates.leave_out(np.array([row]), SHAPE)
                problem = (
                    f"the row is of another shape ({names[shape[i]]}) than the first of its file ({names[theirs]}, at {fates.place(at)})"
                )
                bad.append((row, f"{problem}; give each shape a file of its own"))
    return bad


# --- the same row again ------------------------------------------------------------------------------------------


def _repeated(fates: Fates) -> list[tuple[int, str]]:
    """Leave out rows that say what an earlier one of their split says. Those whose id stands for something else are at fault."""
    rows = fates.kept()
    names = ("identity", "prompt_id", "prompt", "record", "named", "by_texts", "test", "drawn")
    columns = {name: fates.column(name)[rows] for name in names}
    at = np.flatnonzero(_more_than_once(columns["identity"]) | _of_two_prompts(columns["prompt_id"], columns["prompt"]))
    seen: dict[tuple[int, str], int] = {}  # the first of each identity in a split, among those whose split was drawn, and at all ("")
    called: dict[int, int] = {}
    bad = []
    value = {name: column[at].tolist() for name, column in columns.items()}
    for i, row in enumerate(rows[at].tolist()):
        identity, prompt_id, prompt = value["identity"][i], value["prompt_id"][i], value["prompt"][i]
        split = "test" if value["test"][i] else "train"  # what is in both, `draw_apart` settles
        theirs = [(identity, of) for of in (split, *(["drawn"] if value["drawn"][i] else []))]  # of two that were drawn, the first stays
        first = next((seen[key] for key in theirs if key in seen), i)
        for earlier in (seen.get((identity, ""), i), called.get(prompt_id, i)):
            if value["prompt"][earlier] != prompt:
                first = earlier  # one id, two prompts
        if first == i:
            for key in (*theirs, (identity, "")):
                seen.setdefault(key, i)
            called.setdefault(prompt_id, i)
            continue
        other = int(rows[at[first]])
        if value["record"][first] == value["record"][i]:
            reason = DUPLICATE
        elif value["named"][i] or value["prompt"][first] != prompt:
            reason = ID_REPEATS
            bad.append((row, f"the id {_id_of(fates, row)[:16]} repeats with different content (first at {fates.place(other)})"))
        else:
            reason = SAME_TEXTS if value["by_texts"][i] else SAME_PROMPT
        if reason != ID_REPEATS and not value["drawn"][i]:
            fates.given.add(other)
        fates.leave_out(np.array([row]), reason, np.array([other]))
    return bad


def _more_than_once(values: NDArray[Any]) -> Bools:
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    found = np.zeros(len(values), np.bool_)
    same = ordered[1:] == ordered[:-1]
    found[order[1:][same]] = True
    found[order[:-1][same]] = True
    return found


def _of_two_prompts(ids: NDArray[Any], prompts: NDArray[Any]) -> Bools:
    """Which rows have an id that stands for more than one prompt."""
    order = np.lexsort((prompts, ids))
    a, b = order[1:], order[:-1]
    several = np.unique(ids[a[(ids[a] == ids[b]) & (prompts[a] != prompts[b])]])
    return np.isin(ids, several)


def _id_of(fates: Fates, row: int) -> str:
    from zephyr.curation.write import kept_rows

    (found,) = kept_rows(fates, np.array([row]))
    return found.record.prompt_id


# --- train and test apart ----------------------------------------------------------------------------------------


def draw_apart(fates: Fates, *, drops: bool) -> tuple[int, int, int] | None:
    """Take prompts out of one split that are in both, by id or in the same words.

    A row whose split was drawn gives way; of two that were given, the train row, if `drops`.

    Returns:
        None; or, where splits were given so that a prompt is in both and nothing may be dropped, how many prompts these are, and the
        numbers of the first train row and of the test row that has its prompt.
    """
    rows = fates.kept()
    test, drawn = fates.column("test")[rows] > 0, fates.column("drawn")[rows] > 0
    ids, contents = fates.column("prompt_id")[rows], fates.column("content")[rows]

    def twins(of: Bools, among: Bools) -> Ints:
        known = np.concatenate([ids[among], contents[among]])
        return np.flatnonzero(of & (np.isin(ids, known) | np.isin(contents, known)))

    out = twins(test & drawn, ~test)
    fates.leave_out(rows[out], IN_TRAIN)
    test_left = test.copy()
    test_left[out] = False
    both = twins(~test, test_left)
    given = both[~drawn[both]]
    if len(given) and not drops:
        i = given[0]
        others = np.flatnonzero(test_left)
        by_id = others[(ids[others] == ids[i]) | (contents[others] == ids[i])]
        other = by_id[0] if len(by_id) else others[(ids[others] == contents[i]) | (contents[others] == contents[i])][0]
        return len(np.unique(contents[given])), int(rows[i]), int(rows[other])
    fates.leave_out(rows[both], IN_TEST)
    return None
