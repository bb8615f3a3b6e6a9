"""The frozen base of an adapter in 4 bits (NF4, through bitsandbytes): QLoRA.

A weight is exchanged for one that holds its 4 bits and what is needed to make numbers of them again, which is done for each product.
What the base computes then is another model, a little: so the reference of dDPO is computed with the same 4 bits, and what is exported
is what the 4 bits stand for, with the adapter added.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from zephyr.errors import ModelError, UsageError
from zephyr.train.lora import targets

# relative: 9% is what 4 bits cost a normal distribution; on CPUs bitsandbytes 0.50 gives 20 to 40% where rows are not whole blocks of 64
FAR = 0.15


@torch.no_grad()
def quantize(model: Any, device: str) -> None:
    """Exchange every linear layer of a model but its head for one of 4 bits, and move the model to `device`.

    Raises:
        UsageError: bitsandbytes is not installed.
        ModelError: a layer is far from what it was.
    """
    kind = _layer()
    for name in targets(model, ["all-linear"]):
        plain = model.get_submodule(name)
        small = kind(plain).to(device)
        far = float((as_numbers(small.weight) - plain.weight.cpu()).norm() / plain.weight.norm())
        if not far < FAR:
            raise ModelError(f"{name}: comes out of 4 bits {far:.0%} off on this machine; take lora.quantize out")
        model.set_submodule(name, small)
    model.to(device)
    model.is_loaded_in_4bit = True  # what peft asks for


def numbers(parameter: Tensor) -> int:
    """How many weights a parameter stands for: in 4 bits, two a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def as_numbers(parameter: Tensor) -> Tensor:
    """A parameter's values; of one in 4 bits in float32, in the host's memory."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return parameter.detach()
    import bitsandbytes

    whole: Tensor = bitsandbytes.functional.dequantize_4bit(parameter.detach(), state)
    return whole.float().cpu()


@functools.cache
def _layer() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise UsageError("lora.quantize needs bitsandbytes, which is not installed: pip install 'zephyr-align[qlora]'") from None

    class Linear(bitsandbytes.nn.Linear4bit):  # type: ignore[misc]  # which has no types
        """A linear layer in 4 bits, whose product is computed in the format in which a plain layer's would be."""

        def __init__(self, plain: nn.Linear) -> None:
            super().__init__(plain.in_features, plain.out_features, bias=False, quant_type="nf4", device="meta")
            # in 4 bits once it is moved to its device
            self.weight = bitsandbytes.nn.Params4bit(plain.weight.detach(), requires_grad=False, quant_type="nf4")
            self.bias = plain.bias

        def forward(self, x: Tensor) -> Tensor:
            if torch.is_autocast_enabled(x.device.type):
                x = x.to(torch.get_autocast_dtype(x.device.type))
            bias = None if self.bias is None else self.bias.to(x.dtype)
            found: Tensor = bitsandbytes.matmul_4bit(x, self.weight.detach(), bias=bias, quant_state=self.weight.quant_state)
            return found

    return Linear
