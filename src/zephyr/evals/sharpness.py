"""How sharp a model's next-token distribution is: its entropy, and the mass on the likeliest tokens.

Preference training that goes too far leaves its marks here before it shows in a score: the distribution narrows, the entropy on answers
that others wrote falls, and nearly all of the mass lies on one token. It is measured where the log-probabilities of the answers are taken
anyway, a block of positions at a time: a tokens x vocabulary tensor never exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zephyr.artifacts import Draft
from zephyr.evals.preference import Group
from zephyr.evals.rows import turns
from zephyr.evals.statistics import ratio
from zephyr.recipe import TrainConfig
from zephyr.text.chat import ChatFormat
from zephyr.train import score
from zephyr.train.batches import Example, Stream, branching
from zephyr.train.encode import beheaded
from zephyr.train.logprobs import BLOCK, block_of, output_softcap, stream_hidden

SEVERAL = 10  # the likeliest tokens whose mass is counted, beside that of the likeliest alone
MEASURES = ("entropy", "top1", f"top{SEVERAL}")


@dataclass(frozen=True)
class Answer:
    """Sums over the tokens of an answer.

    Attributes:
        logp: log-probability, in nats.
        tokens: how many there are.
        spread: by measure: the entropies (nats) of the distributions that each token was drawn from, and the mass (0 to 1) that they put
            on their likeliest token and on their likeliest ten.
    """

    logp: float
    tokens: int
    spread: dict[str, float]


@torch.no_grad()
def stream_sharpness(model: Any, stream: Stream, dtype: torch.dtype = torch.float32) -> Tensor:
    """Of every learnt token of a stream, (N, 4): its log-probability (nats), and of the distribution it is from the three measures.

    The log-probabilities are, bit for bit, those of `stream_logprobs`.
    """
    hidden_ND = stream_hidden(model, stream, dtype)
    weight_VD = model.get_output_embeddings().weight.to(hidden_ND.dtype)
    softcap = output_softcap(model)
    parts = [torch.empty(0, 1 + len(MEASURES), device=hidden_ND.device)]
    for at in range(0, len(stream.target_N), BLOCK):
        block = slice(at, at + BLOCK)
        found = block_of(hidden_ND[block], weight_VD, stream.target_N[block], softcap)
        parts.append(torch.cat([found.logprob_B[:, None], _spread(found.whole())], 1))
    return torch.cat(parts[1:] or parts)


def _spread(logprob_BV: Tensor) -> Tensor:
    """Entropy (nats), mass of the likeliest token and of the likeliest ten, (B, 3)."""
    likeliest_BK = logprob_BV.topk(min(SEVERAL, logprob_BV.shape[1]), dim=1).values.exp()
    entropy_B = -torch.einsum("bv,bv->b", logprob_BV.exp(), logprob_BV)  # without a third tensor of that size
    return torch.stack([entropy_B, likeliest_BK[:, 0], likeliest_BK.sum(1)], 1)


def of_answers(
    model: Any, examples: Sequence[Example], config: TrainConfig, label: str, out: Draft, *, names: Sequence[str]
) -> list[Answer]:
    """Every learnt sequence of the examples, in order; what `score.log_probabilities` gives, and how sharp the model was.

    Raises:
        NonFiniteError: a value is not finite; `names` say of which sequence.
    """
    sums = score.sums(model, examples, config, label, out, names=names, measure=stream_sharpness)
    lengths = [n for e in examples for n in e.targets]
    return [Answer(row[0], n, dict(zip(MEASURES, row[1:], strict=True))) for row, n in zip(sums, lengths, strict=True)]


def of_groups(
    model: Any, chat: ChatFormat, groups: Sequence[Group], config: TrainConfig, max_prompt_length: int, label: str, out: Draft
) -> list[list[Answer]]:
    """Of every answer of every group; a prompt that is longer than `max_prompt_length` tokens loses its beginning, as in training."""
    examples = []
    for group in groups:
        encoded = [chat.encode_pair(turns(group, text)) for text, _ in group.answers]
        prompt = beheaded(encoded[0][0], max_prompt_length, chat)
        examples.append(branching(prompt, *(answer for _, answer in encoded)))
    names = [f"prompt {g.prompt_id[:16]}, answer {i}" for g in groups for i in range(len(g.answers))]
    answers = iter(of_answers(model, examples, config, label, out, names=names))
    return [[next(answers) for _ in g.answers] for g in groups]


def summary(groups: Sequence[Group], answers: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    """Means per token over the answers, with intervals in which the prompts, not the tokens, are independent."""
    found: dict[str, Any] = {}
    for name in MEASURES:
        by_prompt: dict[str, tuple[float, int]] = {}
        for group, (value, n) in zip(groups, sums(answers, name), strict=True):
            total, tokens = by_prompt.get(group.prompt_id, (0.0, 0))
            by_prompt[group.prompt_id] = total + value, tokens + n
        estimate = ratio(list(by_prompt.values()))
        assert estimate is not None  # no answer is empty: each has its end
        inside = estimate if name == "entropy" else estimate.within(0.0, 1.0)
        found[name] = {"mean": inside.value, "ci95": inside.ci95}
    return {**found, "tokens": sum(a.tokens for row in answers for a in row), "prompts": len({g.prompt_id for g in groups})}


def sums(answers: Sequence[Sequence[Answer]], name: str) -> list[tuple[float, int]]:
    """(sum over the tokens of a prompt's answers, number of tokens) of each prompt."""
    return [(sum(a.spread[name] for a in row), sum(a.tokens for a in row)) for row in answers]
