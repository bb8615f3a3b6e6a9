"""Our training beside TRL's: the same model, the same rows, one after the other in turn, each run a process of its own.

    python benchmarks/race.py                      every race, three rounds, medians
    python benchmarks/race.py --quick              every race, one round, the tiny model
    python benchmarks/race.py --only dpo-body      one race

The last line of stdout is one JSON object: machine, versions, and for each race the ratio (TRL's time over ours) and both medians.
`--dtype auto` takes bfloat16 where a timed product says that it pays, for both sides (TRL under autocast, which keeps float32 weights as we
do), else float32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import assets
import measure

HERE = Path(__file__).resolve().parent
# large fresh allocations cost page faults: both sides keep what they have got
ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}


@dataclass(frozen=True)
class Race:
    """What is run on both sides, and what is added on TRL's."""

    what: str
    model: str
    rows: str
    trl: tuple[str, ...] = ()


RACES = {
    "dpo-body": Race("dpo", "body", "synthetic"),
    "dpo-body-grouped": Race("dpo", "body", "synthetic", ("--group",)),
    "dpo-small": Race("dpo", "small", "synthetic"),
    "dpo-small-grouped": Race("dpo", "small", "synthetic", ("--group",)),
    "dpo-smollm2-ultrafeedback": Race("dpo", "smollm2", "ultrafeedback"),
    "sft-body": Race("sft", "body", "dialogues"),
    "sft-small": Race("sft", "small", "dialogues"),
}


def main() -> None:
    """Parse, race, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=list(RACES), action="append")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--pairs", type=int, default=12, help="three steps of four")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--work", type=Path, default=Path("runs/bench"))
    args = parser.parse_args()
    if not assets.available():
        sys.exit(f"{assets.SHARED}: the generator of rows and models is not there; set ZEPHYR_SHARED to its folder")
    dtype = _dtype(args.dtype)
    rounds = args.rounds or (1 if args.quick else 3)
    found = {name: race(RACES[name], args, dtype, rounds) for name in args.only or RACES}
    for name, result in found.items():
        memory = f", memory {result['memory_ratio']:.2f} of TRL's" if result["memory_ratio"] else ""
        used = ", ".join(f"{side} {share:.0%}" for side, share in result["mfu"].items())
        print(
            f"{name}: {result['ratio']:.2f}x ({result['trl_seconds']:.1f} s against {result['zephyr_seconds']:.1f} s{memory}; MFU {used})"
        )
    print(json.dumps({"machine": measure.machine(), "dtype": dtype, "rounds": rounds, "races": found}))


def race(one: Race, args: argparse.Namespace, dtype: str, rounds: int) -> dict[str, Any]:
    """Both sides in turn; the median of each side's sum of steps."""
    model = assets.model_folder("tiny" if args.quick else one.model, args.work)
    rows = (
        ("--dialogues", str(assets.dialogues_file(40, args.work)))
        if one.what == "sft"
        else ("--pairs", str(assets.pairs_file(one.rows, args.pairs, args.work)))
    )
    common = (one.what, "--model", str(model), *rows)
    theirs = "autocast" if dtype == "bfloat16" else dtype
    results: dict[str, list[dict[str, Any]]] = {"zephyr": [], "trl": []}
    for number in range(rounds):
        for side, script, more in (("zephyr", "ours.py", ("--dtype", dtype)), ("trl", "trl_side.py", ("--dtype", theirs, *one.trl))):
            results[side].append(_run(script, *common, *more))
            print(
                f"  {one.what} {one.model} round {number + 1}: {side} {results[side][-1]['train_seconds']:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    seconds = {side: statistics.median(_per_token(r) for r in runs) for side, runs in results.items()}
    memory = {side: statistics.median(r["peak_over_start_mb"] for r in runs) for side, runs in results.items()}
    ours = results["zephyr"][0]
    tokens = ours.get("nominal_tokens", ours.get("tokens"))
    return {
        "ratio": seconds["trl"] / seconds["zephyr"],
        "zephyr_seconds": statistics.median(r["train_seconds"] for r in results["zephyr"]),
        "trl_seconds": statistics.median(r["train_seconds"] for r in results["trl"]),
        "memory_ratio": memory["zephyr"] / memory["trl"] if memory["trl"] > 0 else None,
        "memory_mb": memory,
        "mfu": {side: _mfu(ours, tokens, runs) for side, runs in results.items()},
        "matmul_peak_gflops": statistics.median(r["matmul_peak"] for r in results["zephyr"]) / 1e9,
        "rounds": {side: [r["train_seconds"] for r in runs] for side, runs in results.items()},
        "tokens": tokens,
    }


def _mfu(ours: dict[str, Any], tokens: int, runs: list[dict[str, Any]]) -> float:
    """6 N T over what a matrix product reaches in the same process; T counts every answer's prompt, N what multiplies every token."""
    done = statistics.median((r.get("tokens") or tokens) / r["train_seconds"] for r in runs)
    return float(6 * ours["matmul_weights"] * done / ours["matmul_peak"])


def _per_token(result: dict[str, Any]) -> float:
    """Packing fills sequences differently, so supervised steps are compared by the token; pairs are the same on both sides."""
    return float(result["train_seconds"]) / (result.get("tokens") or 1)


def _run(script: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **ALLOCATOR, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        sys.exit(f"{script} {' '.join(arguments)}: failed\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return result


def _dtype(wanted: str) -> str:
    from zephyr.train.precision import resolve_dtype

    return str(resolve_dtype(wanted, "cpu")).removeprefix("torch.")


if __name__ == "__main__":
    main()
