"""What each idea gives: our step with each left out, in turn, next to the step with all of them.

python benchmarks/race.py --only ideas
"""

from __future__ import annotations

import argparse
import math
import statistics
from typing import Any

import assets
import processes
import race

MODELS = ("body",)
PAIRS = 4  # one step


def table(args: argparse.Namespace) -> dict[str, Any]:
    """For each model and idea the time and memory without it over those with it."""
    return {f"ideas-{model}": _of(model, args) for model in (("tiny",) if args.quick else args.ideas_model or MODELS)}


def _of(name: str, args: argparse.Namespace) -> dict[str, Any]:
    from ideas import IDEAS

    model = assets.model_folder(name, args.work)
    files = race.rows_of(race.Race("dpo", name, "synthetic", PAIRS), model, args)
    common = ("dpo", "--model", str(model), "--dtype", args.dtype, "--device", args.device, *files)
    runs: dict[str, list[dict[str, Any]]] = {idea: [] for idea in ("none", *IDEAS)}
    for number in range(args.rounds):
        for idea, done in runs.items():
            done.append(processes.result("ours.py", *common, "--without", idea))
            check_equal(runs["none"][0]["stats"], done[-1]["stats"], idea, args.dtype)
        race.say(f"  ideas {name} round {number + 1}: " + ", ".join(f"{i} {d[-1]['train_seconds']:.1f}" for i, d in runs.items()))
    seconds = {idea: statistics.median(r["train_seconds"] for r in done) for idea, done in runs.items()}
    memory = {idea: statistics.median(r["peak_over_start_mb"] for r in done) for idea, done in runs.items()}
    ratios = {idea: seconds[idea] / seconds["none"] for idea in IDEAS}
    return {
        "ratio_without": ratios,
        "seconds": seconds,
        "memory_mb": memory,
        "text": "slower without " + ", ".join(f"{idea} {ratio:.2f}x" for idea, ratio in ratios.items()),
    }


def check_equal(whole: list[dict[str, float]], without: list[dict[str, float]], idea: str, dtype: str) -> None:
    """An idea is about speed alone: loss, log-probabilities and the gradient's norm are those of the whole.

    Raises:
        AssertionError: they are not, to the rounding of the products.
    """
    near = 1e-4 if dtype == "float32" else 3e-2
    for step, (a, b) in enumerate(zip(whole, without, strict=True), 1):
        for name in ("loss", "chosen_logp", "rejected_logp", "grad_norm"):
            assert math.isclose(a[name], b[name], rel_tol=near), f"without {idea}, step {step}: {name} is {b[name]}, not {a[name]}"
