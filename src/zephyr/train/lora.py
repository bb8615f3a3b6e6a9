"""Low-rank adapters (LoRA, through peft): the model is frozen, and small matrices beside its own learn the difference.

On export the adapter is added to the weights, so that what comes out is a plain model folder. The reference of dDPO is the
dSFT folder, as ever; it is what the policy computes with its adapter switched off, so nothing has to be switched.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zephyr.errors import ModelError, UsageError
from zephyr.recipe import LoRAConfig

ADAPTER = "default"


def adapt(model: Any, config: LoRAConfig) -> None:
    """Freeze a model and give it adapters, which at first change nothing; torch's generator decides their first values.

    Raises:
        ModelError: the model has not all the modules that were named.
        UsageError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UsageError("adapters need peft, which is not installed: pip install 'zephyr-align[lora]'") from None
    wanted = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets(model, config.target_modules),
    )
    with warnings.catch_warnings():  # peft asks transformers by a name that it has renamed
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        get_peft_model(model, wanted)


def targets(model: Any, wanted: Sequence[str]) -> list[str]:
    """The linear layers that are meant, by their whole names; never the head, which is used as a bare matrix.

    Raises:
        ModelError: a name is none of theirs.
    """
    head = model.get_output_embeddings()
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head]
    if list(wanted) == ["all-linear"]:
        return linear
    found = {end: [name for name in linear if f".{name}".endswith(f".{end}")] for end in wanted}
    if strange := [end for end, names in found.items() if not names]:
        there = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
        raise ModelError(f"lora.target_modules: {strange[0]!r} is no linear layer of the model but its head; there are {there}")
    return [name for name in linear if any(name in names for names in found.values())]


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
            weight = (weight + scaling[at] * (b @ a).to(weight)).cpu()  # a GPU that could train it has no room for a second model
        plain[name.replace(".base_layer.", ".")] = weight
    return plain
