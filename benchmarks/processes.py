"""Each run is a process of its own, under the same allocator settings on both sides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# large fresh allocations cost page faults: both sides keep what they have got
ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}


@dataclass(frozen=True)
class Ended:
    """A process that has ended well: what it wrote, how long it took from its start, and the most memory it held."""

    stdout: str
    seconds: float
    peak_mb: float


def run(command: list[str], *, allocator: bool = True) -> Ended:
    """Run a command to its end; a failure ends the benchmark."""
    environment = {**os.environ, **(ALLOCATOR if allocator else {}), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
        _, status, used = os.wait4(process.pid, 0)  # of this process alone, which getrusage does not say
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}: failed\n{errors.read()[-3000:]}")
        return Ended(out.read(), seconds, used.ru_maxrss / 1024)


def result(script: str, *arguments: str, allocator: bool = True) -> dict[str, Any]:
    """What a script of this folder has measured."""
    ended = run([sys.executable, str(HERE / script), *arguments], allocator=allocator)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.exit(f"{script} {' '.join(arguments)}: no result\n{ended.stdout[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return found
