"""Memory and machine, measured the same way on both sides of a race."""

from __future__ import annotations

import json
import os
import platform
import threading
from pathlib import Path
from types import TracebackType
from typing import Any


def resident() -> int:
    """Bytes of memory this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peak:
    """The most memory held while the body runs (sampled every 10 ms), and what was held when it began."""

    def __enter__(self) -> Peak:
        self.start = self.peak = resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.peak = max(self.peak, resident())

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()


def machine() -> dict[str, Any]:
    """Where and with what the figures were measured."""
    import importlib.metadata

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    versions = {p: importlib.metadata.version(p) for p in ("torch", "transformers", "trl", "zephyr-align")}
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)),
        "amx_bf16": "amx_bf16" in flags,
        "python": platform.python_version(),
        **versions,
    }


def emit(result: dict[str, Any]) -> None:
    """The one line that the race reads."""
    print("RESULT " + json.dumps(result), flush=True)
