"""GPUs by name: what they hold, and what they could compute at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A kind of device.

    Args:
        name: as it is asked for.
        bytes: of its memory.
        flops: in a second, of dense bfloat16 matrix products that add up in float32.
    """

    name: str
    bytes: float
    flops: float


# from the makers' data sheets, without sparsity
KNOWN = {
    machine.name: machine
    for machine in (
        Machine("rtx-4090", 24e9, 165e12),
        Machine("l40s", 48e9, 362e12),
        Machine("a100-80gb", 80e9, 312e12),
        Machine("h100-80gb", 80e9, 989e12),
        Machine("h200", 141e9, 989e12),
    )
}
USABLE = 0.92  # of the memory: the rest is the driver's, the libraries' and what the allocator cannot join
UTILIZATION = 0.35  # of the peak, where nothing was measured: what well-kept trainers report for 7B models, 0.3 to 0.5
