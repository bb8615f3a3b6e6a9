"""Our training beside TRL's: the same model, the same rows, one after the other in turn, each run a process of its own.

    python benchmarks/race.py                      every race, three rounds, medians
    python benchmarks/race.py --quick              does it run? one round, the tiny model, less of everything
    python benchmarks/race.py --only dpo-body      one of them (--list names them)

The last line of stdout is one JSON object: machine, versions, and for each race the ratio (TRL's over ours) and what it is made of.
`--dtype auto` takes bfloat16 where a timed product says that it pays, for both sides (TRL under autocast, which keeps float32 weights as we
do), else float32; `--pure-bf16` races against TRL without master weights, too. stderr says how far it is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import assets
import measure
import processes
import trl_side


@dataclass(frozen=True)
class Race:
    """What is run on both sides: TRL in one or more ways, each of which makes a race of its own name; ours in one."""

    what: str
    model: str
    rows: str
    count: int
    trl: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"": ()})
    ours: tuple[str, ...] = ()


TWO_WAYS = {"": (), "-grouped": ("--group",)}
STEPS = {
    "dpo-body": Race("dpo", "body", "synthetic", 8, TWO_WAYS),
    "dpo-small": Race("dpo", "small", "synthetic", 8, TWO_WAYS),
    "dpo-smollm2-ultrafeedback": Race("dpo", "smollm2", "ultrafeedback", 4),
    "sft-body": Race("sft", "body", "dialogues", 40),
    "sft-small": Race("sft", "small", "dialogues", 40),
}
SAME_WHEN_QUICK = ("dpo-small", "sft-small")  # with the tiny model in the place of all


def main() -> None:
    """Parse, race, print."""
    import data
    import ideas_table
    import job
    import startup

    every: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        **{name: lambda args, one=one, name=name: steps(name, one, args) for name, one in STEPS.items()},
        "ideas": ideas_table.table,
        "whole-job": job.race,
        "data": data.race,
        "start-up": startup.race,
    }
    args = parsed(__doc__, list(every))
    wanted = args.only or [name for name in every if not (args.quick and name in SAME_WHEN_QUICK)]
    done(run({name: every[name] for name in wanted}, args))


def done(results: dict[str, Any]) -> None:
    """The last line, and an exit code of 1 where a race failed."""
    print(json.dumps(results))
    sys.exit(1 if results["failed"] else 0)


def parsed(doc: str | None, names: list[str], device: str = "cpu") -> argparse.Namespace:
    """The arguments, checked, with the number format settled; `device` is what is taken if none is named."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the tiny model, one round: does it run?")
    parser.add_argument("--only", choices=names, action="append")
    parser.add_argument("--list", action="store_true", help="name the races")
    parser.add_argument("--rounds", type=int, help="3, with --quick 1")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--device", default=device, choices=["cpu", "cuda"])
    parser.add_argument("--pure-bf16", action="store_true", help="TRL in bfloat16 without master weights, too (with bfloat16 alone)")
    parser.add_argument("--job-pairs", type=int, default=60, help="of the whole job")
    parser.add_argument("--job-epochs", type=int, default=1, help="of the whole job")
    parser.add_argument("--job-rounds", type=int, default=1, help="of the whole job, which is long: TRL's takes most of ten minutes")
    parser.add_argument("--ideas-model", choices=["body", "small"], action="append", help="what ideas are taken out of; body by default")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="where models, rows and outputs are made")
    args = parser.parse_args()
    if args.list:
        print("\n".join(names))
        sys.exit()
    _settle_device(args.device)
    if not assets.available():
        sys.exit(f"{assets.SHARED}: the generator of rows and models is not there; set ZEPHYR_SHARED to its folder")
    args.dtype = _dtype(args.dtype, args.device)
    if args.pure_bf16 and args.dtype != "bfloat16":
        sys.exit("--pure-bf16: the race is in float32 on this machine")
    args.rounds = args.rounds or (1 if args.quick else 3)
    return args


def run(races: dict[str, Callable[[argparse.Namespace], dict[str, Any]]], args: argparse.Namespace) -> dict[str, Any]:
    """One after the other; what each says goes to stderr, what it found is returned. One that fails does not take the others with it."""
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    took: dict[str, float] = {}
    for name, one in races.items():
        began = time.perf_counter()
        try:
            found |= (new := one(args))
        except (SystemExit, AssertionError) as error:
            failed[name], new = str(error), {}
            say(f"{name} failed: {error}")
        for line, result in new.items():
            say(f"{line}: {described(result)}")
        took[name] = round(time.perf_counter() - began, 1)
        say(f"({name} took {took[name]:.0f} s)")
    settled = {"dtype": args.dtype, "rounds": args.rounds, "quick": args.quick}
    machine = {**measure.machine(args.device), "trl_attention": trl_side.attention(args)}
    return {"machine": machine, **settled, "took_seconds": took, "races": found, "failed": failed}


def described(result: dict[str, Any]) -> str:
    """The result for people."""
    parts = [f"{result['ratio']:.2f}x TRL" if result.get("ratio") else ""]
    if "zephyr_seconds" in result and "trl_seconds" in result:
        parts.append(f"{result['trl_seconds']:.2f} s against {result['zephyr_seconds']:.2f} s")
    if result.get("memory_ratio"):
        parts.append(f"memory {result['memory_ratio']:.2f} of TRL's")
    if "mfu" in result:
        once = f" (prompts once: {result['mfu_once']:.1%})" if result["mfu_once"] != result["mfu"]["zephyr"] else ""
        parts.append(f"MFU {result['mfu']['zephyr']:.1%}{once}, TRL {result['mfu']['trl']:.1%}")
    return ", ".join(p for p in parts if p) + (f" {result['text']}" if "text" in result else "")


def say(text: str) -> None:
    """To the reader, at once."""
    print(text, file=sys.stderr, flush=True)


def steps(name: str, one: Race, args: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn; the median of each side's sum of steps."""
    model = assets.model_folder("tiny" if args.quick else one.model, args.work)
    common = [one.what, "--model", str(model), "--device", args.device, *rows_of(one, model, args)]
    theirs = {"": "autocast" if args.dtype == "bfloat16" else args.dtype} | ({"-pure-bf16": "bfloat16"} if args.pure_bf16 else {})
    ways = {"": one.trl[""]} if args.quick else one.trl
    peers = {way + kind: (*more, "--dtype", dtype) for way, more in ways.items() for kind, dtype in theirs.items()}
    ours: list[dict[str, Any]] = []
    trl: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
    for number in range(args.rounds):
        ours.append(processes.result("ours.py", *common, *one.ours, "--dtype", args.dtype))
        for peer, more in peers.items():
            trl[peer].append(processes.result("trl_side.py", *common, *more))
        times = ", ".join(f"TRL{peer} {runs[-1]['train_seconds']:.1f}" for peer, runs in trl.items())
        say(f"  {name} round {number + 1}: ours {ours[-1]['train_seconds']:.1f} s, {times}")
    return {name + peer: compared(ours, runs) for peer, runs in trl.items()}


def rows_of(one: Race, model: Path, args: argparse.Namespace) -> list[str]:
    """The files that a race is about; the reference's log-probabilities of the pairs are made once."""
    if one.what == "sft":
        return ["--dialogues", str(assets.dialogues_file(one.count, args.work))]
    pairs = assets.pairs_file(one.rows, one.count, args.work)
    references = args.work / f"references-{model.name}-{args.dtype}-{pairs.stem}.json"
    files = ["--pairs", str(pairs), "--references", str(references)]
    if not references.exists():
        processes.result("ours.py", "reference", "--model", str(model), "--device", args.device, "--dtype", args.dtype, *files)
    return files


def compared(ours: list[dict[str, Any]], trl: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of both sides and their ratio: by the token, since packing fills sequences differently; pairs are the same on both sides."""
    sides = {"zephyr": ours, "trl": trl}
    tokens = {side: runs[0]["tokens"] for side, runs in sides.items()}
    assert abs(tokens["zephyr"] / tokens["trl"] - 1) < 0.25, f"not the same work: {tokens}"
    seconds = {side: statistics.median(r["train_seconds"] for r in runs) for side, runs in sides.items()}
    memory = {side: statistics.median(r["peak_over_start_mb"] for r in runs) for side, runs in sides.items()}
    first = {side: statistics.median(r["first_seconds"] for r in runs) for side, runs in sides.items()}
    peak = max(r["matmul_peak"] for r in ours + trl)  # of one machine, measured in every run: the best is what it can do
    work = 6 * ours[0]["matmul_weights"] / peak
    return {
        "ratio": (seconds["trl"] / tokens["trl"]) / (seconds["zephyr"] / tokens["zephyr"]),
        "zephyr_seconds": seconds["zephyr"],
        "trl_seconds": seconds["trl"],
        "first_seconds": first,  # the same steps before, when the process had touched none of its memory
        "rounds": {side: [round(r["train_seconds"], 2) for r in runs] for side, runs in sides.items()},
        "tokens": tokens,
        "tokens_per_second": {side: tokens[side] / seconds[side] for side in sides},
        "memory_ratio": memory["zephyr"] / memory["trl"] if memory["trl"] > 0 else None,
        "memory_mb": memory,
        "matmul_peak_gflops": peak / 1e9,
        "mfu": {side: work * tokens[side] / seconds[side] for side in sides},
        # of tokens that go through the model: ours computes the prompt of a pair once
        "mfu_once": work * ours[0].get("unique_tokens", tokens["zephyr"]) / seconds["zephyr"],
    }


def _settle_device(device: str) -> None:
    """A race is on the CPU alone, also where there is a GPU, or on one GPU of those that are there; without one none can be raced on."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # also of what is started
        return
    # one GPU, also for what is started: of several TRL's trainers would make nn.DataParallel, which they refuse
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    import torch

    if not torch.cuda.is_available():
        sys.exit(f"--device cuda: torch {torch.__version__} sees no GPU here; --quick --device cpu says whether the script runs")


def _dtype(wanted: str, device: str) -> str:
    from zephyr.train.precision import resolve_dtype

    return str(resolve_dtype(wanted, device)).removeprefix("torch.")


if __name__ == "__main__":
    main()
