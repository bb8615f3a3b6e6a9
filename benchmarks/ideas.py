"""Our step without one of its ideas, or without any. Whatever is left out, the loss and its gradients stay the same.

Each is taken out alone, all else as it is; `all` is the textbook: both answers of every pair as rows padded to the longest,
`model(...).logits` at every position, a second model for the reference. It shares no code with the trainer.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from zephyr.train.attention import plain_attention
from zephyr.train.batches import Example, Stream
from zephyr.train.head import head_loss
from zephyr.train.logprobs import sequence_sums, stream_hidden, stream_logprobs
from zephyr.train.tasks import Pair

IDEAS = {
    "no-padding": "rows are padded to the longest of their micro-batch (the prompt still shared, the padding not attended to)",
    "learnt-only-head": "prompt tokens meet the output matrix too, forward and backward",
    "shared-prompt": "the prompt goes through the model twice, once with each answer",
    "one-pass-head": "logits of all learnt tokens at once, their gradients by autograd",
    "segment-attention": "scaled_dot_product_attention with a mask a pair",
    "c-kernels": "norms, rotations, activations, attention and the vocabulary's softmax by torch instead of C",
    "cached-references": "a frozen copy of the model computes the reference in the step",
    "all": "the textbook: padded rows apart, logits everywhere, masked attention, the reference in the step",
}


@dataclass(frozen=True)
class Apart:
    """A pair as two whole sequences."""

    id: str
    examples: tuple[Example, ...]
    reference_chosen: float
    reference_rejected: float
    weight: int = 1

    @property
    def tokens(self) -> int:
        """How many go through the model."""
        return sum(e.tokens for e in self.examples)


def apart(pair: Pair) -> Apart:
    """The prompt with the chosen answer, and the prompt with the rejected one."""
    prompt = pair.answers.ids
    examples = tuple(Example(prompt + a, (False,) * len(prompt) + (True,) * len(a)) for a in pair.answers.branches)
    return Apart(pair.id, examples, pair.reference_chosen, pair.reference_rejected)


def leave_out(idea: str, trainer: Any, pairs: list[Pair]) -> list[Any]:
    """Change the trainer's step; returns the pairs as that step takes them."""
    model = trainer.model
    if idea in ("c-kernels", "all"):
        os.environ["ZEPHYR_KERNELS"] = "0"  # asked at every call
    if idea == "segment-attention":
        model.set_attn_implementation(_masked_attention())
    frozen = copy.deepcopy(model).requires_grad_(False) if idea in ("cached-references", "all") else None
    if idea == "all":
        model.set_attn_implementation("sdpa")
        frozen.set_attn_implementation("sdpa")
        trainer.micro_batch_tokens = 10**9
        trainer.learner.forward = _textbook(model, frozen)
    elif idea in STEPS:
        trainer.learner.forward = STEPS[idea](model, frozen)
    return [apart(p) for p in pairs] if idea in ("all", "shared-prompt") else list(pairs)


Forward = Callable[[Stream, Sequence[Any], Any, float, torch.dtype], tuple[Tensor, Tensor]]


def _padded(model: Any, _: Any) -> Forward:
    def forward(stream: Stream, items: Sequence[Any], task: Any, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        longer = padded(stream)
        return head_loss(model, stream_hidden(model, longer, dtype), longer, items, task, scale)

    return forward


def padded(stream: Stream) -> Stream:
    """Every tree followed by padding, up to the longest of the stream."""
    lengths = [sum(tree) for tree in stream.segments]
    free = [max(lengths) - n for n in lengths]
    parts = [
        [x for part, n in zip(torch.split(whole, lengths), free, strict=True) for x in (part, torch.arange(n, device=whole.device))]
        for whole in (stream.ids_T, stream.positions_T)
    ]
    segments = [tree for real, n in zip(stream.segments, free, strict=True) for tree in (real, (n,)) if sum(tree)]
    ends = torch.tensor(lengths, device=stream.at_N.device).cumsum(0)
    before = torch.tensor([0, *free[:-1]], device=stream.at_N.device).cumsum(0)
    shift_N = before[torch.bucketize(stream.at_N, ends, right=True)]
    return replace(stream, ids_T=torch.cat(parts[0]), positions_T=torch.cat(parts[1]), segments=segments, at_N=stream.at_N + shift_N)


class _Nothing:
    """A task that wants nothing of any token: all the work of the head, and gradients of zero."""

    by_token = True

    def loss(self, sums_S: Tensor, _: Any) -> Tensor:
        return 0 * sums_S.sum()


def _head_everywhere(model: Any, _: Any) -> Forward:
    def forward(stream: Stream, items: Sequence[Any], task: Any, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        everywhere = torch.arange(len(stream.ids_T), device=stream.at_N.device)
        hidden_TD = stream_hidden(model, replace(stream, at_N=everywhere), dtype)
        others = everywhere[~torch.isin(everywhere, stream.at_N)]
        rest = replace(stream, at_N=others, target_N=stream.ids_T[others], owner_N=torch.zeros_like(others), sequences=1)
        loss, sums_S = head_loss(model, hidden_TD[stream.at_N], stream, items, task, scale)
        nothing, _ = head_loss(model, hidden_TD[others], rest, items, _Nothing(), scale)  # type: ignore[arg-type]
        return loss + nothing, sums_S

    return forward


def _plain_head(model: Any, _: Any) -> Forward:
    def forward(stream: Stream, items: Sequence[Any], task: Any, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        hidden_ND = stream_hidden(model, stream, dtype)
        logits_NV = (hidden_ND @ model.get_output_embeddings().weight.to(hidden_ND.dtype).T).float()
        logprob_N = torch.log_softmax(logits_NV, -1).gather(1, stream.target_N[:, None])[:, 0]
        sums_S = sequence_sums(logprob_N, stream)
        return task.loss(sums_S, items) * scale, sums_S.detach()

    return forward


def _reference_in_the_step(model: Any, frozen: Any) -> Forward:
    def forward(stream: Stream, items: Sequence[Any], task: Any, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        found = sequence_sums(stream_logprobs(frozen, stream, dtype), stream).reshape(-1, 2).tolist()
        items = [replace(p, reference_chosen=c, reference_rejected=r) for p, (c, r) in zip(items, found, strict=True)]
        return head_loss(model, stream_hidden(model, stream, dtype), stream, items, task, scale)

    return forward


STEPS: dict[str, Callable[[Any, Any], Forward]] = {
    "no-padding": _padded,
    "learnt-only-head": _head_everywhere,
    "one-pass-head": _plain_head,
    "cached-references": _reference_in_the_step,
}


def _masked_attention() -> str:
    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, scaling: float, segments: Any, **__: Any) -> Any:
        return plain_attention(query, key, value, segments, scaling, 0.0, None, None), None

    AttentionInterface.register("bench_masked", attend)
    AttentionMaskInterface.register("bench_masked", lambda *_, **__: None)
    return "bench_masked"


def _textbook(model: Any, frozen: Any) -> Forward:
    def forward(_: Stream, items: Sequence[Apart], task: Any, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        rows = [e for p in items for e in p.examples]
        with torch.no_grad():
            found = plain_sums(frozen, rows, dtype).reshape(-1, 2).tolist()
        items = [replace(p, reference_chosen=c, reference_rejected=r) for p, (c, r) in zip(items, found, strict=True)]
        sums_S = plain_sums(model, rows, dtype)
        return task.loss(sums_S, items) * scale, sums_S.detach()

    return forward


def plain_sums(model: Any, rows: Sequence[Example], dtype: torch.dtype) -> Tensor:
    """Log-probability of the learnt tokens of each row, from a padded batch."""
    longest = max(len(row.ids) for row in rows)

    def batch(values: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([[*v, *[0] * (longest - len(v))] for v in values], device=model.device)

    ids_BL, learnt_BL, mask_BL = (batch(v) for v in ([r.ids for r in rows], [r.learnt for r in rows], [[1] * len(r.ids) for r in rows]))
    with torch.autocast(str(model.device.type), dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits_BLV = model(input_ids=ids_BL, attention_mask=mask_BL, use_cache=False).logits.float()
    logprob_BL = torch.log_softmax(logits_BLV[:, :-1], -1).gather(2, ids_BL[:, 1:, None])[..., 0]
    return (logprob_BL.double() * learnt_BL[:, 1:]).sum(1)
