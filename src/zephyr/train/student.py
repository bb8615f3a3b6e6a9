"""The model of a stage, loaded to where it will compute."""

from __future__ import annotations

from typing import Any

from zephyr import world
from zephyr.errors import UsageError
from zephyr.models import load
from zephyr.models.load import ModelRef
from zephyr.recipe import TrainConfig
from zephyr.text.chat import ChatFormat


def load_student(ref: ModelRef, chat: ChatFormat, train: TrainConfig, quantize: str | None) -> Any:
    """The model in float32 on its device, in evaluation mode; its linear layers in 4 bits with `quantize`.

    What does not stay on a GPU whole does not come there whole, either: it is loaded in the host's memory.

    Raises:
        ModelError: it cannot be loaded.
        UsageError: it is to be quantized, and that cannot be done here.
    """
    refuse_apart(quantize, train.offload, world.current().size)
    model = load.load_model(ref, chat, on="cpu" if quantize or train.offload == "all" else None)
    if quantize:
        from zephyr.train.quantized import quantize as to_4_bits

        to_4_bits(model, load.device())
    return model


def refuse_apart(quantize: str | None, offload: str, processes: int) -> None:
    """Refuse settings that do not go together.

    Raises:
        UsageError: they do not.
    """
    if quantize and offload == "all":
        raise UsageError("lora.quantize and `train.offload: all` exclude each other: weights of 4 bits are not sharded; take one out")
    if quantize and processes > 1:
        raise UsageError(f"lora.quantize is for one process: weights of 4 bits are not sharded over {processes}; take it out, or start one")
    if offload == "optimizer" and processes > 1:
        raise UsageError(f"`train.offload: optimizer` is for one process: over {processes} the moments are divided already; take `all`")
