"""How long a run will take on this machine, said before it starts: tokens counted from the data, rates from a few real steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr import sources
from zephyr.errors import ZephyrError
from zephyr.recipe import DataSource, Recipe, TeacherConfig

if TYPE_CHECKING:
    from zephyr.models.load import ModelRef
    from zephyr.text.chat import ChatFormat

PROBE_TOKENS = 512
SAMPLE_ROWS = 500  # enough for a mean length; the rest is counted, not tokenized


@dataclass(frozen=True)
class Rates:
    """Seconds a token, of this model on this machine."""

    train: float
    score: float
    step: float  # one token more for every answer of a batch


@dataclass(frozen=True)
class Volume:
    """Rows of a split and their mean length in tokens."""

    rows: int = 0
    mean: float = 0.0

    @property
    def tokens(self) -> float:
        """In all."""
        return self.rows * self.mean


def forecast(recipe: Recipe, stages: Iterable[str], ref: ModelRef) -> dict[str, float]:
    """Seconds for each of `stages` that trains or scores; stages that only move rows are not listed.

    Answers that a live model has yet to write are not counted: their number of tokens is not known.
    """
    from zephyr.models import load

    stages = set(stages)
    chat = load.load_chat(ref, recipe.model.chat_template)
    rates = _measure(load.load_model(ref), recipe)
    dialogues = _dialogues(recipe, chat)
    answers, per_prompt = _answers(recipe, chat)
    seconds: dict[str, float] = {}
    if "sft" in stages and recipe.sft:
        steps = dialogues["train"].tokens / (recipe.sft.max_length * recipe.sft.batch_size) * recipe.sft.epochs
        looks = 2 + steps // recipe.sft.evaluate_every
        seconds["sft"] = rates.train * dialogues["train"].tokens * recipe.sft.epochs + rates.score * dialogues["test"].tokens * looks
    pairs = {split: 2 * volume.tokens / per_prompt for split, volume in answers.items()}
    if "reference" in stages:
        seconds["reference"] = rates.score * (pairs["train"] + pairs["test"])
    if "dpo" in stages and recipe.dpo:
        looks = 2 + answers["train"].rows / per_prompt / recipe.dpo.batch_size * recipe.dpo.epochs // recipe.dpo.evaluate_every
        seconds["dpo"] = rates.train * pairs["train"] * recipe.dpo.epochs + rates.score * pairs["test"] * looks
    if "evaluate" in stages and recipe.evaluate:
        models = 1 + (recipe.sft is not None) + (recipe.dpo is not None)
        scored = dialogues["test"].tokens * (models + 1) + answers["test"].tokens * models
        seconds["evaluate"] = rates.score * scored + rates.step * recipe.evaluate.max_new_tokens * models * (recipe.evaluate.samples > 0)
    return seconds


def describe(seconds: dict[str, float]) -> str:
    """In words."""
    parts = ", ".join(f"{stage} {_minutes(s)}" for stage, s in seconds.items())
    return f"forecast: about {_minutes(sum(seconds.values()))} ({parts}), from a few measured steps on this machine"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# --- how much --------------------------------------------------------------------------------------------------


def _volume(data: Sequence[DataSource], test_fraction: float, length: Callable[[dict[str, Any]], float]) -> dict[str, Volume]:
    rows = {"train": 0.0, "test": 0.0}
    lengths: list[float] = []
    for source in data:
        for _, split, row in sources.rows(source):
            if split:
                rows[split] += 1
            else:
                rows["test"] += test_fraction
                rows["train"] += 1 - test_fraction
            if len(lengths) < SAMPLE_ROWS:
                try:
                    lengths.append(length(row))
                except (ZephyrError, LookupError, TypeError, AttributeError, ZeroDivisionError):
                    continue  # a row that is wrong is the stage's to refuse, not the forecast's
    mean = sum(lengths) / len(lengths) if lengths else 0.0
    return {split: Volume(round(n), mean) for split, n in rows.items()}


def _dialogues(recipe: Recipe, chat: ChatFormat) -> dict[str, Volume]:
    if not recipe.curate:
        return {"train": Volume(), "test": Volume()}
    limit = recipe.sft.max_length if recipe.sft else 2048
    return _volume(recipe.curate.data, recipe.curate.test_fraction, lambda row: min(limit, len(chat.encode(row["messages"]).ids)))


def _answers(recipe: Recipe, chat: ChatFormat) -> tuple[dict[str, Volume], int]:
    """Sequences of prompt + answer, and how many there are a prompt."""
    limit = recipe.dpo.max_length if recipe.dpo else None

    def ids(prompt: str, answer: str) -> int:
        tokens = len(chat.encode([{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]).ids)
        return 0 if limit and tokens > limit else tokens  # what does not fit is dropped by the stage

    def of_pair(row: dict[str, Any]) -> float:
        texts = [x if isinstance(x, str) else x[-1]["content"] for x in (row["chosen"], row["rejected"])]
        prompt = row["prompt"] if isinstance(row.get("prompt"), str) else row["chosen"][0]["content"]
        return sum(ids(prompt, text) for text in texts) / 2

    def of_completions(row: dict[str, Any]) -> float:
        return sum(ids(row["prompt"], c["response"]) for c in row["completions"]) / len(row["completions"])

    if recipe.binarize and recipe.binarize.data:
        found = _volume(recipe.binarize.data, recipe.binarize.test_fraction, lambda r: of_pair(r) if "chosen" in r else of_completions(r))
        return {split: Volume(2 * v.rows, v.mean) for split, v in found.items()}, 2
    if recipe.rate and recipe.rate.data:
        return {split: Volume(4 * v.rows, v.mean) for split, v in _volume(recipe.rate.data, 0.0, of_completions).items()}, 4
    if recipe.complete:
        k = recipe.complete.models_per_prompt
        prompts = _volume(recipe.complete.prompts, recipe.complete.test_fraction, lambda row: float(len(row["prompt"])))
        teacher: TeacherConfig = next(iter(recipe.complete.pool.values()))
        mean = _volume(teacher.recordings(), 0.0, of_completions)["train"].mean
        return {split: Volume(k * v.rows, mean) for split, v in prompts.items()}, k
    return {"train": Volume(), "test": Volume()}, 1


# --- how fast --------------------------------------------------------------------------------------------------


def _measure(model: Any, recipe: Recipe) -> Rates:
    """Rates of a forward, a forward and backward, and a step of generation, each the better of two."""
    import torch

    from zephyr.train.batches import Example, flatten
    from zephyr.train.logprobs import sequence_sums, stream_logprobs
    from zephyr.train.precision import resolve_dtype

    device = str(model.device)
    dtype = resolve_dtype(recipe.train.dtype, device)

    def stream(tokens: int) -> Any:
        ids = tuple((7919 * i) % model.config.vocab_size for i in range(tokens))
        # two thirds learnt, about what a dialogue has
        return flatten([Example(ids, tuple(3 * i > tokens for i in range(tokens)))], device)

    def best(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(2):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    @torch.no_grad()
    def forward(tokens: int) -> None:
        s = stream(tokens)
        float(sequence_sums(stream_logprobs(model, s, dtype), s).sum())

    def backward() -> None:
        s = stream(PROBE_TOKENS)
        sequence_sums(stream_logprobs(model, s, dtype), s).sum().backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    return Rates(
        train=best(backward) / PROBE_TOKENS, score=best(lambda: forward(PROBE_TOKENS)) / PROBE_TOKENS, step=best(lambda: forward(16))
    )
