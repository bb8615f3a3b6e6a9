"""The paper's experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr.cli.base import Json, Overrides, app, show


@app.command(
    epilog="Examples: `zephyr reproduce all` (a few minutes, with nothing but the package) · "
    "`zephyr reproduce table3 --preset small --data DIR` · `zephyr reproduce tables --scores mine=FOLDER` · "
    "`zephyr reproduce table3 --preset paper --dry-run`"
)
def reproduce(
    what: Annotated[str, typer.Argument(help="`table3`, `figure3`, `samples`, `tables` (or `table1`, `table2`, `figure1`), `all`.")],
    overrides: Overrides = None,
    preset: Annotated[str, typer.Option("--preset", help="`demo`, with the texts of the package; `small`, with --data; `paper`.")] = "demo",
    data: Annotated[
        Path | None, typer.Option("--data", help="A folder of rows; docs/reproduction.md says which.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The base to start from; without one it is made from nothing.", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each model.")] = 3,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write; runs/reproduce-PRESET by default.", show_default=False)
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            "--scores", help="NAME=FOLDER of `zephyr evaluate NAME --on …`, or NAME=FILE of `zephyr score --json`; may be repeated."
        ),
    ] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="Of --preset paper.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which steps there are and which are shared; make none.")] = False,
    json: Json = False,
) -> None:
    """Make the paper's experiments at a scale you can afford, and set its numbers beside yours."""
    from zephyr import api
    from zephyr.reproduce import results

    result = api.reproduce(
        what,
        overrides or [],
        preset=preset,
        data=data,
        model=model,
        seeds=seeds,
        out=out,
        scores=scores or [],
        recipe=recipe,
        dry_run=dry_run,
    )
    show(result, as_json=json, text=results.described(result))
