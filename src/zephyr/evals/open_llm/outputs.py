"""Files as lm-eval writes them, for the tools that read those: results as JSON, samples as JSONL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write(folder: Path, name: str, results: Mapping[str, Any]) -> None:
    """What lm-eval's evaluation returned, in a folder.

    `results_NAME.json` has all but the samples; `samples_TASK.jsonl` an item a line, its prompts under `arguments`, the
    log-likelihoods under `resps`. Unlike lm-eval's, their names bear no time of day, and of functions in a task's
    configuration stands the name alone: equal work gives equal bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {key: value for key, value in results.items() if key != "samples"}
    (folder / f"results_{name}.json").write_text(json.dumps(whole, indent=2, default=_plain, ensure_ascii=False), encoding="utf-8")
    for task, samples in results["samples"].items():
        lines = [json.dumps(_sample(sample), default=_plain, ensure_ascii=False) for sample in samples]
        (folder / f"samples_{task}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample in the shape in which lm-eval stores it: texts for numbers in lists, arguments by name."""
    arguments = {f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(args)} for i, args in enumerate(sample["arguments"])}
    told = {key: _texts(sample[key]) for key in ("resps", "filtered_resps")}
    return {**sample, **told, "arguments": arguments, "target": str(sample["target"])}


def _texts(value: Any) -> Any:
    return [_texts(one) for one in value] if isinstance(value, (list, tuple)) else str(value)


def _plain(value: Any) -> Any:
    """What JSON has no word for: numbers of numpy, functions."""
    if hasattr(value, "item"):
        return value.item()
    return getattr(value, "__qualname__", None) or str(value)
