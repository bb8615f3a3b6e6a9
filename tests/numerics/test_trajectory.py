"""Fifty steps of dDPO beside TRL's trainer: the same data in the same order, in float32, give the same losses and weights."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from zephyr.objectives import dpo
from zephyr.recipe import DPOConfig
from zephyr.train.batches import branching, flatten, shuffled
from zephyr.train.logprobs import sequence_sums, stream_logprobs
from zephyr.train.loop import Trainer
from zephyr.train.tasks import Pair, Preferences

STEPS, BATCH, RATE = 50, 4, 3e-4
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


def rows() -> list[dict[str, Any]]:
    rng = random.Random(0)

    def turn(role: str) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))}]

    return [{"prompt": turn("user"), "chosen": turn("assistant"), "rejected": turn("assistant")} for _ in range(STEPS * BATCH)]


def pairs(tokenized: Any, reference: Any) -> list[Pair]:
    made = []
    for i, row in enumerate(tokenized):
        answers = branching(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])
        stream = flatten([answers])
        made.append(Pair(f"p{i}", answers, *sequence_sums(stream_logprobs(reference, stream), stream).tolist()))
    return made


def test_fifty_steps_are_those_of_trl(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL, the peer that this test compares with, is not installed")
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig as TRLConfig
    from trl import DPOTrainer

    class Losses(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[float] = []
            self.norms: list[float] = []

        def on_log(self, *_: Any, logs: dict[str, Any] | None = None, **__: Any) -> None:
            if logs and "loss" in logs:
                self.seen.append(float(logs["loss"]))
                self.norms.append(float(logs["grad_norm"]))

    losses, theirs = Losses(), tiny.tiny_model(seed=1, attention="sdpa")
    config = TRLConfig(
        output_dir=str(tmp_path), beta=0.1, use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False, save_strategy="no",
        per_device_train_batch_size=BATCH, max_steps=STEPS, learning_rate=RATE, lr_scheduler_type="constant", logging_steps=1,
        max_grad_norm=1.0, train_sampling_strategy="sequential", disable_tqdm=True, max_length=None,
    )  # fmt: skip
    # with an order of their own, the rows of the peer are laid where ours are drawn
    order = shuffled([f"p{i}" for i in range(STEPS * BATCH)], 0, 0)
    given = rows()
    data = Dataset.from_list([given[i] for i in order])
    trainer = DPOTrainer(
        model=theirs, ref_model=tiny.tiny_model(seed=2, attention="sdpa"), args=config, train_dataset=data,
        processing_class=tiny.byte_tokenizer(), callbacks=[losses],
    )  # fmt: skip
    tokenized = list(trainer.train_dataset)
    items = pairs([tokenized[order.index(i)] for i in range(len(order))], tiny.tiny_model(seed=2))
    trainer.train()

    ours, lines = tiny.tiny_model(seed=1), []
    settings = DPOConfig(learning_rate=RATE, schedule="constant", warmup_ratio=0.0, batch_size=BATCH, evaluate_every=1000)
    training = Trainer(ours, Preferences(partial(dpo, beta=0.1), 0.1), settings, torch.float32, 100_000, 0, lines.append)
    training.train(items, [], "dpo")
    found = [line["loss"] for line in lines if line["kind"] == "train"]
    assert len(found) == len(losses.seen) == STEPS
    assert max(found) - min(found) > 0.1, "the losses must move for this to say anything"
    assert max(abs(a - b) for a, b in zip(found, losses.seen, strict=True)) < 1e-4
    norms = [line["grad_norm"] for line in lines if line["kind"] == "train"]
    assert max(abs(a - b) / b for a, b in zip(norms, losses.norms, strict=True)) < 1e-3
    for (name, mine), other in zip(ours.named_parameters(), trainer.model.parameters(), strict=True):
        assert (mine - other).norm() < 1e-4 * other.norm(), name
