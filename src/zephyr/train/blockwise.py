"""Attention over trees in blocks of rows: products by the library, between them one pass by kernels.c.

A block is some positions of a branch with all heads that share a key head, against every column they see: the trunk and their
own branch up to themselves. So a whole row of scores is there at once, nothing is merged, and half of the scores of a causal
square are never computed. Only the log-sum-exp of each row is kept for the way back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr.train import kernels

ROWS = 256  # of a block: enough for products at full rate, few enough for its scores to stay in the cache
SCORES = 1 << 18  # computed at once: several heads, where a block has fewer


class BlockAttention(torch.autograd.Function):
    """query (1, heads, T, d), key and value (1, kv_heads, T, d), segments, scale -> (1, T, heads, d)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Sequence[int]], scale: float) -> Tensor:
        """Keeps queries, keys, values and a log-sum-exp a row."""
        heads, (kv_heads, length, size) = query.shape[1], key.shape[1:]
        group = heads // kv_heads
        # rows of a key head: position by position, its query heads within
        q = query.new_empty(kv_heads, length, group, size)
        torch.mul(query[0].view(kv_heads, group, length, size).transpose(1, 2), scale, out=q)
        q, k, v = q.view(kv_heads, length * group, size), key[0].contiguous(), value[0].contiguous()
        out, lse, at = torch.empty_like(q), query.new_empty(heads * length), 0
        work = _Blocks(segments, group, kv_heads)
        room = q.new_empty(work.largest)
        for heads_here, rows, spans, columns in work:
            weights = _products(q[heads_here, rows], k[heads_here], spans, room, columns)
            count = weights.shape[0] * weights.shape[1]
            positions = weights.shape[1] // group
            kernels.call("softmax_forward", count, q.dtype, columns, group, positions, weights, lse[at : at + count])
            _add_products(out[heads_here, rows], weights, v[heads_here], spans)
            at += count
        ctx.save_for_backward(q, k, v, lse)
        ctx.work, ctx.group, ctx.scale = work, group, scale
        return out.view(kv_heads, length, group, size).transpose(0, 1).reshape(1, length, heads, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Of query, key and value; the scores are computed again, and each block adds to what it saw."""
        q, k, v, lse = ctx.saved_tensors
        group, (kv_heads, length, size) = ctx.group, k.shape
        grad = grad[0].view(length, kv_heads, group, size).transpose(0, 1).reshape(q.shape)
        dq, dk, dv, at = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v), 0
        room, room_d = q.new_empty(ctx.work.largest), q.new_empty(ctx.work.largest)
        for heads_here, rows, spans, columns in ctx.work:
            q_block, grad_block = q[heads_here, rows], grad[heads_here, rows]
            weights = _products(q_block, k[heads_here], spans, room, columns)
            d_scores = _products(grad_block, v[heads_here], spans, room_d, columns)
            count = weights.shape[0] * weights.shape[1]
            positions = weights.shape[1] // group
            kernels.call("softmax_backward", count, q.dtype, columns, group, positions, weights, lse[at : at + count], d_scores)
            _add_products(dq[heads_here, rows], d_scores, k[heads_here], spans)
            for span, column in spans:
                dk[heads_here, span].baddbmm_(d_scores[..., column].transpose(1, 2), q_block)
                dv[heads_here, span].baddbmm_(weights[..., column].transpose(1, 2), grad_block)
            at += count
        dq = dq.mul_(ctx.scale).view(kv_heads, length, group, size).transpose(1, 2).reshape(1, kv_heads * group, length, size)
        return dq, dk[None], dv[None], None, None


Spans = list[tuple[slice, slice]]  # of the stream's positions, and where they are among a block's columns


class _Blocks:
    """The blocks of a stream, in order: key heads, rows (position by position, `group` each), spans, number of columns."""

    def __init__(self, segments: Sequence[Sequence[int]], group: int, kv_heads: int) -> None:
        self._blocks: list[tuple[slice, slice, Spans, int]] = []
        for start, stop, seen in _stretches(segments, max(1, ROWS // group)):
            columns = sum(span.stop - span.start for span in seen)
            rows = slice(start * group, stop * group)
            at_once = max(1, SCORES // ((rows.stop - rows.start) * columns))
            for head in range(0, kv_heads, at_once):
                self._blocks.append((slice(head, min(head + at_once, kv_heads)), rows, _placed(seen), columns))
        self.largest = max((_size(block) for block in self._blocks), default=0)

    def __iter__(self) -> Iterator[tuple[slice, slice, Spans, int]]:
        return iter(self._blocks)


def _size(block: tuple[slice, slice, Spans, int]) -> int:
    heads, rows, _, columns = block
    return int((heads.stop - heads.start) * (rows.stop - rows.start) * columns)


def _stretches(segments: Sequence[Sequence[int]], step: int) -> Iterator[tuple[int, int, list[slice]]]:
    """First and last position of at most `step`, and what they see: whole spans, but that the last ends causally at each."""
    start = 0
    for trunk, *branches in segments:
        end = start + trunk
        for number, length in enumerate(branches or [0]):
            own = start if number == 0 else end  # trunk and first branch are one sequence
            before = [slice(start, start + trunk)] if number and trunk else []
            for first in range(own, end + length, step):
                last = min(first + step, end + length)
                yield first, last, [*before, slice(own, last)]
            end += length
        start = end


def _placed(spans: Sequence[slice]) -> Spans:
    placed, at = [], 0
    for span in spans:
        placed.append((span, slice(at, at + span.stop - span.start)))
        at += span.stop - span.start
    return placed


def _products(rows: Tensor, others: Tensor, spans: Spans, room: Tensor, columns: int) -> Tensor:
    """Of rows (H, R, d) with others (H, T, d) in the spans: (H, R, columns), written where there is room."""
    found = room[: rows.shape[0] * rows.shape[1] * columns].view(rows.shape[0], rows.shape[1], columns)
    for span, column in spans:
        torch.bmm(rows, others[:, span].transpose(1, 2), out=found[..., column])
    return found


def _add_products(target: Tensor, weights: Tensor, others: Tensor, spans: Spans) -> None:
    """Target (H, R, d) = weights (H, R, columns) times others (H, T, d) in the spans."""
    for number, (span, column) in enumerate(spans):
        if number:
            target.baddbmm_(weights[..., column], others[:, span])
        else:
            torch.bmm(weights[..., column], others[:, span], out=target)
