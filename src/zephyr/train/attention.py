"""Attention over a flat stream of documents: each sees itself and nothing else.

Registered once through transformers' attention interface, it serves every architecture that uses the interface.
The lengths of the documents arrive as the keyword `segments` of the model's forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from zephyr.errors import ModelError

NAME = "zephyr_segments"


def segment_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    segments: Sequence[int] | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each segment.

    Args:
        module: the attention layer.
        query: (1, heads, T, head_dim).
        key: (1, kv_heads, T, head_dim); kv_heads divides heads (grouped queries).
        value: as `key`.
        attention_mask: None; the segments are the mask.
        scaling: factor on the scores.
        dropout: on the attention weights, in training.
        sliding_window: a position sees this many positions, itself included.
        softcap: scores are softcap * tanh(score / softcap) (Gemma 2).
        segments: lengths of the documents, adding up to T.
        s_aux: attention sinks (GPT-OSS), which are not computed here.

    Returns:
        (1, T, heads, head_dim) and None.

    Raises:
        ModelError: the architecture does not hand `segments` on (its documents would see each other), or its
            attention is of another kind.
    """
    if segments is None:
        raise ModelError(
            f"{type(module).__name__}: `segments` did not reach the attention; this architecture cannot be trained on flat streams"
        )
    _refuse_other_kinds(module, s_aux)
    lengths = list(segments)
    outputs = [
        _one(q, k, v, scaling, dropout if module.training else 0.0, sliding_window, softcap)
        # split, not slice: its backward is one concatenation instead of a zero-filled tensor a document
        for q, k, v in zip(*(torch.split(tensor, lengths, 2) for tensor in (query, key, value)), strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _refuse_other_kinds(module: torch.nn.Module, s_aux: Tensor | None) -> None:
    """No mask is asked of transformers, so what a mask would say beyond causal and windowed must not pass unseen."""
    other = {
        "attention sinks": s_aux is not None,
        "attention in both directions": getattr(module, "is_causal", True) is False,
        "attention in chunks": getattr(getattr(module, "config", None), "attention_chunk_size", None) is not None,
    }
    if found := [name for name, there in other.items() if there]:
        raise ModelError(f"{type(module).__name__}: {found[0]} is not supported on flat streams")


def _one(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, dropout: float, window: int | None, softcap: float | None) -> Tensor:
    length = q.shape[2]
    mask = None
    if softcap is not None or (window is not None and length > window):
        at = torch.arange(length, device=q.device)
        distance = at[:, None] - at[None, :]
        mask = (distance >= 0) & (distance < (window or length))
    if softcap is None:
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling, enable_gqa=grouped
        )
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(2, 3) * (q.shape[3] ** -0.5 if scaling is None else scaling)
    scores = softcap * torch.tanh(scores / softcap)
    assert mask is not None
    scores = scores.masked_fill(~mask, float("-inf"))
    weights = torch.softmax(scores, -1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
    return F.dropout(weights, dropout) @ v


AttentionInterface.register(NAME, segment_attention)
# no mask is built: it would be T x T, and the segments say the same
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
