"""How long a run will take on this machine, said before it starts: tokens as the plan counts them, rates from a few real steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zephyr import world
from zephyr.recipe import Recipe

if TYPE_CHECKING:
    from zephyr.estimate.workload import Work
    from zephyr.models.load import ModelRef


MEASURED = ("sft", "reference", "dpo", "evaluate")
ALONE = ("evaluate",)  # of these, what the first of several processes does; they share the others


def forecast(recipe: Recipe, stages: Collection[str], ref: ModelRef, made: Mapping[str, Path]) -> dict[str, float | None]:
    """Seconds for each of `stages` that trains or scores; stages that only move rows are not listed.

    `made` are the artifacts that stand, by their stages: what they hold need not be guessed. None where it cannot be known yet: answers
    that a live model has yet to write have no length, and academic tasks are not measured.
    """
    from zephyr.estimate import speed, volume, workload
    from zephyr.models import load

    chat = load.load_chat(ref, recipe.model.chat_template)
    learn, look, add = speed.probe(ref, recipe.train)
    dialogues, pairs = volume.dialogues(recipe, made, chat), volume.pairs(recipe, made, chat)

    def trained(work: Work) -> float:
        return learn * work.tokens + look * (work.looked - work.reference)

    seconds: dict[str, float | None] = {}
    for stage in (stage for stage in MEASURED if stage in stages):
        if stage == "sft" and recipe.sft:
            seconds[stage] = trained(workload.sft(recipe.sft, dialogues)) if dialogues.written else None
        elif stage in ("reference", "dpo") and recipe.dpo:
            work = workload.dpo(recipe.dpo, pairs)
            seconds[stage] = None if not pairs.written else look * work.reference if stage == "reference" else trained(work)
        elif stage == "evaluate" and recipe.evaluate:
            models = 1 + (recipe.sft is not None) + (recipe.dpo is not None)
            scored = dialogues.test * dialogues.mean * (models + 1) + pairs.test * pairs.all_answers * models
            sampled = add * recipe.evaluate.max_new_tokens * models * (recipe.evaluate.samples > 0)
            known = dialogues.written and pairs.written and not recipe.evaluate.benchmarks
            seconds[stage] = look * scored + sampled if known else None
    sharing = _sharing()
    return {stage: s if s is None or stage in ALONE else s / sharing for stage, s in seconds.items()}


def _sharing() -> int:
    """How many processes share the work, each with a GPU; of several on processors, which share cores, a forecast is that of one."""
    from zephyr.models import load

    size = world.started().size
    return size if size > 1 and load.device() == "cuda" else 1


def describe(seconds: dict[str, float | None]) -> str:
    """In words."""
    known = {stage: s for stage, s in seconds.items() if s is not None}
    unknown = [stage for stage in seconds if stage not in known]
    rest = f"; not known yet: {', '.join(unknown)}" if unknown else ""
    if not known:
        return f"forecast: not known yet: {', '.join(unknown)}"
    parts = ", ".join(f"{stage} {_minutes(s)}" for stage, s in known.items())
    alone = " by one process" if _sharing() < world.started().size else ""
    return f"forecast: about {_minutes(sum(known.values()))} ({parts}){alone}, from a few measured steps on this machine{rest}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
