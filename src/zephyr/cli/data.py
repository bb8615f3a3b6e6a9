"""Looking at data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr.cli.base import Json, Test, app, show


@app.command(
    epilog="Examples: `zephyr audit data/preferences --ratings data/ratings --against mt_bench.jsonl --page audit.html` · "
    "`zephyr audit owner/name --split train_prefs --split test_prefs --json`. "
    "Exit codes: 0 nothing wrong, 1 something found (or failed), 2 used wrongly."
)
def audit(
    preferences: Annotated[list[str], typer.Argument(help="Pairs, or rated answers: files, folders, artifacts or hub names.")],
    test: Test = None,
    ratings: Annotated[
        list[str] | None, typer.Option("--ratings", help="The rated answers the pairs were drawn from; may be given more than once.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            help="Benchmarks: known names (mt-bench,open-llm), FILE, NAME=FILE or OWNER/NAME@REVISION; may be given more than once.",
        ),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Of the sources' own splits, this one alone; may be given more than once.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="A finding that is no reason to fail; may be given more than once.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--page", help="Write the findings as an HTML page, too.")] = None,
    json: Json = False,
) -> None:
    """Look for what is wrong with preference data, anyone's: ties, copies, contradictions, draws that are none, benchmarks."""
    from zephyr import audit as auditing
    from zephyr import durable

    found = auditing.audit(
        preferences, test=test or [], ratings=ratings or [], against=against or [], splits=split or [], ignore=ignore or []
    )
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        durable.write_text(page, auditing.page(found))
    show(found.json(), as_json=json, text=auditing.describe(found))
    if not found.clean:
        raise typer.Exit(1)


@app.command(
    epilog="Examples: `zephyr inspect runs/demo/curate` · `zephyr inspect dialogues.jsonl --out look.html --samples 5` · "
    "`zephyr inspect owner/name --split train_prefs --json`"
)
def inspect(
    data: Annotated[list[str], typer.Argument(help="Dialogues, ratings or pairs, all of a kind: files, folders, artifacts or hub names.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("inspect.html"),
    samples: Annotated[int, typer.Option("--samples", help="How many are shown of each stratum and of each reason.")] = 3,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Of the sources' own splits, this one alone; may be given more than once.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides which are shown.")] = 0,
    json: Json = False,
) -> None:
    """Make a page to look at data: samples, what was left out and why, case before and after, distributions."""
    from zephyr import durable, inspection
    from zephyr.errors import UsageError

    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: the page is HTML; give it a name that ends in .html")
    seen = inspection.inspect(data, splits=split or [], samples=samples, seed=seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(out, inspection.page(seen))
    show({**seen.json(), "page": str(out)}, as_json=json, text=f"{inspection.describe(seen)}\nwrote {out}")
