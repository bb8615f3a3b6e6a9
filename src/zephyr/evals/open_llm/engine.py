"""Log-likelihoods of tokens after contexts: every shared beginning computed once, only the logits that are asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zephyr.evals.open_llm.attention import NAME, Kept, Tree
from zephyr.evals.open_llm.prefixes import Forest, Pass, Question
from zephyr.files import first_line
from zephyr.train import kernels
from zephyr.train.logprobs import output_softcap

# log-likelihood in nats, and whether every token of it is the likeliest
Answer = tuple[float, bool]

TOKENS = 2048  # of a pass
HEAD_BYTES = 64 << 20  # of float32 logits at a time
ALIKE = 5e-4  # nats, of some tokens: rounding gives 1e-6; another computation far more
ALIKE_HALF = 0.3  # the same where weights have 16 bits


class Engine:
    """A causal model, asked many questions at once."""

    def __init__(self, model: Any, budget: int = TOKENS) -> None:
        """Of a model in evaluation mode, where it is (CPU or GPU); `budget` tokens go through it at a time."""
        self._model, self._budget = model, budget
        self._room: Tensor | None = None  # for logits: memory that is fresh each time costs as much as filling it

    def problem(self) -> str | None:
        """Why this model cannot be computed in this way, or None: tried, not told by names.

        Two questions that share a beginning and a third, in passes of few tokens, against each of them alone.
        """
        size = min(self._model.config.get_text_config().vocab_size, self._model.get_input_embeddings().weight.shape[0])
        start, *ends = ([(31 * i * i + 7 * j + 5) % size for i in range(1, n)] for j, n in enumerate((21, 7, 5, 9)))
        questions = [Question((start + end)[:-1], (start + end)[len(start) :]) for end in ends]
        try:
            found = self._answers(Forest(questions, budget=24), lambda tokens: None, len(questions))
            alone = [self._alone(question) for question in questions]
        except (ValueError, TypeError, RuntimeError, AttributeError, IndexError, KeyError) as error:  # of ours: a ModelError
            return first_line(error)
        half = self._model.get_output_embeddings().weight.dtype.itemsize == 2
        for (got, _), want in zip(found, alone, strict=True):
            if not abs(got - want) <= (ALIKE_HALF if half else ALIKE) and np.isfinite(want):
                return f"it gives other log-likelihoods in this way ({got:.4f} instead of {want:.4f})"
        return None

    @torch.no_grad()
    def _alone(self, question: Question) -> float:
        """By the model as it is."""
        device, count = self._model.device, len(question.targets)
        logits = self._model(torch.tensor([list(question.ids)], device=device), use_cache=False).logits[0, -count:].double()
        return float(torch.log_softmax(logits, -1).gather(1, torch.tensor(question.targets, device=device)[:, None]).sum())

    def plan(self, questions: Sequence[Question]) -> Forest:
        """What there is to do for these questions, none of which is longer than the model takes."""
        return Forest(questions, self._budget)

    def answers(self, forest: Forest, advance: Callable[[int], None]) -> list[Answer]:
        """Of each question of a plan, in their order; `advance` is told of tokens done."""
        return self._answers(forest, advance, len(forest))

    def _answers(self, forest: Forest, advance: Callable[[int], None], count: int) -> list[Answer]:
        nats, greedy = np.zeros(count), np.ones(count, dtype=bool)
        kept = Kept(forest.kept)
        with torch.no_grad(), self._attention():
            for one in forest.passes():
                logprobs, top = self._through(one, kept)
                np.add.at(nats, one.owner, logprobs)
                np.logical_and.at(greedy, one.owner, top)
                advance(len(one.ids))
        self._room = None
        return list(zip(nats.tolist(), greedy.tolist(), strict=True))

    @contextlib.contextmanager
    def _attention(self) -> Iterator[None]:
        """The model with our attention, for as long as the body runs."""
        own = self._model.config._attn_implementation
        self._model.set_attn_implementation(NAME)
        try:
            yield
        finally:
            self._model.set_attn_implementation(own)

    def _through(self, one: Pass, kept: Kept) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """One pass: of each prediction asked for its log-probability, and whether the token is the likeliest."""
        device = self._model.device
        ids, positions = (torch.from_numpy(values).to(device)[None] for values in (one.ids, one.positions))
        tree = Tree(one, kept, device)
        hidden_TD = self._model.base_model(input_ids=ids, position_ids=positions, use_cache=False, tree=tree).last_hidden_state[0]
        if not len(one.at):
            return np.empty(0), np.empty(0, dtype=bool)
        return self._scored(hidden_TD, one)

    def _scored(self, hidden_TD: Tensor, one: Pass) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The output matrix, met by each position once, a block of them at a time."""
        weight_VD, softcap = self._model.get_output_embeddings().weight, output_softcap(self._model)
        rows, row_of = np.unique(one.at, return_inverse=True)
        order = np.argsort(row_of, kind="stable")
        size = max(1, HEAD_BYTES // (4 * len(weight_VD)))
        logprobs, top = np.empty(len(order)), np.empty(len(order), dtype=bool)
        for start in range(0, len(rows), size):
            some = torch.from_numpy(rows[start : start + size]).to(hidden_TD.device)
            hidden_BD = hidden_TD.index_select(0, some).to(weight_VD.dtype)
            low, high = np.searchsorted(row_of, (start, start + size), sorter=order)
            which = order[low:high]
            row_N, target_N = (torch.from_numpy(v).to(hidden_TD.device) for v in (row_of[which] - start, one.target[which]))
            found = _logprobs(self._logits(hidden_BD, weight_VD, size), softcap, row_N, target_N)
            logprobs[which], top[which] = (t.cpu().numpy() for t in found)
        return logprobs, top

    def _logits(self, hidden_BD: Tensor, weight_VD: Tensor, most: int) -> Tensor:
        """Of at most so many positions, written where there is room: what stood there is done with."""
        if self._room is None or self._room.dtype != weight_VD.dtype or self._room.shape != (most, len(weight_VD)):
            self._room = weight_VD.new_empty(most, len(weight_VD))
        return torch.mm(hidden_BD, weight_VD.T, out=self._room[: len(hidden_BD)])


def _logprobs(logits_BV: Tensor, softcap: float | None, row_N: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of some tokens at some rows, in float32 at least, and whether they are their rows' likeliest.

    Consumes the logits.
    """
    logits_BV = logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32))
    if softcap is not None:
        logits_BV = logits_BV.div_(softcap).tanh_().mul_(softcap)
    chosen_N = logits_BV[row_N, target_N]
    top_N = chosen_N >= logits_BV.amax(-1)[row_N]
    # of equal ones one is the likeliest: the one that lm-eval's argmax takes
    tied = top_N.nonzero()[:, 0]
    top_N[tied] = logits_BV[row_N[tied]].argmax(-1) == target_N[tied]
    if kernels.usable(logits_BV):
        rows, size = logits_BV.shape
        total_B = logits_BV.new_empty(rows)
        kernels.call("softmax_forward", rows, logits_BV.dtype, size, 1, 1, logits_BV, total_B)
    else:
        total_B = torch.logsumexp(logits_BV, -1)
    return chosen_N - total_B[row_N], top_N
