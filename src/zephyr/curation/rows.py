"""What is done with a row by itself. It depends on the row and the settings alone: not on its place, nor on any other row."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from zephyr.curation import shapes
from zephyr.errors import DataError, UsageError
from zephyr.files import Unread
from zephyr.recipe import Curation, DataSource
from zephyr.records import Dialogue, Row, parse_dialogue, prompt_id_of, seeded_unit
from zephyr.sources import rename, split_of

Messages = Sequence[Mapping[str, Any]]


class Found(Protocol):
    """What a filter found: its name, and where: the number of the message, and from which character to which."""

    # D102: the line above says what each is
    @property
    def filter(self) -> str: ...  # noqa: D102
    @property
    def message(self) -> int: ...  # noqa: D102
    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> int: ...  # noqa: D102


class Cases(Protocol):
    """What mends the case of a dialogue: `zephyr.text.truecase.Truecaser`."""

    def needs(self, messages: Any) -> bool: ...  # noqa: D102
    def dialogue(self, messages: Any) -> tuple[Any, int]: ...  # noqa: D102


@dataclass(frozen=True)
class Aside:
    """A row that is left out by itself.

    Attributes:
        reason: what is counted.
        row: the row as it is kept.
        problem: what is wrong with it, where the row itself is at fault.
        details: what else is said of it: the hit of a filter.
    """

    reason: str
    row: Row
    problem: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """A train row that the weight of its source leaves out."""


@dataclass(frozen=True)
class Kept:
    """A dialogue that may stay.

    Attributes:
        record: what it says, its case mended where it needed that.
        split: `train` or `test`.
        drawn: the split was drawn by hash, not given.
        generates: it belongs to the generation splits.
        named: the row brought an id of its prompt along.
        row: the row as it came, with `messages`.
        words: how many words changed their case.
    """

    record: Dialogue
    split: str
    drawn: bool
    generates: bool
    named: bool
    row: Row
    words: int = 0


Verdict = Aside | LeftOut | Kept


class Clock:
    """How long each step took, in seconds of one process."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Count what the body takes for a step; what is counted for another step within it is not counted twice."""
        start, inner = time.perf_counter(), sum(self.seconds.values())
        yield
        inner = sum(self.seconds.values()) - inner
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start - inner


def filter_names(config: Curation) -> list[str]:
    """The filters that are asked for, in their order.

    Raises:
        UsageError: there is none of a name.
    """
    if config.filters == "none":
        return []
    from zephyr.text.filters import FILTERS

    if isinstance(config.filters, str):
        return [name for name, known in FILTERS.items() if known.on or config.filters == "all"]
    for name in config.filters:
        if name not in FILTERS:
            raise UsageError(f"curate.filters: no filter is called {name!r}; there are {', '.join(FILTERS)}")
    return [name for name in FILTERS if name in config.filters]


class Judge:
    """What becomes of a row.

    Args:
        config: the settings.
        data: the sources, which rows name by their numbers.
        cases: what mends the case of dialogues that need it, or None.
        clock: what the steps are timed by.
    """

    def __init__(self, config: Curation, data: Sequence[DataSource], cases: Cases | None, clock: Clock) -> None:
        self._config, self._data, self._cases, self._clock = config, data, cases, clock
        self._examine = _examiner(config)

    def shape(self, source: int, row: Row | Unread) -> tuple[str, Row | Unread]:
        """(the shape of a row, the row with `messages`), or what is wrong with it."""
        if isinstance(row, Unread):
            return "", row
        renamed = rename(row, self._data[source].columns)
        if isinstance(renamed, Unread):
            return "", renamed
        shape = ""
        try:
            shape = shapes.shape_of(renamed)
            return shape, shapes.as_messages(renamed, shape)
        except DataError as error:
            return shape, Unread(str(error), row)

    def judge(self, source: int, given: str | None, row: Row | Unread) -> Verdict:
        """What becomes of a row that has been brought into shape.

        Args:
            source: the number of its source.
            given: the split that its source gives it, or None.
            row: what `shape` made of it.
        """
        if isinstance(row, Unread):
            return invalid(row)
        try:
            record: Dialogue | None = parse_dialogue(row)
            problem = ""
        except DataError as error:
            record, problem = None, str(error)
        if record and (given or self._drawn(record)) == "train" and self._is_left_out(source, record):
            return LeftOut()
        # before a row is called wrong: to some filters, what is wrong with it is what they look for
        with self._clock("filters"):
            hit = self._examine(row.get("messages"))
        if hit:
            return Aside(f"filter: {hit.filter}", row, details={"hit": _span(hit)})
        if record is None:
            return invalid(Unread(problem, row))
        with self._clock("truecase"):
            mended, words = self._mended(record)
        return Kept(
            record=mended,
            split=given or self._drawn(record),  # by the prompt as it came: to mend its case moves nothing
            drawn=given is None,
            generates=seeded_unit(0, "generation", record.prompt_id) < self._config.gen_fraction,
            named=bool(row.get("prompt_id")),
            row=row,
            words=words,
        )

    def _drawn(self, record: Dialogue) -> str:
        return split_of(record.prompt_id, self._config.test_fraction)

    def _is_left_out(self, source: int, record: Dialogue) -> bool:
        weight = self._data[source].weight
        return weight < 1 and seeded_unit(0, "mixture", record.prompt_id) >= weight

    def _mended(self, record: Dialogue) -> tuple[Dialogue, int]:
        """A dialogue with its case mended where it needs that, and how many words changed."""
        if self._cases is None or not self._cases.needs(record.messages):
            return record, 0
        messages, words = self._cases.dialogue(record.messages)
        if not words:
            return record, 0
        old = next((i for i, message in enumerate(record.messages) if message["content"] == record.prompt), None)
        prompt = record.prompt if old is None else messages[old]["content"]
        prompt_id = prompt_id_of(prompt) if record.prompt_id == prompt_id_of(record.prompt) else record.prompt_id
        turns = tuple({"role": m["role"], "content": m["content"]} for m in messages)
        return Dialogue(prompt, prompt_id, turns, record.source, record.category), words  # type: ignore[arg-type]


def invalid(unread: Unread) -> Aside:
    """A row that is not what it should be; equal faults are counted together."""
    from zephyr.sources import reason_of

    return Aside(f"invalid: {reason_of(unread.problem)}", unread.row, unread.problem)


def _span(hit: Found) -> dict[str, Any]:
    return {"filter": hit.filter, "message": hit.message, "start": hit.start, "end": hit.end}


def _examiner(config: Curation) -> Callable[[Any], Found | None]:
    """The first hit of the filters in a list of messages; there is none in what is no such list."""
    names = filter_names(config)
    if not names:
        return lambda messages: None
    from zephyr.text.filters import Settings, build, examine

    filters = build(Settings(**config.filter_settings.model_dump()))

    def first(messages: Any) -> Found | None:
        if not isinstance(messages, list | tuple) or not all(map(_is_message, messages)):
            return None
        found: Found | None = examine(messages, names, filters)
        return found

    return first


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


@functools.cache
def load_cases(path: str) -> Cases:
    """What was learnt about case, from a file."""
    from zephyr.text.truecase import Truecaser

    found: Cases = Truecaser.load(Path(path))
    return found
