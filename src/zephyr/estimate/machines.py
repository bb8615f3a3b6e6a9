"""GPUs by name: what they hold, and what they could compute at most."""

from __future__ import annotations

import re
from dataclasses import dataclass

GIB = 2.0**30


@dataclass(frozen=True)
class Machine:
    """A kind of device.

    Args:
        name: as it is asked for.
        bytes: of its memory, as much of it as programs see.
        flops: in a second, of dense bfloat16 matrix products that add up in float32.
    """

    name: str
    bytes: float
    flops: float


# bytes: what PyTorch says there is when it runs out ("GPU 0 has a total capacity of 79.14 GiB"), in messages that people have published;
# it differs by tenths with the driver, and the least is taken. FLOP/s: from the makers' data sheets, without sparsity
KNOWN = {
    machine.name: machine
    for machine in (
        Machine("rtx-4090", 23.5 * GIB, 165e12),
        Machine("l40s", 44.4 * GIB, 362e12),
        Machine("a100-80gb", 79.1 * GIB, 312e12),
        Machine("h100-80gb", 79.1 * GIB, 989e12),
        Machine("h200", 139.7 * GIB, 989e12),
    )
}
# what a GPU calls itself, in parts that all have to be in it; an H100 without "80GB" is the PCIe one, which computes less
_CALLED = {"rtx-4090": ("RTX 4090",), "l40s": ("L40S",), "a100-80gb": ("A100", "80GB"), "h100-80gb": ("H100", "80GB"), "h200": ("H200",)}
_OTHERS = ("Laptop", "4090 D", "MIG")  # of the same name, and less of a GPU
USABLE = 0.92  # of the memory: the rest is the driver's, the libraries' and what the allocator cannot join
UTILIZATION = 0.35  # of the peak, where nothing was measured: what well-kept trainers report for 7B models, 0.3 to 0.5


def named(device: str) -> Machine | None:
    """The known kind that a device is by what it calls itself, as `NVIDIA A100-SXM4-80GB`; None where it is none of them."""

    def says(part: str) -> bool:
        return re.search(rf"\b{part}\b", device) is not None  # GH200 is no H200

    if any(map(says, _OTHERS)):
        return None
    return next((KNOWN[name] for name, parts in _CALLED.items() if all(map(says, parts))), None)
