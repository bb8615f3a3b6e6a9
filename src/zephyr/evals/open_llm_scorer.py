"""lm-eval's Hugging Face model, with less memory and our progress line. Imports lm-eval; imported lazily."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
from typing import Any, TextIO

import torch
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zephyr import progress
from zephyr.errors import ModelError, NonFiniteError

# What lm-eval asks: ((context, continuation), ids of the context, ids of the continuation).
Request = tuple[tuple[str, str], list[int], list[int]]


class Scorer(HFLM):  # type: ignore[misc]  # lm-eval ships no types
    """Log-likelihoods (nats, summed over tokens) of continuations after contexts.

    The answers are those of `HFLM`. It keeps the logits of the continuations only: with a vocabulary of 49,152, those
    of eight prompts of 2,000 tokens would take 3 GB, and their log-softmax as much again.

    Attributes:
        label: what the progress line says.
        truncated: in the latest call, how many different contexts were longer than the model takes. They lose
            their beginning: a prompt is then not of so many shots as it says.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, stderr: TextIO) -> None:
        """Wrap a model where it is (CPU or GPU), as it is.

        Args:
            model: which answers.
            tokenizer: its tokenizer; copied, since `HFLM` alters it.
            batch_size: rows a forward pass.
            stderr: where the progress line goes; lm-eval itself runs with stderr turned off.

        Raises:
            ModelError: the tokenizer ends every text in EOS, so that no text continues another.
        """
        ids = tokenizer("a")["input_ids"]
        if ids and ids[-1] == tokenizer.eos_token_id:
            name = tokenizer.name_or_path or "the tokenizer"
            raise ModelError(f"{name}: it ends every text with EOS, so no text continues another; set its `add_eos_token` to false")
        super().__init__(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
        self.label = ""
        self.truncated = 0
        self._can_keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._keep = 0
        self._stderr = stderr

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        lengths = [min(len(context) + len(continuation), self.max_length + 1) for _, context, continuation in requests]
        self.truncated = len({text for (text, _), c, t in requests if len(c) + len(t) > self.max_length + 1})
        order = sorted(range(len(requests)), key=lambda i: -lengths[i])
        # HFLM computes continuations of one token (MMLU's four letters) in one row: four requests a row fill a batch.
        slice_size = 4 * int(self.batch_size)
        answers: dict[int, tuple[float, bool]] = {}
        with contextlib.redirect_stderr(self._stderr), progress.bar(self.label, len(requests), "answers") as bar:
            for start in range(0, len(order), slice_size):
                part = order[start : start + slice_size]
                # Rows are padded on the right: the shortest row's continuation begins this far from the end at most.
                self._keep = lengths[part[0]] - lengths[part[-1]] + max(len(requests[i][2]) for i in part)
                answers.update(zip(part, super()._loglikelihood_tokens([requests[i] for i in part], disable_tqdm=True), strict=True))
                bar.advance(len(part))
        bad = [i for i, (nats, _) in answers.items() if not math.isfinite(nats)]
        if bad:
            raise NonFiniteError(
                f"{self.label}: log-likelihoods of {len(bad)} of {len(requests)} answers are not finite; look for NaN in the weights"
            )
        return [answers[i] for i in range(len(requests))]

    def _model_call(self, inps: torch.Tensor, attn_mask: torch.Tensor | None = None, labels: torch.Tensor | None = None) -> Any:
        """Logits of the last positions; `HFLM` counts from the end. Shape: batch x (at most `_keep`) x vocabulary."""
        with torch.no_grad():
            return self.model(inps, **({"logits_to_keep": self._keep} if self._can_keep else {})).logits
