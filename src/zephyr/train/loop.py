"""The training loop of both stages."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import torch

from zephyr.errors import NonFiniteError
from zephyr.progress import bar, say
from zephyr.recipe import OptimizerConfig
from zephyr.train.batches import flatten, micro_batches, shuffled
from zephyr.train.logprobs import sequence_sums, stream_logprobs
from zephyr.train.optim import adamw, learning_rate
from zephyr.train.tasks import ItemT, Stats, Task

Log = Callable[[dict[str, Any]], None]


@dataclass
class Trainer(Generic[ItemT]):
    """A model, what it learns, and how.

    Args:
        model: in float32; its products are computed in `dtype`.
        task: turns log-probabilities into a loss.
        config: optimizer, schedule, batch size, epochs.
        micro_batch_tokens: tokens that go through the model at once; does not change what is computed.
        seed: decides the order of the items, with the epoch and their ids.
        log: takes a line a step.
    """

    model: Any
    task: Task[ItemT]
    config: OptimizerConfig
    dtype: torch.dtype
    micro_batch_tokens: int
    seed: int
    log: Log
    tokens: int = field(default=0, init=False)

    def train(self, items: Sequence[ItemT], test: Sequence[ItemT], label: str) -> Stats:
        """Train on `items`, looking at `test` now and then; returns the last look at the test items.

        Raises:
            NonFiniteError: a loss or gradient is not finite; the update was not made.
        """
        config, per_epoch = self.config, math.ceil(len(items) / self.config.batch_size)
        steps = per_epoch * config.epochs
        optimizer, started = adamw(self.model, config), time.perf_counter()
        self.model.train()
        final = self.look(test, 0)
        work = sum(_tokens(item) for item in items) * config.epochs
        with bar(label, work, "tokens") as progress:
            order: list[int] = []
            for step in range(steps):
                epoch, at = divmod(step, per_epoch)
                if at == 0:
                    order = shuffled([item.id for item in items], self.seed, epoch)
                batch = [items[i] for i in order[at * config.batch_size : (at + 1) * config.batch_size]]
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step, steps, config)
                stats = self.accumulate(batch)
                norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm))
                if not math.isfinite(norm):
                    raise NonFiniteError(
                        f"step {step + 1}: the gradient is {norm}; stopped before the update. Rows of the batch: {_names(batch)}"
                    )
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                self.log(
                    {
                        "kind": "train",
                        "step": step + 1,
                        "epoch": (step + 1) / per_epoch,
                        **stats,
                        "learning_rate": optimizer.param_groups[0]["lr"],
                        "grad_norm": norm,
                        "tokens": self.tokens,
                        "seconds": round(time.perf_counter() - started, 3),
                    }
                )
                progress.advance(sum(_tokens(item) for item in batch), _line(stats))
                if (step + 1) % config.evaluate_every == 0 or step + 1 == steps:
                    final = self.look(test, step + 1)
        self.model.eval()
        return final

    def accumulate(self, batch: Sequence[ItemT]) -> Stats:
        """Gradients of the mean loss over a batch, micro-batch by micro-batch; returns the means.

        Every micro-batch is divided by the weight of the whole batch, so that how it is split does not matter.
        """
        weight = sum(item.weight for item in batch)
        totals: Counter[str] = Counter()
        for group in micro_batches(batch, _tokens, self.micro_batch_tokens):
            loss, stats = self._loss(group)
            (loss / weight).backward()  # type: ignore[no-untyped-call]
            totals.update({"loss": float(loss.detach()), **stats})
            self.tokens += sum(_tokens(item) for item in group)
        return {name: value / weight for name, value in totals.items()}

    @torch.no_grad()
    def look(self, test: Sequence[ItemT], step: int) -> Stats:
        """Mean loss and statistics over the test items, which are logged."""
        if not test:
            return {}
        self.model.eval()
        weight = sum(item.weight for item in test)
        totals: Counter[str] = Counter()
        for group in micro_batches(test, _tokens, self.micro_batch_tokens):
            loss, stats = self._loss(group)
            totals.update({"loss": float(loss), **stats})
        self.model.train()
        means = {name: value / weight for name, value in totals.items()}
        self.log({"kind": "test", "step": step, **means})
        say(f"  test at step {step}: {_line(means)}")
        return means

    def _loss(self, group: Sequence[ItemT]) -> tuple[torch.Tensor, Stats]:
        stream = flatten([e for item in group for e in item.examples], str(self.model.device))
        sums_S = sequence_sums(stream_logprobs(self.model, stream, self.dtype), stream)
        loss, stats = self.task.loss(sums_S, group)
        if not torch.isfinite(loss):
            owners = [item for item in group for _ in item.examples]
            bad = [owner for owner, value in zip(owners, sums_S.tolist(), strict=True) if not math.isfinite(value)] or list(group)
            raise NonFiniteError(f"the loss is {float(loss.detach())}; stopped before the update. Rows: {_names(bad)}")
        return loss, stats


def _tokens(item: Any) -> int:
    return sum(len(e.ids) for e in item.examples)


def _names(items: Sequence[Any]) -> str:
    names = list(dict.fromkeys(item.id for item in items))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _line(stats: Stats) -> str:
    shown = [("loss", "loss"), ("accuracy", "reward accuracy"), ("margin", "margin")]
    return ", ".join(f"{label} {stats[name]:.4f}" for name, label in shown if name in stats)
