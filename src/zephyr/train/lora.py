"""Low-rank adapters (LoRA, through peft): the model is frozen, and small matrices beside its own learn the difference.

The reference of dDPO is the model with the adapter switched off, whose log-probabilities are cached as ever. On export the
adapter is added to the weights, so that what comes out is a plain model folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from zephyr.errors import ModelError, UsageError
from zephyr.recipe import LoRAConfig

ADAPTER = "default"


def adapt(model: Any, config: LoRAConfig) -> None:
    """Freeze a model and give it adapters, which at first change nothing; torch's generator decides their first values.

    Raises:
        ModelError: the model has none of the modules that were named.
        UsageError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UsageError("adapters need peft, which is not installed: pip install 'zephyr-align[lora]'") from None
    modules = config.target_modules
    try:
        get_peft_model(
            model,
            LoraConfig(
                task_type="CAUSAL_LM",
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules="all-linear" if modules == ["all-linear"] else list(modules),
            ),
        )
    except ValueError as error:
        raise ModelError(f"lora.target_modules: {str(error).splitlines()[0]}") from None


def merged(model: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the model that an adapted one is, by the names it had before: W + (alpha / rank) B A.

    Args:
        model: with adapters.
        weights: all of its weights, by name, in one piece.
    """
    scaling = {name: module.scaling[ADAPTER] for name, module in model.named_modules() if hasattr(module, "lora_A")}
    plain: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if ".lora_" in name:
            continue
        at = name.removesuffix(".base_layer.weight")
        if at in scaling:
            a, b = (weights[f"{at}.lora_{which}.{ADAPTER}.weight"] for which in "AB")
            weight = weight + scaling[at] * (b @ a).to(weight.dtype)
        plain[name.replace(".base_layer.", ".")] = weight
    return plain


@contextlib.contextmanager
def switched_off(model: Any) -> Iterator[None]:
    """The model as it was before it had adapters."""
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def is_adapted(model: torch.nn.Module) -> bool:
    """Does it have adapters?"""
    return any(hasattr(module, "lora_A") for module in model.modules())
