"""The output matrix, the loss and both their gradients in one pass.

Only positions that predict a learnt token meet the output matrix, one tile of whole items at a time. What a pair's loss
wants of each of its tokens depends on the pair's two sums alone (the reference's are known), so once a tile's
log-probabilities are there its gradients follow from them at once: nothing is computed twice, and of the tokens x
vocabulary tensor one tile exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zephyr.train.batches import Stream
from zephyr.train.logprobs import Block, block_of, bytes_a_logit, output_softcap
from zephyr.train.tasks import ItemT, Task

TILE_BYTES = 128 << 20  # of logits


@dataclass(frozen=True)
class Tile:
    """Some items in a row, with their sequences and predicted positions."""

    items: slice
    sequences: slice
    positions: slice


def tiles(items: Sequence[Any], limit: int) -> Iterator[Tile]:
    """Items in order, as many at a time as predict at most `limit` tokens (one at least)."""
    start = Tile(slice(0, 0), slice(0, 0), slice(0, 0))
    item = sequence = position = 0
    for index, one in enumerate(items):
        targets = [n for e in one.examples for n in e.targets]
        if item < index and position + sum(targets) - start.positions.start > limit:
            yield _until(start, index, sequence, position)
            item, start = index, Tile(slice(index, index), slice(sequence, sequence), slice(position, position))
        sequence += len(targets)
        position += sum(targets)
    if items:
        yield _until(start, len(items), sequence, position)


def _until(start: Tile, item: int, sequence: int, position: int) -> Tile:
    return Tile(slice(start.items.start, item), slice(start.sequences.start, sequence), slice(start.positions.start, position))


def head_loss(
    model: Any, hidden_ND: Tensor, stream: Stream, items: Sequence[ItemT], task: Task[ItemT], scale: float
) -> tuple[Tensor, Tensor]:
    """The loss of some items.

    Args:
        model: for its output matrix.
        hidden_ND: last hidden states at the stream's predicting positions.
        stream: of the items' examples.
        items: what the loss is made of.
        task: how.
        scale: factor on the loss (one over the weight of the whole batch).

    Returns:
        the scaled loss, in float64, and the log-probability of each sequence (S values), in float64.
    """
    weight_VD = model.get_output_embeddings().weight
    softcap = output_softcap(model)
    limit = max(1, TILE_BYTES // (bytes_a_logit(hidden_ND, softcap) * len(weight_VD)))
    # a loss by tokens asks the same of every token whatever the others are: its tiles may be cut anywhere
    slope_S = _slope(torch.zeros(stream.sequences, dtype=torch.float64, device=hidden_ND.device), items, task) if task.by_token else None
    whole = Tile(slice(0, len(items)), slice(0, stream.sequences), slice(0, len(stream.target_N)))
    groups = [whole] if task.by_token else list(tiles(items, limit))
    wanted = torch.is_grad_enabled()
    loss, sums_S = _HeadLoss.apply(  # type: ignore[no-untyped-call]  # torch's has no types
        hidden_ND, weight_VD, stream, items, task, slope_S, groups, limit, scale, softcap, wanted
    )
    return loss, sums_S


def _slope(sums_S: Tensor, items: Sequence[ItemT], task: Task[ItemT]) -> Tensor:
    """D loss / d log-probability of each sequence."""
    with torch.enable_grad():
        leaf_S = sums_S.detach().requires_grad_()
        (slope_S,) = torch.autograd.grad(task.loss(leaf_S, items), leaf_S)
    return slope_S


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, stream: Stream, items: Any, task: Any, slope_S: Tensor | None,
        groups: list[Tile], limit: int, scale: float, softcap: float | None, wanted: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        weight = weight_VD.to(hidden_ND.dtype)
        sums_S = torch.zeros(stream.sequences, dtype=torch.float64, device=hidden_ND.device)
        grad_hidden_ND = torch.empty_like(hidden_ND) if wanted else None
        grad_weight_VD: Tensor | None = None  # what the first block gives, and the others add to

        def block(at: slice) -> Block:
            return block_of(hidden_ND[at], weight, stream.target_N[at], softcap)

        def add_gradients(at: slice, found: Block, slope_S: Tensor) -> None:
            nonlocal grad_weight_VD
            assert grad_hidden_ND is not None
            factor_B1 = (-scale * slope_S[stream.owner_N[at]])[:, None].to(found.logprob_B.dtype)
            d_BV = found.d_logits().to(weight.dtype)
            grad_hidden_ND[at] = (d_BV @ weight) * factor_B1
            if not ctx.needs_input_grad[1]:
                return
            scaled_BD = hidden_ND[at] * factor_B1.to(hidden_ND.dtype)
            if grad_weight_VD is None:
                grad_weight_VD = (d_BV.T @ scaled_BD).to(weight_VD.dtype)
            elif grad_weight_VD.dtype == d_BV.dtype:
                grad_weight_VD.addmm_(d_BV.T, scaled_BD)
            else:
                grad_weight_VD.add_(d_BV.T @ scaled_BD)

        with torch.autocast(hidden_ND.device.type, enabled=False):
            for tile in groups:
                blocks = [slice(i, min(i + limit, tile.positions.stop)) for i in range(tile.positions.start, tile.positions.stop, limit)]
                # an item larger than a tile is gone through twice, block by block: first for its sums, then for its gradients
                twice = wanted and slope_S is None and len(blocks) > 1
                known = None
                for at in blocks:
                    known = block(at)
                    sums_S.index_add_(0, stream.owner_N[at], known.logprob_B.double())
                    if wanted and slope_S is not None:
                        add_gradients(at, known, slope_S)
                if not wanted or slope_S is not None:
                    continue
                found_S = torch.zeros_like(sums_S)
                found_S[tile.sequences] = _slope(sums_S[tile.sequences], items[tile.items], task)
                for at in blocks:
                    add_gradients(at, block(at) if twice or known is None else known, found_S)
            loss = task.loss(sums_S, items) * scale
        if wanted and ctx.needs_input_grad[1] and grad_weight_VD is None:
            grad_weight_VD = torch.zeros_like(weight_VD)  # nothing is predicted here
        ctx.gradients = (grad_hidden_ND, grad_weight_VD)
        ctx.mark_non_differentiable(sums_S)
        return loss, sums_S

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # the buffers are given away: a second backward fails instead of counting twice
        hidden, weight = (None if g is None else g.mul_(grad.to(g.dtype)) for g in gradients)
        return hidden, weight, *(None,) * 9
