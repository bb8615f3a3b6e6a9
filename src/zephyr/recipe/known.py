"""Benchmarks that training data must not hold, by the names that they go by, and where the hub has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr.errors import UsageError

# name -> the fields of a source
HUB: dict[str, dict[str, str]] = {
    "mt-bench": {"path": "HuggingFaceH4/mt_bench_prompts"},
    "alpaca-eval": {"path": "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval.json"},
    "arc": {"path": "allenai/ai2_arc", "subset": "ARC-Challenge", "source_split": "test"},
    "hellaswag": {"path": "Rowan/hellaswag", "source_split": "validation"},
    "mmlu": {"path": "cais/mmlu", "subset": "all", "source_split": "test"},
    "truthfulqa": {"path": "truthfulqa/truthful_qa", "subset": "multiple_choice", "source_split": "validation"},
    "ifeval": {"path": "google/IFEval"},
    "gsm8k": {"path": "openai/gsm8k", "subset": "main", "source_split": "test"},
}
GROUPS = {"open-llm": ("arc", "hellaswag", "mmlu", "truthfulqa")}
_ENDING = re.compile(r"(\.(jsonl|json|parquet))?(\.(gz|zst))?$")  # of a file of rows


def source_of(value: object) -> object:
    """The fields of a source as a recipe may write it: a known name, a file, or a hub name, at a commit or not (`ORG/NAME@REVISION`)."""
    if not isinstance(value, str) or _is_here(value):
        return {"path": value} if isinstance(value, str) else value
    if value in HUB:
        return HUB[value]
    path, at, revision = value.rpartition("@")
    return {"path": path, "revision": revision} if at else {"path": value}


def by_name(value: object) -> object:
    """Benchmarks as a recipe may write them: by name, or a list of known names."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return value
    return named(value)


def named(given: Sequence[str]) -> dict[str, Any]:
    """The fields of sources, by name, of what a command line gives.

    Args:
        given: each a known name or several with commas between (`mt-bench,alpaca-eval`), a file, which is called by its own name without
            its ending, `NAME=FILE`, or `OWNER/NAME@REVISION` of the hub.

    Raises:
        UsageError: a name that is neither known nor a file, or two benchmarks of one name.
    """
    found: dict[str, Any] = {}
    for text in (text for word in given for text in _words(word)):
        name, mark, path = text.partition("=")
        if not mark or _is_here(text):
            name, path = _name(text), text
        elif not name or not path:
            raise UsageError(f"benchmark {text!r}: NAME=FILE was expected")
        fields = source_of(path)
        if found.setdefault(name, fields) != fields:
            raise UsageError(f"{name}: two benchmarks of this name; name one of them otherwise: NAME={path}")
    return found


def parted(text: str) -> list[str]:
    """What stands in a list with commas; a file whose name has a comma is one word, `NAME=FILE` of it too."""
    if _is_here(text) or ("=" in text and "," not in text.partition("=")[0] and _is_here(text.partition("=")[2])):
        return [text]
    return [word.strip() for word in text.split(",")]


def _is_here(text: str) -> bool:
    return Path(text).expanduser().exists()


def _words(text: str) -> list[str]:
    """What stands in a list with commas, groups by their members."""
    words = parted(text)
    if not all(words):
        raise UsageError(f"benchmarks {text!r}: a name is empty; known are {', '.join((*HUB, *GROUPS))}")
    return [name for word in words for name in ((word,) if _is_here(word) else GROUPS.get(word, (word,)))]


def _name(text: str) -> str:
    path = Path(text)
    if text not in HUB and not _is_here(text) and "/" not in text and not path.suffix:
        known = ", ".join((*HUB, *GROUPS))
        raise UsageError(f"{text}: neither a known benchmark ({known}) nor a file; give NAME=FILE, or a hub name OWNER/NAME")
    return _ENDING.sub("", path.name) or path.name
