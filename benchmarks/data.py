"""Preparing dialogues for packed supervised training: template, mask, tokens, packs, from the file of rows on.

    python benchmarks/race.py --only data
    python benchmarks/data.py ours --model DIR --dialogues dialogues.jsonl [--profile]
    python benchmarks/data.py trl --model DIR --dialogues dialogues.jsonl --processes 2

Memory is what the process and its children hold at the most, what they share counted once (proportional set size), imports included.
Few rows are prepared in the process that trains, whose tokenizer is loaded when the clock starts, as TRL's is; many in a process of
their own, whose start is in the time.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import os
import pstats
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import assets
import measure
import processes
import race as races

ROWS = (2000, 10_000)  # raced: of few the start of a process is half of our time
LENGTH = 2048


def main() -> None:
    """Parse and run one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["ours", "trl"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--dialogues", required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="print where our time goes")
    args = parser.parse_args()
    measure.emit(ours(args) if args.side == "ours" else trl(args))


def race(args: argparse.Namespace) -> dict[str, Any]:
    """Ours and TRL's in two processes, on fewer and on more rows."""
    model = assets.model_folder("tiny" if args.quick else "small", args.work)
    sides = {"ours": ("ours",), "trl": ("trl", "--processes", "2")}
    return {f"data-{rows}": _raced(rows, sides, model, args) for rows in ((100, 200) if args.quick else ROWS)}


def _raced(rows: int, sides: Mapping[str, tuple[str, ...]], model: Path, args: argparse.Namespace) -> dict[str, Any]:
    file = assets.dialogues_file(rows, args.work)
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(args.rounds):
        for side, done in runs.items():
            given = ("--model", str(model), "--dialogues", str(file))
            done.append(processes.result("data.py", *sides[side], *given, allocator=False))
        times = ", ".join(f"{side} {done[-1]['seconds']:.1f} s" for side, done in runs.items())
        races.say(f"  data {rows:,} rows round {number + 1}: {times}")
    rate = {side: rows / statistics.median(r["seconds"] for r in done) for side, done in runs.items()}
    memory = {side: statistics.median(r["peak_mb"] for r in done) for side, done in runs.items()}
    return {
        "ratio": rate["ours"] / rate["trl"],
        "rows_per_second": rate,
        "memory_mb": memory,
        "rounds": {side: [round(r["seconds"], 2) for r in done] for side, done in runs.items()},
        "text": ", ".join(f"{side} {rate[side]:.0f} rows/s {memory[side]:.0f} MB" for side in sides),
    }


def ours(args: argparse.Namespace) -> dict[str, Any]:
    """Collected and encoded as `zephyr sft` does it."""
    from zephyr.artifacts import Draft, Manifest
    from zephyr.models.load import ModelRef
    from zephyr.recipe import DataSource, SFTConfig
    from zephyr.train import prepare

    folder = Path(tempfile.mkdtemp())
    out = Draft(folder, folder, Manifest("bench", "", {}, {}))
    source = [DataSource(path=args.dialogues)]
    work = prepare.Work(source, ModelRef(args.model, ""), "tokenizer", SFTConfig(max_length=LENGTH), folder / "prepared", "")
    chat = functools.cache(lambda: prepare.load_chat(work))
    with Path(args.dialogues).open("rb") as file:
        if sum(1 for _ in file) < prepare.MANY or args.profile:
            chat()
    profiler = cProfile.Profile()
    with measure.Peak(children=True) as memory:
        began = time.perf_counter()
        if args.profile:
            profiler.enable()
        packs, _ = prepare.dialogues(work, chat, out)
        profiler.disable()
        seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    if args.profile:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(30)
    return _result(seconds, memory, len(packs))


def trl(args: argparse.Namespace) -> dict[str, Any]:
    """What the constructor of its trainer does, on the tokens of the assistant as ours."""
    import datasets
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_caching()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(args.model), AutoTokenizer.from_pretrained(args.model)
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(), max_length=LENGTH, packing=True, use_cpu=True, bf16=False, report_to="none",
        dataset_num_proc=args.processes if args.processes > 1 else None, assistant_only_loss=True, disable_tqdm=True,
    )  # fmt: skip
    with measure.Peak(children=True) as memory:
        began = time.perf_counter()
        rows = Dataset.from_json(args.dialogues, cache_dir=tempfile.mkdtemp())
        trainer = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
        seconds = time.perf_counter() - began
    return _result(seconds, memory, len(trainer.train_dataset))


def _result(seconds: float, memory: measure.Peak, packs: int) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "cpu_seconds": sum(os.times()[:4]),  # of the process and its children, imports included
        "packs": packs,
        "peak_mb": memory.peak / 2**20,
        "peak_added_up_mb": memory.peak_added_up / 2**20,
        "peak_over_start_mb": memory.over_start_mb,
    }


if __name__ == "__main__":
    main()
