"""What is said of runs that were made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr.cli.base import Json, Out, app, show


@app.command(epilog="Examples: `zephyr report runs/demo --out page` · `zephyr report runs/a runs/b --out side-by-side --json`")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="The folder of a run; others are set against the first.")],
    out: Out,
    title: Annotated[str | None, typer.Option(help="The page's title.")] = None,
    json: Json = False,
) -> None:
    """Write the page and the model card of a run; or one page that sets several runs side by side."""
    from zephyr import api

    result = api.report(runs[0] if len(runs) == 1 else runs, out, title)
    show(result, as_json=json, text=api.describe(result))


@app.command(
    epilog="Examples, the first two of the demo: `zephyr trace runs/demo c3c39242` · `zephyr trace runs/demo '90 km/h' --json` · "
    "`zephyr trace RUN 'mt-bench 81'`"
)
def trace(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    prompt: Annotated[str, typer.Argument(help="A prompt's id, its beginning or its words; or `mt-bench QUESTION`, `alpaca-eval NUMBER`.")],
    json: Json = False,
) -> None:
    """Follow a prompt from the numbers it went into back to its answers, their ratings, and the raw replies of the teachers."""
    from zephyr import api
    from zephyr.report import telling

    found = api.trace(run, prompt)
    text = telling.describe_judged(found) if "verdicts" in found else telling.describe(found)
    show(found, as_json=json, text=text)
