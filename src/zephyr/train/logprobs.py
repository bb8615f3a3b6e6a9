"""Exact log-probabilities of given tokens, without a tokens x vocabulary tensor.

Only positions that predict a learnt token meet the output matrix, a block of them at a time; the block's logits are
recomputed in the backward pass. Sums over a sequence are in float64: a float32 sum alone moves DPO's loss by 6e-5.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr.train.batches import Stream

BLOCK = 512  # positions whose logits exist at once: 512 x 49,152 in float32 are 100 MB


class _TokenLogprobs(torch.autograd.Function):
    """log softmax(hidden W^T)[target], for N positions."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, softcap: float | None) -> Tensor:
        logprob_N = torch.empty(len(target_N), dtype=_exact(hidden_ND.dtype), device=hidden_ND.device)
        total_N = torch.empty_like(logprob_N)
        weight = weight_VD.to(hidden_ND.dtype)
        for at in range(0, len(target_N), BLOCK):
            block = slice(at, at + BLOCK)
            logits_BV = _logits(hidden_ND[block], weight, softcap)
            total_N[block] = torch.logsumexp(logits_BV, -1)
            logprob_N[block] = logits_BV.gather(1, target_N[block, None])[:, 0] - total_N[block]
        ctx.save_for_backward(hidden_ND, weight_VD, target_N, total_N)
        ctx.softcap = softcap
        return logprob_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        hidden_ND, weight_VD, target_N, total_N = ctx.saved_tensors
        weight = weight_VD.to(hidden_ND.dtype)
        grad_hidden_ND = torch.empty_like(hidden_ND)
        grad_weight_VD = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        for at in range(0, len(target_N), BLOCK):
            block = slice(at, at + BLOCK)
            h = hidden_ND[block]
            logits_BV = _logits(h, weight, ctx.softcap)
            # d log p[target] / d logits = onehot(target) - softmax
            d_BV = torch.exp(logits_BV - total_N[block, None]).mul_(-grad_N[block, None])
            d_BV.scatter_add_(1, target_N[block, None], grad_N[block, None])
            if ctx.softcap is not None:
                d_BV *= 1 - (logits_BV / ctx.softcap) ** 2
            d_BV = d_BV.to(h.dtype)
            with torch.autocast(h.device.type, enabled=False):
                grad_hidden_ND[block] = d_BV @ weight
                if grad_weight_VD is not None:
                    grad_weight_VD += (d_BV.T @ h).to(grad_weight_VD.dtype)
        return grad_hidden_ND, grad_weight_VD, None, None


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The type of everything after the products: float32 at least (float64 stays float64)."""
    return torch.promote_types(dtype, torch.float32)


def _logits(hidden_BD: Tensor, weight_VD: Tensor, softcap: float | None) -> Tensor:
    with torch.autocast(hidden_BD.device.type, enabled=False):
        logits_BV = (hidden_BD @ weight_VD.T).to(_exact(hidden_BD.dtype))
    return logits_BV if softcap is None else softcap * torch.tanh(logits_BV / softcap)


def token_logprobs(hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, softcap: float | None = None) -> Tensor:
    """Log p(target) at N positions, in nats.

    Args:
        hidden_ND: last hidden states at the predicting positions.
        weight_VD: the output matrix.
        target_N: ids to score.
        softcap: logits are softcap * tanh(logits / softcap) (Gemma 2).

    Returns:
        N values, in float32 (float64 for hidden states in float64). Products are computed in the hidden states' type.
    """
    result: Tensor = _TokenLogprobs.apply(hidden_ND, weight_VD, target_N, softcap)  # type: ignore[no-untyped-call]
    return result


def block_logprobs(hidden_BD: Tensor, weight_VD: Tensor, softcap: float | None) -> Tensor:
    """Log-probabilities of the whole vocabulary at B positions, in float32 at least."""
    return torch.log_softmax(_logits(hidden_BD, weight_VD, softcap), -1)


def output_softcap(model: Any) -> float | None:
    """The cap on a model's logits (Gemma 2)."""
    cap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return cap


def stream_hidden(model: Any, stream: Stream, dtype: torch.dtype = torch.float32) -> Tensor:
    """Last hidden states at the predicting positions of a stream, (N, D), computed in `dtype`."""
    half = dtype == torch.bfloat16
    with torch.autocast(stream.ids_T.device.type, dtype=torch.bfloat16, enabled=half):
        hidden_1TD = model.base_model(
            input_ids=stream.ids_T[None], position_ids=stream.positions_T[None], segments=stream.segments, use_cache=False
        ).last_hidden_state
    hidden_ND: Tensor = hidden_1TD[0].index_select(0, stream.at_N)
    return hidden_ND.bfloat16() if half else hidden_ND  # the norm before it comes out in float32


def stream_logprobs(model: Any, stream: Stream, dtype: torch.dtype = torch.float32) -> Tensor:
    """Log p of every learnt token of a stream (N values), under `model`, computing in `dtype`."""
    hidden_ND = stream_hidden(model, stream, dtype)
    return token_logprobs(hidden_ND, model.get_output_embeddings().weight, stream.target_N, output_softcap(model))


def sequence_sums(logprob_N: Tensor, stream: Stream) -> Tensor:
    """Sum of the log-probabilities of each sequence (S values), in float64."""
    return torch.zeros(stream.sequences, dtype=torch.float64, device=logprob_N.device).index_add(0, stream.owner_N, logprob_N.double())
