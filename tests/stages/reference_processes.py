"""The stage `reference` by two processes, killed part-way, for test_reference_cut: forked from this one, with the imports done.

python tests/stages/reference_processes.py FOLDER      prints one JSON object: what each run came to and which parts it computed
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import forking
import small
from zephyr import api, world
from zephyr.parts import Parts

IMPORTS = ("torch.distributed", "pyarrow.parquet", "transformers", "zephyr.stages.reference", "zephyr.train.student", "zephyr.train.encode")
SETTINGS = ("train.dtype=float32", "train.micro_batch_tokens=60")  # so few that every pair is a part of its own


def pairs(folder: Path, name: str, count: int) -> str:
    rows = [
        {"prompt": f"{name} {i}: why?", "chosen": "Because it is. " * (i % 3 + 1), "rejected": "No. " * (i % 4 + 1)} for i in range(count)
    ]
    return str(small.write_lines(folder / f"{name}.jsonl", rows))


def run(folder: Path, out: str, *, killed: int | None = None, after: int = 0) -> dict[str, Any]:
    """Both processes do what `torchrun -m zephyr reference` does; process `killed` has an end right after that many parts it kept."""
    log, keep = folder / f"{out}.parts", Parts.keep
    before = len(_lines(log))

    def watched(self: Parts, part: int, result: Any) -> None:
        keep(self, part, result)
        assert self._file is not None
        with log.open("a") as file:
            file.write(f"{self._file.name} {part}\n")
        watched.kept += 1  # type: ignore[attr-defined]
        if world.started().rank == killed and watched.kept == after:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> str:
        watched.kept = 0  # type: ignore[attr-defined]
        Parts.keep = watched  # type: ignore[method-assign]
        given = {"preferences": [str(folder / "train.jsonl")]}
        model, test = str(folder / "model"), [str(folder / "test.jsonl")]
        made = api.stage("reference", "dpo", given, folder / out, settings=SETTINGS, test=test, model=model, chat_template="zephyr")
        return str(made["digest"])

    ended = forking.launch(2, work, patience=70)
    return {"ended": ended, "computed": _lines(log)[before:], "there": (folder / out).exists()}


def _lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    os.environ["ZEPHYR_CACHE"] = str(folder / "cache")
    for name in IMPORTS:
        importlib.import_module(name)
    small.model_folder(folder / "model")
    pairs(folder, "train", 8)
    pairs(folder, "test", 4)
    with contextlib.redirect_stdout(sys.stderr):
        found = {
            "whole": run(folder, "whole"),
            "follower_killed": run(folder, "cut", killed=1, after=2),
            "leader_killed": run(folder, "cut", killed=0, after=1),
            "gone_on": run(folder, "cut"),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
