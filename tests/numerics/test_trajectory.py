"""Fifty steps beside TRL's trainers: the same data in the same order at the same rates, in float32, give the same losses and weights."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

import tiny
from zephyr.recipe import DPOConfig, OptimizerConfig, SFTConfig
from zephyr.train.batches import Example, branching, flatten, shuffled
from zephyr.train.logprobs import sequence_sums, stream_logprobs
from zephyr.train.loop import Trainer
from zephyr.train.optim import learning_rate
from zephyr.train.tasks import SFT, Dialogues, Pair, preferences

STEPS, BATCH, RATE = 50, 4, 3e-4
REASON = "TRL, the peer that this test compares with, is not installed"
WORDS = [
    "why",
    "is",
    "the",
    "sky",
    "blue",
    "green",
    "bread",
    "and",
    "milk",
    "you",
    "need",
    "a",
    "list",
    "of",
    "three",
    "eggs",
    "for",
    "today",
    "no",
]


def turn(rng: random.Random, role: str) -> list[dict[str, str]]:
    return [{"role": role, "content": " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))}]


def rows(**roles: str) -> list[dict[str, Any]]:
    """Columns of one turn each, for all steps."""
    rng = random.Random(0)
    return [{column: turn(rng, role) for column, role in roles.items()} for _ in range(STEPS * BATCH)]


# with an order of their own, the rows of the peer are laid where ours are drawn
ORDER = shuffled([f"p{i}" for i in range(STEPS * BATCH)], 0, 0)


def in_our_order(given: list[dict[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([given[i] for i in ORDER])


def as_given(tokenized: Any) -> list[Any]:
    laid = list(tokenized)
    return [laid[ORDER.index(i)] for i in range(len(laid))]


def pairs(tokenized: Any, reference: Any) -> list[Pair]:
    made = []
    for i, row in enumerate(as_given(tokenized)):
        answers = branching(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])
        stream = flatten([answers])
        made.append(Pair(f"p{i}", answers, *sequence_sums(stream_logprobs(reference, stream), stream).tolist()))
    return made


def dialogues(tokenized: Any) -> list[Dialogues]:
    given = [Example(tuple(row["input_ids"]), tuple(label != -100 for label in row["labels"])) for row in as_given(tokenized)]
    assert not any(all(example.learnt) for example in given), "the prompt is not learnt"
    return [Dialogues(f"p{i}", (example,)) for i, example in enumerate(given)]


def theirs(folder: Path) -> dict[str, Any]:
    """What both of TRL's trainers are told; the schedule is replaced by ours."""
    return {
        "output_dir": str(folder), "use_cpu": True, "bf16": False, "report_to": "none", "gradient_checkpointing": False, "save_strategy": "no",
        "per_device_train_batch_size": BATCH, "max_steps": STEPS, "learning_rate": RATE, "logging_steps": 1, "max_grad_norm": 1.0,
        "train_sampling_strategy": "sequential", "disable_tqdm": True, "max_length": None,
    }  # fmt: skip


def both_learn_the_same(trainer: Any, task: Any, config: OptimizerConfig, items: list[Any]) -> None:
    """TRL's trainer at our rates, and ours; their losses, gradient norms and weights."""
    trainer.create_optimizer()
    trainer.lr_scheduler = LambdaLR(trainer.optimizer, lambda step: learning_rate(step, STEPS, config) / RATE)
    trainer.train()
    logged = [line for line in trainer.state.log_history if "loss" in line]
    ours, lines = tiny.tiny_model(seed=1), []
    Trainer(ours, task, config, torch.float32, 100_000, 0, lines.append).train(items, [], "train")
    found = [line for line in lines if line["kind"] == "train"]
    assert len(found) == len(logged) == STEPS
    losses = [line["loss"] for line in found]
    assert max(losses) - min(losses) > 0.1, "the losses must move for this to say anything"
    assert max(abs(a - b["loss"]) for a, b in zip(losses, logged, strict=True)) < 1e-4
    assert max(abs(a["grad_norm"] - b["grad_norm"]) / b["grad_norm"] for a, b in zip(found, logged, strict=True)) < 1e-3
    for (name, mine), other in zip(ours.named_parameters(), trainer.model.parameters(), strict=True):
        assert (mine - other).norm() < 1e-4 * other.norm(), name


@pytest.mark.parametrize(("schedule", "warmup_ratio"), [("constant", 0.0), ("linear", 0.1)])
def test_fifty_steps_of_ddpo_are_those_of_trl(schedule: Any, warmup_ratio: float, tmp_path: Path) -> None:
    trl: Any = pytest.importorskip("trl", reason=REASON)
    config = DPOConfig(learning_rate=RATE, schedule=schedule, warmup_ratio=warmup_ratio, batch_size=BATCH, evaluate_every=1000)
    trainer = trl.DPOTrainer(
        model=tiny.tiny_model(seed=1, attention="sdpa"), ref_model=tiny.tiny_model(seed=2, attention="sdpa"),
        args=trl.DPOConfig(beta=0.1, **theirs(tmp_path)), processing_class=tiny.byte_tokenizer(),
        train_dataset=in_our_order(rows(prompt="user", chosen="assistant", rejected="assistant")),
    )  # fmt: skip
    both_learn_the_same(trainer, preferences(config), config, pairs(trainer.train_dataset, tiny.tiny_model(seed=2)))


def test_fifty_steps_of_dsft_are_those_of_trl(tmp_path: Path) -> None:
    trl: Any = pytest.importorskip("trl", reason=REASON)
    config = SFTConfig(learning_rate=RATE, schedule="cosine", warmup_ratio=0.1, batch_size=BATCH, evaluate_every=1000, packing=False)
    trainer = trl.SFTTrainer(
        model=tiny.tiny_model(seed=1, attention="sdpa"), args=trl.SFTConfig(**theirs(tmp_path)), processing_class=tiny.byte_tokenizer(),
        train_dataset=in_our_order(rows(prompt="user", completion="assistant")),
    )  # fmt: skip
    both_learn_the_same(trainer, SFT(), config, dialogues(trainer.train_dataset))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_rates_are_those_of_transformers_after_the_warm_up_and_a_little_ahead_in_it(schedule: Any) -> None:
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler("constant_with_warmup" if schedule == "constant" else schedule, optimizer, 5, STEPS)
    config = DPOConfig(learning_rate=1.0, schedule=schedule, warmup_ratio=0.1)
    for step in range(STEPS):
        (their,), our = scheduler.get_last_lr(), learning_rate(step, STEPS, config)
        assert (our, their) == pytest.approx(((step + 1) / 6, step / 5) if step < 5 else (our, our))
        optimizer.step()
        scheduler.step()
