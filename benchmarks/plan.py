"""What `zephyr plan --calibrate` says against what happens: peak memory and time of training on this machine.

    python benchmarks/plan.py --rounds 3
    python benchmarks/plan.py --only body-dpo

A recipe for each configuration; the plan is made first, by a process of its own, then the run is made `--rounds` times and the median
taken. `counted` is the peak from the model's shape alone, `calibrated` that of the few real steps of the plan; time is calibrated. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import assets
from measure import machine

MODELS = ("body", "small", "smollm2")
# name -> (rows before `FEWER`, settings); dialogues have about 600 tokens, pairs about 500
WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "sft": (48, {"sft": {"batch_size": 4, "max_length": 1024}}),
    "sft-checkpointed": (40, {"sft": {"batch_size": 4, "max_length": 1024}, "train": {"activation_checkpointing": True}}),
    "sft-adapter": (40, {"sft": {"batch_size": 4, "max_length": 1024, "lora": {}}}),
    "sft-unpacked": (40, {"sft": {"batch_size": 4, "max_length": 1024, "packing": False}, "train": {"micro_batch_tokens": 1024}}),
    "dpo": (40, {"dpo": {"batch_size": 8}}),
    "dpo-small-passes": (40, {"dpo": {"batch_size": 8}, "train": {"micro_batch_tokens": 1024}}),
    "dpo-adapter": (40, {"dpo": {"batch_size": 8, "lora": {}}}),
}
FEWER = {"body": 1, "small": 2, "smollm2": 4}  # a part of the rows, so that a run is short
OF_THE_LARGE = ("sft", "sft-adapter", "dpo", "dpo-small-passes")  # the others would take long


def main() -> None:
    """Plan, run, compare."""
    every = [f"{model}-{way}" for model in MODELS for way in WAYS if model != "smollm2" or way in OF_THE_LARGE]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=every)
    args = parser.parse_args()
    found = {}
    for name in args.only or every:
        model, _, way = name.partition("-")
        found[name] = compare(model, way, args.rounds)
        print(f"  {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in found[name].items() if k.endswith("ratio")), file=sys.stderr, flush=True)
    print(f"{'configuration':26} {'peak GB':>8} {'counted':>8} {'calibr.':>8} {'time s':>8} {'planned':>8} {'ratio':>6}")
    for name, f in found.items():
        print(
            f"{name:26} {f['peak'] / 1e9:8.2f} {f['counted_ratio']:8.2f} {f['calibrated_ratio']:8.2f} {f['seconds']:8.1f} "
            f"{f['planned_seconds']:8.1f} {f['time_ratio']:6.2f}"
        )
    print(json.dumps({"machine": machine(), "rounds": args.rounds, "configurations": found}))


def compare(model: str, way: str, rounds: int) -> dict[str, float]:
    """One configuration: planned over measured."""
    rows, settings = WAYS[way]
    rows = rows // FEWER[model]
    stage = "sft" if "sft" in settings else "dpo"
    work = Path("runs/bench")
    folder = assets.model_folder(model, work).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        recipe = {"name": "plan", "model": {"path": str(folder)}, "train": {"dtype": "float32", **settings.get("train", {})}}
        section = {"evaluate_every": 1000, **settings[stage]}
        if stage == "sft":
            recipe |= {"curate": {"data": [str(assets.dialogues_file(rows, work).resolve())], "test_fraction": 0.1}, "sft": section}
        else:
            recipe |= {"binarize": {"data": [str(assets.pairs_file("synthetic", rows, work).resolve())]}, "dpo": section}
        path = Path(scratch) / "recipe.yaml"
        path.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
        planned = zephyr("plan", str(path), "--calibrate", "--gpu", "h200", "--devices", "1", "--json")["training"]["here"][0]
        times, peaks = [], []
        for number in range(rounds):
            out = Path(scratch) / f"run{number}"
            zephyr("run", str(path), "--out", str(out), "--until", stage, "--json")
            manifests = [
                json.loads((out / s / "manifest.json").read_text()) for s in (("reference", "dpo") if stage == "dpo" else ("sft",))
            ]
            times.append(sum(m["seconds"] for m in manifests))
            peaks.append(manifests[-1]["results"]["peak_memory_bytes"])
            shutil.rmtree(out)
    seconds, peak = statistics.median(times), statistics.median(peaks)
    return {
        "peak": peak,
        "counted_ratio": planned["counted_bytes"] / peak,
        "calibrated_ratio": planned["peak_bytes"] / peak,
        "seconds": seconds,
        "planned_seconds": planned["seconds"],
        "time_ratio": planned["seconds"] / seconds,
    }


def zephyr(*arguments: str) -> Any:
    """What a command prints as JSON."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-m", "zephyr", *arguments], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"zephyr {' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
