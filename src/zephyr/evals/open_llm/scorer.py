"""lm-eval's Hugging Face model, with what several prompts share computed once. Imports lm-eval; imported lazily."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import numpy as np
import torch
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr import progress
from zephyr.errors import DataError, ModelError, NonFiniteError
from zephyr.evals.open_llm.engine import TOKENS, Answer, Engine
from zephyr.evals.open_llm.prefixes import Question
from zephyr.models.context import context_of
from zephyr.parts import Keep, nothing_kept
from zephyr.train import kernels

PART = 4096  # questions whose beginnings are shared, and whose answers are kept together

# What lm-eval asks: ((context, continuation), ids of the context, ids of the continuation).
Request = tuple[tuple[str, str] | None, list[int], list[int]]


class Scorer(HFLM):  # type: ignore[misc]  # lm-eval ships no types
    """Log-likelihoods (nats, summed over tokens) of continuations after contexts.

    The answers are those of `HFLM`, and so is the text's way into tokens: its rule for spaces between context and
    continuation, its beginning-of-sequence token, its cut from the left where a prompt is longer than the model takes.
    Beginnings that prompts share go through the model once, nothing is padded, and only logits that are asked for are
    formed. A model that cannot be computed in this way goes the plain way, which is said.

    Attributes:
        label: what the progress line says.
        truncated: in the latest call, how many different contexts were longer than the model takes. They lose
            their beginning: a prompt is then not of so many shots as it says.
        tokens: that went through the model in the latest call.
        plain_tokens: that would have, had every question gone alone.
        problem: why the model goes the plain way; None if it does not.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        stderr: TextIO,
        *,
        tokens: int = TOKENS,
        max_length: int | None = None,
        keep: Keep = nothing_kept,
    ) -> None:
        """Wrap a model where it is (CPU or GPU), as it is.

        Args:
            model: which answers.
            tokenizer: its tokenizer; copied, since `HFLM` alters it.
            batch_size: rows a forward pass, on the plain way.
            stderr: where the progress line goes; lm-eval itself runs with stderr turned off.
            tokens: that go through the model at once.
            max_length: tokens that the model takes; None is what its configuration says.
            keep: gives what an interrupted run has kept of answers, and keeps more.

        Raises:
            ModelError: the tokenizer ends every text in EOS, so that no text continues another.
        """
        ids = tokenizer("a")["input_ids"]
        if ids and ids[-1] == tokenizer.eos_token_id:
            name = tokenizer.name_or_path or "the tokenizer"
            raise ModelError(f"{name}: it ends every text with EOS, so no text continues another; set its `add_eos_token` to false")
        self.batch_size_per_gpu: int
        super().__init__(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size, max_length=max_length)
        self.label, self.keep = "log-likelihoods", keep
        self.truncated = self.tokens = self.plain_tokens = 0
        self._can_keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._keep = 0
        self._stderr = stderr
        self._engine = Engine(model, tokens)
        self._alike = context_of(model.config).alike  # beyond, positions depend on what else is computed
        self._last: tuple[str, list[int]] = ("", [])
        self._reading = contextlib.ExitStack()
        self._read: Callable[[], None] = lambda: None
        self.problem = self._engine.problem()
        if self.problem:
            with contextlib.redirect_stderr(stderr):
                progress.say(f"  {model.config.model_type}: prompts go through the model one by one, beginnings and all: {self.problem}")

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Answer]:
        """Of lm-eval's requests; that texts become tokens takes minutes where there are tens of thousands, and has a line of its own."""
        with contextlib.ExitStack() as self._reading:
            self._reading.enter_context(contextlib.redirect_stderr(self._stderr))
            bar = self._reading.enter_context(progress.bar(f"{self.label}: tokenizing", len(requests), "answers"))
            self._read = lambda: bar.advance()
            found: list[Answer] = super().loglikelihood(requests, disable_tqdm=True)
            return found

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """HFLM's rule; a context that comes again at once, as with the options of one item, is not tokenized again."""
        stripped = context.rstrip()
        whole = self.tok_encode(context + continuation)
        if self._last[0] != stripped:
            self._last = (stripped, self.tok_encode(stripped))
        before = self._last[1]
        self._read()
        return before, whole[len(before) :]

    def _loglikelihood_tokens(self, requests: list[Request], disable_tqdm: bool = True, override_bs: int | None = None) -> list[Answer]:
        self._reading.close()  # all are tokens now
        longest = self.max_length
        for text, _, continuation in requests:
            if not 0 < len(continuation) <= longest:
                what = "has no tokens of its own" if not continuation else f"has {len(continuation)} tokens, and the model takes {longest}"
                raise DataError(f"{self.label}: the continuation {text[1] if text else ''!r} {what}")
        self.truncated = len({text[0] if text else "" for text, c, t in requests if len(c) + len(t) > longest + 1})
        sizes = [min(len(context) + len(continuation) - 1, longest) for _, context, continuation in requests]
        plain = [i for i, size in enumerate(sizes) if self.problem or (self._alike is not None and size > self._alike)]
        apart = set(plain)
        shared = [i for i in range(len(requests)) if i not in apart]
        questions = [Question(np.array((c + t)[-(longest + 1) : -1], dtype=np.int32), t) for c, t in ([*requests[i][1:]] for i in shared)]
        answers: dict[int, Answer] = {}
        self.tokens = self.plain_tokens = 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stderr(self._stderr))
            answers.update(zip(shared, self._shared(questions, stack), strict=True))
            if plain:
                # beside others, a prompt of the second kind would come out otherwise
                answers.update(zip(plain, self._plain([requests[i] for i in plain], None if self.problem else 1), strict=True))
        bad = [i for i, (nats, _) in answers.items() if not math.isfinite(nats)]
        if bad:
            raise NonFiniteError(
                f"{self.label}: log-likelihoods of {len(bad)} of {len(requests)} answers are not finite; look for NaN in the weights"
            )
        return [answers[i] for i in range(len(requests))]

    def _shared(self, questions: Sequence[Question], stack: contextlib.ExitStack) -> list[Answer]:
        """Of all questions, some thousands at a time: what those came to is kept."""
        forests = [self._engine.plan(questions[at : at + PART]) for at in range(0, len(questions), PART)]
        self.tokens, self.plain_tokens = sum(f.tokens for f in forests), sum(f.plain_tokens for f in forests)
        kept = self.keep(self.label, self._identity(questions))
        done = sum(forest.tokens for part, forest in enumerate(forests) if part in kept)
        bar = stack.enter_context(progress.bar(self.label, self.tokens, "tokens", done=done)) if questions else None
        answers: list[Answer] = []
        for part, forest in enumerate(forests):
            if part in kept:
                answers += [(nats, greedy) for nats, greedy in kept[part]]
                continue
            assert bar is not None
            found = self._engine.answers(forest, bar.advance)
            if all(math.isfinite(nats) for nats, _ in found):  # else it is refused when all are there
                kept.keep(part, found)
            answers += found
        return answers

    def _identity(self, questions: Sequence[Question]) -> Iterator[bytes]:
        yield f"{self.model.dtype} {PART} {kernels.where_computed(self.model.device)}".encode()
        for question in questions:
            yield np.asarray(question.ids, dtype=np.int32).tobytes()
            yield np.asarray(question.targets, dtype=np.int32).tobytes()

    def _plain(self, requests: Sequence[Request], rows: int | None) -> list[Answer]:
        """HFLM's own way, but that it keeps the logits of the continuations only.

        With a vocabulary of 49,152, those of eight prompts of 2,000 tokens would take 3 GB, and their log-softmax as much again.
        """
        longest, own_size = self.max_length, self.batch_size_per_gpu
        lengths = [min(len(context) + len(continuation), longest + 1) for _, context, continuation in requests]
        order = sorted(range(len(requests)), key=lambda i: -lengths[i])
        # HFLM computes continuations of one token (MMLU's four letters) in one row: four requests a row fill a batch.
        self.batch_size_per_gpu = rows or own_size
        slice_size = 4 * int(self.batch_size_per_gpu)
        answers: dict[int, Answer] = {}
        try:
            with progress.bar(self.label, len(requests), "answers") as bar:
                for start in range(0, len(order), slice_size):
                    part = order[start : start + slice_size]
                    # Rows are padded on the right: the shortest row's continuation begins this far from the end at most.
                    self._keep = lengths[part[0]] - lengths[part[-1]] + max(len(requests[i][2]) for i in part)
                    answers.update(zip(part, super()._loglikelihood_tokens([requests[i] for i in part], disable_tqdm=True), strict=True))
                    bar.advance(len(part))
        finally:
            self.batch_size_per_gpu = own_size
        self.tokens += sum(lengths) - len(lengths)
        self.plain_tokens += sum(lengths) - len(lengths)
        return [answers[i] for i in range(len(requests))]

    def _model_call(self, inps: torch.Tensor, attn_mask: torch.Tensor | None = None, labels: torch.Tensor | None = None) -> Any:
        """Logits of the last positions; `HFLM` counts from the end. Shape: batch x (at most `_keep`) x vocabulary."""
        with torch.no_grad():
            return self.model(inps, **({"logits_to_keep": self._keep} if self._can_keep else {})).logits
