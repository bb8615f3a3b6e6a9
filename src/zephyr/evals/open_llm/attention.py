"""Attention of a pass over a prefix tree, behind keys and values that were kept: forward only.

Registered through transformers' attention interface. The keyword `tree` of the model's forward brings a `Tree`, which
says who sees whom and keeps keys and values. Queries go by blocks of positions, whose columns are what was before and
the stretch of the stream that they can reach; what in it is on another path is masked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from zephyr.errors import ModelError
from zephyr.evals.open_llm.prefixes import Ints, Pass
from zephyr.train import kernels
from zephyr.train.attention import other_kind

NAME = "zephyr_prefixes"
ROWS = 288  # of a block, heads that share a key head counted: enough for products at full rate, few enough for the cache
SCORES = 1 << 19  # computed at once on a CPU
LARGE = 32  # times as much on a GPU
GAP = 32  # columns between two that are seen: so few are computed and masked, rather than multiplied apart


@dataclass(frozen=True)
class Block:
    """Positions of the stream and what they see.

    Attributes:
        rows: the positions.
        before: columns of what was kept.
        own: columns of the stream, in stretches; the last columns are the rows themselves.
        hidden: (rows, M) True where one of the last M columns is not seen, though it comes before the row; None if all are.
    """

    rows: slice
    before: slice
    own: list[slice]
    hidden: Tensor | None

    @property
    def columns(self) -> int:
        """How many."""
        return sum(span.stop - span.start for span in (self.before, *self.own))


class Kept:
    """Keys and values of the path so far, by layer: two buffers (kv_heads, capacity, head_dim)."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._of: dict[int, tuple[Tensor, Tensor]] = {}

    def write(self, layer: int, start: int, key: Tensor, value: Tensor) -> None:
        """The next of the path, (kv_heads, T, head_dim); what stood there belonged to another path."""
        if layer not in self._of:
            self._of[layer] = tuple(t.new_empty(t.shape[0], self._capacity, t.shape[2]) for t in (key, value))  # type: ignore[assignment]
        for buffer, new in zip(self._of[layer], (key, value), strict=True):
            buffer[:, start : start + new.shape[1]] = new

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """The two buffers."""
        return self._of[layer]


class Tree:
    """One pass, as attention needs it: the same in every layer."""

    def __init__(self, one: Pass, kept: Kept, device: torch.device) -> None:
        """Of a pass, behind what was kept; `device` is where the model is."""
        self.one, self.kept, self._device = one, kept, device
        self._blocks: dict[tuple[int | None, int], list[Block]] = {}

    def blocks(self, window: int | None, group: int) -> list[Block]:
        """Of the stream, where `group` heads share a key head, and a position sees `window` positions, itself included."""
        deepest = int(self.one.positions.max()) + 1
        key = (window if window is not None and window < deepest else None, group)
        if key not in self._blocks:
            self._blocks[key] = [self._block(*stretch, key[0]) for stretch in self._stretches(max(1, self._scale * ROWS // group))]
        return self._blocks[key]

    @property
    def _scale(self) -> int:
        return 1 if self._device.type == "cpu" else LARGE

    @property
    def scores(self) -> int:
        """How many are computed at once."""
        return self._scale * SCORES

    def _stretches(self, size: int) -> Iterator[tuple[int, int, int]]:
        """Where the columns begin, first and last position: small units together, a large one in equal parts."""
        bounds = [*self.one.units, len(self.one.ids)]
        start = 0
        for this, following in zip(bounds[1:], [*bounds[2:], None], strict=True):
            if following is not None and following - start <= size:
                continue
            parts = -(-(this - start) // size)
            edges = [start + (this - start) * i // parts for i in range(parts + 1)]
            yield from ((start, *pair) for pair in itertools.pairwise(edges))
            start = this

    def _block(self, origin: int, first: int, last: int, window: int | None) -> Block:
        one, positions = self.one, self.one.positions
        nearest = 0 if window is None else int(positions[first:last].min()) - window + 1  # what is before, none of the rows sees
        seen = origin + np.flatnonzero((one.ends[origin:first] > first) & (positions[origin:first] >= nearest))
        own = _runs(seen, first, last)
        before = slice(min(one.before, max(0, nearest)), one.before)
        column = np.concatenate([np.arange(span.start, span.stop) for span in own])[None]
        row = np.arange(first, last)[:, None]
        hidden = (row >= one.ends[column]) & (column <= row)
        if window is not None:
            distance = positions[row] - np.concatenate([np.arange(before.start, before.stop), positions[column[0]]])
            hidden = np.concatenate([np.zeros((last - first, before.stop - before.start), dtype=bool), hidden], 1) | (distance >= window)
        some = np.flatnonzero(hidden.any(0))
        mask = torch.from_numpy(hidden[:, some[0] :].copy()).to(self._device) if len(some) else None
        return Block(slice(first, last), before, own, mask)


def _runs(seen: Ints, first: int, last: int) -> list[slice]:
    """Stretches of the stream that hold the columns `seen`, and the rows at their end; across small gaps they are one."""
    found = [slice(first, last)]
    for stretch in reversed(np.split(seen, np.flatnonzero(np.diff(seen) > GAP) + 1)):
        if len(stretch):
            near = found[0].start - int(stretch[-1]) <= GAP
            found[:1] = [slice(int(stretch[0]), found[0].stop)] if near else [slice(int(stretch[0]), int(stretch[-1]) + 1), found[0]]
    return found


def prefix_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    tree: Tree | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Causal attention along each path of a tree.

    Args:
        module: the attention layer.
        query: (1, heads, T, head_dim).
        key: (1, kv_heads, T, head_dim); kv_heads divides heads (grouped queries).
        value: as `key`.
        attention_mask: None; the tree is the mask. One that a layer makes itself is refused.
        scaling: factor on the scores.
        dropout: not applied: nothing is trained here.
        sliding_window: a position sees this many positions of its path, itself included.
        softcap: scores are softcap * tanh(score / softcap) (Gemma 2).
        tree: who sees whom.
        more: what else a layer hands on; tensors among it, such as attention sinks (GPT-OSS), are not computed here.

    Returns:
        (1, T, heads, head_dim) and None.

    Raises:
        ModelError: the architecture does not hand `tree` on, or its attention is of another kind.
    """
    layer = getattr(module, "layer_idx", None)
    if tree is None or not isinstance(layer, int) or other_kind(module, attention_mask, sliding_window, more):
        raise ModelError(f"{type(module).__name__}: its attention is of a kind that cannot share beginnings")
    (heads, length, size), kv_heads = query.shape[1:], key.shape[1]
    group = heads // kv_heads
    q = query.new_empty(kv_heads, length, group, size)  # rows of a key head: position by position, its query heads within
    torch.mul(query[0].view(kv_heads, group, length, size).transpose(1, 2), size**-0.5 if scaling is None else scaling, out=q)
    q, k, v = q.view(kv_heads, length * group, size), key[0].contiguous(), value[0].contiguous()
    if tree.one.keep:
        tree.kept.write(layer, tree.one.before, k, v)
    kept_k, kept_v = tree.kept.read(layer) if tree.one.before else (k, v)
    out = q.new_empty(kv_heads, length * group, v.shape[2])
    for block in tree.blocks(sliding_window, group):
        rows = slice(block.rows.start * group, block.rows.stop * group)
        at_once = max(1, tree.scores // ((rows.stop - rows.start) * block.columns))
        for head in range(0, kv_heads, at_once):
            some = slice(head, head + at_once)
            spans = [(k[some, span], v[some, span]) for span in block.own]
            if block.before.stop > block.before.start:
                spans.insert(0, (kept_k[some, block.before], kept_v[some, block.before]))
            _attend(q[some, rows], spans, block, group, softcap, out[some, rows])
    return out.view(kv_heads, length, group, v.shape[2]).transpose(0, 1).reshape(1, length, heads, v.shape[2]), None


def _attend(q: Tensor, spans: list[tuple[Tensor, Tensor]], block: Block, group: int, softcap: float | None, out: Tensor) -> None:
    """One block, some key heads: out (H, R, d) of q (H, R, d), scaled, and spans of keys and values (H, columns, d)."""
    scores = q.new_empty(q.shape[0], q.shape[1], block.columns)
    at = 0
    places = []
    for key, _ in spans:
        places.append(slice(at, at + key.shape[1]))
        torch.bmm(q, key.transpose(1, 2), out=scores[..., places[-1]])
        at = places[-1].stop
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    weights = _softmax(scores, block, group)
    for number, (place, (_, value)) in enumerate(zip(places, spans, strict=True)):
        if number:
            out.baddbmm_(weights[..., place], value)
        else:
            torch.bmm(weights[..., place], value, out=out)


def _softmax(scores: Tensor, block: Block, group: int) -> Tensor:
    """Of scores (H, R, columns), each row over what it sees; computed in float32 at least."""
    positions = block.rows.stop - block.rows.start
    by_position = scores.view(scores.shape[0], positions, group, scores.shape[2])
    if block.hidden is not None:
        by_position[..., -block.hidden.shape[1] :].masked_fill_(block.hidden[None, :, None], float("-inf"))
    if kernels.usable(scores):  # which is causal over the last columns by itself
        count = scores.shape[0] * scores.shape[1]
        kernels.call("softmax_forward", count, scores.dtype, scores.shape[2], group, positions, scores, scores.new_empty(count))
        return scores
    later = torch.ones(positions, positions, dtype=torch.bool, device=scores.device).triu_(1)
    by_position[..., scores.shape[2] - positions :].masked_fill_(later[None, :, None], float("-inf"))
    return torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)


AttentionInterface.register(NAME, prefix_attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)  # none is built: the tree says the same
