"""What is said of runs that were made: the page, several side by side, and the trace of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr import artifacts, hashes, pipeline
from zephyr.api.base import Result, led, result_of
from zephyr.errors import ArtifactError, UsageError
from zephyr.recipe import DataSource
from zephyr.stages import From, Inputs, Needs


@led
def report(run_dir: str | Path | Sequence[str | Path], out: str | Path, title: str | None = None) -> Result:
    """Write the page and the model card of a run's artifacts; of several runs, one page that sets them side by side.

    Args:
        run_dir: the folder of a run, or those of several; the others are set against the first.
        out: the artifact to write.
        title: of the page.

    Returns:
        As of a stage; of several runs, `results` is what the page shows (`zephyr.report.beside.found`).

    Raises:
        UsageError: a folder holds no artifact of a run; one is named twice, or more are than can be told apart by colour.
    """
    from zephyr.stages import report as module

    given = [run_dir] if isinstance(run_dir, str | Path) else run_dir
    folders, out = [Path(folder).expanduser() for folder in given], Path(out).expanduser()
    for folder in folders:
        if not module.stages_in(folder):
            raise UsageError(f"{folder}: no artifact of a run is there")
    if len(folders) > 1:
        return result_of(pipeline.run_one(_side_by_side(folders, out, title)))
    there = {name: From(name, whole=True) for name in module.stages_in(folders[0])}
    name = folders[0].resolve().name
    return result_of(pipeline.run_single("report", module.Config(name=name, title=title or name), Needs(there), folders[0], out))


def _side_by_side(folders: Sequence[Path], out: Path, title: str | None) -> pipeline.Work:
    """The work of setting runs side by side: its inputs are all their artifacts, counts and logs among them."""
    from zephyr.report import beside, plots
    from zephyr.stages import report as module

    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("report: a run is named twice; name each once")
    if len(folders) > plots.RUNS:
        raise UsageError(f"report: {len(folders)} runs; at most {plots.RUNS} fit side by side")
    if not out.name:
        raise UsageError(f"{out}: --out needs a folder with a name of its own")
    labels = module.labels_of(folders)
    paths = module.inputs_of(dict(zip(labels, folders, strict=True)))
    opened = {name: artifacts.Artifact.open(path) for name, path in paths.items()}
    for artifact in opened.values():
        if problem := artifact.check():
            raise ArtifactError(f"report: {problem}; run `zephyr run` again to make it anew")
    runs = {label: {name.removeprefix(f"{label}/"): a for name, a in opened.items() if name.startswith(f"{label}/")} for label in labels}
    about = {f"{stage}.{path}": _meaning(stage, path) for stage, path in beside.differing(runs, module.ORDER)}
    config = module.Config(name=" and ".join(labels), title=title or " beside ".join(labels), runs=labels, about=about)
    parents = {name: {"path": str(path), "digest": hashes.sha256_file(path / artifacts.MANIFEST)} for name, path in paths.items()}
    key = artifacts.key_of("report", module.VERSION, config.model_dump(), {name: parent["digest"] for name, parent in parents.items()})
    inputs = Inputs({name: [DataSource(path=str(path))] for name, path in paths.items()}, {})
    return pipeline.Work("report", config, inputs, parents, out, key)


def _meaning(stage: str, path: str) -> str:
    """What a setting of a stage means, as the code that defines it says; "" where it says nothing."""
    from zephyr.recipes.meaning import meaning_of, sections_in

    kind: Any = pipeline.module_of(stage).Config
    *inner, last = path.split(".")
    for name in inner:
        field = kind.model_fields.get(name)
        kind = next(sections_in(field.annotation), None) if field else None
        if kind is None:
            return ""
    return meaning_of(kind, last) if last in kind.model_fields else ""


def trace(run_dir: str | Path, wanted: str) -> Result:
    """Follow one prompt of a run from the numbers that it went into back to the raw replies of the teachers. Nothing is written.

    Args:
        run_dir: the folder of a run.
        wanted: the id of a prompt, how it begins, or words of the prompt; or `mt-bench QUESTION`, `alpaca-eval NUMBER`.

    Returns:
        What `zephyr.stages.report.chain` has, or of a benchmark's question what `zephyr.report.verdicts.judged` has.

    Raises:
        UsageError: it is no run, or nothing or too much of it is meant.
    """
    from zephyr.report import trace as tracing
    from zephyr.report import verdicts
    from zephyr.stages import report as module

    run_dir = Path(run_dir).expanduser()
    there = {name: artifacts.Artifact.open(run_dir / name) for name in module.stages_in(run_dir)}
    if not there:
        raise UsageError(f"{run_dir}: no artifact of a run is there")
    if wanted.startswith(("mt-bench ", "alpaca-eval ")):
        return verdicts.judged(there, wanted)
    return module.chain(there, tracing.find(there, wanted))
