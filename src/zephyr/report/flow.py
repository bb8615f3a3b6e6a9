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
    "binarize": ("reference", "dpo", "evaluate"),
    "reference": ("dpo",),
    "dpo": ("evaluate",),
}
# the columns that the lines can reach, from left to right
REACHED = ("reference", "dpo", "evaluate")
# the stage to whose box the arrow to the right of a box points
BESIDE = {"curate": "sft", "complete": "rate", "rate": "binarize", "reference": "dpo", "dpo": "evaluate"}


@dataclass(frozen=True)
class Box:
    """A stage in the drawing; one that is not part of the run has no facts. `leads_on`: the arrow to its right is one that data took."""

    stage: str
    makes: str
    present: bool
    leads_on: bool = False
    readers: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    dropped: str = ""


@dataclass(frozen=True)
class Line:
    """A line that carries one artifact to several stages.

    Attributes:
        carries: what, in words.
        short_by: how many columns before the last it ends.
        drops: for each stage it reaches, how many columns that is before its end.
    """

    carries: str
    short_by: int
    drops: tuple[int, ...]


@dataclass(frozen=True)
class Flow:
    """The boxes, and the lines that join them: the model above, the pairs below; None where nothing flows."""

    boxes: tuple[Box, ...]
    model: Line | None
    pairs: Line | None


def flow(run: Run, order: Sequence[str]) -> Flow:
    """The drawing of a run: every stage of the path, those that are not part of it too."""
    model = _line(run, "dSFT model" if "sft" in run.artifacts else "base model", _readers(run, "sft"))
    pairs = _line(run, "preference pairs", _readers(run, "binarize")) if "binarize" in run.artifacts else None
    return Flow(tuple(_box(run, stage) for stage in order if stage in MAKES), model, pairs)


def _readers(run: Run, stage: str) -> tuple[str, ...]:
    """The stages of the run that read what a stage makes; pairs are what is measured on only where there are no ratings."""
    there = tuple(name for name in READERS.get(stage, ()) if name in run.artifacts)
    return tuple(name for name in there if name != "evaluate") if stage == "binarize" and "rate" in run.artifacts else there


def _line(run: Run, carries: str, readers: Sequence[str]) -> Line | None:
    reached = [i for i, name in enumerate(REACHED) if name in readers]
    return Line(carries, len(REACHED) - 1 - reached[-1], tuple(reached[-1] - i for i in reached)) if reached else None


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
    return Box(
        stage,
        MAKES[stage],
        True,
        BESIDE.get(stage) in run.artifacts,
        _readers(run, stage),
        tuple(f for f in facts if f[1]),
        manifest.digest[:8],
        f"{count(lost)} dropped" if lost else "",
    )


def _out(manifest: Manifest) -> list[tuple[str, str]]:
    """`("train / test", "163 / 40")`: narrow enough for a box."""
    parts = splits(manifest)
    return [(" / ".join(split for split, _ in parts), " / ".join(count(n) if n < 10_000 else short(n) for _, n in parts))] if parts else []
