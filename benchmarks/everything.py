"""A model on everything that needs no judge: academic tasks, instructions that a program checks, preference sets; each with its interval.

    python benchmarks/everything.py --model FOLDER --out runs/everything                       all items: hours on a CPU
    python benchmarks/everything.py --model FOLDER --out runs/look --items 50 --prompts 10 --pairs 40     a quick look

Rows come from the files of `ZEPHYR_SHARED` (default ../shared); IFEval's prompts from `--ifeval FILE`, or else the package's own 27
(benchmarks/ifeval_prompts.jsonl: each of the 25 instructions at least once; their score says that it works, and is not IFEval's). ARC's
examples come from its validation file, HellaSwag's from ten rows set aside, MMLU's from its dev file; examples are the first there
are. The last line of stdout is one JSON object; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SETS = ("llmbar_pairs", "ultrafeedback_binarized_1k", "pandalm_testset_v1", "rasbt_preference_data")
PARTS = ("tasks", "ifeval", "preferences")


def main() -> None:
    """What was asked for, a part after the other: the cheap ones first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ZEPHYR_SHARED", HERE.parents[1] / "shared")) / "data")
    parser.add_argument("--items", type=int, help="of each academic task")
    parser.add_argument("--prompts", type=int, help="of IFEval")
    parser.add_argument("--pairs", type=int, help="of each preference set")
    parser.add_argument("--ifeval", type=Path, default=HERE / "ifeval_prompts.jsonl")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="of an answer to IFEval; lm-eval has 1,280")
    parser.add_argument("--reference", help="the model that it was trained from, for preference sets")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.threads:
        import torch

        torch.set_num_threads(given.threads)
    found = {part: run(part, given) for part in given.only or PARTS}
    print(json.dumps(found))


def run(part: str, given: argparse.Namespace) -> dict[str, Any]:
    """A part, said in words, and as an object."""
    from zephyr import api

    given.out.mkdir(parents=True, exist_ok=True)
    on, settings, limit = {"tasks": tasks, "ifeval": instructions, "preferences": preferences}[part](given)
    began = time.monotonic()
    settings = ["train.dtype=float32", *settings]
    reference = given.reference if part == "preferences" else None
    result = api.benchmark(given.model, on, None, given.out / part, limit=limit, settings=settings, reference=reference)
    seconds = time.monotonic() - began
    print(f"--- {part}: {seconds:.0f} s\n{api.describe(result)}", flush=True)
    return {"seconds": round(seconds, 1), "scores": result["scores"], "judged": result["judged"]}


def tasks(given: argparse.Namespace) -> tuple[list[str], list[str], int | None]:
    """The four academic tasks, with the first examples there are."""
    folder = given.data / "eval" / "open_llm"
    with gzip.open(folder / "hellaswag_validation.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = file.readlines()
    aside, rest = given.out / "hellaswag_shots.jsonl", given.out / "hellaswag_items.jsonl"
    step = len(rows) // 10
    aside.write_text("".join(rows[::step][:10]), encoding="utf-8")
    rest.write_text("".join(row for i, row in enumerate(rows) if i % step or i // step >= 10), encoding="utf-8")
    items = {
        "arc_challenge": folder / "arc_challenge_test.jsonl.gz",
        "hellaswag": rest,
        "mmlu": folder / "mmlu_test.jsonl.gz",
        "truthfulqa": folder / "truthfulqa_mc.jsonl.gz",
    }
    shots = {"arc_challenge": folder / "arc_challenge_validation.jsonl.gz", "hellaswag": aside, "mmlu": folder / "mmlu_dev.jsonl.gz"}
    settings = ["evaluate.sampler=first_n", *(f"evaluate.fewshot.{task}={path}" for task, path in shots.items())]
    return [f"{task}={path}" for task, path in items.items()], settings, given.items


def instructions(given: argparse.Namespace) -> tuple[list[str], list[str], int | None]:
    """IFEval's instructions."""
    return [f"ifeval={given.ifeval}"], [f"judge.ifeval.max_new_tokens={given.max_new_tokens}"], given.prompts


def preferences(given: argparse.Namespace) -> tuple[list[str], list[str], int | None]:
    """Preference sets of several kinds: people's, a teacher's, an easy one."""
    return [f"preferences={given.data / 'feedback' / f'{name}.jsonl.gz'}" for name in SETS], [], given.pairs


if __name__ == "__main__":
    main()
