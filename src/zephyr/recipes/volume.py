"""How much a recipe trains on, from what it says of its data: rows, tokens, steps. Nothing is read, asked or assumed beside that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zephyr.recipe import DataSource, LoRAConfig, Recipe, ShapeConfig

# of float32: a gradient, and the two running means of AdamW, for every weight that learns
TRAINED_BYTES = 12


@dataclass(frozen=True)
class Volume:
    """What one training stage goes through, all epochs together; None where the recipe does not say it.

    Args:
        rows: dialogues or pairs.
        tokens: before any are cut; of a pair the prompt counts once, as it is computed once.
        steps: updates.
    """

    rows: int | None
    tokens: int | None
    steps: int | None


def volumes(recipe: Recipe) -> dict[str, Volume]:
    """By stage, of the stages that train."""
    found = {}
    if recipe.sft and recipe.curate:
        rows, tokens = _train(recipe.curate.data, recipe.curate.test_fraction)
        section = recipe.sft
        steps = _steps(tokens, section.batch_size * section.max_length) if section.packing else _steps(rows, section.batch_size)
        found["sft"] = _times(rows, tokens, steps, section.epochs)
    if recipe.dpo:
        rows, tokens = _pairs(recipe)
        found["dpo"] = _times(rows, tokens, _steps(rows, recipe.dpo.batch_size), recipe.dpo.epochs)
    return found


def _pairs(recipe: Recipe) -> tuple[float | None, float | None]:
    """Rows and tokens of the train pairs: one pair a prompt."""
    if recipe.binarize and recipe.binarize.data:
        return _train(recipe.binarize.data, recipe.binarize.test_fraction)
    if recipe.rate and recipe.rate.data and recipe.binarize:
        return _train(recipe.rate.data, recipe.rate.test_fraction)
    return _train(recipe.complete.prompts, recipe.complete.test_fraction) if recipe.complete else (None, None)


def _train(data: Sequence[DataSource], test_fraction: float) -> tuple[float | None, float | None]:
    parts = [(source, source.weight * (1.0 if source.split else 1 - test_fraction)) for source in data if source.split != "test"]
    rows = [source.rows * share for source, share in parts if source.rows is not None]
    tokens = [source.tokens * share for source, share in parts if source.tokens is not None]
    return (sum(rows) if len(rows) == len(parts) else None), (sum(tokens) if len(tokens) == len(parts) else None)


def _steps(amount: float | None, batch: int) -> int | None:
    return None if amount is None else math.ceil(amount / batch)


def _times(rows: float | None, tokens: float | None, steps: int | None, epochs: int) -> Volume:
    each = (None if n is None else round(n) * epochs for n in (rows, tokens, steps))
    return Volume(*each)


def adapter_weights(shape: ShapeConfig, lora: LoRAConfig) -> int:
    """Weights of the adapters of a Llama or Mistral: rank x (in + out) of each linear layer that has one."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    head = shape.head_dim or hidden // shape.num_attention_heads
    queries, keys = head * shape.num_attention_heads, head * shape.num_key_value_heads
    sizes = {
        "q_proj": hidden + queries,
        "k_proj": hidden + keys,
        "v_proj": hidden + keys,
        "o_proj": queries + hidden,
        "gate_proj": hidden + inner,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    wanted = sizes if lora.target_modules == ["all-linear"] else [n for n in sizes if any(n.endswith(t) for t in lora.target_modules)]
    return shape.num_hidden_layers * lora.rank * sum(sizes[name] for name in wanted)
