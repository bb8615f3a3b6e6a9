"""The paper's experiments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zephyr.api.base import Result, led


@led
def reproduce(
    what: str,
    overrides: Sequence[str] = (),
    *,
    preset: str = "demo",
    data: str | Path | None = None,
    model: str | None = None,
    seeds: int = 3,
    out: str | Path | None = None,
    scores: Sequence[str] = (),
    recipe: str | Path | None = None,
    dry_run: bool = False,
) -> Result:
    """Make experiments of the paper at some scale, and set its numbers beside ours; run again to go on.

    Args:
        what: `table3`, `figure3`, `samples`, `tables` (or `table1`, `table2`, `figure1`), `all`.
        overrides: settings of the preset, as `section.key=value`.
        preset: `demo`, `small`, `paper`.
        data: a folder of rows, for presets that take one.
        model: the base to start from; None for one made from nothing.
        seeds: trainings of each model.
        out: the folder; runs/reproduce-PRESET by default.
        scores: `NAME=PATH` of models that were measured elsewhere, for the tables.
        recipe: of the preset `paper`.
        dry_run: say which steps there are; make none.

    Returns:
        `results` by experiment, `findings` with verdict, sentence and comparison, `page`, `files`; or, of a dry run, `steps`.
    """
    from zephyr.reproduce.run import reproduce as do

    folders = [Path(path).expanduser() if path is not None else None for path in (data, out, recipe)]
    return do(
        what,
        preset_name=preset,
        overrides=overrides,
        data=folders[0],
        model=model,
        seeds=seeds,
        out=folders[1],
        scores=scores,
        recipe=folders[2],
        dry_run=dry_run,
    )
