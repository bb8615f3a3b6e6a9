"""A recipe taken through its stages; or what that would do, and what came of it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr import artifacts
from zephyr.artifacts import Manifest
from zephyr.errors import UsageError, ZephyrError
from zephyr.guards import is_out_of_memory, locked, os_error, sigterm_interrupts
from zephyr.models import load
from zephyr.pipeline.current import why_not_done
from zephyr.pipeline.graph import LOADS, module_of, selected, stages_of
from zephyr.pipeline.one import DONE, WOULD_RUN, Outcome, alone_at, run_one
from zephyr.pipeline.up_front import refuse_what_would_fail_late
from zephyr.pipeline.work import FINGERPRINTS, bound
from zephyr.progress import say
from zephyr.recipe import Recipe
from zephyr.stages import From


def run(recipe: Recipe, run_dir: Path, *, only: str | None = None, until: str | None = None, verify: bool = False) -> list[Outcome]:
    """Take a recipe through its stages; what is done already is recognised and skipped.

    Raises:
        UsageError: `only` or `until` names a stage the recipe does not have.
        ZephyrError: a stage failed; what was finished before it is kept.
        KeyboardInterrupt: Ctrl-C (or `Terminated`, SIGTERM), with the stage as its first argument; the same holds.
    """
    stages = selected(recipe, only, until)
    cache = run_dir / FINGERPRINTS
    if run_dir.exists() and not run_dir.is_dir():
        raise UsageError(f"{run_dir}: is a file; the folder of a run is needed, give another --out")
    with locked(run_dir / ".lock"), sigterm_interrupts():
        for stage in stages_of(recipe):
            with alone_at(run_dir / stage):
                artifacts.recover(run_dir / stage)
        if only:
            _say_what_is_stale(recipe, run_dir, only, cache)
        pending = _pending(_plan(recipe, run_dir, stages, cache))
        refuse_what_would_fail_late(recipe, pending, cache)
        _say_forecast(recipe, pending, run_dir)
        outcomes = [run_one(bound(recipe, stage, run_dir, cache, verify=verify), verify=verify) for stage in stages]
        _place_card(recipe, run_dir, stages)
    return outcomes


def plan(recipe: Recipe, run_dir: Path, *, only: str | None = None, until: str | None = None, verify: bool = False) -> list[Outcome]:
    """What a run would do, without doing any of it: nothing is written."""
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / FINGERPRINTS
        if (run_dir / FINGERPRINTS).exists():  # what was hashed before need not be hashed again
            shutil.copyfile(run_dir / FINGERPRINTS, cache)
        outcomes = _plan(recipe, run_dir, selected(recipe, only, until), cache, verify=verify)
        refuse_what_would_fail_late(recipe, _pending(outcomes), cache, fetch=False)
        return outcomes


def _plan(recipe: Recipe, run_dir: Path, stages: Sequence[str], cache: Path, *, verify: bool = False) -> list[Outcome]:
    outcomes: list[Outcome] = []
    redone: set[str] = set()
    for stage in stages:
        needs = module_of(stage).needs(recipe)
        waits = [w.stage for w in (*needs.data.values(), *needs.models.values()) if isinstance(w, From) and w.stage in redone]
        if waits:
            reason: str | None = f"after {', '.join(dict.fromkeys(waits))}"
        else:
            reason = why_not_done(bound(recipe, stage, run_dir, cache, verify=verify), verify=verify)
        if reason:
            redone.add(stage)
        outcomes.append(Outcome(stage, WOULD_RUN if reason else DONE, reason or "up to date", run_dir / stage))
    return outcomes


def _pending(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.stage for outcome in outcomes if outcome.status == WOULD_RUN]


def _say_what_is_stale(recipe: Recipe, run_dir: Path, only: str, cache: Path) -> None:
    """A stage that runs alone takes what is there, also where the recipe has changed since."""
    before = stages_of(recipe)
    before = before[: before.index(only)]
    there = [stage for stage in before if (run_dir / stage / artifacts.MANIFEST).exists()]
    if there != before:
        return  # what is missing is said where it is needed
    if stale := _pending(_plan(recipe, run_dir, before, cache)):
        say(f"{only}: takes what is there, though with this recipe {', '.join(stale)} would run again")


def _say_forecast(recipe: Recipe, pending: Sequence[str], run_dir: Path) -> None:
    """How long it will take, if there is training or scoring to do."""
    heavy = {*LOADS} & {*pending}
    if heavy and (recipe.train.offload == "all" or any(section and section.quantize for section in (recipe.sft, recipe.dpo))):
        say("forecast: not known: it would be measured with the whole model on the device, which this recipe keeps off it")
    elif heavy:
        from zephyr import forecast

        there = [stage for stage in stages_of(recipe) if (run_dir / stage / artifacts.MANIFEST).exists()]
        made = {stage: run_dir / stage for stage in there if stage not in pending}
        ref = load.refer(recipe.model, run_dir / FINGERPRINTS)
        # rows are not checked yet: the forecast passes over wrong ones, which are for their stage to refuse, with the place
        try:
            said = forecast.describe(forecast.forecast(recipe, heavy, ref, made))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # stages with adapters, or sharded over several GPUs, need not hold what this measures
            said = "forecast: not known: there is no memory for the whole model with all its gradients, by which it would be measured"
        say(said)


def _place_card(recipe: Recipe, run_dir: Path, stages: Sequence[str]) -> None:
    """The model card, beside the model it describes. It is not part of the model's artifact: it is made from its results."""
    card = run_dir / "report" / "README.md"
    model = next((run_dir / stage / "model" for stage in ("dpo", "sft") if stage in stages_of(recipe)), None)
    if "report" not in stages or not model or _same(card, model / "README.md"):
        return
    aside = model / ".README.md.partial"
    try:
        shutil.copyfile(card, aside)
        aside.replace(model / "README.md")
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise ZephyrError(f"report: {os_error(error, model)}") from error


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.read_bytes() == b.read_bytes()


def summary(recipe: Recipe, run_dir: Path, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Where everything is, and the scores: what `--json` prints. What would only run is named without its old results."""
    there = {outcome.stage for outcome in outcomes if outcome.status != WOULD_RUN}
    scores, judged = (Manifest.read(run_dir / stage) if stage in there else None for stage in ("evaluate", "judge"))
    model = next((run_dir / stage / "model" for stage in ("dpo", "sft") if stage in there), None)
    return {
        "name": recipe.name,
        "out": str(run_dir),
        "artifacts": {outcome.stage: _described(outcome) for outcome in outcomes},
        "model": str(model) if model else None,
        "report": str(run_dir / "report" / "report.html") if "report" in there else None,
        "scores": scores.results if scores else None,
        "judged": judged.results if judged else None,
    }


def _described(outcome: Outcome) -> dict[str, Any]:
    described = {"path": str(outcome.path), "status": outcome.status, "reason": outcome.reason}
    manifest = Manifest.read(outcome.path) if outcome.status != WOULD_RUN else None
    if manifest is None:
        return described
    return {**described, "digest": manifest.digest, "rows": manifest.rows_out, "dropped": manifest.dropped, "seconds": manifest.seconds}
