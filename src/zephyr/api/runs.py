"""Whole runs: a recipe to start from, the run, and what it will take."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from zephyr import durable, pipeline
from zephyr.api.base import Result, led
from zephyr.errors import UsageError
from zephyr.recipe import Recipe, load


def init(path: Path, start: str = "demo") -> Path:
    """Write a recipe that ships with the package, with its comments; an existing file is not touched.

    Args:
        path: the file to write.
        start: which recipe: `demo`, or `paper`.

    Raises:
        UsageError: there is no such recipe, or the file is there already.
    """
    from zephyr.reproduce import paper_scale

    known = {"demo": resources.files("zephyr") / "demo" / "recipe.yaml", "paper": paper_scale.recipe_file()}
    if start not in known:
        raise UsageError(f"--from {start}: not a recipe that ships; known are {', '.join(known)}")
    if path.exists():
        raise UsageError(f"{path}: is there already; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, known[start].read_text(encoding="utf-8"))
    return path


@led
def run(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    only: str | None = None,
    until: str | None = None,
    dry_run: bool = False,
    verify: bool = False,
) -> Result:
    """Take a recipe through its stages, as `zephyr run` does.

    Args:
        recipe: a YAML file, or a `Recipe`.
        overrides: settings as `section.key=value`; with a file only.
        out: the folder of the run; by default the recipe's `out`, or `runs/NAME`.
        only: run this stage alone.
        until: run up to this stage.
        dry_run: say what would run and why; do nothing.
        verify: hash finished files again before they are believed.

    Returns:
        Where every artifact is and what became of it, the model, the report, and the scores.

    Raises:
        ZephyrError: what, where, and what to do. What was finished before is kept.
    """
    recipe = _resolved(recipe, overrides)
    run_dir = pipeline.out_of(recipe, out)
    if dry_run:
        outcomes = pipeline.plan(recipe, run_dir, only=only, until=until, verify=verify)
    else:
        outcomes = pipeline.run(recipe, run_dir, only=only, until=until, verify=verify)
    return pipeline.summary(recipe, run_dir, outcomes)


def plan(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    devices: Sequence[int] = (),
    gpus: Sequence[str] = (),
    utilization: float | None = None,
    calibrate: bool = False,
) -> Result:
    """What a run will ask of paid teachers, and what its training will take. Nothing is written or sent.

    Args:
        recipe: a YAML file, or a `Recipe`.
        overrides: settings as `section.key=value`; with a file only.
        out: the folder of the run, whose journal and artifacts say what is there already.
        devices: numbers of GPUs to plan for; 1, 8 and 16 if none is given.
        gpus: names of `zephyr.estimate.machines.KNOWN`; all if none is given.
        utilization: the share of a GPU's peak that is reached.
        calibrate: measure a few real steps on this machine.

    Returns:
        `lines` (calls, tokens, money of each teacher), their sums, what is spent so far, and the budget; `training` (None where
        nothing is trained): parameters, and for each stage tokens, operations, and by GPU and number bytes by kind and hours.
    """
    from zephyr import spending
    from zephyr.estimate import machines, training

    recipe = _resolved(recipe, overrides)
    run_dir = pipeline.out_of(recipe, out)
    found = spending.plan(recipe, run_dir)
    trains = training.plan(
        recipe,
        run_dir,
        devices=devices or training.DEVICES,
        gpus=gpus,
        utilization=machines.UTILIZATION if utilization is None else utilization,
        calibrate=calibrate,
    )
    return {**found, "training": trains}


def _resolved(recipe: str | Path | Recipe, overrides: Sequence[str]) -> Recipe:
    if not isinstance(recipe, Recipe):
        return load(recipe, overrides)
    if overrides:
        raise UsageError("overrides go with a recipe file; build the Recipe with the values you want")
    return recipe
