"""How long a run will take on this machine, said before it starts: tokens counted from the data, rates from a few real steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
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


def forecast(recipe: Recipe, stages: Iterable[str], ref: ModelRef) -> dict[str, float | None]:
    """Seconds for each of `stages` that trains or scores; stages that only move rows are not listed.

    None where it cannot be known yet: answers that a live model has yet to write have no length, and academic tasks are not measured.
    """
    from zephyr.models import load

    stages = set(stages)
    chat = load.load_chat(ref, recipe.model.chat_template)
    rates = _measure(load.load_model(ref), recipe)
    dialogues = _dialogues(recipe, chat)
    answers = _answers(recipe, chat)
    live = bool(recipe.complete) and not any(answers.values())
    seconds: dict[str, float | None] = {}
    if "sft" in stages and recipe.sft:
        steps = dialogues["train"].tokens / (recipe.sft.max_length * recipe.sft.batch_size) * recipe.sft.epochs
        looks = 2 + steps // recipe.sft.evaluate_every
        seconds["sft"] = rates.train * dialogues["train"].tokens * recipe.sft.epochs + rates.score * dialogues["test"].tokens * looks
    pairs = {split: volume.tokens(2) for split, volume in answers.items()}
    if "reference" in stages:
        seconds["reference"] = None if live else rates.score * (pairs["train"] + pairs["test"])
    if "dpo" in stages and recipe.dpo:
        looks = 2 + answers["train"].rows / recipe.dpo.batch_size * recipe.dpo.epochs // recipe.dpo.evaluate_every
        seconds["dpo"] = None if live else rates.train * pairs["train"] * recipe.dpo.epochs + rates.score * pairs["test"] * looks
    if "evaluate" in stages and recipe.evaluate:
        models = 1 + (recipe.sft is not None) + (recipe.dpo is not None)
        scored = dialogues["test"].tokens * (models + 1) + answers["test"].tokens(answers["test"].per_prompt) * models
        sampled = rates.step * recipe.evaluate.max_new_tokens * models * (recipe.evaluate.samples > 0)
        seconds["evaluate"] = None if live or recipe.evaluate.benchmarks else rates.score * scored + sampled
    return seconds


def describe(seconds: dict[str, float | None]) -> str:
    """In words."""
    known = {stage: s for stage, s in seconds.items() if s is not None}
    unknown = [stage for stage in seconds if stage not in known]
    rest = f"; not known yet: {', '.join(unknown)}" if unknown else ""
    if not known:
        return f"forecast: not known yet: {', '.join(unknown)}"
    parts = ", ".join(f"{stage} {_minutes(s)}" for stage, s in known.items())
    return f"forecast: about {_minutes(sum(known.values()))} ({parts}), from a few measured steps on this machine{rest}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# --- how much --------------------------------------------------------------------------------------------------


def _volume(data: Sequence[DataSource], test_fraction: float, length: Callable[[dict[str, Any]], float]) -> dict[str, Volume]:
    rows = {"train": 0.0, "test": 0.0}
    lengths: list[float] = []
    for source in data:
        for _, split, row in sources.rows(source):
            tested = float(split == "test") if split else test_fraction
            rows["test"] += tested
            rows["train"] += (1 - tested) * source.weight
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


@dataclass(frozen=True)
class Answers:
    """Prompts of a split, the mean lengths in tokens of a prompt and of an answer to it, and how many answers each has.

    False where no lengths could be seen.
    """

    rows: int = 0
    prompt: float = 0.0
    answer: float = 0.0
    per_prompt: int = 1

    seen: bool = False

    def __bool__(self) -> bool:
        return self.seen

    def tokens(self, answers: int) -> float:
        """With so many answers a prompt, which goes through the model once."""
        return self.rows * (self.prompt + answers * self.answer)


def _answers(recipe: Recipe, chat: ChatFormat) -> dict[str, Answers]:
    limit = recipe.dpo.max_length if recipe.dpo else None
    found: list[tuple[int, float, int]] = []  # of the rows sampled: tokens of the prompt, of an answer, answers

    def of(prompt: str, answers: Sequence[str]) -> float:
        """Remembers the lengths; what does not fit is dropped by the stage."""
        parts = [chat.encode_pair([{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]) for text in answers]
        lengths = [len(answer) for _, answer in parts]
        asked = min(len(parts[0][0]), recipe.dpo.max_prompt_length if recipe.dpo else len(parts[0][0]))
        fits = not limit or asked + max(lengths) <= limit
        found.append((asked, sum(lengths) / len(lengths), len(lengths)) if fits else (0, 0.0, len(lengths)))
        return 0.0

    def of_row(row: dict[str, Any]) -> float:
        if "chosen" not in row:
            return of(row["prompt"], [c["response"] for c in row["completions"]])
        texts = [x if isinstance(x, str) else x[-1]["content"] for x in (row["chosen"], row["rejected"])]
        return of(row["prompt"] if isinstance(row.get("prompt"), str) else row["chosen"][0]["content"], texts)

    if recipe.binarize and recipe.binarize.data:
        volumes = _volume(recipe.binarize.data, recipe.binarize.test_fraction, of_row)
    elif recipe.rate and recipe.rate.data:
        volumes = _volume(recipe.rate.data, 0.0, of_row)
    elif recipe.complete:
        volumes = _volume(recipe.complete.prompts, recipe.complete.test_fraction, lambda _: 0.0)
        teacher: TeacherConfig = next(iter(recipe.complete.pool.values()))
        _volume(teacher.recordings(), 0.0, of_row)  # a live teacher has none: its answers are not written yet
    else:
        return {"train": Answers(), "test": Answers()}
    prompt, answer = (sum(row[i] for row in found) / len(found) if found else 0.0 for i in range(2))
    per_prompt = recipe.complete.models_per_prompt if recipe.complete else max((n for *_, n in found), default=1)
    return {split: Answers(volume.rows, prompt, answer, per_prompt, bool(found)) for split, volume in volumes.items()}


# --- how fast --------------------------------------------------------------------------------------------------


def _measure(model: Any, recipe: Recipe) -> Rates:
    """Rates of a forward, a forward and backward, and a step of generation, each the better of two."""
    import torch

    from zephyr.recipe import DPOConfig
    from zephyr.train.batches import branching
    from zephyr.train.loop import Trainer
    from zephyr.train.precision import resolve_dtype
    from zephyr.train.tasks import Pair, preferences

    device = model.device.type
    trainer: Trainer[Pair] = Trainer(
        model,
        preferences(DPOConfig()),
        DPOConfig(),
        resolve_dtype(recipe.train.dtype, device),
        recipe.train.micro_batch_tokens,
        0,
        lambda _: None,
    )

    def pair(tokens: int) -> list[Pair]:
        ids = [(7919 * i) % model.config.get_text_config().vocab_size for i in range(tokens)]
        third = tokens // 3
        return [Pair("probe", branching(ids[:third], ids[third : 2 * third], ids[2 * third :]), 0.0, 0.0)]

    def best(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(2):
            start = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)

    def train() -> None:
        trainer.accumulate(pair(PROBE_TOKENS))
        model.zero_grad(set_to_none=True)

    model.train()
    seconds = best(train)
    score, step = (best(partial(trainer.means, pair(n))) for n in (PROBE_TOKENS, 16))
    return Rates(train=seconds / PROBE_TOKENS, score=score / PROBE_TOKENS, step=step)
