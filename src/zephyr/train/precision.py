"""In which number format the products are computed: settled by a timed matrix product, and said."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

import torch

from zephyr.progress import say

SIZE, GPU_SIZE = 1024, 4096  # large enough to reach the machine's rate, small enough to take milliseconds
LEAST = 8  # products of each format


def matmul_rate(dtype: torch.dtype, device: str, seconds: float = 0.3) -> float:
    """Rate of a product of square matrices in FLOP/s: the best of as many as fit into `seconds`, LEAST at least."""
    return matmul_rates((dtype,), device, seconds)[dtype]


def matmul_rates(dtypes: Sequence[torch.dtype], device: str, seconds: float) -> dict[torch.dtype, float]:
    """`matmul_rate` of several formats, a product of each in turn: what else the machine does meets all of them alike.

    The first product of a process starts its threads. On a busy machine it alone may outlast `seconds`, hence LEAST.
    """
    size = GPU_SIZE if device == "cuda" else SIZE
    generator = torch.Generator(device).manual_seed(0)  # its own: a measurement must not move the run's random numbers
    factors = [torch.randn(size, size, device=device, generator=generator) for _ in range(2)]
    pairs = {dtype: [factor.to(dtype) for factor in factors] for dtype in dtypes}
    best = dict.fromkeys(dtypes, float("inf"))
    until, rounds = time.perf_counter() + seconds, 0
    while rounds < LEAST or time.perf_counter() < until:
        for dtype, (a, b) in pairs.items():
            start = time.perf_counter()
            a @ b
            if device == "cuda":
                torch.cuda.synchronize()
            best[dtype] = min(best[dtype], time.perf_counter() - start)
        rounds += 1
    return {dtype: 2 * size**3 / took for dtype, took in best.items()}


def resolve_dtype(wanted: str, device: str) -> torch.dtype:
    """The dtype of the forward and backward products; weights and optimizer stay in float32.

    `auto` takes bfloat16 where it is at least 1.3 times as fast as float32, which pays for its rounding.
    """
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    return _fastest(torch.device(device).type)  # "cuda:0" is timed as "cuda": with a wait for the product


@functools.cache
def _fastest(device: str) -> torch.dtype:
    """Measured once a process: all that a run computes, it computes in one format."""
    rates = matmul_rates((torch.float32, torch.bfloat16), device, 0.6)
    single, half = rates[torch.float32], rates[torch.bfloat16]
    chosen = torch.bfloat16 if half > 1.3 * single else torch.float32
    say(f"  dtype: {str(chosen).removeprefix('torch.')} (matrix products: float32 {single / 1e9:,.0f}, bfloat16 {half / 1e9:,.0f} GFLOP/s)")
    return chosen
