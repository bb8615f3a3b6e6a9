"""What came out, as values: of Table 3, of Figure 3, of the samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from zephyr.artifacts import Artifact
from zephyr.reproduce import compare, findings, paper, samples, work
from zephyr.reproduce.evidence import MEASURES, PRIMARY, Evidence
from zephyr.reproduce.experiment import Experiment
from zephyr.reproduce.graph import ARMS, BASE, CURVE, EXPERIMENTS, GRID, Model, Step, steps
from zephyr.reproduce.scores import LEARNT

Result = dict[str, Any]


def of(name: str, experiment: Experiment, seeds: Iterable[int]) -> Result:
    """The results of an experiment whose steps are all there."""
    evidence = Evidence(experiment, list(seeds))
    make = {"table3": _table3, "figure3": _figure3, "samples": samples.of}[name]
    return {"experiment": name, **_about(name, experiment, evidence), **make(experiment, evidence)}


def _about(name: str, experiment: Experiment, evidence: Evidence) -> Result:
    """At what scale, on what, in how much time."""
    p = experiment.preset
    folders = [experiment.out / "rows" / part for part in ("text", "dialogues", "pairs", "other")] + [
        experiment.out / part for part in ("base", "base.scores")
    ]
    folders += sorted({experiment.place(step, seed) for step in steps(EXPERIMENTS[name]) for seed in evidence.seeds})
    manifests = [m for folder in folders if (m := work.manifest_of(folder))]
    rows = {part: work.manifest_of(experiment.out / "rows" / part) for part in ("text", "dialogues", "pairs", "other")}
    base = work.manifest_of(experiment.out / "base")
    return {
        "preset": p.name,
        "about": p.about,
        "base": experiment.about_base,
        "parameters": base.results.get("parameters") if base else None,
        "seeds": list(evidence.seeds),
        "validation": p.data.validation,
        "rows": {part: m.rows_out for part, m in rows.items() if m},
        "left_out": rows["pairs"].results["left_out"] if rows["pairs"] else {},
        "seconds": sum(m.seconds for m in manifests),
        "settings": p.model_dump(exclude={"name", "about"}),
        "machine": next((m.environment for m in reversed(manifests) if "threads" in m.environment), {}),
    }


# --- Table 3 ---------------------------------------------------------------------------------------------------


def _table3(experiment: Experiment, evidence: Evidence) -> Result:
    measures = evidence.measures()
    arms = [
        {
            "arm": arm,
            "model": model.name,
            "paper": dict(zip(("mt_bench", "alpaca_eval", "alpaca_eval_se"), paper.TABLE3[arm], strict=True)),
            "measures": {name: evidence.level(model, name).json() for name in measures},
        }
        for arm, model in ARMS.items()
    ]
    compared = [
        {"first": arm, "second": "dSFT-1", "measure": name, **evidence.difference(model, ARMS["dSFT-1"], name).json()}
        for arm, model in ARMS.items()
        if arm != "dSFT-1"
        for name in measures
    ]
    of_base = {name: evidence.level(BASE, name).json() for name in measures if MEASURES[name].needs is None}
    return {
        "arms": arms,
        "base_measures": of_base,
        "comparisons": compared,
        "longer_answer": _longer(evidence),
        "own_answers_would_end": evidence.own_would_end(),
        "updates": _updates(experiment, evidence, ARMS.values()),
        "read": _read(evidence, ARMS.values()),
        "findings": [f.json() for f in findings.all_of(evidence, experiment.preset.margins)],
    }


def _longer(evidence: Evidence) -> Result:
    """What a judge is right in who takes the longer answer, by set."""
    there = [name for name in evidence.base.sets() if name != LEARNT]
    cells = {name: [evidence.base.longer(name)] for name in there}
    return {name: compare.share_of(found).json() for name, found in cells.items()}


def _read(evidence: Evidence, models: Iterable[Model]) -> Result:
    """How much of the rows was learnt, by model, and how much of those that are measured on was, by set."""
    learnt = {model.name: asdict(read) for model in models if (read := evidence.read(model))}
    return {"learnt": learnt, "measured": {name: asdict(read) for name, read in evidence.measured().items()}}


def _updates(experiment: Experiment, evidence: Evidence, models: Iterable[Model]) -> Result:
    """Rows and updates of each training, of the first seed; what was dropped is counted in its manifest."""
    found = {}
    for model in models:
        manifest = work.manifest_of(experiment.place(Step("dpo" if model.dpo else "sft", model), evidence.seeds[0]))
        if manifest:
            found[model.name] = {"rows": manifest.rows_out, "updates": manifest.results.get("steps"), "dropped": manifest.dropped}
    return found


# --- Figure 3 --------------------------------------------------------------------------------------------------


def _figure3(experiment: Experiment, evidence: Evidence) -> Result:
    curves = []
    for seed in evidence.seeds:
        log = Artifact.open(experiment.place(Step("dpo", CURVE), seed)).log()
        of = {kind: [[row["step"], row["accuracy"]] for row in log if row.get("kind") == kind] for kind in ("train", "test")}
        curves.append({"seed": seed, **of, "epoch_ends": _epoch_ends(log)})
    measures = evidence.measures()
    grid = [
        {"sft": m.sft, "dpo": m.dpo, "model": m.name, "measures": {name: evidence.level(m, name).json() for name in measures}} for m in GRID
    ]
    return {
        "curve_of": CURVE.name,
        "curves": curves,
        "grid": grid,
        "primary": PRIMARY,
        "updates": _updates(experiment, evidence, GRID),
        "read": _read(evidence, (CURVE.parent, replace(CURVE, dpo=1), CURVE)),
        "findings": [f.json() for f in findings.all_of(evidence, experiment.preset.margins)],
    }


def _epoch_ends(log: Sequence[Mapping[str, Any]]) -> list[int]:
    return [row["step"] for row in log if row.get("kind") == "train" and abs(row["epoch"] - round(row["epoch"])) < 1e-9]


# --- all of them -----------------------------------------------------------------------------------------------


def merged(known: Mapping[str, Mapping[str, Any]]) -> list[Result]:
    """Each finding once: of the experiments that examined it, from the one with the most trainings; at equal numbers they say the same."""
    found: dict[str, tuple[tuple[bool, int], Result]] = {}
    for name in EXPERIMENTS:
        for finding in known.get(name, {}).get("findings", ()):
            weight = (finding["verdict"] != findings.NOT_EXAMINED, len(known[name]["seeds"]))
            if finding["finding"] not in found or weight > found[finding["finding"]][0]:
                found[finding["finding"]] = (weight, finding)
    return [found[name][1] for name in findings.CLAIMS if name in found]


def described(result: Result) -> str:
    """In words, for the terminal."""
    if "steps" in result:
        if not result["steps"]:
            return "no steps: no model is made; without --dry-run what --scores NAME=FOLDER names is read, and the page is written"
        width = max(len(line["step"]) for line in result["steps"])
        lines = [f"{line['step']:{width}}  {line['status']:28} {line['what']} (for {', '.join(line['for'])})" for line in result["steps"]]
        return "\n".join([*lines, *result.get("notes", ())])
    lines = []
    validation = any(found.get("validation") for found in result["results"].values())
    first = ["Validation rows, taken from the train rows: for trying settings, not for a result."] if validation else []
    for finding in result["findings"]:
        lines.append(f"{finding['finding']} {finding['verdict']}: {finding['claim']}")
        lines.append(f"   {finding['sentence']}")
    return "\n".join([*first, *_table(result["results"].get("table3")), *lines, *result["not_compared"], f"page: {result['page']}"])


def _table(table: Result | None) -> list[str]:
    if table is None:
        return []
    lines = [f"{'arm':14} {'paper: MT-Bench':>15} {'AlpacaEval':>11}   ours: {MEASURES[PRIMARY].on}"]
    for arm in table["arms"]:
        f = arm["measures"][PRIMARY]
        low, high = (100 * x for x in f["ci95"])  # of a share, which has one
        theirs = f"{arm['paper']['mt_bench']:15.2f} {arm['paper']['alpaca_eval']:11.2f}"
        lines.append(f"{arm['arm']:14} {theirs}   {100 * f['value']:.1f}% [{low:.1f}, {high:.1f}]")
    return lines
