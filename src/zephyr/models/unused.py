"""Memory of models that nobody uses any more."""

from __future__ import annotations

import ctypes
import gc
import sys


def free_unused() -> None:
    """Give back what models of earlier stages held, to the system or the GPU.

    A model may stay after its last use, in a cycle of references, until Python happens to collect it (the first one of a
    process does, held by frames of imports under it): gigabytes, beside the next. And what is freed allocators keep, unless told.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """Give what is free in the heap back to the system, where the C library can."""
    if sys.platform == "linux" and (malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # glibc's; musl has none
        malloc_trim(0)
