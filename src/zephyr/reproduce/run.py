"""The order of it all: rows, base, then for each seed what the experiments need, nothing twice; then the results and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr import pipeline
from zephyr.errors import UsageError
from zephyr.progress import say
from zephyr.reproduce import forecast, graph, preset, results
from zephyr.reproduce.experiment import Experiment
from zephyr.reproduce.graph import Step

TABLES = ("table1", "table2", "figure1")
WHAT = (*graph.EXPERIMENTS, *TABLES, "tables", "all")


def reproduce(
    what: str,
    *,
    preset_name: str = "demo",
    overrides: Sequence[str] = (),
    data: Path | None = None,
    model: str | None = None,
    seeds: int = 3,
    out: Path | None = None,
    scores: Sequence[str] = (),
    recipe: Path | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """An experiment of the paper; see `zephyr.api.reproduce`."""
    if what not in WHAT:
        raise UsageError(f"{what}: not an experiment; known are {', '.join(WHAT)}")
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: at least one training of each model is needed")
    folder = (out or Path("runs") / f"reproduce-{preset_name}").expanduser()
    tables = what in ("tables", "all") or what in TABLES
    wanted = [name for name in graph.EXPERIMENTS if what in (name, "all")]
    if preset_name == "paper":
        from zephyr.reproduce import paper_scale

        return paper_scale.reproduce(wanted, with_tables=tables, recipe=recipe, seeds=seeds, out=folder, scores=scores, dry_run=dry_run)
    if recipe is not None:
        raise UsageError("--recipe: is for --preset paper; the settings of the others are changed as section.key=value")
    made: dict[str, Any] = {}
    if wanted:
        experiment = Experiment(preset.load(preset_name, overrides), folder, data, model)
        if dry_run:
            return planned(experiment, wanted, seeds)
        made = carried_out(experiment, wanted, seeds)
    if tables and not dry_run:
        from zephyr.reproduce import tables as tables_module

        made["tables"] = tables_module.write(scores)
    return results.finish(folder, made) if not dry_run else {"what": what, "steps": []}


def todo(experiment: Experiment, wanted: Sequence[str], seeds: int) -> list[tuple[Step, int]]:
    """Every step for each seed; those of the base once."""
    steps = graph.steps(graph.models_of(wanted))
    return list(dict.fromkeys((step, 0 if step.model.is_base else seed) for seed in range(1, seeds + 1) for step in steps))


def carried_out(experiment: Experiment, wanted: Sequence[str], seeds: int) -> dict[str, Any]:
    """Make what is not there yet, then read the results of what was asked for.

    Raises:
        ZephyrError: a step failed. What was made before is kept, and the same command goes on.
        KeyboardInterrupt: the same holds.
    """
    p = experiment.preset
    say(f"{', '.join(wanted)} at the scale of {p.name}: {p.about}")
    before = list(experiment.before())
    for _, own, do in before[:-2] if experiment.model is None else before[:-1]:
        own.make(do)
    every = todo(experiment, wanted, seeds)
    missing = [(step, seed) for step, seed in every if experiment.why_not(step, seed) is not None]
    if missing:
        shared = len(graph.steps(graph.models_of(graph.EXPERIMENTS)))
        say(f"{len(every)} steps for {seeds} seeds ({shared} a seed for all experiments together), {len(missing)} of them to be made")
        say(forecast.described(forecast.seconds(experiment, missing)))
    for _, own, do in experiment.before():
        own.make(do)
    for number, (step, seed) in enumerate(every, 1):
        if experiment.why_not(step, seed) is not None:
            experiment.make(step, seed, f"[{number}/{len(every)}] ")
    return {name: results.of(name, experiment, range(1, seeds + 1)) for name in wanted}


def planned(experiment: Experiment, wanted: Sequence[str], seeds: int) -> dict[str, Any]:
    """What would be made, and for which experiments; nothing is written."""
    lines = [
        {"step": label, "for": list(wanted), "status": experiment.why_not_own(own) or pipeline.DONE, "what": "once for all seeds"}
        for label, own, _ in experiment.before()
    ]
    for step, seed in todo(experiment, wanted, seeds):
        lines.append({
            "step": str(experiment.place(step, seed).relative_to(experiment.out)),
            "for": [name for name in wanted if step in graph.steps(graph.EXPERIMENTS[name])],
            "status": experiment.why_not(step, seed) or pipeline.DONE,
            "what": step.described,
        })  # fmt: skip
    return {"out": str(experiment.out), "preset": experiment.preset.name, "about": experiment.preset.about, "seeds": seeds, "steps": lines}
