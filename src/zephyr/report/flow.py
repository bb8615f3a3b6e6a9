"""The path as a drawing: one box a stage, in the order in which data flows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zephyr.artifacts import Manifest
from zephyr.report.facts import Run, splits
from zephyr.report.numbers import count, duration, short

MAKES = {
    "curate": "dialogues",
    "sft": "the dSFT model",
    "complete": "answers",
    "rate": "ratings",
    "binarize": "preference pairs",
    "reference": "log-probabilities",
    "dpo": "the dDPO model",
    "evaluate": "scores",
}

# who reads what a stage makes, as the stages' needs say
READERS = {
    "curate": ("sft", "evaluate"),
    "sft": ("reference", "dpo", "evaluate"),
    "complete": ("rate",),
    "rate": ("binarize", "evaluate"),
    "binarize": ("reference", "dpo"),
    "reference": ("dpo",),
    "dpo": ("evaluate",),
}


@dataclass(frozen=True)
class Box:
    """A stage in the drawing; one that is not part of the run has no facts."""

    stage: str
    makes: str
    present: bool
    readers: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    dropped: str = ""


@dataclass(frozen=True)
class Flow:
    """The boxes, and what the two lines that join them carry ("" where nothing flows)."""

    boxes: tuple[Box, ...]
    model: str
    pairs: str


def flow(run: Run, order: Sequence[str]) -> Flow:
    """The drawing of a run: every stage of the path, those that are not part of it too."""
    wanted = [name for name in ("reference", "dpo", "evaluate") if name in run.artifacts]
    model = "dSFT model" if "sft" in run.artifacts else "base model"
    return Flow(
        tuple(_box(run, stage) for stage in order if stage in MAKES),
        model if wanted else "",
        "preference pairs" if "binarize" in run.artifacts and wanted else "",
    )


def _box(run: Run, stage: str) -> Box:
    manifest = run.manifest(stage)
    if manifest is None:
        return Box(stage, MAKES[stage], False)
    facts = [
        ("in", f"{count(manifest.rows_in)} rows" if manifest.rows_in else ""),
        *_out(manifest),
        ("time", duration(manifest.seconds)),
        ("tokens", short(manifest.tokens) if manifest.tokens else ""),
    ]
    lost = sum(manifest.dropped.values())
    readers = tuple(name for name in READERS.get(stage, ()) if name in run.artifacts)
    return Box(stage, MAKES[stage], True, readers, tuple(f for f in facts if f[1]), manifest.digest[:8], f"{count(lost)} dropped" if lost else "")


def _out(manifest: Manifest) -> list[tuple[str, str]]:
    """`("train / test", "163 / 40")`: narrow enough for a box."""
    parts = splits(manifest)
    return [(" / ".join(split for split, _ in parts), " / ".join(count(n) if n < 10_000 else short(n) for _, n in parts))] if parts else []
