"""Bytes that a training step holds at its peak, by kind.

What a layer keeps for the way back is not a formula: it is measured on a small copy of the model, of the same architecture and
proportions, whose forward is recorded by autograd's own hooks at two lengths and two depths. Everything else is counted.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from typing import Any

from zephyr.estimate.shape import Shape, skeleton
from zephyr.recipe import LoRAConfig

PROBE_WIDTH = 576  # a small copy is not wider: what is kept grows with the widths, which are all divided by the same number
LENGTHS = (64, 192)  # tokens
DEPTHS = (1, 3)  # layers


@dataclass(frozen=True)
class Kept:
    """What autograd keeps of a stream, in bytes, linear in its tokens and in the layers."""

    token: float  # a token, whatever the layers
    layer: float  # a layer, whatever the tokens: copies of weights in another number format
    layer_token: float  # a token in a layer

    def bytes(self, tokens: float, layers: int) -> float:
        """Of a stream."""
        return tokens * self.token + layers * (self.layer + tokens * self.layer_token)


def kept(
    config: Any, dtype: str, lora: LoRAConfig | None = None, *, recompute: bool = False, dropout: bool = False, fused: bool = True
) -> Kept:
    """What the layers of a model keep for the way back, measured on small copies.

    Args:
        config: of the model, as transformers has it.
        dtype: of the products, `float32` or `bfloat16`.
        lora: the adapters it is trained with.
        recompute: with activation checkpointing.
        dropout: as dSFT trains, with the dropout that the adapters or the model have.
        fused: with the kernels that a CPU has.

    Raises:
        ModelError: the architecture cannot be built, or not be trained on flat streams.
    """
    factor = _factor(config.get_text_config())
    found = {(t, n): _recorded(_small(config, factor, n), t, dtype, lora, recompute, dropout, fused) for t in LENGTHS for n in DEPTHS}
    (short, long), (few, many) = LENGTHS, DEPTHS
    by_layer = {t: (found[t, many] - found[t, few]) / (many - few) for t in LENGTHS}
    layer_token = (by_layer[long] - by_layer[short]) / (long - short)
    token = (found[long, few] - found[short, few]) / (long - short) - few * layer_token
    # copies of weights grow with the square of the widths, what is kept of a token with the widths
    return Kept(token * factor, max(0.0, by_layer[short] - short * layer_token) * factor**2, layer_token * factor)


def _factor(text: Any) -> int:
    """By what the widths of a model are divided for its small copy, heads among them."""
    widths = [text.hidden_size, getattr(text, "intermediate_size", None) or text.hidden_size, text.num_attention_heads]
    widths.append(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
    common = math.gcd(*map(int, widths))
    possible = [n for n in range(1, common + 1) if common % n == 0]
    return next((n for n in possible if text.hidden_size / n <= PROBE_WIDTH), possible[-1])


def _small(config: Any, factor: int, layers: int) -> Any:
    """The configuration of a small copy: the same architecture, widths divided, few layers, few words."""
    small = copy.deepcopy(config)
    text = small.get_text_config()
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    for name in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"):
        if isinstance(getattr(text, name, None), int):
            setattr(text, name, getattr(text, name) // factor)
    text.head_dim = head_size
    text.num_hidden_layers = layers
    if isinstance(getattr(text, "layer_types", None), list):
        text.layer_types = text.layer_types[:layers]
    text.vocab_size = 128
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(text, name, None)
    return small


def _recorded(config: Any, tokens: int, dtype: str, lora: LoRAConfig | None, recompute: bool, dropout: bool, fused: bool) -> float:
    """Bytes that the forward of a small model keeps for its backward, the weights themselves left out."""
    import torch
    from transformers import AutoModelForCausalLM

    from zephyr.train import lora as adapters
    from zephyr.train import parallel
    from zephyr.train.attention import NAME
    from zephyr.train.batches import Example, flatten
    from zephyr.train.fused import fuse
    from zephyr.train.logprobs import stream_hidden

    with torch.random.fork_rng():
        model = AutoModelForCausalLM.from_config(config, attn_implementation=NAME, dtype=torch.float32)
    if fused:
        fuse(model)
    if lora:
        adapters.adapt(model, lora)
    if recompute:
        parallel.recompute_activations(model)
    stream = flatten([Example(tuple(i % 97 for i in range(tokens)), (False,) * (tokens - 1) + (True,))])
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    seen: dict[int, tuple[Any, int]] = {}  # the tensor is held, so that its place is not given to another

    def remember(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    model.train(dropout)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        stream_hidden(model, stream, getattr(torch, dtype)).sum()
    return float(sum(size for _, size in seen.values()))


@dataclass(frozen=True)
class Bytes:
    """What one device holds at the peak of a training step, in bytes.

    Args:
        weights: its share, in float32.
        gradients: its share, or all of them where a batch takes several passes; with offload those that are on their way.
        optimizer: two numbers a trained weight (Adam), its share.
        activations: what is kept for the way back.
        copies: weights in the format of the products, and layers gathered from other devices.
        head: one tile of logits, the gradient of the output matrix, and the states that meet it.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    copies: float
    head: float

    @property
    def peak(self) -> float:
        """All of it: where a batch takes one pass, gradients come as activations go, but what is freed is not free at once."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.copies + self.head

    def json(self) -> dict[str, int]:
        """By kind, and the peak."""
        return {**{name: round(value) for name, value in asdict(self).items()}, "logits_of_all_tokens": 0, "peak": round(self.peak)}


def step_bytes(
    shape: Shape,
    kept: Kept,
    *,
    trained: int,
    tokens: float,
    learnt: float,
    dtype: str,
    devices: int = 1,
    passes: int = 1,
    full: Kept | None = None,
    four_bits: bool = False,
    offload: str = "none",
) -> Bytes:
    """The peak of a training step.

    Args:
        shape: of the model.
        kept: by its layers, as they are trained.
        trained: weights that learn.
        tokens: that go through the model at once, on each device.
        learnt: of them, those that are predicted.
        dtype: of the products.
        devices: that share weights, gradients and optimizer (FSDP2).
        passes: of a device, in a batch: with several, gradients of all weights wait on it, unless they are in the host's memory.
        full: with activation checkpointing, what a layer keeps without, copies of its weights, too: one is computed again at a time.
        four_bits: the frozen matrices of the layers are in NF4, with a scale for each 64 weights.
        offload: what is in the host's memory instead: `none`, `optimizer`, `all` (weights, gradients and optimizer).
    """
    from zephyr.train.head import TILE_BYTES
    from zephyr.train.optim import AT_ONCE_BYTES

    size = 2 if dtype == "bfloat16" else 4
    shared = 4.0 / devices
    activations = kept.bytes(tokens, shape.layers) - shape.layers * kept.layer
    if full is not None:
        activations += tokens * full.layer_token
    copies = shape.layers * kept.layer + (full.layer if full is not None else 0.0)
    gathered = 4.0 * (2 * shape.layer + shape.parameters - shape.layers * shape.layer)
    if devices > 1 or offload == "all":  # the layer at work and the next one, and what is outside the layers
        copies += gathered
    tile = min(TILE_BYTES, 4.0 * learnt * shape.vocabulary)
    whole = trained > 0.5 * shape.parameters  # the output matrix learns
    head = 2 * tile + 2 * learnt * shape.hidden * size + (4.0 * shape.head if whole else 0.0) + (2.0 * shape.head if size == 2 else 0.0)
    gradients = 4.0 * trained / (1 if passes > 1 else devices)
    weights = shared * shape.parameters
    if four_bits:
        inside = shape.layers * shape.layer
        weights = 4.0 * (shape.parameters - inside) + (0.5 + 4 / 64) * inside
        copies = 2.0 * shape.layer  # one is taken out of its four bits at a time
    optimizer = 2 * shared * trained
    if offload == "optimizer":  # moments come for some weights after the others, the largest whole
        optimizer = min(optimizer, 2 * max(AT_ONCE_BYTES, 4.0 * shape.head))
    elif offload == "all":  # gradients go back in every pass, as they come
        weights, optimizer = 0.0, 0.0
        gradients = min(4.0 * trained, gathered)
    return Bytes(weights, gradients, optimizer, activations, copies, head)


def trained_weights(config: Any, lora: LoRAConfig | None) -> int:
    """How many weights learn: all, or those of the adapters."""
    model = skeleton(config)
    if lora is None:
        return sum(p.numel() for p in model.parameters())
    from zephyr.train import lora as adapters

    adapters.adapt(model, lora)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
