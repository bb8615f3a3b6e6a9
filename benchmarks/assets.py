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


# for GPUs, with random weights and the generator's tokenizer of 32,000
LARGE: dict[str, dict[str, int]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 8},
    "mistral-7b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    },
}  # fmt: skip


def model_folder(name: str, work: Path) -> Path:
    """`body` (48M weights in the products, the head 3%, as in a 7B), `small` (40M, the head 41%), `tiny`, `smollm2`, or one of `LARGE`."""
    if name in LARGE:
        return _large(name, work)
    if name == "smollm2":
        from zephyr.models import load
        from zephyr.recipe import ModelConfig

        return Path(load.refer(ModelConfig(path="smollm2-135m-instruct"), None).locate())
    common, _ = _generator()
    folder, _ = common.ensure_assets(str(work), name)
    return Path(folder)


def _large(name: str, work: Path) -> Path:
    """Random weights in bfloat16 in the shape of a large model (14 GB for Mistral-7B's)."""
    import torch
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    folder = work / f"model-{name}"
    if not (folder / "config.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(model_folder("small", work))
        config = MistralConfig(
            vocab_size=32000, max_position_embeddings=4096, sliding_window=None, tie_word_embeddings=False, **LARGE[name]
        )
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        MistralForCausalLM(config).save_pretrained(folder)
        torch.set_default_dtype(torch.float32)
        tokenizer.save_pretrained(folder)
    return folder


def pairs_file(kind: str, rows: int, work: Path) -> Path:
    """Preference pairs as turns: `synthetic`, or real ones, the first whose scores differ.

    `ultrafeedback` has up to 3,500 characters of prompt and answer (about 1,000 tokens), `ultrafeedback-short` up to 1,500 (335 pairs),
    `ultrafeedback-500` up to 2,300 (500 pairs and few more).
    """
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
        most = {"ultrafeedback": 3500, "ultrafeedback-short": 1500, "ultrafeedback-500": 2300}[kind]
        with gzip.open(SHARED / "data" / "feedback" / "ultrafeedback_binarized_1k.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                texts = {side: row[side] if isinstance(row[side], str) else row[side][-1]["content"] for side in ("chosen", "rejected")}
                fits = all(text.strip() and len(text) + len(row["prompt"]) < most for text in texts.values())
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
