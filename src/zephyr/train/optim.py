"""AdamW and the learning-rate schedules of the recipe."""

from __future__ import annotations

import math
from typing import Any

import torch

from zephyr.recipe import OptimizerConfig
from zephyr.train.batches import micro_batches

AT_ONCE_BYTES = 1 << 30  # of weights whose moments are on the GPU in an update


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


def adamw(model: torch.nn.Module, config: OptimizerConfig, *, on_host: bool = False) -> torch.optim.AdamW:
    """AdamW as the recipe sets it; norms and biases (one-dimensional weights) do not decay. `on_host`: as `HostAdamW`."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    beta1, beta2 = config.adam_betas
    kind = HostAdamW if on_host else torch.optim.AdamW
    return kind(groups, lr=config.learning_rate, betas=(beta1, beta2), eps=config.adam_epsilon, fused=True)


def clear_gradients(optimizer: torch.optim.Optimizer, *, keep: bool) -> None:
    """Before the first batch and after every update.

    With `keep` they are zeros, each in its place. Adapters' gradients are many and small: made anew in every batch they would lie
    between activations all over a processor's heap, whose room could not be used again once these are gone. (To AdamW zeros are a
    gradient and None is not, but every adapter takes part in every pass.)
    """
    optimizer.zero_grad(set_to_none=not keep)
    if keep:
        for p in (p for group in optimizer.param_groups for p in group["params"] if p.grad is None):
            p.grad = torch.zeros_like(p)


class HostAdamW(torch.optim.AdamW):
    """AdamW whose moments are in the host's memory between updates; in one, some weights after the other have theirs beside them."""

    home = torch.device("cpu")

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # which may return a closure's loss
        """One update, the same to the bit as if all were made at once: AdamW's are of each weight by itself."""
        assert closure is None
        gradients = {p: p.grad for group in self.param_groups for p in group["params"] if p.grad is not None}
        for p in gradients:
            p.grad = None
        for some in micro_batches(list(gradients), lambda p: p.nbytes, AT_ONCE_BYTES):
            for p in some:
                p.grad = gradients[p]
                self._bring(p, p.device)
            super().step()
            for p in some:
                p.grad = None
                self._bring(p, self.home)
        for p, gradient in gradients.items():
            p.grad = gradient

    def _bring(self, p: torch.Tensor, device: torch.device) -> None:
        state = self.state[p]
        for kind, value in state.items():
            if kind != "step" and value.device != device:
                state[kind] = value.to(device)
