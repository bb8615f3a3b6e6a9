"""What a processor's memory allocator holds beyond what is in use."""

from __future__ import annotations

import torch

from zephyr.models.unused import trim
from zephyr.train.meter import peak_memory_bytes


class Heap:
    """Gives back what passes leave free, where the next one could not use it.

    A pass that is a little longer than the one before does not fit into the holes that this one left, and lies beside them. What is
    free is given back after a pass that held more than any before, by what matters: seldom, since pages that were given back must be had
    anew, which takes a tenth of the next step's time.
    """

    MATTERS = 1.03  # times the peak when that was last done

    def __init__(self) -> None:
        self._peak = 0

    def settle(self) -> None:
        """After a pass, forward or back; where there is a GPU, whose memory has an allocator of its own, nothing is done."""
        if torch.cuda.is_available():
            return
        peak = peak_memory_bytes()
        if peak > self.MATTERS * self._peak:
            self._peak = peak
            trim()
