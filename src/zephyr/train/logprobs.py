"""Exact log-probabilities of given tokens, without a tokens x vocabulary tensor.

Only positions that predict a learnt token meet the output matrix, a block of them at a time. Sums over a sequence are in
float64: a float32 sum alone moves DPO's loss by 6e-5. What is trained goes through `head`, which computes log-probabilities
by the same function and their gradients with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zephyr.train import kernels
from zephyr.train.batches import Stream

BLOCK = 512  # positions whose logits exist at once: 512 x 49,152 in float32 are 100 MB


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The type of everything after the products: float32 at least (float64 stays float64)."""
    return torch.promote_types(dtype, torch.float32)


def _logits(hidden_BD: Tensor, weight_VD: Tensor, softcap: float | None) -> Tensor:
    with torch.autocast(hidden_BD.device.type, enabled=False):
        logits_BV = (hidden_BD @ weight_VD.T).to(_exact(hidden_BD.dtype))
    return logits_BV if softcap is None else softcap * torch.tanh(logits_BV / softcap)


def block_logprobs(hidden_BD: Tensor, weight_VD: Tensor, softcap: float | None) -> Tensor:
    """Log-probabilities of the whole vocabulary at B positions, in float32 at least."""
    return torch.log_softmax(_logits(hidden_BD, weight_VD, softcap), -1)


@dataclass
class Block:
    """What is known of B positions: the log-probability of each target, in float32 at least, and what its gradient is made of."""

    logprob_B: Tensor
    whole: Callable[[], Tensor]
    """Log-probabilities of the whole vocabulary (B, V), in float32 at least: to be asked for before `d_logits`."""
    d_logits: Callable[[], Tensor]
    """-d log p(target) / d logits (B, V) = softmax - onehot, in the memory of the logits: to be asked for once."""


def block_of(hidden_BD: Tensor, weight_VD: Tensor, target_B: Tensor, softcap: float | None) -> Block:
    """Log-probabilities of targets at B positions, and their gradients: by kernels.c in two passes over the logits, else by torch."""
    if softcap is not None or not (kernels.usable_in_half(hidden_BD, weight_VD) or kernels.usable(hidden_BD, weight_VD)):
        return _block_by_torch(hidden_BD, weight_VD, target_B, softcap)
    with torch.autocast(hidden_BD.device.type, enabled=False):
        logits_BV = hidden_BD @ weight_VD.T
    rows, size = logits_BV.shape
    if rows and not (target_B.dtype == torch.int64 and int(target_B.min()) >= 0 and int(target_B.max()) < size):
        raise IndexError(f"targets from {int(target_B.min())} to {int(target_B.max())} ({target_B.dtype}): the vocabulary has {size}")
    logprob_B, lse_B = hidden_BD.new_empty(2, rows, dtype=_exact(hidden_BD.dtype)).unbind()
    kernels.call("target_logprob", rows, logits_BV.dtype, size, logits_BV, target_B, logprob_B, lse_B)

    def d_logits() -> Tensor:
        kernels.call("target_logprob_backward", rows, logits_BV.dtype, size, logits_BV, target_B, lse_B)
        return logits_BV

    return Block(logprob_B, lambda: torch.log_softmax(logits_BV.to(logprob_B.dtype), -1), d_logits)


def bytes_a_logit(hidden_ND: Tensor, softcap: float | None) -> int:
    """Of a block's largest tensor: kernels.c leaves logits in the format of the products."""
    return 2 if softcap is None and kernels.usable_in_half(hidden_ND) else 4


def _block_by_torch(hidden_BD: Tensor, weight_VD: Tensor, target_B: Tensor, softcap: float | None) -> Block:
    logprob_BV = block_logprobs(hidden_BD, weight_VD, softcap)

    def d_logits() -> Tensor:
        d_BV = logprob_BV.exp_()
        d_BV.scatter_add_(1, target_B[:, None], d_BV.new_full((len(target_B), 1), -1.0))
        if softcap is not None:  # with the cap's own slope
            d_BV *= 1 - torch.tanh((hidden_BD @ weight_VD.T).to(d_BV.dtype) / softcap) ** 2
        return d_BV

    return Block(logprob_BV.gather(1, target_B[:, None])[:, 0], lambda: logprob_BV, d_logits)


def output_softcap(model: Any) -> float | None:
    """The cap on a model's logits (Gemma 2)."""
    cap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return cap


def stream_hidden(model: Any, stream: Stream, dtype: torch.dtype = torch.float32) -> Tensor:
    """Last hidden states at the predicting positions of a stream, (N, D), computed in `dtype`."""
    half = dtype == torch.bfloat16
    # a weight is used once: autocast would keep its copy in bfloat16 to the end, half the model's size more, where the way back, which
    # keeps what it needs, has none (a reference) or computes it again (activation checkpointing)
    with torch.autocast(stream.ids_T.device.type, dtype=torch.bfloat16, enabled=half, cache_enabled=False):
        hidden_1TD = model.base_model(
            input_ids=stream.ids_T[None], position_ids=stream.positions_T[None], segments=stream.segments, use_cache=False
        ).last_hidden_state
    hidden_ND: Tensor = hidden_1TD[0].index_select(0, stream.at_N)
    return hidden_ND.bfloat16() if half else hidden_ND  # the norm before it comes out in float32


@torch.no_grad()
def stream_logprobs(model: Any, stream: Stream, dtype: torch.dtype = torch.float32) -> Tensor:
    """Log p of every learnt token of a stream (N values, in nats), under `model`, computing in `dtype`; without gradients."""
    hidden_ND = stream_hidden(model, stream, dtype)
    weight_VD = model.get_output_embeddings().weight.to(hidden_ND.dtype)
    softcap, targets = output_softcap(model), stream.target_N
    logprob_N = torch.empty(len(targets), dtype=_exact(hidden_ND.dtype), device=hidden_ND.device)
    for at in range(0, len(targets), BLOCK):
        block = slice(at, at + BLOCK)
        logprob_N[block] = block_of(hidden_ND[block], weight_VD, targets[block], softcap).logprob_B
    return logprob_N


def sequence_sums(logprob_N: Tensor, stream: Stream) -> Tensor:
    """Sum of the log-probabilities of each sequence (S values), in float64."""
    return torch.zeros(stream.sequences, dtype=torch.float64, device=logprob_N.device).index_add(0, stream.owner_N, logprob_N.double())
