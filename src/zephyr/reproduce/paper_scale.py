"""The preset `paper`: the experiments at the paper's own scale, from its recipe. They are planned here; they are not made here.

A run of 7 billion weights is one of many GPUs and hours, for which `zephyr run` starts processes on several machines and goes on after a
cut. So this says which stages there are, which experiments share them, and what each takes; the commands that make them are the path's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr.errors import UsageError
from zephyr.estimate import training
from zephyr.recipe import Recipe, load
from zephyr.reproduce import folder, graph
from zephyr.reproduce.graph import Model, Step

_HERE = Path(__file__).resolve().parent
# the paper's recipe: a wheel has it here; where the package is run from its sources it is among the recipes
RECIPES = tuple(place / "zephyr-7b-beta.yaml" for place in (_HERE / "presets", _HERE.parents[2] / "recipes"))
GPU, DEVICES = "a100-80gb", 16  # the paper's hardware


def recipe_file() -> Path:
    """Where the paper's recipe is; where it would be, if it is not there."""
    return next((there for there in RECIPES if there.is_file()), RECIPES[-1])


def reproduce(
    wanted: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    rows: Mapping[str, Any],
    recipe: Path | None,
    seeds: int,
    out: Path,
    dry_run: bool,
) -> dict[str, Any]:
    """The plan of the experiments, or the page of `rows`, which are the tables of models that were measured elsewhere.

    Raises:
        UsageError: the experiments were to be made, or the recipe is not there.
    """
    path = recipe or recipe_file()
    if wanted and not dry_run:
        raise UsageError(
            "--preset paper: is planned here, not made: give --dry-run for its steps, run them with `zephyr run` on the paper's recipe "
            f"({path}; one arm a run, with sft.epochs and dpo.epochs as the plan says), and give what `zephyr evaluate` "
            "measures to `zephyr reproduce tables --preset paper --scores NAME=FOLDER`"
        )
    if not wanted:
        return folder.finish(out, rows, None) if not dry_run else {"steps": []}
    if fixed := [text for text in overrides if text.partition("=")[0].strip() in ("sft.epochs", "dpo.epochs")]:
        raise UsageError(f"{fixed[0]}: the experiments of the paper say how many epochs each model has; take it out")
    if not path.exists():
        raise UsageError(f"--preset paper: {path} is not there; give the paper's recipe with --recipe")
    return planned(load(path, overrides), wanted, seeds, out)


def planned(recipe: Recipe, wanted: Sequence[str], seeds: int, out: Path) -> dict[str, Any]:
    """Every step, which experiments it is for, and what its training takes on the paper's hardware."""
    if recipe.sft is None or recipe.dpo is None:
        raise UsageError(f"{recipe.name}: has no sections `sft` and `dpo`, so that it is no recipe of the paper's experiments")
    every = graph.steps(graph.models_of(wanted))
    hours = {step: _hours(recipe, step, out) for step in every if step.kind in ("sft", "dpo")}
    lines: list[dict[str, Any]] = []
    for seed in range(1, seeds + 1):
        for step in every:
            if step.model.is_base and seed > 1:
                continue
            known = hours.get(step)
            taken = f"; about {known['hours']:.1f} h on {DEVICES} x {GPU} by `zephyr plan`" if known else ""
            lines.append({
                "step": step.folder if step.model.is_base else f"seed-{seed}/{step.folder}",
                "for": [name for name in wanted if step in graph.steps(graph.EXPERIMENTS[name])],
                "status": "planned",
                "what": step.described + taken,
                "plan": known,
            })  # fmt: skip
    total = sum(line["plan"]["hours"] for line in lines if line["plan"])
    times = "one seed" if seeds == 1 else f"{seeds} seeds"
    notes = [
        f"in all about {total:.0f} h of training on {DEVICES} x {GPU} for {times}, without references and scores",
        "dSFT-2 is counted as an epoch of dSFT on one answer of each pair",
    ]
    return {"preset": "paper", "recipe": recipe.name, "seeds": seeds, "out": str(out), "steps": lines, "hours": total, "notes": notes}


def _hours(recipe: Recipe, step: Step, out: Path) -> dict[str, Any] | None:
    """Of one training; None where the plan does not know it."""
    one = _recipe_of(recipe, step.model)
    plan = training.plan(one, out, devices=[DEVICES], gpus=[GPU])
    stage = next((s for s in plan["stages"] if s["stage"] == step.kind), None) if plan else None
    if stage is None:
        return None
    way = stage["ways"][0]
    part = 1.0
    if step.model.best:  # the preferred answers: of a pair about a fifth is the prompt and two fifths each answer
        pairs = training.plan(_recipe_of(recipe, Model(sft=1, dpo=1)), out, devices=[DEVICES], gpus=[GPU])
        of_pairs = next((s for s in pairs["stages"] if s["stage"] == "dpo"), None) if pairs else None
        part = 0.6 * of_pairs["tokens"] / stage["tokens"] if of_pairs else part
    return {"hours": part * way["hours"], "tokens": round(part * stage["tokens"]), "peak_bytes": way["peak_bytes"], "fits": way["fits"]}


def _recipe_of(recipe: Recipe, model: Model) -> Recipe:
    """The paper's recipe with the epochs of a model."""
    assert recipe.sft is not None and recipe.dpo is not None
    sft = recipe.sft.model_copy(update={"epochs": max(model.sft, model.best, 1)})
    dpo = recipe.dpo.model_copy(update={"epochs": max(model.dpo, 1)})
    return recipe.model_copy(update={"sft": sft, "dpo": dpo if model.dpo else None})
