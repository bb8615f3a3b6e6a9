"""AdamW and the learning-rate schedules of the recipe."""

from __future__ import annotations

import math

import torch

from zephyr.recipe import OptimizerConfig


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """The rate of the update number `step` (0-based) of `steps`.

    Linear warm-up over `warmup_ratio` of the steps, reaching the peak at the first step after it; then
    constant, linear to zero, or half a cosine to zero.
    """
    warmup = math.ceil(round(config.warmup_ratio * steps, 6))  # 0.07 * 100 is 7.000000000000001
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup) / max(1, steps - warmup)
    factor = 1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * factor


def adamw(model: torch.nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW as the recipe sets it; norms and biases (one-dimensional weights) do not decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    beta1, beta2 = config.adam_betas
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(beta1, beta2), eps=config.adam_epsilon, fused=True)
