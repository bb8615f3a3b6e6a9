"""What a training stage does with its data: rows, tokens, steps, looks at the test rows, floating-point operations."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.estimate import volume
from zephyr.estimate.shape import Shape
from zephyr.estimate.volume import Volume
from zephyr.recipe import DPOConfig, OptimizerConfig, Recipe, SFTConfig
from zephyr.recipe.training import number_of_looks


@dataclass(frozen=True)
class Work:
    """What one training stage does.

    Args:
        stage: `sft` or `dpo`.
        config: its section.
        rows: to learn from.
        lengths: of a sample.
        steps: updates.
        tokens: through the model forward and back, over all epochs.
        looked: tokens through it forward alone: the test rows, and for dDPO the reference's pass.
        looks: how often the test rows are looked at.
        reference: of the tokens looked at, the reference's.
        predicted: the share of the tokens that is predicted.
        seen: how many tokens one sees on average.
        batch: tokens of a batch, on average.
        fullest: tokens of the fullest batch that there may be.
        longest: tokens of the longest row; where the rows could not be read, of the longest that there may be.
        assumed: what was taken for granted.
    """

    stage: str
    config: OptimizerConfig
    rows: int
    lengths: Sequence[volume.Length]
    steps: int
    tokens: float
    looked: float
    looks: int
    reference: float
    predicted: float
    seen: float
    batch: float
    fullest: float
    longest: int
    assumed: str


def works(recipe: Recipe, run_dir: Path, chat: Any) -> list[Work]:
    """The training stages of a recipe."""
    found, made = [], volume.made_in(run_dir)
    if recipe.sft:
        found.append(sft(recipe.sft, volume.dialogues(recipe, made, chat)))
    if recipe.dpo:
        found.append(dpo(recipe.dpo, volume.pairs(recipe, made, chat)))
    return [work for work in found if work.tokens]


def sft(config: SFTConfig, data: Volume) -> Work:
    """What dSFT does with so much data."""
    tokens = data.train * data.mean
    sequences = math.ceil(tokens / config.max_length) if config.packing else data.train
    return _work("sft", config, data, sequences, config.max_length if config.packing else data.mean, 0.0)


def dpo(config: DPOConfig, data: Volume) -> Work:
    """What dDPO does with so much data, and the pass of its reference, if the objective has one."""
    reference = (data.train + data.test) * data.mean if config.has_reference else 0.0
    return _work("dpo", config, data, data.train, data.mean, reference)


def _work(stage: str, config: OptimizerConfig, data: Volume, sequences: int, size: float, reference: float) -> Work:
    steps = math.ceil(sequences / config.batch_size) * config.epochs
    looks = number_of_looks(steps, config.evaluate_every)
    longest = _longest(config) if data.assumed else max((x.tokens for x in data.lengths), default=0)
    at_once = min(sequences, config.batch_size)
    batch = at_once * size
    return Work(
        stage=stage,
        config=config,
        rows=data.train,
        lengths=data.lengths,
        steps=steps,
        tokens=data.train * data.mean * config.epochs,
        looked=data.test * data.mean * looks + reference,
        looks=looks,
        reference=reference,
        predicted=data.predicted,
        seen=data.seen,
        batch=batch,
        fullest=at_once * longest if data.assumed else fullest_batch(config, data.lengths, batch),
        longest=round(max(longest, size if stage == "sft" else 0)),
        assumed=data.assumed,
    )


def fullest_batch(config: OptimizerConfig, lengths: Sequence[volume.Length], batch: float) -> float:
    """Tokens of a batch of the longest rows in a sample of them; packed ones are all alike, and one length may stand for all rows."""
    if isinstance(config, SFTConfig) and config.packing:
        return batch
    return max(batch, sum(heapq.nlargest(config.batch_size, (length.tokens for length in lengths))))


def _longest(config: OptimizerConfig) -> int:
    """Tokens of the longest row that the settings let through: of a pair, two answers after a prompt of next to nothing."""
    if isinstance(config, DPOConfig):
        return 2 * config.max_length
    assert isinstance(config, SFTConfig)
    return config.max_length


def flops(work: Work, shape: Shape, *, recompute: bool) -> float:
    """Of a stage: forward and twice that back, a third pass less where weights are frozen, one more forward with checkpointing."""
    one = shape.forward_flops(work.tokens, work.tokens * work.predicted, work.seen)
    back = 1.0 if work.config.lora else 2.0
    looked = shape.forward_flops(work.looked, work.looked * work.predicted, work.seen)
    return one * (1 + back + recompute) + looked
