"""One page about the run, and the model card; or one page about several runs, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from zephyr.artifacts import Artifact, Draft, Manifest
from zephyr.recipe import Recipe, Section
from zephyr.records import parse_rated_prompt
from zephyr.stages import From, Inputs, Needs

# 5: verdicts of two judges of one name, or given in two ways, are not paired; whole numbers among the settings have all their digits
VERSION = 5
ORDER = ("synthesize", "curate", "sft", "complete", "rate", "binarize", "reference", "dpo", "answer", "judge", "evaluate")
Artifacts = Mapping[str, Artifact]


class Config(Section):
    """Settings of this stage."""

    name: str
    title: str
    # of several runs, what each is called; the inputs are then called RUN/STAGE
    runs: list[str] = Field(default=[])
    # of several runs, what the settings mean that differ, by STAGE.SETTING
    about: dict[str, str] = Field(default={})


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    return Config(name=recipe.name, title=recipe.report.title or recipe.name)


def needs(recipe: Recipe) -> Needs:
    """Every artifact of the run."""
    there = {name: getattr(recipe, "judge" if name == "answer" else name) is not None for name in ORDER}
    return Needs(data={name: From(name, whole=True) for name in ORDER if there[name]})


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Write `report.html` and `README.md`, the model card; of several runs the page, and what it shows as `data/scores.json`."""
    artifacts = {name: Artifact.open(Path(found[0].path)) for name, found in inputs.data.items()}
    if config.runs:
        _side_by_side(config, artifacts, out)
        return
    from zephyr.evals import side_by_side
    from zephyr.report import card, page, trace

    evaluated = artifacts.get("evaluate")
    html = page.render(
        config.name,
        config.title,
        artifacts,
        order=ORDER,
        differences=side_by_side.between_models(evaluated) if evaluated else [],
        chains=[chain(artifacts, prompt_id) for prompt_id in trace.worked(artifacts)],
    )
    (out.path / "report.html").write_text(html, encoding="utf-8")
    (out.path / "README.md").write_text(card.render(config.name, artifacts), encoding="utf-8")


def chain(artifacts: Artifacts, prompt_id: str) -> dict[str, Any]:
    """A prompt from the numbers that it went into back to the raw replies of the teachers, as far as they are kept.

    Returns:
        What `report.trace.chain` has; each answer with `replies` (`answer`, `rating`: as they came, None where none is kept), `unread` (the
        replies that no rating was read from), `journal` (the file, or None) and `no_journal` (why there is none).
    """
    from zephyr.report import trace
    from zephyr.teachers import kept

    found = trace.chain(artifacts, prompt_id)
    files, found["no_journal"] = _journals(artifacts)
    found["journal"] = str(next(iter(files.values()))) if files else None
    found["unread"] = []
    if found["answers"]:
        rated = parse_rated_prompt(trace.row_of(found), rated="rate" in artifacts)
        answers = kept.of_answers(files["complete"], rated) if "complete" in files else [None] * len(rated.completions)
        ratings, unread = kept.of_ratings(files["rate"], rated) if "rate" in files else ([None] * len(answers), [])
        for answer, one, other in zip(found["answers"], answers, ratings, strict=True):
            answer["replies"] = {"answer": one.json() if one else None, "rating": other.json() if other else None}
        found["unread"] = [reply.json() for reply in unread]
    return found


def _journals(artifacts: Artifacts) -> tuple[dict[str, Path], str]:
    """The journal that each stage's replies are in; and why there is none, or none that this version can read."""
    from zephyr.teachers import journal
    from zephyr.teachers.journal import peek

    where = {stage: a.path.parent / journal.NAME for stage, a in artifacts.items() if stage in ("complete", "rate")}
    files = {stage: path for stage, path in where.items() if path.exists()}
    if not files:
        return {}, _no_journal(artifacts)
    problems = []
    for path in dict.fromkeys(files.values()):
        try:
            with peek.looking(path):
                pass
        except journal.NewerJournalError as error:  # the replies are an addition: the page is as well without them
            problems.append(f"No raw reply: {error}.")
            files = {stage: file for stage, file in files.items() if file != path}
    return files, " ".join(problems)


def _no_journal(artifacts: Artifacts) -> str:
    replayed = [stage for stage in ("complete", "rate") if stage in artifacts and artifacts[stage].manifest.results.get("replayed") is True]
    if replayed:
        return f"No raw reply: {' and '.join(replayed)} read recorded texts, which are these very answers and ratings; no model was asked."
    return "No raw reply: there is no journal in the run's folder; what the artifacts keep of the replies is all there is."


def _side_by_side(config: Config, artifacts: Artifacts, out: Draft) -> None:
    from zephyr.evals import side_by_side
    from zephyr.report import beside, comparison

    runs: dict[str, dict[str, Artifact]] = {
        label: {stage: artifacts[f"{label}/{stage}"] for stage in ORDER if f"{label}/{stage}" in artifacts} for label in config.runs
    }
    first = runs[config.runs[0]]
    gaps = {label: side_by_side.between_runs(first, runs[label]) for label in config.runs[1:]}
    found = beside.found(runs, gaps, config.about, order=ORDER)
    (out.path / "report.html").write_text(comparison.render(config.title, runs, found), encoding="utf-8")
    out.manifest.results = found
    (out.path / "data").mkdir(exist_ok=True)
    (out.path / "data" / "scores.json").write_text(json.dumps(found, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")


def stages_in(folder: Path) -> list[str]:
    """The stages of the run that is in a folder, in order.

    Not the reference of an earlier objective: one that is there beside a dDPO model that was made without it (simpo) is no part of how
    that model came to be.
    """
    there = {stage: manifest for stage in ORDER if (manifest := Manifest.read(folder / stage))}
    if "dpo" in there and "references" not in there["dpo"].parents:
        there.pop("reference", None)
    return list(there)


def inputs_of(runs: Mapping[str, Path]) -> dict[str, Path]:
    """The artifacts of several runs, by the name they have among the inputs."""
    return {f"{label}/{stage}": folder / stage for label, folder in runs.items() for stage in stages_in(folder)}


def labels_of(folders: Sequence[Path]) -> list[str]:
    """What each of several runs is called: the name of its folder, with as many folders above it as it takes to tell them apart."""
    paths = [folder.resolve().parts for folder in folders]
    for size in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-size:]).lstrip("/") for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
