"""How long a training stands still for a checkpoint: while it waits for it, or with a thread that writes it.

    python benchmarks/checkpoints.py                   as many weights as SmolLM2-135M has: 1.6 GB a checkpoint
    python benchmarks/checkpoints.py --millions 5

Two checkpoints each way, since the first in the background also makes room for its copy. Meanwhile the training is matrix products of
a thousand rows, which are counted. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import torch

from zephyr.recipe import SFTConfig
from zephyr.train.checkpoint import Checkpoints, Position
from zephyr.train.optim import adamw


def stood_still(millions: int, folder: Path, *, background: bool) -> dict[str, Any]:
    """Seconds without training, and seconds and products from the beginning of a checkpoint until it has its name."""
    model = torch.nn.Sequential(*(torch.nn.Linear(1000, 1000, bias=False) for _ in range(millions)))
    optimizer = adamw(model, SFTConfig())
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()  # which makes Adam's moments
    checkpoints = Checkpoints(folder / "checkpoints", folder / "metrics.jsonl", 0, background=background)
    still: list[float] = []
    whole: list[float] = []
    products: list[int] = []
    a = torch.randn(1000, 1000)
    for step in (1, 2):
        began, rounds = time.perf_counter(), 0
        checkpoints.save(Position(step), model, optimizer)
        still.append(time.perf_counter() - began)
        while background and not checkpoints.settles():
            a @ a
            rounds += 1
        ends = time.perf_counter()
        checkpoints.settle()
        still[-1] += time.perf_counter() - ends
        whole.append(time.perf_counter() - began)
        products.append(rounds)
    (newest,) = (sum(f.stat().st_size for f in path.iterdir()) for path in (folder / "checkpoints").glob("step-00000002"))
    return {"stood_still_seconds": still, "whole_seconds": whole, "products_meanwhile": products, "bytes": newest}


def main() -> None:
    """Both ways, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=135, help="of weights")
    parser.add_argument("--folder", type=Path, help="on the disk that is meant; by default that of temporary files")
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": measure.machine(), "millions": args.millions}
    for way in ("paused", "background"):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            found[way] = stood_still(args.millions, Path(folder), background=way == "background")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
