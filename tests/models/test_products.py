"""What PyTorch keeps of products on a processor."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

# the bytes in use of glibc's heap, before and after products of 300 lengths that were not seen before
GROWTH = """
import ctypes, zephyr.models, torch
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
def used():
    info = mallinfo2()
    return info.uordblks + info.hblkhd
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Info
torch.set_num_threads(1)
weight = torch.ones(256, 256, dtype=torch.bfloat16)
def products(lengths):
    for n in lengths:
        torch.ones(n, 256, dtype=torch.bfloat16) @ weight
products(range(1, 101))
before = used()
products(range(101, 401))
print(used() - before)
"""


def grown(**environment: str) -> int:
    """Bytes."""
    known = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    done = subprocess.run([sys.executable, "-c", GROWTH], env=known | environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="asks glibc (2.33 or later) how much of its heap is in use")
def test_memory_does_not_grow_with_the_lengths_that_were_seen() -> None:
    assert grown() < 1_000_000
    kept = grown(LRU_CACHE_CAPACITY="1024", ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024")  # as it is without us; and what a user sets stays
    if kept < 5_000_000:
        pytest.skip("this processor multiplies bfloat16 without oneDNN, which is what keeps much")
    assert kept > 20 * max(1, grown())
    earlier = grown(LRU_CACHE_CAPACITY="32", DNNL_PRIMITIVE_CACHE_CAPACITY="1024")  # oneDNN's earlier name counts, too
    assert earlier > 5 * max(1, grown())
