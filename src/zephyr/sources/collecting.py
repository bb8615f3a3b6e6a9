"""The records of several sources: each once, a prompt in one split, and what is wrong refused or counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.files import Unread
from zephyr.recipe import DataSource
from zephyr.records import Row, content_id, seeded_unit
from zephyr.sources.names import names_of, note_unpinned
from zephyr.sources.reading import located
from zephyr.sources.splits import split_of


class Identified(Protocol):
    """A record with a prompt, the id of that, and what tells the record from others: the same id, or a hash of its texts."""

    # D102: the line above says what each is
    @property
    def prompt(self) -> str: ...  # noqa: D102
    @property
    def prompt_id(self) -> str: ...  # noqa: D102
    @property
    def identity(self) -> str: ...  # noqa: D102
    def row(self) -> Row: ...  # noqa: D102


Record = TypeVar("Record", bound=Identified)
Taken = TypeVar("Taken", bound=Identified, contravariant=True)

_ELSEWHERE = "`zephyr curate` or `zephyr binarize` with `invalid=drop` does"  # for a stage that has no such setting


@dataclass(frozen=True)
class Located(Generic[Record]):
    """A record and the place it was read from."""

    where: str
    record: Record


def collect(
    data: Sequence[DataSource],
    parse: Callable[[Mapping[str, Any]], Record],
    out: Draft,
    *,
    invalid: str | None,
    test_fraction: float,
    apart: bool = True,
) -> dict[str, list[Located[Record]]]:
    """All records of the sources, by split, in the order they were read.

    A row that does not parse, or whose given id stands for something else already, is an error, or is dropped
    and counted. A row that is there twice in a split is kept once and counted; its split was given if it was for one of the two.
    A prompt is in one split: where it would be in both, a row whose split was drawn gives way, and is counted; where both were given,
    that is an error, or the train row is dropped.

    Args:
        data: the sources, in order.
        parse: what makes a record of a row.
        out: the artifact being made; it counts the rows and keeps the dropped ones.
        invalid: `error` or `drop`; None where that is no setting, which is `error` without the advice to set it.
        test_fraction: the share that goes to the test split, where the source names none.
        apart: whether the splits mean something; if not, all records are in one, `train`.

    Raises:
        DataError: naming the first bad row and how many there are.
    """
    found = _Collection[Record](out, drops=invalid == "drop", may_drop=invalid is not None, apart=apart)
    gather(data, parse, out, found, test_fraction=test_fraction)
    return found.checked(names_of(data))


class Collector(Protocol[Taken]):
    """What becomes of the rows of several sources."""

    def refuse(self, where: str, unread: Unread) -> None:
        """A row that cannot be used."""

    def add(self, split: str, where: str, record: Taken, row: Row, *, drawn: bool) -> None:
        """A record of a split that was drawn or given."""


def gather(
    data: Sequence[DataSource], parse: Callable[[Mapping[str, Any]], Record], out: Draft, found: Collector[Record], *, test_fraction: float
) -> None:
    """Read the rows of the sources, one at a time, and hand them to `found`; `out.manifest.rows_in` counts them."""
    for source in data:
        note_unpinned(source, out)
        left_out = 0
        for where, given, row in located(source):
            out.manifest.rows_in += 1
            if isinstance(row, Unread):
                found.refuse(where, row)
                continue
            try:
                record = parse(row)
            except DataError as error:
                found.refuse(where, Unread(str(error), row))
                continue
            split = given or split_of(record.prompt_id, test_fraction)
            if split == "train" and seeded_unit(0, "mixture", record.prompt_id) >= source.weight:
                left_out += 1
            else:
                found.add(split, where, record, row, drawn=given is None)
        if left_out:
            out.note(f"{source.path}: {left_out} train rows were left out, for its weight in the mixture is {source.weight:g}.")


class _Collection(Generic[Record]):
    """Records as they come, and what is wrong with the others."""

    def __init__(self, out: Draft, *, drops: bool, may_drop: bool, apart: bool) -> None:
        self._out, self._drops, self._may_drop, self._apart = out, drops, may_drop, apart
        self._by_split: dict[str, list[Located[Record]]] = {"train": [], "test": []}
        self._bad: list[tuple[str, str]] = []
        self._seen: dict[
            tuple[str, str], Located[Record]
        ] = {}  # the first of each identity in a split, among those whose split was drawn, and at all ("")
        self._named: dict[str, Located[Record]] = {}  # by the id of its prompt, the first of each
        # `id` of those whose split was drawn, not given; a place is no name of a row, for a file may be given twice
        self._drawn: set[int] = set()

    def refuse(self, where: str, unread: Unread, reason: str | None = None) -> None:
        """A row that cannot be used."""
        self._bad.append((where, unread.problem))
        if self._drops:
            self._out.drop(f"invalid: {reason or reason_of(unread.problem)}", where, unread.row)

    def add(self, split: str, where: str, record: Record, row: Row, *, drawn: bool) -> None:
        """A record of a split that was drawn or given, unless it was there before. What is in both splits, `_draw_apart` settles."""
        item = Located(where, record)
        split = split if self._apart else "train"
        theirs = [(record.identity, of) for of in (split, *(["drawn"] if drawn else []))]  # of two that were drawn, the first stays
        first = next((self._seen[key] for key in theirs if key in self._seen), item)
        for earlier in (self._seen.get((record.identity, "")), self._named.get(record.prompt_id)):
            if earlier and earlier.record.prompt != record.prompt:
                first = earlier  # one id, two prompts
        if first is item:
            self._by_split[split].append(item)
            for key in (*theirs, (record.identity, "")):
                self._seen.setdefault(key, item)
            self._named.setdefault(record.prompt_id, item)
            self._drawn |= {id(item)} if drawn else set()
        elif first.record != record and (row.get("prompt_id") or first.record.prompt != record.prompt):
            problem = f"the id {record.prompt_id[:16]} repeats with different content (first at {first.where})"
            self.refuse(where, Unread(problem, row), "the id repeats with different content")
        else:
            if not drawn:
                self._drawn.discard(id(first))  # given, too
            what = "prompt" if record.identity == record.prompt_id else "texts"
            self._out.drop("duplicate of an earlier row" if first.record == record else f"same {what} as an earlier row", where, row)

    def checked(self, names: str) -> dict[str, list[Located[Record]]]:
        """The records, once it is sure that none is missing without having been asked for, and that no prompt is in both splits."""
        if self._bad and not self._drops:
            raise unusable(self._bad[0], len(self._bad), f"{self._out.manifest.rows_in} rows", may_drop=self._may_drop)
        self._draw_apart()
        if not self._by_split["train"] and not self._by_split["test"]:
            raise DataError(f"no usable rows in {names}{self._out.why_dropped()}")
        return self._by_split

    def _draw_apart(self) -> None:
        """Take prompts out of one split that are in both: what is measured on a prompt that was learnt says nothing."""
        train = _by_prompt(self._by_split["train"])
        self._leave_out("test", [item for item in self._by_split["test"] if id(item) in self._drawn and _twin(item, train)])
        test = _by_prompt(self._by_split["test"])
        both = [item for item in self._by_split["train"] if _twin(item, test)]
        if given := [item for item in both if id(item) not in self._drawn and not self._drops]:
            count = len({content_id(item.record.prompt) for item in given})
            raise in_both(count, given[0].where, _twin(given[0], test), may_drop=self._may_drop)
        self._leave_out("train", both)

    def _leave_out(self, split: str, items: Sequence[Located[Record]]) -> None:
        other = "test" if split == "train" else "train"
        for item in items:
            self._out.drop(f"the prompt is in the {other} split, too", item.where, item.record.row())
        gone = {id(item) for item in items}
        self._by_split[split] = [item for item in self._by_split[split] if id(item) not in gone]


def _by_prompt(items: Sequence[Located[Record]]) -> dict[str, str]:
    """Where a prompt is first, by its id and by its words."""
    return {name: item.where for item in reversed(items) for name in (item.record.prompt_id, content_id(item.record.prompt))}


def _twin(item: Located[Record], places: Mapping[str, str]) -> str | None:
    """Where the same prompt is among others, or None."""
    return places.get(item.record.prompt_id) or places.get(content_id(item.record.prompt))


def unusable(first: tuple[str, str], count: int, of: str, *, may_drop: bool) -> DataError:
    """What is said of rows that are at fault.

    Args:
        first: where the first of them stood, and what is wrong with it.
        count: how many they are.
        of: how many rows there are, in words.
        may_drop: whether the stage has the setting `invalid`.
    """
    more = f"\n{count} of {of} cannot be used" if count > 1 else ""
    left_out = "set `invalid: drop` to leave such rows out and count them" if may_drop else f"leave such rows out ({_ELSEWHERE})"
    return DataError(f"{first[0]}: {first[1]}{more}; mend the data, or {left_out}")


def in_both(count: int, train: str, test: str | None, *, may_drop: bool) -> DataError:
    """What is said of prompts in train and in test, both given: how many they are, and where the first stands in each."""
    found, them = ("1 prompt is", "it") if count == 1 else (f"{count} prompts are", "them")
    left_out = f", or set `invalid: drop` to leave {them} out of train" if may_drop else f" ({_ELSEWHERE})"
    return DataError(
        f"{found} in both train and test, by id or in the same words (first: {train} and {test}); take {them} out of one{left_out}"
    )


def reason_of(problem: str) -> str:
    """A problem without its particulars, so that equal reasons are counted together."""
    return re.sub(r"\[\d+\]", "[]", re.split(r" \(|; the row has |, found | in an object with the keys", problem)[0])[:120]
