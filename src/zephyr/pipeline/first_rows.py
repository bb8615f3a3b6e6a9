"""Sources whose rows are not what a stage reads: a wrong column is seen before the stages that come first, which may take hours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice

from zephyr import sources
from zephyr.curation.shapes import as_messages, shape_of
from zephyr.errors import DataError, ZephyrError
from zephyr.files import Unread
from zephyr.pipeline.graph import module_of
from zephyr.recipe import DataSource, Recipe
from zephyr.records import Row, parse_dialogue, parse_feedback, parse_prompt, parse_rated_prompt
from zephyr.stages import From

FIRST = 100


def _dialogue(row: Row) -> object:
    return parse_dialogue(as_messages(row, shape_of(row)))


# what a stage makes of a row of one of its inputs
PARSERS: Mapping[str, tuple[str, Callable[[Row], object]]] = {
    "synthesize": ("seeds", parse_prompt),
    "curate": ("dialogues", _dialogue),
    "complete": ("prompts", parse_prompt),
    "rate": ("completions", partial(parse_rated_prompt, rated=False)),
    "binarize": ("ratings", parse_feedback),
}


def refuse_unusable(recipe: Recipe, pending: Sequence[str], *, fetch: bool) -> None:
    """Refuse sources of pending stages of whose first rows none can be used; rows that are wrong among others are for the stage to say.

    Where a stage leaves out what it cannot use, rows are read until one can be.

    Without `fetch`, only what is on this machine is read.

    Raises:
        ZephyrError: naming the stage, the source and what is wrong with its first row; or what it says of a source that cannot be read.
    """
    for stage in (stage for stage in PARSERS if stage in pending):
        name, parse = PARSERS[stage]
        wanted = module_of(stage).needs(recipe).data.get(name, ())
        first = None if getattr(getattr(recipe, stage), "invalid", "error") == "drop" else FIRST
        for source in () if isinstance(wanted, From) else wanted:
            if fetch or sources.resolve(source.path) is not None:
                try:
                    _refuse_source(source, parse, first)
                except ZephyrError as error:
                    error.args = (f"{stage}: {error}",)
                    raise


def _refuse_source(source: DataSource, parse: Callable[[Row], object], first: int | None) -> None:
    looked, said = 0, ""
    for where, _, row in islice(sources.located(source), first):
        problem = _problem(row, parse)
        if problem is None:
            return
        looked, said = looked + 1, said or f"{where}: {problem}"[:400]
    if looked:
        raise DataError(
            f"{source.path}: no row can be used, of {looked:,} looked at (the first, {said}); "
            "mend the data, or name its columns (`columns: {OURS: THEIRS}`)"
        )


def _problem(row: Row | Unread, parse: Callable[[Row], object]) -> str | None:
    """What is wrong with a row, with the columns that it has; None where it can be used."""
    if isinstance(row, Unread):
        return row.problem
    try:
        parse(row)
    except DataError as error:
        return str(error) if "the row has" in str(error) else f"{error}; the row has {', '.join(map(repr, row))}"
    return None
