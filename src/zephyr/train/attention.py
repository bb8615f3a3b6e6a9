"""Attention over a flat stream of trees: a beginning and its continuations, each of which sees the beginning and itself.

Registered once through transformers' attention interface, it serves every architecture that uses the interface.
The lengths arrive as the keyword `segments` of the model's forward: for each tree its trunk, then its branches. A
document is a tree without branches. What two answers share, their prompt, goes through the model once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from zephyr.errors import ModelError
from zephyr.train import half, kernels, varlen
from zephyr.train.blockwise import BlockAttention
from zephyr.train.half import HalfAttention

NAME = "zephyr_segments"

Segments = Sequence[Sequence[int]]


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
    segments: Segments | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Causal attention along each path from a trunk to the end of a branch.

    Args:
        module: the attention layer.
        query: (1, heads, T, head_dim).
        key: (1, kv_heads, T, head_dim); kv_heads divides heads (grouped queries).
        value: as `key`.
        attention_mask: None; the segments are the mask. One that a layer makes itself is refused.
        scaling: factor on the scores.
        dropout: on the attention weights, in training.
        sliding_window: a position sees this many positions of its path, itself included.
        softcap: scores are softcap * tanh(score / softcap) (Gemma 2).
        segments: for each tree the lengths of its trunk and its branches, adding up to T.
        more: what else a layer hands on; tensors among it, such as attention sinks (GPT-OSS), are not computed here.

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
    if kind := other_kind(module, attention_mask, sliding_window, more):
        raise ModelError(f"{type(module).__name__}: {kind} is not supported on flat streams")
    if sum(map(sum, segments)) != query.shape[2]:
        raise ValueError(f"segments add up to {sum(map(sum, segments))}, not to the {query.shape[2]} positions of the stream")
    scale = query.shape[3] ** -0.5 if scaling is None else float(scaling)  # a configuration may have a whole number (Granite)
    dropout = dropout if module.training else 0.0
    if torch.is_autocast_enabled(query.device.type):  # norms of queries and keys come out in float32 (Qwen 3)
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    longest = max((t[0] + max(t[1:], default=0) for t in segments), default=0)
    window = sliding_window if sliding_window is not None and longest > sliding_window else None
    plain = window is None and softcap is None and not dropout and value.shape[3] == query.shape[3]  # latent attention differs there
    if query.device.type == "cpu" and plain:
        attention = _on_cpu(query, key, value)
        result: Tensor = attention.apply(query, key, value, segments, scale)  # type: ignore[no-untyped-call]  # torch's has no types
        return result, None
    exact = softcap is None and not dropout and value.shape[3] == query.shape[3] and len(query) == 1
    if exact and (kernel := varlen.kernel_for(query, key, value)) is not None:
        return varlen.attention(query, key, value, segments, scale, window, kernel), None
    return plain_attention(query, key, value, segments, scale, dropout, window, softcap), None


def _on_cpu(query: Tensor, key: Tensor, value: Tensor) -> type[torch.autograd.Function]:
    if half.usable(query, key, value):
        return HalfAttention
    return BlockAttention if len(query) == 1 and kernels.usable(query, key, value) else _TreeAttention


HARMLESS = {"position_ids", "cache_position"}  # tensors that attention is handed and does not need: keys are rotated by then


def other_kind(module: torch.nn.Module, attention_mask: Tensor | None, sliding_window: int | None, more: Mapping[str, Any]) -> str | None:
    """What a layer's attention is beyond causal and windowed, or None: no mask is asked of transformers, so it must not pass unseen."""
    unknown = sorted(name for name, value in more.items() if isinstance(value, Tensor) and name not in HARMLESS)
    kinds = {
        "attention sinks": "s_aux" in unknown,
        "attention with a mask of its own": attention_mask is not None,  # Doge
        f"attention with `{', '.join(unknown)}`": bool(unknown),  # block_indices, position_bias
        "attention in both directions": getattr(module, "is_causal", True) is False,
        "attention in chunks": getattr(getattr(module, "config", None), "attention_chunk_size", None) is not None,
        "a window that is in the mask alone": sliding_window is None and _windowed(module),
    }
    return next((name for name, there in kinds.items() if there), None)


def _windowed(module: torch.nn.Module) -> bool:
    """Does a layer have a window (Qwen2-MoE; EXAONE 4 says of a layer that has the number and not the window that it is none)?"""
    return bool(getattr(module, "sliding_window", None)) and getattr(module, "is_sliding", True) is not False


# --- with a mask a tree: any window, cap, device -----------------------------------------------------------------


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scale: float, dropout: float, window: int | None, softcap: float | None
) -> Tensor:
    """The definition, tree by tree with a mask: (1, T, heads, head_dim)."""
    lengths = [sum(tree) for tree in segments]
    outputs = [
        _masked(q, k, v, tree_mask(tree, window, q.device), scale, dropout, softcap)
        # split, not slice: its backward is one concatenation instead of a zero-filled tensor a tree
        for tree, q, k, v in zip(segments, *(torch.split(tensor, lengths, 2) for tensor in (query, key, value)), strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


def tree_mask(tree: Sequence[int], window: int | None, device: torch.device) -> Tensor:
    """(L, L) of who sees whom: the row's position is on the column's path, not before it, within the window."""
    trunk, branches = tree[0], tree[1:]
    position = torch.cat([torch.arange(trunk, device=device), *(torch.arange(trunk, trunk + n, device=device) for n in branches)])
    branch = torch.repeat_interleave(torch.arange(len(tree), device=device), torch.tensor(list(tree), device=device))
    distance = position[:, None] - position[None, :]
    on_path = (branch[:, None] == branch[None, :]) | (branch[None, :] == 0)
    return on_path & (distance >= 0) & (distance < (window or len(position)))


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, dropout: float, softcap: float | None) -> Tensor:
    if softcap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    k, v = _per_query_head(q, k), _per_query_head(q, v)
    scores = softcap * torch.tanh((q @ k.transpose(2, 3)) * scale / softcap)
    scores = scores.masked_fill(~mask, float("-inf"))
    weights = torch.softmax(scores, -1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
    return F.dropout(weights, dropout) @ v


def _per_query_head(q: Tensor, k: Tensor) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    return k if groups == 1 else k.repeat_interleave(groups, 1)


# --- without masks: CPU ------------------------------------------------------------------------------------------

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _TreeAttention(torch.autograd.Function):
    """The flash kernel on spans of the stream, nothing masked and nothing gathered.

    Trunk and first branch are one causal sequence. A further branch attends twice, causally to itself and fully to its
    trunk; the two partial results are merged by their log-sum-exps. The kernel's backward recomputes the weights from
    the log-sum-exp, so with the merged one each part's gradients come out right, and add up.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, segments: Segments, scale: float) -> Tensor:
        k, v = _per_query_head(query, key), _per_query_head(query, value)
        out = query.new_empty(query.shape[0], query.shape[2], query.shape[1], query.shape[3]).transpose(1, 2)
        lse = query.new_empty(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
        for rows, columns, causal, merge in _spans(segments):
            part, part_lse = _forward(query[:, :, rows], k[:, :, columns], v[:, :, columns], 0.0, causal, scale=scale)
            if merge:
                total = torch.logaddexp(lse[:, :, rows], part_lse)
                out[:, :, rows] *= torch.exp(lse[:, :, rows] - total)[..., None].to(out.dtype)
                out[:, :, rows] += part * torch.exp(part_lse - total)[..., None].to(out.dtype)
                lse[:, :, rows] = total
            else:
                out[:, :, rows], lse[:, :, rows] = part, part_lse
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.segments, ctx.scale = segments, scale
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, out, lse = ctx.saved_tensors
        k, v, grad = _per_query_head(query, key), _per_query_head(query, value), grad.transpose(1, 2)
        grads = tuple(torch.empty_like(query) for _ in range(3))
        for rows, columns, causal, merge in _spans(ctx.segments):
            parts = _backward(
                grad[:, :, rows], query[:, :, rows], k[:, :, columns], v[:, :, columns],
                out[:, :, rows], lse[:, :, rows], 0.0, causal, scale=ctx.scale,
            )  # fmt: skip
            for whole, part, at in zip(grads, parts, (rows, columns, columns), strict=True):
                if merge:
                    whole[:, :, at] += part
                else:
                    whole[:, :, at] = part
        kv_heads, groups = key.shape[1], query.shape[1] // key.shape[1]
        dk, dv = (g if groups == 1 else g.view(g.shape[0], kv_heads, groups, *g.shape[2:]).sum(2) for g in grads[1:])
        return grads[0], dk, dv, None, None


def _spans(segments: Segments) -> Iterator[tuple[slice, slice, bool, bool]]:
    """The calls of the kernel: rows, columns, whether causal, whether the rows have had a part before."""
    start = 0
    for tree in segments:
        end = start + tree[0]
        trunk = slice(start, end)
        for number, length in enumerate(tree[1:] or (0,)):
            rows = slice(end, end + length)
            if number == 0:
                yield slice(start, rows.stop), slice(start, rows.stop), True, False
            elif length:
                yield rows, rows, True, False
                if tree[0]:
                    yield rows, trunk, False, True
            end = rows.stop
        start = end


AttentionInterface.register(NAME, segment_attention)
# no mask is built: it would be T x T, and the segments say the same
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
