"""Files as lm-eval writes them, for the tools that read those: results as JSON, samples as JSONL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zephyr.evals import plain_files

# what of a task's configuration names files; of the rest a text may begin with a slash too (`/no_think`)
FILES = ("dataset_path", "dataset_kwargs", "metadata")


def write(folder: Path, name: str, results: Mapping[str, Any]) -> None:
    """What lm-eval's evaluation returned, in a folder.

    `results_NAME.json` has all but the samples; `samples_TASK.jsonl` an item a line, its prompts under `arguments`, the
    log-likelihoods under `resps`. Unlike lm-eval's, their names bear no time of day, and of functions and of absolute paths
    in a task's configuration stands the name alone: equal work gives equal bytes, wherever it was done.

    Raises:
        NonFiniteError: a number that is NaN or infinite. Nothing is written.
    """
    whole = {key: _named(value) for key, value in results.items() if key != "samples"}
    path = folder / f"results_{name}.json"
    texts = {path: plain_files.dumped(path, whole, indent=2, default=_plain, ensure_ascii=False)}
    for task, samples in results["samples"].items():
        path = folder / f"samples_{task}.jsonl"
        lines = [plain_files.dumped(path, _sample(sample), default=_plain, ensure_ascii=False) for sample in samples]
        texts[path] = "".join(f"{line}\n" for line in lines)
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")


def _named(value: Any, *, of_files: bool = False) -> Any:
    """A configuration in which an absolute path is its last name: where files lie is no part of what was done."""
    if isinstance(value, Mapping):
        return {key: _named(one, of_files=of_files or key in FILES) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(one, of_files=of_files) for one in value]
    return Path(value).name or value if of_files and isinstance(value, str) and Path(value).is_absolute() else value


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample in the shape in which lm-eval stores it: texts for numbers in lists, arguments by name."""
    arguments = {f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(args)} for i, args in enumerate(sample["arguments"])}
    told = {key: _texts(sample[key]) for key in ("resps", "filtered_resps")}
    return {**sample, **told, "arguments": arguments, "target": str(sample["target"])}


def _texts(value: Any) -> Any:
    return [_texts(one) for one in value] if isinstance(value, (list, tuple)) else str(value)


def _plain(value: Any) -> Any:
    """What JSON has no word for: numbers of numpy, functions, paths."""
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Path):
        return value.name if value.is_absolute() else str(value)
    return getattr(value, "__qualname__", None) or str(value)
