"""Which stages a recipe asks for, in which order, and where they write."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from zephyr.errors import UsageError
from zephyr.recipe import Recipe

STAGES = ("synthesize", "curate", "sft", "complete", "rate", "binarize", "reference", "dpo", "answer", "judge", "evaluate", "report")
# what several processes, where they were started, do together; the rest is done by the first
TOGETHER = ("sft", "reference", "dpo")
# what has the student in memory
LOADS = (*TOGETHER, "evaluate")


def stages_of(recipe: Recipe) -> list[str]:
    """The stages a recipe asks for, in order. Answers belong to who judges them."""
    return [name for name in STAGES if getattr(recipe, "judge" if name == "answer" else name) is not None]


def selected(recipe: Recipe, only: str | None, until: str | None) -> list[str]:
    """The stages to run, in order.

    Raises:
        UsageError: the recipe has no stages; `only` or `until` names one it does not have, or both are given.
    """
    stages = stages_of(recipe)
    if stages == ["report"]:
        raise UsageError(
            f"{recipe.name}: the recipe has no section that is a stage, so there is nothing to report; `zephyr init` writes an example"
        )
    if only and until:
        raise UsageError("--only and --until exclude each other; give one")
    for name in filter(None, (only, until)):
        if name not in stages:
            raise UsageError(f"{name}: not a stage of this recipe; it has {', '.join(stages)}")
    if only:
        return [only]
    return stages[: stages.index(until) + 1] if until else stages


def module_of(stage: str) -> Any:
    """The module of a stage."""
    return importlib.import_module(f"zephyr.stages.{stage}")


def out_of(recipe: Recipe, out: str | Path | None = None) -> Path:
    """The folder of a run: as asked, as the recipe says, or `runs/NAME`."""
    return Path(out or recipe.out or Path("runs") / recipe.name).expanduser()
