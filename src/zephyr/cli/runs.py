"""Whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr.cli.base import Json, Overrides, app, show


@app.command(
    epilog="Examples: `zephyr init my.yaml`, then read it, then `zephyr run my.yaml` · "
    "`zephyr init paper.yaml --from paper`, then `zephyr plan paper.yaml`"
)
def init(
    path: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.yaml"),
    start: Annotated[str, typer.Option("--from", help="Which recipe to start from: `demo`, or `paper`.")] = "demo",
) -> None:
    """Write a commented recipe to start from: the demo's, or the paper's."""
    from zephyr import api

    print(f"wrote {api.init(path, start)}; next: zephyr {'plan' if start == 'paper' else 'run'} {path}")


@app.command(
    epilog="Examples, of a recipe that `zephyr init my.yaml` wrote: `zephyr run my.yaml --dry-run` · `zephyr run my.yaml` · "
    "`zephyr run my.yaml sft.learning_rate=1e-5 --out runs/b`"
)
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder of the run; `runs/NAME` if not given.")] = None,
    only: Annotated[str | None, typer.Option(help="Run this stage alone.")] = None,
    until: Annotated[str | None, typer.Option(help="Run up to this stage.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and why; do nothing.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every finished file again before it is believed.")] = False,
    json: Json = False,
) -> None:
    """Take a recipe through all its stages. Run it again to resume: what is finished is skipped."""
    from zephyr import api
    from zephyr.progress import say

    result = api.run(recipe, overrides or [], out=out, only=only, until=until, dry_run=dry_run, verify=verify)
    for warning in (result["judged"] or {}).get("warnings", ()) if json else ():  # in words they are among the lines
        say(f"note: {warning}")
    show(result, as_json=json, text=api.describe(result))


@app.command(
    epilog="Examples: `zephyr plan my.yaml`, before `zephyr run my.yaml` spends anything · `zephyr plan my.yaml --calibrate` · "
    "`zephyr plan paper.yaml --gpu a100-80gb --devices 16 --json`, of what `zephyr init paper.yaml --from paper` wrote"
)
def plan(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder of the run; `runs/NAME` if not given.")] = None,
    devices: Annotated[list[int] | None, typer.Option("--devices", min=1, help="So many GPUs; may be given more than once.")] = None,
    gpu: Annotated[
        list[str] | None, typer.Option("--gpu", help="rtx-4090, l40s, a100-80gb, h100-80gb or h200; may be given more than once.")
    ] = None,
    utilization: Annotated[
        float | None, typer.Option("--utilization", min=0.01, max=1.0, help="The share of a GPU's peak that is reached.")
    ] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Train a few real steps on this machine and go by them.")] = False,
    json: Json = False,
) -> None:
    """Say what a run will take: of paid teachers (calls, tokens, money), of GPUs (memory, hours). Nothing is sent or written."""
    from zephyr import api, spending
    from zephyr.estimate import show as training

    found = api.plan(recipe, overrides or [], out=out, devices=devices or [], gpus=gpu or [], utilization=utilization, calibrate=calibrate)
    text = [spending.describe(found), *([training.describe(found["training"])] if found["training"] else [])]
    show(found, as_json=json, text="\n\n".join(text))
