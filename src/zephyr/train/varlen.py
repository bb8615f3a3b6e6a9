"""Attention over trees by one call of a GPU's flash kernel for sequences of unlike length: torch's own, or flash-attn's where that is.

A stream is cut where its trees and further branches begin. A trunk with its first branch is one causal sequence. A further branch is
one whose queries are its own and whose keys are its trunk's and its own: the kernel aligns the last query with the last key, so each
query sees the whole trunk and its branch up to itself. The trunk's keys are copied for it, the queries are not.

Which kernel is there, and whether it keeps to that, is not told by versions but tried, once for each kind of heads: against the
definition, forward and backward. Without one that passes, a mask a tree does it.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

Segments = Sequence[Sequence[int]]
# queries (T, heads, d), keys and values (K, kv_heads, d), where their sequences end (int32, from 0), the longest of each, scale, window
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int, float, int | None], Tensor]

HALF = (torch.bfloat16, torch.float16)  # what flash kernels compute in
ALIKE = 0.02  # relative: bfloat16 keeps 8 bits
TRIAL = ((5, 3, 0, 4), (1, 2), (9,), (3, 70, 1))  # trees: several branches, an empty one, none, one longer than a tile


def attention(query: Tensor, key: Tensor, value: Tensor, segments: Segments, scale: float, window: int | None, kernel: Kernel) -> Tensor:
    """(1, T, heads, d) of query (1, heads, T, d), key and value (1, kv_heads, T, d); `window` as in `segment_attention`."""
    ends_q, ends_k, at_K, longest_q, longest_k = _cut(tuple(map(tuple, segments)), str(query.device))
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if at_K is not None:
        k, v = k.index_select(0, at_K), v.index_select(0, at_K)
    return kernel(q.contiguous(), k.contiguous(), v.contiguous(), ends_q, ends_k, longest_q, longest_k, scale, window)[None]


@functools.lru_cache(maxsize=4)  # every layer asks for that of the same stream
def _cut(segments: tuple[tuple[int, ...], ...], device: str) -> tuple[Tensor, Tensor, Tensor | None, int, int]:
    """Where the sequences of queries and of keys end, which positions the keys are of (None: each once, in order), the longest of both."""
    queries: list[int] = []
    keys: list[list[int]] = []
    start = 0
    for trunk, *branches in segments:
        first, *others = branches or [0]
        queries.append(trunk + first)
        keys.append(list(range(start, start + trunk + first)))
        own = start + trunk + first
        for length in others:
            if length:
                queries.append(length)
                keys.append([*range(start, start + trunk), *range(own, own + length)])
            own += length
        start = own
    sizes = list(map(len, keys))
    ends_q, ends_k = (torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device) for lengths in (queries, sizes))
    flat = None if sizes == queries else torch.tensor([at for one in keys for at in one], device=device)
    return ends_q, ends_k, flat, max(queries, default=0), max(sizes, default=0)


# --- which kernel ------------------------------------------------------------------------------------------------


def kernel_for(query: Tensor, key: Tensor, value: Tensor) -> Kernel | None:
    """A kernel for these tensors on a GPU, if there is one that computes what it should."""
    if query.device.type != "cuda" or query.dtype not in HALF or len({query.dtype, key.dtype, value.dtype}) > 1:
        return None
    return _tried(query.shape[1], key.shape[1], query.shape[3], query.dtype, str(query.device))


@functools.cache
def _tried(heads: int, kv_heads: int, size: int, dtype: torch.dtype, device: str) -> Kernel | None:
    return next((kernel for kernel in _there() if computes_attention(kernel, heads, kv_heads, size, dtype, device)), None)


def _there() -> list[Kernel]:
    packages = {"torch.nn.attention.varlen": _torchs, "flash_attn": _flash_attn}
    return [kernel for package, kernel in packages.items() if importlib.util.find_spec(package) is not None]


def _torchs(q: Tensor, k: Tensor, v: Tensor, ends_q: Tensor, ends_k: Tensor, most_q: int, most_k: int, scale: float, window: Any) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    seen = (-1 if window is None else window - 1, 0)  # how many before a position, and after it
    found: Any = varlen_attn(q, k, v, ends_q, ends_k, most_q, most_k, scale=scale, window_size=seen, enable_gqa=q.shape[1] != k.shape[1])
    whole: Tensor = found
    return whole


def _flash_attn(
    q: Tensor, k: Tensor, v: Tensor, ends_q: Tensor, ends_k: Tensor, most_q: int, most_k: int, scale: float, window: Any
) -> Tensor:
    from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]  # where it is installed

    seen = (-1 if window is None else window - 1, 0)
    found: Tensor = flash_attn_varlen_func(
        q, k, v, ends_q, ends_k, most_q, most_k, softmax_scale=scale, causal=True, window_size=seen
    )  # fmt: skip
    return found


def computes_attention(kernel: Kernel, heads: int, kv_heads: int, size: int, dtype: torch.dtype, device: str) -> bool:
    """Does a kernel give what the definition gives, and its gradients, with a window and without?

    It may be asked in the midst of a layer. Activation checkpointing counts what a layer saves, and again when it computes the layer
    anew, where nothing is tried: what a trial saves is kept out of its sight.
    """
    from zephyr.train.attention import plain_attention

    generator = torch.Generator().manual_seed(0)  # its own: a trial must not move the run's random numbers
    length = sum(map(sum, TRIAL))
    q, k, v = (torch.randn(1, n, length, size, generator=generator) for n in (heads, kv_heads, kv_heads))
    wanted = torch.randn(1, length, heads, size, generator=generator)
    unseen = torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)
    for window in (None, 4):
        found = []
        for half in (False, True):
            leaves = [t.to(device, dtype if half else torch.float32).requires_grad_() for t in (q, k, v)]
            a, b, c = leaves
            try:
                with torch.enable_grad(), torch.autocast(torch.device(device).type, enabled=False), unseen:
                    if half:
                        out = attention(a, b, c, TRIAL, size**-0.5, window, kernel)
                    else:
                        out = plain_attention(a, b, c, TRIAL, size**-0.5, 0.0, window, None)
                    found.append([out, *torch.autograd.grad(out, leaves, wanted.to(out))])
            except (TypeError, RuntimeError, ImportError, AttributeError, NotImplementedError):  # another version, another GPU
                return False
        pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(*found, strict=True)]
        if not all(float((a - b).norm()) <= ALIKE * float(a.norm()) for a, b in pairs):
            return False
    return True
