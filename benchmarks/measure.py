"""Time, memory, rate and machine, measured the same way on both sides of a race."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

# the largest cached product, and the shapes of a layer: the best of them is what the machine can do
SHAPES = ((1024, 1024, 1024), (2048, 640, 1792), (2048, 2048, 2048))
GPU_SHAPES = ((8192, 8192, 8192), (8192, 4096, 14336))


def resident() -> int:
    """Bytes of memory this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def resident_with_children() -> int:
    """Bytes that this process and those it started hold, what they share counted once (proportional set size)."""
    return sum(_kept(pid, "Pss:") for pid in _tree(os.getpid()))


def added_up_with_children() -> int:
    """The same with what is shared counted in each: no less than what they would hold on a machine of their own."""
    return sum(_kept(pid, "Rss:") for pid in _tree(os.getpid()))


def _tree(pid: int) -> list[int]:
    try:
        lists = [p.read_text().split() for p in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [pid, *(p for children in lists for child in children for p in _tree(int(child)))]


def _kept(pid: int, what: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it is gone
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(what))


def counted(seconds: list[float], steps: int, warm_up: int) -> dict[str, Any]:
    """The mean of the epochs of `steps` steps after those that warm up; and the first one, in which memory is first touched."""
    counting = seconds[warm_up * steps :]
    return {"steps": counting, "train_seconds": sum(counting) * steps / len(counting), "first_seconds": sum(seconds[:steps])}


class Peak:
    """The most memory held while the body runs, and what was held when it began.

    On a GPU what torch has allocated there; else what the process holds, sampled every 10 ms, or with `children` what it and
    those that it starts hold, sampled every 50 ms; then `peak_added_up` is the most they held with what is shared counted in each.
    """

    def __init__(self, device: str = "cpu", *, children: bool = False) -> None:
        self._device = device
        self._now, self._pause = (resident_with_children, 0.05) if children else (resident, 0.01)
        self._children, self.peak_added_up = children, 0

    def __enter__(self) -> Peak:
        if self._device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
            self.start = self.peak = torch.cuda.memory_allocated()
            return self
        self.start = self.peak = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(self._pause):
            self.peak = max(self.peak, self._now())
            if self._children:
                self.peak_added_up = max(self.peak_added_up, added_up_with_children())

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._device == "cuda":
            import torch

            self.peak = torch.cuda.max_memory_allocated()
            return
        self._stop.set()
        self._thread.join()

    @property
    def over_start_mb(self) -> float:
        """The peak less what was held at the start."""
        return (self.peak - self.start) / 2**20


def clock(device: str) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def matmul_peak(dtype: str, device: str, seconds: float = 0.3) -> float:
    """Rate of matrix products in FLOP/s, on the threads this process uses: the best single product of several shapes."""
    import torch

    best = 0.0
    for m, k, n in GPU_SHAPES if device == "cuda" else SHAPES:
        a, b = (torch.randn(*shape, device=device).to(getattr(torch, dtype)) for shape in ((m, k), (k, n)))
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            began = clock(device)
            a @ b
            best = max(best, 2 * m * k * n / (clock(device) - began))
    return best


def matmul_weights(model: Any) -> int:
    """Weights that take part in a product for every token: all but the input embedding, the head once."""
    whole = sum(p.numel() for p in model.parameters())
    return int(whole if model.config.tie_word_embeddings else whole - model.get_input_embeddings().weight.numel())


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where and with what the figures were measured."""
    import importlib.metadata

    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    versions = {p: importlib.metadata.version(p) for p in ("torch", "transformers", "trl", "zephyr-align")}
    optional = {p: _version(p) for p in ("liger-kernel", "flash-attn")}
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "amx_bf16": "amx_bf16" in flags,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "python": platform.python_version(),
        **versions,
        **optional,
    }


def _version(package: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def emit(result: dict[str, Any]) -> None:
    """The one line that the race reads."""
    print("RESULT " + json.dumps(result), flush=True)
