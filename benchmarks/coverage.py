"""How often the intervals of `zephyr reproduce` hold the truth: simulated experiments, read by the code that decides (`reproduce.compare`).

    python benchmarks/coverage.py                       a minute and a half; the figures of docs/reproduction.md
    python benchmarks/coverage.py --draws 200           does the script run?

Three trainings of each model and 60 prompts, both drawn anew in each experiment. `difference`: what two models differ by at a
prompt is normal, 0.1 in the mean, 0.5 from prompt to prompt, 0.3 besides, and a spread from training to training; beside it the
interval over prompts alone, and how often a true difference of the size that is called the smallest that could be shown is shown.
`share`: one answer a prompt that is right or wrong, those of one prompt alike in all trainings (a correlation of 0.5 on the
normal scale), the share of a training drawn around the true one.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from statistics import NormalDist, median
from typing import Any

import numpy as np

from zephyr.reproduce import compare
from zephyr.reproduce.compare import Found
from zephyr.reproduce.scores import Cells

TRAININGS, PROMPTS = 3, 60
TRUTH, OF_PROMPTS, BESIDES = 0.1, 0.5, 0.3
SPREADS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)  # standard deviation from training to training
SHARES = (0.5, 0.9, 0.98)
LIKE = (None, 200.0, 20.0)  # a + b of the Beta distribution of a training's share; None where all have the true one

Row = dict[str, Any]


def cells(values: Sequence[float]) -> Cells:
    """One item of each prompt."""
    return {f"p{i}": (float(value), 1) for i, value in enumerate(values)}


def differences(spread: float, truth: float, draws: int, rng: np.random.Generator) -> list[list[Cells]]:
    """So many experiments: what two models differ by, for each training."""
    found = []
    for _ in range(draws):
        of_prompt = rng.normal(truth, OF_PROMPTS, PROMPTS)
        drawn = of_prompt + rng.normal(0, spread, (TRAININGS, 1)) + rng.normal(0, BESIDES, (TRAININGS, PROMPTS))
        found.append([cells(seed) for seed in drawn])
    return found


def alone(seeds: Sequence[Cells]) -> Found:
    """What an interval over prompts alone makes of it: the trainings' mean as one."""
    return compare.level([{name: (sum(seed[name][0] for seed in seeds) / len(seeds), n) for name, (_, n) in seeds[0].items()}])


def shares(truth: float, concentration: float | None, draws: int, rng: np.random.Generator) -> list[Found]:
    """The same of answers that are right or wrong."""
    found = []
    for _ in range(draws):
        own = [truth] * TRAININGS if concentration is None else rng.beta(truth * concentration, (1 - truth) * concentration, TRAININGS)
        below = np.array([[NormalDist().inv_cdf(min(max(p, 1e-12), 1 - 1e-12))] for p in own])
        drawn = np.sqrt(0.5) * (rng.normal(0, 1, PROMPTS) + rng.normal(0, 1, (TRAININGS, PROMPTS)))
        found.append(compare.share_of([cells(seed) for seed in drawn < below]))
    return found


def held(found: Sequence[Found], truth: float) -> float:
    """In which share of the experiments the interval holds the truth; one that is not there does not."""
    return sum(f.ci95 is not None and f.low <= truth <= f.high for f in found) / len(found)


def half_width(found: Sequence[Found]) -> float:
    """The median of half the interval."""
    return median((f.high - f.low) / 2 for f in found)


def measured(draws: int, seed: int) -> list[Row]:
    """A row for each spread, and for each share with each spread."""
    rows: list[Row] = []
    rng = np.random.default_rng(seed)
    for spread in SPREADS:
        drawn = differences(spread, TRUTH, draws, rng)
        found = [compare.level(seeds) for seeds in drawn]
        smallest = median(f.smallest for f in found)
        shown = sum(compare.level(seeds).low > 0 for seeds in differences(spread, smallest, draws, rng)) / draws
        row = {"what": "difference", "spread": spread, "held": held(found, TRUTH), "half_width": half_width(found)}
        rows.append({**row, "over_prompts_alone": held([alone(s) for s in drawn], TRUTH), "smallest": smallest, "shown": shown})
    for truth in SHARES:
        for concentration in LIKE:
            found = shares(truth, concentration, draws, rng)
            spread = 0.0 if concentration is None else float(np.sqrt(truth * (1 - truth) / (concentration + 1)))
            row = {"what": f"share {truth}", "spread": spread, "held": held(found, truth), "half_width": half_width(found)}
            missed = {"too_high": sum(f.low > truth for f in found) / draws, "too_low": sum(f.high < truth for f in found) / draws}
            rows.append({**row, **missed, "zero_width": sum(f.high <= f.low for f in found)})
    return rows


COLUMNS = (("held", ".1%"), ("over_prompts_alone", ".1%"), ("half_width", ".3f"), ("smallest", ".3f"), ("shown", ".1%"))


def table(rows: Sequence[Row]) -> str:
    """In columns."""
    lines = [" ".join([f"{'':12}", f"{'spread':>7}", *(f"{key.replace('_', ' '):>18}" for key, _ in COLUMNS)])]
    for row in rows:
        shown = (format(row[key], form) if key in row else "" for key, form in COLUMNS)
        lines.append(" ".join([f"{row['what']:12}", f"{row['spread']:7.3f}", *(f"{text:>18}" for text in shown)]))
    return "\n".join(lines)


def main() -> None:
    """Draw, print the table, and the JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000, help="simulated experiments of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.perf_counter()
    rows = measured(args.draws, args.seed)
    print(table(rows))
    about = {
        "trainings": TRAININGS,
        "prompts": PROMPTS,
        "draws": args.draws,
        "seed": args.seed,
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps({**about, "rows": rows}))


if __name__ == "__main__":
    main()
