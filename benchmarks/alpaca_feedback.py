"""Rated answers out of AlpacaEval's public verdicts: four models drawn a prompt, ready for `zephyr binarize`.

    python benchmarks/alpaca_feedback.py SHARED/data/feedback/alpaca_eval_feedback.jsonl.gz OUT.jsonl

The input has a row a (prompt, model) with two verdicts of GPT-4; the first (the probability that the answer beats GPT-4-turbo's) is taken,
and rows without it are left out. The data is CC BY-NC: OUT is for studies, not to be shipped.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

from zephyr.recipe import DataSource
from zephyr.sources import rows
from zephyr.stages.complete import draw

SCORE = "gpt4turbo_pref_vs_gpt4turbo"


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    by_prompt: dict[str, dict[str, dict[str, object]]] = defaultdict(dict)
    texts: dict[str, tuple[str, str]] = {}
    for _, _, row in rows(DataSource(path=args.source)):
        if row[SCORE] is not None:
            by_prompt[row["prompt_id"]][row["model"]] = {"model": row["model"], "response": row["output"], "overall_score": row[SCORE]}
            texts[row["prompt_id"]] = (row["instruction"], row["source"])
    with args.out.open("w", encoding="utf-8") as file:
        for prompt_id, answers in sorted(by_prompt.items()):
            if len(answers) < args.models:
                continue
            drawn = draw(sorted(answers), args.models, args.seed, prompt_id)
            prompt, source = texts[prompt_id]
            line = {"prompt": prompt, "prompt_id": prompt_id, "source": source, "completions": [answers[name] for name in drawn]}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
