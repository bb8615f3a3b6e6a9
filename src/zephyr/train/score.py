"""Log-probabilities of given sequences under a model that is not trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from zephyr.artifacts import Draft
from zephyr.errors import NonFiniteError
from zephyr.progress import bar
from zephyr.recipe import TrainConfig
from zephyr.train.batches import Example, flatten, micro_batches
from zephyr.train.logprobs import sequence_sums, stream_logprobs
from zephyr.train.precision import resolve_dtype


@torch.no_grad()
def log_probabilities(
    model: Any, examples: Sequence[Example], config: TrainConfig, label: str, out: Draft, *, names: Sequence[str]
) -> list[float]:
    """Log-probability of the learnt tokens of each sequence, summed, in nats; `names` say in an error which one it was.

    Raises:
        NonFiniteError: one of them is not finite.
    """
    device = str(model.device)
    dtype = resolve_dtype(config.dtype, device)
    out.manifest.results["dtype"] = str(dtype).removeprefix("torch.")
    model.eval()
    sums: list[float] = []
    with bar(label, sum(e.tokens for e in examples), "tokens") as progress:
        for group in micro_batches(examples, lambda e: e.tokens, config.micro_batch_tokens):
            stream = flatten(group, device)
            values = sequence_sums(stream_logprobs(model, stream, dtype), stream)
            if not torch.isfinite(values).all():
                bad = len(sums) + int((~torch.isfinite(values)).nonzero()[0])
                raise NonFiniteError(f"{label}: the log-probability of {names[bad]} is not finite; the model's weights may be damaged")
            sums += values.tolist()
            out.manifest.tokens += len(stream.ids_T)
            progress.advance(len(stream.ids_T))
    return sums
