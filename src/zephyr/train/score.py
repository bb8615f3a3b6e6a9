"""Log-probabilities of given sequences under a model that is not trained."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from zephyr import world
from zephyr.artifacts import Draft
from zephyr.errors import NonFiniteError
from zephyr.progress import bar
from zephyr.recipe import TrainConfig
from zephyr.train import kernels
from zephyr.train.batches import Example, Stream, flatten, micro_batches
from zephyr.train.logprobs import sequence_sums, stream_logprobs
from zephyr.train.precision import resolve_dtype

# of a model, a stream and the type to compute in: K values of each of its N learnt tokens, the first its log-probability
Measure = Callable[[Any, Stream, torch.dtype], Tensor]


def log_probabilities(
    model: Any, examples: Sequence[Example], config: TrainConfig, label: str, out: Draft, *, names: Sequence[str]
) -> list[float]:
    """Log-probability of the learnt tokens of each sequence, summed, in nats; `names` say in an error which one it was.

    Raises:
        NonFiniteError: one of them is not finite.
    """
    return [value for (value,) in sums(model, examples, config, label, out, names=names, measure=_logprobs)]


def _logprobs(model: Any, stream: Stream, dtype: torch.dtype) -> Tensor:
    return stream_logprobs(model, stream, dtype)[:, None]


def _identity(
    examples: Sequence[Example], device: torch.device, dtype: torch.dtype, measure: Measure, groups: Sequence[Sequence[int]]
) -> Iterator[bytes]:
    """What values depend on: the last bits of a sequence's on what else goes through the model with it, too."""
    yield f"{dtype} {measure.__module__}.{measure.__qualname__} {kernels.where_computed(device)}".encode()
    for example in examples:
        yield bytes(example.learnt)
        yield from (array("i", ids).tobytes() for ids in (example.ids, *example.branches))
    yield from (array("i", group).tobytes() for group in groups)


def _number_format(wanted: str, device: str, out: Draft) -> str:
    """With `auto`, timed once for all that an artifact scores: a run that goes on keeps to what it began with, and to its parts."""

    def resolved() -> str:
        return str(resolve_dtype(wanted, device)).removeprefix("torch.")

    return out.settled(f"dtype-{torch.device(device).type}", resolved) if wanted == "auto" else resolved()


@torch.no_grad()
def sums(
    model: Any, examples: Sequence[Example], config: TrainConfig, label: str, out: Draft, *, names: Sequence[str], measure: Measure
) -> list[list[float]]:
    """What a measure says of the learnt tokens, summed in float64 over each sequence; `names` say in an error which one it was.

    Raises:
        NonFiniteError: one of them is not finite.
    """
    device = str(model.device)
    here = world.current()
    chosen = world.share(_number_format(config.dtype, device, out) if here.leads else "")
    dtype: torch.dtype = getattr(torch, chosen)
    out.manifest.results["dtype"] = chosen
    model.eval()
    mine = range(here.rank, len(examples), here.size)
    found: dict[int, list[list[float]]] = {}
    first = [0, *itertools.accumulate(len(e.targets) for e in examples)]  # of each example's sequences, its number in all
    bad: str | None = None
    groups = list(micro_batches(mine, lambda i: examples[i].tokens, config.micro_batch_tokens))
    kept = out.parts(f"{label} {here.rank} of {here.size}", _identity(examples, model.device, dtype, measure, groups))
    for number, group in enumerate(groups):
        if number in kept:
            found |= dict(zip(group, kept[number], strict=True))
    done = sum(examples[i].tokens for i in found)
    with bar(label, sum(examples[i].tokens for i in mine), "tokens", done=done) as progress:
        for number, group in enumerate(groups):
            if number in kept:
                continue
            stream = flatten([examples[i] for i in group], device)
            columns = [sequence_sums(column_N, stream) for column_N in measure(model, stream, dtype).unbind(1)]
            values = iter(torch.stack(columns, 1).tolist())
            found |= {i: [next(values) for _ in examples[i].targets] for i in group}
            bad = next((names[first[i] + n] for i in group for n, value in enumerate(found[i]) if not all(map(math.isfinite, value))), None)
            if bad is not None:
                break
            kept.keep(number, [found[i] for i in group])
            progress.advance(len(stream.ids_T))
    everywhere = world.gather((found, bad))
    if wrong := [name for _, name in everywhere if name is not None]:
        raise NonFiniteError(f"{label}: the log-probability of {wrong[0]} is not finite; the model's weights may be damaged")
    for others, _ in everywhere:
        found |= others
    out.manifest.tokens += sum(e.tokens for e in examples)
    return [value for i in range(len(examples)) for value in found[i]]
