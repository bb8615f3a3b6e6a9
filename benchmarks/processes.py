"""Each run is a process of its own, under the same allocator settings on both sides.

A script that is run many times is imported once, and forked for each run (`forked.py`).
"""

from __future__ import annotations

import contextlib
import functools
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
# what zephyr sets for itself (src/zephyr/models/__init__.py), for the other side, too
ALLOCATOR |= {"LRU_CACHE_CAPACITY": "32", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32"}


@dataclass(frozen=True)
class Ended:
    """A process that has ended well: what it wrote, how long it took from its start, and the most memory it held."""

    stdout: str
    seconds: float
    peak_mb: float


def _environment(*, allocator: bool) -> dict[str, str]:
    return {**os.environ, **(ALLOCATOR if allocator else {}), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}


def run(command: list[str], *, allocator: bool = True) -> Ended:
    """Run a command to its end; a failure ends the benchmark."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=_environment(allocator=allocator))
        _, status, used = os.wait4(process.pid, 0)  # of this process alone, which getrusage does not say
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}: failed\n{errors.read()[-3000:]}")
        return Ended(out.read(), seconds, used.ru_maxrss / 1024)


@functools.cache
def _imported(script: str) -> subprocess.Popen[str]:
    """The process that a script is forked from; it ends with this one, when its stdin closes."""
    command = [sys.executable, str(HERE / "forked.py"), script]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(allocator=True), text=True)


def _forked(script: str, *arguments: str) -> str:
    """What a run of the script wrote; a failure ends the benchmark."""
    process = _imported(script)
    assert process.stdin is not None and process.stdout is not None
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as errors:
        with contextlib.suppress(BrokenPipeError):  # it has ended, and has said why
            print(json.dumps({"arguments": arguments, "stdout": out.name, "stderr": errors.name}), file=process.stdin, flush=True)
        ended = process.stdout.readline()
        if not ended or json.loads(ended)["code"]:
            sys.exit(f"{script} {' '.join(arguments)}: failed\n{errors.read()[-3000:]}")
        return out.read()


def result(script: str, *arguments: str, allocator: bool = True) -> dict[str, Any]:
    """What a script of this folder has measured; without the allocator's settings in a process that begins with it, imports included."""
    said = _forked(script, *arguments) if allocator else run([sys.executable, str(HERE / script), *arguments], allocator=False).stdout
    lines = [line for line in said.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.exit(f"{script} {' '.join(arguments)}: no result\n{said[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return found
