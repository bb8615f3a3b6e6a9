"""The whole job: from the command line to the saved model, references included, on real pairs.

    python benchmarks/race.py --only whole-job --job-rounds 3
    python benchmarks/race.py --only whole-job --job-pairs 500 --job-epochs 3     # two hours

Ours is `zephyr run` on a recipe (binarize, reference, dpo); TRL's is a script that computes its references, trains and saves. Wall time
of the whole process and, on a CPU, the most memory it held.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import assets
import processes
import race as races

RECIPE = """name: bench
seed: 0
model: {{path: {model}, chat_template: tokenizer}}
train: {{dtype: {dtype}, micro_batch_tokens: 4096}}
binarize: {{data: [{pairs}], test_fraction: 0.0}}
dpo: {{batch_size: 4, epochs: {epochs}, max_length: 1024, max_prompt_length: 512}}
"""

SHORT = 335  # so many short pairs there are


def race(args: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn, from a fresh folder each time."""
    model = assets.model_folder("tiny" if args.quick else "smollm2", args.work).resolve()
    wanted = 8 if args.quick else args.job_pairs
    pairs = assets.pairs_file("ultrafeedback-short" if wanted <= SHORT else "ultrafeedback-500", wanted, args.work).resolve()
    work = args.work / "job"
    runs: dict[str, list[processes.Ended]] = {"zephyr": [], "trl": []}
    for number in range(args.job_rounds):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        for side, command in (("zephyr", _ours(work, model, pairs, args)), ("trl", _theirs(work, model, pairs, args))):
            runs[side].append(ended := processes.run(command))
            races.say(f"  whole job round {number + 1}: {side} {ended.seconds:.1f} s {ended.peak_mb:.0f} MB")
        learnt = _check(work, len(pairs.read_text(encoding="utf-8").splitlines()))
    seconds = {side: statistics.median(r.seconds for r in ended) for side, ended in runs.items()}
    memory = {side: statistics.median(r.peak_mb for r in ended) for side, ended in runs.items()}
    on_cpu = args.device == "cpu"  # what a process holds is the host's memory, which on a GPU is not what is short
    return {
        "whole-job": {
            "ratio": seconds["trl"] / seconds["zephyr"],
            "zephyr_seconds": seconds["zephyr"],
            "trl_seconds": seconds["trl"],
            **({"memory_ratio": memory["zephyr"] / memory["trl"], "memory_mb": memory} if on_cpu else {}),
            "rounds": {side: [round(r.seconds, 1) for r in ended] for side, ended in runs.items()},
            "pairs": len(pairs.read_text(encoding="utf-8").splitlines()),
            "zephyr_pairs": learnt,
            "epochs": args.job_epochs,
        }
    }


def _ours(work: Path, model: Path, pairs: Path, args: argparse.Namespace) -> list[str]:
    recipe = work / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=model, pairs=pairs, dtype=args.dtype, epochs=args.job_epochs), encoding="utf-8")
    return [sys.executable, "-m", "zephyr", "run", str(recipe), "--out", str(work / "zephyr"), "--until", "dpo"]


def _theirs(work: Path, model: Path, pairs: Path, args: argparse.Namespace) -> list[str]:
    theirs = "autocast" if args.dtype == "bfloat16" else args.dtype
    more = [
        "--device",
        args.device,
        "--epochs",
        str(args.job_epochs),
        "--pairs",
        str(pairs),
        "--out",
        str(work / "trl"),
        "--dtype",
        theirs,
        "--max-length",
        "1024",
        "--group",
    ]
    return [sys.executable, str(processes.HERE / "trl_side.py"), "dpo-job", "--model", str(model), *more]


def _check(work: Path, pairs: int) -> int:
    """Both have saved a model; how many pairs ours has learnt from: all but those whose answers are too long, which TRL cuts."""
    assert list((work / "trl").glob("*.safetensors"))
    (manifest,) = work.glob("zephyr/*dpo/manifest.json")
    assert list(manifest.parent.glob("model/*.safetensors"))
    body = json.loads(manifest.read_text(encoding="utf-8"))
    learnt: int = body["rows_out"]["train"]
    dropped = body["dropped"].get("an answer does not fit into dpo.max_length", 0)
    assert learnt + dropped == pairs and dropped <= pairs // 100, f"{learnt} learnt, {dropped} too long, of {pairs} pairs"
    return learnt
