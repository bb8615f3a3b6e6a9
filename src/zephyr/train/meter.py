"""How a training goes: tokens a second, how much of the machine that is, and memory."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from zephyr import world
from zephyr.train.precision import matmul_rate
from zephyr.train.quantized import numbers


class Meter:
    """Model FLOP/s utilization: 6 N T over what matrix products reach, measured here and now, in all processes together.

    N are the weights that multiply every token (the head among them, the input embedding not), T the tokens that go through
    the model in a second; a prompt that two answers share counts once.
    """

    def __init__(self, model: Any, dtype: torch.dtype, device: str | None = None) -> None:
        """`device` is where it computes, if that is not where its weights are."""
        self._weights = matmul_weights(model)
        self._peak = matmul_rate(dtype, torch.device(device or model.device).type) * world.current().size

    def mfu(self, tokens_per_second: float) -> float:
        """A share of the peak, from 0 to 1."""
        return 6 * self._weights * tokens_per_second / self._peak

    def text(self, tokens: int, seconds: float) -> str:
        """Utilization and memory, for the line of progress, which shows the rate itself."""
        return f"MFU {self.mfu(tokens / seconds if seconds else 0.0):.0%}, {peak_memory_bytes() / 2**30:.1f} GiB"


def matmul_weights(model: Any) -> int:
    """Weights that take part in a product for every token."""
    whole = sum(map(numbers, model.parameters()))
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return int(whole if tied else whole - model.get_input_embeddings().weight.numel())


def reset_peak_memory() -> None:
    """Forget what was held before, so that a stage's peak is its own; where the system cannot, it stays the process's."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """The most memory held since the reset, on the GPU where there is one."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
