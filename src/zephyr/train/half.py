"""Attention over trees in bfloat16 by attention.c: scores and sums in float32, those of a block of rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr.train import kernels

LANES = 16  # of a panel, as in attention.c


def usable(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Does the processor multiply bfloat16, and do the heads fill whole panels?"""
    fits = len(query) == 1 and query.shape[3] % LANES == 0
    return fits and kernels.usable_in_half(query, key, value) and kernels.has("attention_forward", query.dtype)


class HalfAttention(torch.autograd.Function):
    """query (1, heads, T, d), key and value (1, kv_heads, T, d), segments, scale -> (1, T, heads, d), all in bfloat16."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Sequence[int]], scale: float) -> Tensor:
        """Keeps queries, keys, values, the result and a log-sum-exp a row."""
        q, k, v = (x.transpose(1, 2).contiguous() for x in (query, key, value))  # (1, T, heads, d), which a projection gives
        out, lse = torch.empty_like(q), q.new_empty(q.shape[1], q.shape[2], dtype=torch.float32)
        _units("attention_forward", q, k, segments, scale, q, k, v, out, lse)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.segments, ctx.scale = segments, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Of query, key and value; the scores are computed again."""
        q, k, v, out, lse = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        _units("attention_backward", q, k, ctx.segments, ctx.scale, q, k, v, out, lse, grad.contiguous(), dq, dk, dv)
        return dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2), None, None


def _units(name: str, q: Tensor, k: Tensor, segments: Sequence[Sequence[int]], scale: float, *tensors: Tensor) -> None:
    """Every tree and key head."""
    heads, kv_heads, size = q.shape[2], k.shape[2], q.shape[3]
    first, number, tree_first, tree_segment = 0, 0, [], [0]
    for tree in segments:
        tree_first.append(first)
        first, number = first + sum(tree), number + len(tree)
        tree_segment.append(number)
    units = len(tree_first) * kv_heads
    numbers = (torch.tensor(n, dtype=torch.int64) for n in (tree_first, tree_segment, [n for tree in segments for n in tree]))
    failed = torch.zeros(1, dtype=torch.int64)
    kernels.call(name, units, q.dtype, heads, kv_heads, size, float(scale), *numbers, failed, *tensors)
    if int(failed):
        raise MemoryError(f"attention over {first} positions: no memory for the scores of a block")
