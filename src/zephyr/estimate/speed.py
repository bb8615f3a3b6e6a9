"""How fast this machine trains this model: a few real steps, of rows as long as the data's."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from zephyr.estimate.volume import Length
from zephyr.estimate.workload import fullest_batch
from zephyr.recipe import DPOConfig, OptimizerConfig, SFTConfig, TrainConfig

if TYPE_CHECKING:
    from zephyr.models.load import ModelRef
    from zephyr.train.batches import Example

PASSES = 4  # of a batch, at most; and in all the batches that are timed, at least. The first is not: it allocates
LEAST_TOKENS = 16  # of a row
PROBE_TOKENS = 512  # of a first look


@dataclass(frozen=True)
class Speed:
    """Seconds, measured.

    Args:
        token: forward and backward, of a token.
        look: forward alone, of a token.
        update: one step of the optimizer.
        load: of the model, from its files.
        start_bytes: what was held before the first step: the process and the model.
        peak_bytes: the most that was held.
        dtype: of the products.
        device: what it calls itself; `cpu` for a processor.
    """

    token: float
    look: float
    update: float
    load: float
    start_bytes: int
    peak_bytes: int
    dtype: str
    device: str = "cpu"


def measure(ref: ModelRef, config: OptimizerConfig, train: TrainConfig, lengths: Sequence[Length], batch: float) -> Speed:
    """Load the model and train it for a few passes on rows of random words; nothing is saved.

    Args:
        ref: the model.
        config: of the stage.
        train: how all stages train.
        lengths: of the data's rows, a sample.
        batch: tokens of one.

    Raises:
        ModelError: it cannot be loaded or trained.
    """
    import pyarrow

    from zephyr.models import load
    from zephyr.train import lora, parallel
    from zephyr.train.loop import Trainer
    from zephyr.train.meter import peak_memory_bytes, reset_peak_memory
    from zephyr.train.optim import adamw, clear_gradients
    from zephyr.train.precision import resolve_dtype
    from zephyr.train.tasks import SFT, preferences, tokens_of

    pyarrow.array([0])  # it imports pandas: by the time it trains, a run has read and written rows, and holds that, too
    began = time.perf_counter()
    model: Any = load.load_model(ref)
    loaded = time.perf_counter() - began
    reset_peak_memory()
    start = peak_memory_bytes()
    if config.lora:
        lora.adapt(model, config.lora)
    if train.activation_checkpointing:
        parallel.recompute_activations(model)
    task: Any = preferences(config) if isinstance(config, DPOConfig) else SFT()
    dtype = resolve_dtype(train.dtype, str(model.device))
    trainer: Trainer[Any] = Trainer(model, task, config, dtype, train.micro_batch_tokens, 0, lambda _: None)
    batches = _batches(config, lengths, model.config.get_text_config().vocab_size, batch, train.micro_batch_tokens)
    optimizer = adamw(model, config)
    clear_gradients(optimizer, keep=config.lora is not None)
    trainer._training_mode()

    def learn(batch: Sequence[Sequence[Any]]) -> None:
        for items in batch:
            trainer.accumulate(items)

    first = [item for items in batches[0] for item in items]
    looked = _timed(model, partial(trainer.means, first))  # as a training begins
    learnt, updated = [], []
    for some in batches:
        learnt.append(_timed(model, partial(learn, some)))
        parallel.clip_gradients(model, config.max_grad_norm)
        updated.append(_timed(model, optimizer.step))
        clear_gradients(optimizer, keep=config.lora is not None)
    tokens = [sum(map(tokens_of, itertools.chain(*some))) for some in batches]
    peak = peak_memory_bytes()
    looked = min(looked, _timed(model, partial(trainer.means, first)))
    return Speed(
        token=sum(learnt[1:]) / sum(tokens[1:]),
        look=looked / tokens[0],
        update=min(updated[1:]),
        load=loaded,
        start_bytes=start,
        peak_bytes=peak,
        dtype=str(dtype).removeprefix("torch."),
        device=_called(model.device),
    )


def probe(ref: ModelRef, train: TrainConfig) -> tuple[float, float, float]:
    """A first look, in seconds a token: trained on, looked at, and added to every answer of a batch. The better of two passes each.

    Raises:
        ModelError: the model cannot be loaded or trained.
    """
    from zephyr.models import load
    from zephyr.train import parallel
    from zephyr.train.loop import Trainer
    from zephyr.train.precision import resolve_dtype
    from zephyr.train.tasks import preferences

    model: Any = load.load_model(ref)
    if train.activation_checkpointing:
        parallel.recompute_activations(model)
    config = DPOConfig()
    dtype = resolve_dtype(train.dtype, model.device.type)
    trainer: Trainer[Any] = Trainer(model, preferences(config), config, dtype, train.micro_batch_tokens, 0, lambda _: None)
    words = model.config.get_text_config().vocab_size

    def pair(tokens: int) -> list[Any]:
        third = tokens // 3
        return _pass(config, [Length(third, (third, third))], words, tokens, False, 0)[:1]

    def learn() -> None:
        trainer.accumulate(pair(PROBE_TOKENS))
        model.zero_grad(set_to_none=True)

    model.train()
    learnt, looked, added = (
        min(_timed(model, work) for _ in range(2))
        for work in (learn, partial(trainer.means, pair(PROBE_TOKENS)), partial(trainer.means, pair(16)))
    )
    return learnt / PROBE_TOKENS, looked / PROBE_TOKENS, added


def _called(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)


def _timed(model: Any, work: Callable[[], Any]) -> float:
    import torch

    since = time.perf_counter()
    work()
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - since


def _batches(config: OptimizerConfig, lengths: Sequence[Length], words: int, batch: float, budget: int) -> list[list[list[Any]]]:
    """Batches of some passes each, as the training makes them; the last pass of each as full as any that it may have.

    A row longer than a pass goes through in the last batch alone, so that its memory is met, however rare it is.

    Args:
        config: of the stage.
        lengths: of the data's rows, a sample.
        words: of the vocabulary.
        batch: tokens of one, on average.
        budget: tokens that go through the model at once; a longer row goes alone.
    """
    packed = isinstance(config, SFTConfig) and config.packing
    longest = max(lengths, key=lambda length: length.tokens)
    size, most = min(batch, budget), min(fullest_batch(config, lengths, batch), budget)
    passes = max(1, min(PASSES, round(batch / size)))
    batches = [
        [_pass(config, lengths, words, most if k == passes - 1 else size, k == passes - 1, PASSES * n + k) for k in range(passes)]
        for n in range(-(-PASSES // passes) + 1)
    ]
    if not packed and longest.tokens > budget:  # alone, while the gradients of the others of its batch wait
        batches[-1] = [*batches[-1][: config.batch_size - 1], _pass(config, [longest], words, longest.tokens, False, 0)]
    return batches


def _pass(config: OptimizerConfig, lengths: Sequence[Length], words: int, tokens: float, full: bool, number: int) -> list[Any]:
    """Rows as long as the data's, for as many tokens as go through the model at once; with `full` the last one fills what is left."""
    from zephyr.train.batches import Example
    from zephyr.train.tasks import Dialogues, Pair

    def ids(count: int, salt: int) -> tuple[int, ...]:
        return tuple((7919 * (i + 1) + 104_729 * salt) % words for i in range(count))

    def example(length: Length, salt: int) -> Example:
        if length.branches:
            branches = tuple(ids(n, salt + k + 1) for k, n in enumerate(length.branches))
            return Example(ids(length.first, salt), (False,) * length.first, branches)
        asked = max(1, length.first - length.learnt)
        return Example(ids(length.first, salt), (False,) * asked + (True,) * (length.first - asked))

    drawn = itertools.cycle(lengths)
    for _ in range(31 * number % len(lengths)):
        next(drawn)
    if isinstance(config, DPOConfig):
        return [Pair(f"probe {i}", example(length, i), 0.0, 0.0) for i, length in enumerate(_until(drawn, tokens, full=full))]
    assert isinstance(config, SFTConfig)
    if not config.packing:
        return [Dialogues(f"probe {i}", (example(length, i),)) for i, length in enumerate(_until(drawn, tokens, full=full))]
    size = config.max_length
    packs = [_until(drawn, size, full=full) for _ in range(max(1, int(tokens // size)))]
    return [Dialogues(f"probe {p}", tuple(example(length, 100 * p + i) for i, length in enumerate(pack))) for p, pack in enumerate(packs)]


def _until(drawn: Iterator[Length], budget: float, *, full: bool) -> list[Length]:
    """As many as fit the budget, one at least; with `full`, the next one cut to what is left."""
    found = [next(drawn)]
    left = int(budget) - found[0].tokens
    while (length := next(drawn)).tokens <= left:
        found.append(length)
        left -= length.tokens
    if full and left >= LEAST_TOKENS:
        found.append(_cut(length, left))
    return found


def _cut(length: Length, tokens: int) -> Length:
    """As long, in the same proportions, but for a token of each part that stays: the mean over an answer of none is no number."""
    parts = 1 + len(length.branches)
    share = (tokens - parts) / (length.tokens - parts)
    branches = tuple(1 + int((n - 1) * share) for n in length.branches)
    return Length(tokens - sum(branches), branches, int(length.learnt * share))
