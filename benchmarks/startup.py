"""How long a command takes to say what it can do: the median of five, after one to warm the file cache.

python benchmarks/race.py --only start-up
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import processes

TIMES = 5


def race(args: argparse.Namespace) -> dict[str, Any]:
    """Our help beside TRL's."""
    bin_folder = Path(sys.executable).parent
    commands = {
        "zephyr --help": [str(bin_folder / "zephyr"), "--help"],
        "zephyr sft --help": [str(bin_folder / "zephyr"), "sft", "--help"],
        "trl dpo --help": [str(bin_folder / "trl"), "dpo", "--help"],
    }
    seconds = {name: _median(command, 1 if args.quick else TIMES) for name, command in commands.items()}
    return {
        "start-up": {
            "ratio": seconds["trl dpo --help"] / seconds["zephyr sft --help"],
            "seconds": seconds,
            "text": ", ".join(f"`{name}` {value:.2f} s" for name, value in seconds.items()),
        }
    }


def _median(command: list[str], times: int) -> float:
    processes.run(command, allocator=False)
    return statistics.median(processes.run(command, allocator=False).seconds for _ in range(times))
