"""The order of it all: rows, base, then for each seed what the experiments need, nothing twice; then the results and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr import pipeline
from zephyr.errors import UsageError
from zephyr.progress import say
from zephyr.reproduce import folder as folders
from zephyr.reproduce import forecast, graph, preset, results, tables, work
from zephyr.reproduce import scores as measured
from zephyr.reproduce.experiment import BASE_SEED, Experiment
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
    preset.refuse_unknown(preset_name)
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: at least one training of each model is needed")
    _refuse_unused(what, preset_name, overrides, data, model, scores, recipe)
    folder = (out or Path("runs") / f"reproduce-{preset_name}").expanduser()
    wanted = [name for name in graph.EXPERIMENTS if what in (name, "all")]
    # scores that cannot be read are told before anything is made
    rows = {"tables": tables.write(scores)} if what in ("tables", "all", *TABLES) else {}
    if preset_name == "paper":
        from zephyr.reproduce import paper_scale

        return paper_scale.reproduce(wanted, overrides, rows=rows, recipe=recipe, seeds=seeds, out=folder, dry_run=dry_run)
    made: dict[str, Any] = {}
    experiment = None
    if wanted:
        experiment = Experiment(preset.load(preset_name, overrides), folder, data, model)
        if dry_run:
            return planned(experiment, wanted, seeds)
        folders.refuse_unreadable(folder)
        made = carried_out(experiment, wanted, seeds)
    return folders.finish(folder, made | rows, experiment) if not dry_run else {"what": what, "steps": []}


def _refuse_unused(
    what: str, preset_name: str, overrides: Sequence[str], data: Path | None, model: str | None, scores: Sequence[str], recipe: Path | None
) -> None:
    """What would change nothing is refused: whoever gives it means something by it.

    Raises:
        UsageError: it says what works in its place.
    """
    only_tables = what == "tables" or what in TABLES
    given = {overrides[0] if overrides else "": bool(overrides), f"--data {data}": data is not None, f"--model {model}": model is not None}
    if only_tables and (useless := [name for name, there in {**given, f"--recipe {recipe}": recipe is not None}.items() if there]):
        raise UsageError(f"{useless[0]}: {what} makes no model and takes no settings; it reads what --scores NAME=FOLDER names")
    if scores and not only_tables and what != "all":
        raise UsageError(f"--scores: {what} measures its own models; `zephyr reproduce tables --scores {scores[0]}` reads scores")
    if preset_name == "paper":
        if data is not None:
            raise UsageError(
                f"--data {data}: the rows of --preset paper are those that its recipe names; give another recipe as --recipe FILE, "
                "or take --preset small, which reads a folder"
            )
        if model is not None:
            raise UsageError(
                f"--model {model}: the model of --preset paper is that of its recipe; give model.path={model} (and its model.shape.*) as "
                "settings, or another recipe as --recipe FILE"
            )
    elif recipe is not None:
        raise UsageError("--recipe: is for --preset paper; the settings of the others are changed as section.key=value")


def todo(experiment: Experiment, wanted: Sequence[str], seeds: int) -> list[tuple[Step, int]]:
    """Every step for each seed that its experiments need; those of the base once."""
    found: dict[tuple[Step, int], None] = {}
    for seed in range(1, seeds + 1):
        needed = [name for name in wanted if seed in seeds_of(name, seeds)]
        found |= dict.fromkeys((step, 0 if step.model.is_base else seed) for step in graph.steps(graph.models_of(needed)))
    return list(found)


def seeds_of(name: str, seeds: int) -> range:
    """Those that an experiment trains: one that shows the answers of one seed needs no other."""
    return range(1, 2 if name in graph.OF_ONE_SEED else seeds + 1)


def carried_out(experiment: Experiment, wanted: Sequence[str], seeds: int) -> dict[str, Any]:
    """Make what is not there yet, then read the results of what was asked for.

    Raises:
        ZephyrError: a step failed. What was made before is kept, and the same command goes on.
        KeyboardInterrupt: the same holds.
    """
    p = experiment.preset
    say(f"{', '.join(wanted)} at the scale of {p.name}: {p.about}")
    for own, do in experiment.own_rows():
        own.make(do)
    every = todo(experiment, wanted, seeds)
    outstanding = experiment.outstanding(every)
    missing = [(step, seed) for step, seed in every if experiment.place(step, seed) in outstanding]
    if missing:
        trained = max(len(seeds_of(name, seeds)) for name in wanted)
        times = "one seed" if trained == 1 else f"{trained} seeds"
        shared = len(graph.steps(graph.models_of(graph.EXPERIMENTS)))
        say(f"{len(every)} steps for {times} ({shared} a seed for all experiments together), {len(missing)} of them to be made")
        if again := sum(work.is_there(experiment.place(step, seed)) for step, seed in missing):
            say(f"{again} of them stand in {experiment.out}, made with other settings or from what is made anew; they are replaced")
        say(forecast.described(forecast.seconds(experiment, missing, outstanding)))
    for _, own, do in experiment.before():
        own.make(do)
    own, _ = experiment.own_scores(graph.BASE, BASE_SEED)
    manifest = work.manifest_of(own.out)
    sets = [name for name in own.data if name != measured.DIALOGUES]
    measured.enough(measured.Scores.read(own.out), sets, manifest.dropped if manifest else {})
    for number, (step, seed) in enumerate(every, 1):
        if experiment.why_not(step, seed) is not None:
            experiment.make(step, seed, f"[{number}/{len(every)}] ")
    return {name: results.of(name, experiment, seeds_of(name, seeds)) for name in wanted}


def planned(experiment: Experiment, wanted: Sequence[str], seeds: int) -> dict[str, Any]:
    """What would be made, and for which experiments; nothing is written."""
    every = todo(experiment, wanted, seeds)
    outstanding = experiment.outstanding(every)
    lines = [
        {"step": label, "for": list(wanted), "status": outstanding.get(own.out, pipeline.DONE), "what": "once for all seeds"}
        for label, own, _ in experiment.before()
    ]
    for step, seed in every:
        place = experiment.place(step, seed)
        lines.append({
            "step": str(place.relative_to(experiment.out)),
            "for": [name for name in wanted if seed in {0, *seeds_of(name, seeds)} and step in graph.steps(graph.EXPERIMENTS[name])],
            "status": outstanding.get(place, pipeline.DONE),
            "what": step.described,
        })  # fmt: skip
    return {"out": str(experiment.out), "preset": experiment.preset.name, "about": experiment.preset.about, "seeds": seeds, "steps": lines}
