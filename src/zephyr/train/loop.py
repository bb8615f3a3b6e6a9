"""The training loop of both stages, on one process or many."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import torch

from zephyr.errors import NonFiniteError
from zephyr.guards import uncut
from zephyr.progress import bar, say
from zephyr.recipe import OptimizerConfig
from zephyr.train import parallel
from zephyr.train.batches import shuffled
from zephyr.train.checkpoint import Checkpoints, Position, stoppable
from zephyr.train.meter import Meter
from zephyr.train.optim import adamw, clear_gradients, learning_rate
from zephyr.train.passes import narrowed, through
from zephyr.train.tasks import ItemT, Stats, Task, described, names_of, tokens_of

Log = Callable[[dict[str, Any]], None]


@dataclass
class Trainer(Generic[ItemT]):
    """A model, what it learns, and how.

    Args:
        model: in float32; its products are computed in `dtype`.
        task: turns log-probabilities into a loss.
        config: optimizer, schedule, batch size, epochs.
        dtype: of the products.
        micro_batch_tokens: tokens that go through the model at once, in each process; changes nothing but the masks of dropout.
        seed: decides the order of the items, with the epoch and their ids.
        log: takes a line a step.
        checkpoints: where to go on from, and where to save.
        meter: tells how fast it goes.
        offload: what is in the host's memory instead of the GPU's: `none`, `optimizer`, `all`.
    """

    model: Any
    task: Task[ItemT]
    config: OptimizerConfig
    dtype: torch.dtype
    micro_batch_tokens: int
    seed: int
    log: Log
    checkpoints: Checkpoints | None = None
    meter: Meter | None = None
    offload: str = "none"
    at: Position = field(default_factory=Position, init=False)

    def __post_init__(self) -> None:
        self.learner = parallel.learner(self.model, offload=self.offload == "all")

    def train(self, items: Sequence[ItemT], test: Sequence[ItemT], label: str) -> Stats:
        """Train on `items`, looking at `test` now and then; returns the last look at the test items.

        Raises:
            NonFiniteError: a loss or gradient is not finite; the update was not made, in no process.
            KeyboardInterrupt: Ctrl-C or SIGTERM; the last whole update is saved, if there is where.
        """
        per_epoch = math.ceil(len(items) / self.config.batch_size)
        steps = per_epoch * self.config.epochs
        optimizer = adamw(self.model, self.config, on_host=self.offload == "optimizer")
        clear_gradients(optimizer, keep=self.config.lora is not None)
        self.at = self.checkpoints.restore(self.model, optimizer) if self.checkpoints else Position()
        started = time.perf_counter() - self.at.seconds
        self._training_mode()
        work = sum(map(tokens_of, items)) * self.config.epochs
        with (
            bar(label, work, "tokens", done=self.at.tokens) as progress,
            stoppable(self.checkpoints, self.at, self.model, optimizer) as stop_or_save,
        ):
            order: tuple[int, list[int]] = (-1, [])
            while True:
                if self.at.test_step < self.at.step and (self.at.step % self.config.evaluate_every == 0 or self.at.step == steps):
                    self.look(test)
                if self.at.step == steps:
                    break
                stop_or_save()
                epoch, nth = divmod(self.at.step, per_epoch)
                if order[0] != epoch:
                    order = epoch, shuffled([item.id for item in items], self.seed, epoch)
                batch = [items[i] for i in order[1][nth * self.config.batch_size : (nth + 1) * self.config.batch_size]]
                stats = self.accumulate(batch)
                norm = parallel.clip_gradients(self.model, self.config.max_grad_norm)
                if not math.isfinite(norm):
                    say(f"  step {self.at.step + 1}: the gradient is {norm}; looking for the rows that make it so")
                    rows = narrowed(batch, lambda some: math.isfinite(self._norm(some, optimizer)))
                    which = "Rows of the batch" if len(rows) == len(batch) else "Rows"
                    names = names_of([item.id for item in rows])
                    raise NonFiniteError(f"step {self.at.step + 1}: the gradient is {norm}; stopped before the update. {which}: {names}")
                with uncut():  # half an update is neither the old weights nor the new
                    rate = learning_rate(self.at.step, steps, self.config)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.step()
                    clear_gradients(optimizer, keep=self.config.lora is not None)
                    self.at.step += 1
                    if self.checkpoints:
                        self.checkpoints.mark()
                    self.at.tokens += sum(map(tokens_of, batch))
                    self.at.seconds = time.perf_counter() - started
                    line = {"kind": "train", "step": self.at.step, "epoch": self.at.step / per_epoch, **stats, "learning_rate": rate}
                    self.log({**line, "grad_norm": norm, "tokens": self.at.tokens, "seconds": round(self.at.seconds, 3)})
                speed = f", {self.meter.text(self.at.tokens, self.at.seconds)}" if self.meter else ""
                progress.advance(sum(map(tokens_of, batch)), described(stats) + speed)
        self.learner.eval()
        return self.at.test

    def _training_mode(self) -> None:
        """With dropout, where a model has it; not for preferences, whose reference was computed without."""
        self.learner.train(self.task.by_token)

    def accumulate(self, batch: Sequence[ItemT]) -> Stats:
        """Add the gradients of the mean loss over a batch; returns the means."""
        return through(self.learner, batch, self.task, self.dtype, self.micro_batch_tokens, learn=True)

    def _norm(self, items: Sequence[ItemT], optimizer: torch.optim.Optimizer) -> float:
        """Of the gradient of some items by themselves."""
        clear_gradients(optimizer, keep=self.config.lora is not None)
        self.accumulate(items)
        return parallel.clip_gradients(self.model, self.config.max_grad_norm)

    def look(self, test: Sequence[ItemT]) -> None:
        """Mean loss and statistics over the test items, which are logged."""
        means = self.means(test)
        with uncut():
            if means:
                self.log({"kind": "test", "step": self.at.step, **means})
                say(f"  test at step {self.at.step}: {described(means)}")
            self.at.test, self.at.test_step = means, self.at.step

    @torch.no_grad()
    def means(self, items: Sequence[ItemT]) -> Stats:
        """Mean loss and statistics over some items, under the model as it is."""
        self.learner.eval()
        found = through(self.learner, items, self.task, self.dtype, self.micro_batch_tokens, learn=False)
        self._training_mode()
        return found
