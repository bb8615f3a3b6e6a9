"""What both sides of a race work on: a model folder and a file of rows, made once a machine.

The random models, their tokenizer and the synthetic rows (lengths like UltraFeedback's and UltraChat's) come from the generator in
`$ZEPHYR_SHARED/bench`; the real pairs from `$ZEPHYR_SHARED/data`, the real model from the package index.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

SHARED = Path(os.environ.get("ZEPHYR_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def available() -> bool:
    """Is the generator there?"""
    return (SHARED / "bench" / "gen_data.py").exists()


def _generator() -> tuple[Any, Any]:
    sys.path.insert(0, str(SHARED / "bench"))
    import common
    import gen_data

    return common, gen_data


def model_folder(name: str, work: Path) -> Path:
    """`body` (48M weights in the products, the head 3% of them, as in a 7B), `small` (40M, the head 41%), `tiny`; or `smollm2`."""
    if name == "smollm2":
        from zephyr.models import load
        from zephyr.recipe import ModelConfig

        return Path(load.refer(ModelConfig(path="smollm2-135m-instruct"), None).locate())
    common, _ = _generator()
    folder, _ = common.ensure_assets(str(work), name)
    return Path(folder)


def pairs_file(kind: str, rows: int, work: Path) -> Path:
    """Preference pairs as turns: `synthetic`, or `ultrafeedback` (the first rows whose scores differ)."""
    path = work / f"pairs-{kind}-{rows}.jsonl"
    if path.exists():
        return path
    made: list[dict[str, Any]] = []
    if kind == "synthetic":
        _, gen_data = _generator()
        for i, row in enumerate(gen_data.prefs(rows)):
            row["prompt"][0]["content"] += f" ({i})"  # no prompt twice
            made.append(
                {**{side: row["prompt"] + row[side] for side in ("chosen", "rejected")}, "score_chosen": 2.0, "score_rejected": 1.0}
            )
    else:
        with gzip.open(SHARED / "data" / "feedback" / "ultrafeedback_binarized_1k.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                texts = {side: row[side] if isinstance(row[side], str) else row[side][-1]["content"] for side in ("chosen", "rejected")}
                fits = all(0 < len(text) + len(row["prompt"]) < 3500 for text in texts.values())  # about 1,000 tokens
                if row["score_chosen"] > row["score_rejected"] and fits and texts["chosen"] != texts["rejected"] and len(made) < rows:
                    ask = [{"role": "user", "content": row["prompt"]}]
                    turns = {side: [*ask, {"role": "assistant", "content": text}] for side, text in texts.items()}
                    made.append({**turns, "score_chosen": row["score_chosen"], "score_rejected": row["score_rejected"]})
    _write(path, made)
    return path


def dialogues_file(rows: int, work: Path) -> Path:
    """Synthetic dialogues."""
    path = work / f"dialogues-{rows}.jsonl"
    if not path.exists():
        _, gen_data = _generator()
        _write(path, list(gen_data.dialogues(rows)))
    return path


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
