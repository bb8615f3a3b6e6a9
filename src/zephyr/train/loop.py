"""The training loop of both stages."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import torch

from zephyr.errors import NonFiniteError
from zephyr.guards import uncut
from zephyr.progress import bar, say
from zephyr.recipe import OptimizerConfig
from zephyr.train.batches import flatten, micro_batches, shuffled
from zephyr.train.checkpoint import Checkpoints, Position
from zephyr.train.head import head_loss
from zephyr.train.logprobs import stream_hidden
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
        dtype: of the products.
        micro_batch_tokens: tokens that go through the model at once; does not change what is computed.
        seed: decides the order of the items, with the epoch and their ids.
        log: takes a line a step.
        checkpoints: where to go on from, and where to save.
    """

    model: Any
    task: Task[ItemT]
    config: OptimizerConfig
    dtype: torch.dtype
    micro_batch_tokens: int
    seed: int
    log: Log
    checkpoints: Checkpoints | None = None
    at: Position = field(default_factory=Position, init=False)

    def train(self, items: Sequence[ItemT], test: Sequence[ItemT], label: str) -> Stats:
        """Train on `items`, looking at `test` now and then; returns the last look at the test items.

        Raises:
            NonFiniteError: a loss or gradient is not finite; the update was not made.
            KeyboardInterrupt: Ctrl-C or SIGTERM; the last whole update is saved, if there is where.
        """
        config, per_epoch = self.config, math.ceil(len(items) / self.config.batch_size)
        steps = per_epoch * config.epochs
        optimizer = adamw(self.model, config)
        self.at = self.checkpoints.restore(self.model, optimizer) if self.checkpoints else Position()
        started = time.perf_counter() - self.at.seconds
        order: tuple[int, list[int]] = (-1, [])
        self._training_mode()
        work = sum(_tokens(item) for item in items) * config.epochs
        with bar(label, work, "tokens", done=self.at.tokens) as progress, self._saved(optimizer):
            while True:
                if self.at.test_step < self.at.step and (self.at.step % config.evaluate_every == 0 or self.at.step == steps):
                    self.look(test)
                if self.at.step == steps:
                    break
                if self.checkpoints and self.checkpoints.due():
                    self.checkpoints.save(self.at, self.model, optimizer)
                epoch, nth = divmod(self.at.step, per_epoch)
                if order[0] != epoch:
                    order = epoch, shuffled([item.id for item in items], self.seed, epoch)
                batch = [items[i] for i in order[1][nth * config.batch_size : (nth + 1) * config.batch_size]]
                tokens = sum(_tokens(item) for item in batch)
                stats = self.accumulate(batch)
                norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm))
                if not math.isfinite(norm):
                    raise NonFiniteError(
                        f"step {self.at.step + 1}: the gradient is {norm}; stopped before the update. Rows of the batch: {_names(batch)}"
                    )
                with uncut():  # half an update is neither the old weights nor the new
                    rate = learning_rate(self.at.step, steps, config)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    self.at.step += 1
                    self.at.tokens += tokens
                    self.at.seconds = time.perf_counter() - started
                    line = {"kind": "train", "step": self.at.step, "epoch": self.at.step / per_epoch, **stats, "learning_rate": rate}
                    self.log({**line, "grad_norm": norm, "tokens": self.at.tokens, "seconds": round(self.at.seconds, 3)})
                progress.advance(tokens, _line(stats))
        self.model.eval()
        return self.at.test

    def _training_mode(self) -> None:
        """With dropout, where a model has it; not for preferences, whose reference was computed without."""
        self.model.train(self.task.by_token)

    @contextlib.contextmanager
    def _saved(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Ctrl-C or SIGTERM saves the last whole update."""
        try:
            yield
        except KeyboardInterrupt:
            if self.checkpoints and self.at.step:
                with uncut():
                    self.checkpoints.save(self.at, self.model, optimizer)
            raise

    def accumulate(self, batch: Sequence[ItemT]) -> Stats:
        """Gradients of the mean loss over a batch, micro-batch by micro-batch; returns the means.

        Every micro-batch is divided by the weight of the whole batch, so that how it is split does not matter.
        """
        weight = sum(item.weight for item in batch)
        totals: Counter[str] = Counter()
        for group in micro_batches(batch, _tokens, self.micro_batch_tokens):
            loss, stats = self._loss(group, 1 / weight)
            loss.backward()  # type: ignore[no-untyped-call]
            totals.update(stats)
        return {name: value / weight for name, value in totals.items()}

    def look(self, test: Sequence[ItemT]) -> None:
        """Mean loss and statistics over the test items, which are logged."""
        means = self.means(test)
        with uncut():
            if means:
                self.log({"kind": "test", "step": self.at.step, **means})
                say(f"  test at step {self.at.step}: {_line(means)}")
            self.at.test, self.at.test_step = means, self.at.step

    @torch.no_grad()
    def means(self, items: Sequence[ItemT]) -> Stats:
        """Mean loss and statistics over some items, under the model as it is."""
        weight = sum(item.weight for item in items)
        totals: Counter[str] = Counter()
        self.model.eval()
        for group in micro_batches(items, _tokens, self.micro_batch_tokens):
            totals.update(self._loss(group, 1.0)[1])
        self._training_mode()
        return {name: value / weight for name, value in totals.items()}

    def _loss(self, group: Sequence[ItemT], scale: float) -> tuple[torch.Tensor, Stats]:
        """The scaled loss of some items, and their sums of everything that is shown, the loss unscaled."""
        stream = flatten([e for item in group for e in item.examples], str(self.model.device))
        loss, sums_S = head_loss(self.model, stream_hidden(self.model, stream, self.dtype), stream, group, self.task, scale)
        if not torch.isfinite(loss):
            owners = [item for item in group for e in item.examples for _ in e.targets]
            bad = [owner for owner, value in zip(owners, sums_S.tolist(), strict=True) if not math.isfinite(value)] or list(group)
            raise NonFiniteError(f"the loss is {float(loss.detach())}; stopped before the update. Rows: {_names(bad)}")
        return loss, {"loss": float(loss.detach()) / scale, **self.task.stats(sums_S, group)}


def _tokens(item: Any) -> int:
    return sum(e.tokens for e in item.examples)


def _names(items: Sequence[Any]) -> str:
    names = list(dict.fromkeys(item.id for item in items))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _line(stats: Stats) -> str:
    shown = [("loss", "loss"), ("accuracy", "reward accuracy"), ("margin", "margin")]
    return ", ".join(f"{label} {stats[name]:.4f}" for name, label in shown if name in stats)
