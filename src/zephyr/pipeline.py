"""The order of the stages, what is already done, what comes next."""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr import artifacts, sources
from zephyr.artifacts import Artifact, Manifest
from zephyr.errors import UsageError, ZephyrError
from zephyr.models import load
from zephyr.progress import say
from zephyr.recipe import DataSource, ModelConfig, Recipe
from zephyr.stages import From, Inputs, Needs

FINGERPRINTS = ".fingerprints.json"
STAGES = ("curate", "sft", "complete", "rate", "binarize", "reference", "dpo", "evaluate", "report")


@dataclass(frozen=True)
class Work:
    """One stage bound to its settings, its inputs and the folder it writes."""

    stage: str
    config: Any
    inputs: Inputs
    parents: dict[str, dict[str, str]]
    out: Path
    key: str


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: `done` (it was there already), `ran`, `would run`."""

    stage: str
    status: str
    reason: str
    path: Path


def stages_of(recipe: Recipe) -> list[str]:
    """The stages a recipe asks for, in order. The reference's log-probabilities belong to dpo."""
    sections = {"reference": recipe.dpo}
    return [name for name in STAGES if (sections[name] if name in sections else getattr(recipe, name)) is not None]


def module_of(stage: str) -> Any:
    """The module of a stage."""
    return importlib.import_module(f"zephyr.stages.{stage}")


def out_of(recipe: Recipe, out: str | Path | None = None) -> Path:
    """The folder of a run: as asked, as the recipe says, or `runs/NAME`."""
    return Path(out or recipe.out or Path("runs") / recipe.name).expanduser()


# --- binding ---------------------------------------------------------------------------------------------------


def bind(stage: str, config: Any, needs: Needs, run_dir: Path, out: Path) -> Work:
    """A stage with its inputs found and hashed; what it takes from other stages must be there.

    Raises:
        ZephyrError: an input is missing.
    """
    cache = run_dir / FINGERPRINTS
    data: dict[str, Sequence[DataSource]] = {}
    models: dict[str, load.ModelRef] = {}
    parents: dict[str, dict[str, str]] = {}
    for name, wanted in needs.data.items():
        found = [DataSource(path=str(_upstream(run_dir, wanted.stage, stage).path))] if isinstance(wanted, From) else list(wanted)
        data[name] = found
        digests = [[sources.digest(s, cache), s.split, s.columns] for s in found]
        parents[name] = {"path": ", ".join(s.path for s in found), "digest": artifacts.sha256_text(artifacts.canonical(digests))}
    for name, model in needs.models.items():
        ref = _model_of(_upstream(run_dir, model.stage, stage)) if isinstance(model, From) else load.refer(model, cache)
        models[name] = ref
        parents[name] = {"path": ref.name, "digest": ref.digest}
    digest_of = {name: parent["digest"] for name, parent in parents.items()}
    key = artifacts.key_of(stage, module_of(stage).VERSION, config.model_dump(), digest_of)
    return Work(stage, config, Inputs(data, models), parents, out, key)


def _upstream(run_dir: Path, stage: str, wanted_by: str) -> Artifact:
    path = run_dir / stage
    if Manifest.read(path) is None:
        raise UsageError(f"{wanted_by} needs what {stage} makes, and {path} is not there; run `zephyr run` without --only, or with --until {wanted_by}")
    return Artifact.open(path)


def _model_of(artifact: Artifact) -> load.ModelRef:
    return load.ModelRef(str(artifact.model_dir), artifact.manifest.digest)


# --- is it done? -----------------------------------------------------------------------------------------------


def why_not_done(work: Work, *, verify: bool = False) -> str | None:
    """None if the artifact is there and made from just this; else what is different, in words."""
    artifacts.recover(work.out)
    manifest = Manifest.read(work.out)
    if manifest is None:
        return "not there yet"
    if manifest.key != work.key:
        return _what_changed(manifest, work)
    return Artifact(work.out, manifest).check(verify=verify)


def _what_changed(manifest: Manifest, work: Work) -> str:
    before, now = _flat(manifest.config), _flat(work.config.model_dump())
    changes = [f"{name} {before.get(name, 'unset')!r} -> {now.get(name, 'unset')!r}" for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    changes += [f"{name} changed" for name, p in sorted(work.parents.items()) if manifest.parents.get(name, {}).get("digest") != p["digest"]]
    return ", ".join(changes) or "this version of the stage computes it differently"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat.update(_flat(item, f"{prefix}{name}.") if isinstance(item, Mapping) and item else {f"{prefix}{name}": item})
    return flat


# --- running ---------------------------------------------------------------------------------------------------


def execute(work: Work) -> Artifact:
    """Run one stage and publish its artifact."""
    with artifacts.draft(work.out, stage=work.stage, key=work.key, config=work.config.model_dump(), parents=work.parents) as out:
        module_of(work.stage).run(work.config, work.inputs, out)
    return Artifact.open(work.out)


def plan(recipe: Recipe, run_dir: Path) -> list[Outcome]:
    """What a run would do, without doing any of it."""
    outcomes: list[Outcome] = []
    redone: set[str] = set()
    for stage in stages_of(recipe):
        module, out = module_of(stage), run_dir / stage
        needs = module.needs(recipe)
        waits = [w.stage for w in (*needs.data.values(), *needs.models.values()) if isinstance(w, From) and w.stage in redone]
        if waits:
            reason: str | None = f"after {', '.join(dict.fromkeys(waits))}"
        else:
            reason = why_not_done(bind(stage, module.configure(recipe), needs, run_dir, out))
        if reason:
            redone.add(stage)
        outcomes.append(Outcome(stage, "would run" if reason else "done", reason or "up to date", out))
    return outcomes


def run(recipe: Recipe, run_dir: Path, *, only: str | None = None, until: str | None = None, verify: bool = False) -> list[Outcome]:
    """Take a recipe through its stages; what is done already is recognised and skipped.

    Raises:
        UsageError: `only` or `until` names a stage the recipe does not have.
        ZephyrError: a stage failed; what was finished before it is kept.
    """
    stages = stages_of(recipe)
    for name in filter(None, (only, until)):
        if name not in stages:
            raise UsageError(f"{name}: not a stage of this recipe; it has {', '.join(stages)}")
    if only:
        stages = [only]
    elif until:
        stages = stages[: stages.index(until) + 1]
    outcomes = []
    with locked(run_dir), sigterm_interrupts():
        _say_forecast(recipe, run_dir, stages)
        for stage in stages:
            module = module_of(stage)
            work = bind(stage, module.configure(recipe), module.needs(recipe), run_dir, run_dir / stage)
            outcomes.append(run_one(work, verify=verify))
        _place_card(run_dir, stages)
    return outcomes


def _say_forecast(recipe: Recipe, run_dir: Path, stages: Sequence[str]) -> None:
    """How long it will take, if there is training or scoring to do."""
    heavy = {"sft", "reference", "dpo", "evaluate"}
    pending = {o.stage for o in plan(recipe, run_dir) if o.status != "done"} & set(stages) & heavy
    if pending:
        from zephyr import forecast

        say(forecast.describe(forecast.forecast(recipe, pending, load.refer(recipe.model, run_dir / FINGERPRINTS))))


def run_one(work: Work, *, verify: bool = False) -> Outcome:
    """Run a stage unless it is done."""
    reason = why_not_done(work, verify=verify)
    if reason is None:
        say(f"{work.stage}: done already")
        return Outcome(work.stage, "done", "up to date", work.out)
    say(f"{work.stage}: {reason}")
    try:
        artifact = execute(work)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(work.stage) from None
    except ZephyrError as error:
        error.args = (f"{work.stage}: {error}",)
        raise
    m = artifact.manifest
    rows = ", ".join(f"{n} {split}" for split, n in m.rows_out.items())
    dropped = f", {sum(m.dropped.values())} dropped" if m.dropped else ""
    say(f"{work.stage}: {rows + dropped + ', ' if rows else ''}{m.seconds:.1f} s")
    return Outcome(work.stage, "ran", reason, work.out)


def _place_card(run_dir: Path, stages: Sequence[str]) -> None:
    """The model card, beside the model it describes. It is not part of the model's artifact: it is made from its results."""
    card = run_dir / "report" / "README.md"
    model = next((run_dir / s / "model" for s in ("dpo", "sft") if (run_dir / s / "model").is_dir()), None)
    if "report" in stages and card.exists() and model and not _same(card, model / "README.md"):
        aside = model / ".README.md.partial"
        shutil.copyfile(card, aside)
        os.replace(aside, model / "README.md")


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.read_bytes() == b.read_bytes()


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """One run at a time in a folder."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{run_dir}: another run is at work in this folder; wait for it, or give another --out") from None
        yield


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """A polite kill ends a stage as Ctrl-C does: its unfinished folder is removed, what is finished stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def summary(recipe: Recipe, run_dir: Path, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Where everything is, and the scores: what `--json` prints."""
    found: dict[str, Any] = {}
    for outcome in outcomes:
        manifest = Manifest.read(outcome.path)
        found[outcome.stage] = {
            "path": str(outcome.path),
            "status": outcome.status,
            "reason": outcome.reason,
            **({"digest": manifest.digest, "rows": manifest.rows_out, "dropped": manifest.dropped, "seconds": manifest.seconds} if manifest else {}),
        }
    scores = Manifest.read(run_dir / "evaluate")
    model = next((run_dir / s / "model" for s in ("dpo", "sft") if s in found and (run_dir / s / "model").is_dir()), None)
    report = run_dir / "report" / "report.html"
    return {
        "name": recipe.name,
        "out": str(run_dir),
        "artifacts": found,
        "model": str(model) if model else None,
        "report": str(report) if report.exists() else None,
        "scores": scores.results if scores and "evaluate" in found else None,
    }


def single(stage: str, config: Any, data: Mapping[str, Sequence[DataSource]], models: Mapping[str, ModelConfig], out: Path) -> Work:
    """One stage on plain files, outside a run."""
    return bind(stage, config, Needs(data, models), out.parent, out)
