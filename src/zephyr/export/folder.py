"""A plain Hugging Face folder: safetensors weights in the number format that is wanted, in shards, and what belongs to them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zephyr.errors import ModelError
from zephyr.export.source import Source
from zephyr.models.load import ModelRef, load_tokenizer, os_errors

SHARD_BYTES = 5_000_000_000  # what the hub and its clients are used to
# what belongs to a model beside its weights and its configuration; no code
_BESIDE = re.compile(
    r"(tokenizer|special_tokens_map|added_tokens|vocab|merges|generation_config|chat_template|(pre)?processor_config).*\.(json|jinja|model|txt)"
    r"|additional_chat_templates|README\.md|(LICENSE|NOTICE|USE_POLICY)[^/]*"
)


def write(source: Source, out: Path, dtype: str) -> None:
    """Write the folder.

    Args:
        source: the model.
        out: an empty folder.
        dtype: `float32`, `bfloat16` or `float16`.

    Raises:
        ModelError: a weight is too large for float16.
    """
    shards = list(_shards(source, dtype))
    index: dict[str, str] = {}
    total = 0
    waiting = _cast(source, dtype)
    for number, names in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: next(waiting)[1] for name in names}
        from safetensors.torch import save_file

        with os_errors():
            save_file(tensors, out / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(names, file))
        total += sum(t.nbytes for t in tensors.values())
    if len(shards) > 1:
        _write_json(out / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})
    config = source.said("config.json")
    named = "torch_dtype" if "torch_dtype" in config else "dtype"  # as it is called by the version that wrote it
    _write_json(out / "config.json", {**config, named: dtype})
    copy_beside(source, out)


def copy_beside(source: Source, out: Path, *, only: str = "") -> None:
    """Copy tokenizer, template, generation settings, card and licence; with `only`, those whose names begin so."""
    for path in sorted(source.folder.iterdir()):
        if _BESIDE.fullmatch(path.name) and path.name.startswith(only):
            if path.is_dir():
                shutil.copytree(path, out / path.name, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(path, out / path.name)  # of the hub's cache it is a link: its content is meant


def tokenizer_of(out: Path) -> Any:
    """The tokenizer that was written, read back."""
    return load_tokenizer(ModelRef(str(out), ""))


def _shards(source: Source, dtype: str) -> Iterator[list[str]]:
    """Names of weights, in order, as many as fit into a shard."""
    size = {"float32": 4}.get(dtype, 2)
    names: list[str] = []
    filled = 0
    for name, shape in source.shapes.items():
        count = size
        for n in shape:
            count *= n
        if names and filled + count > SHARD_BYTES:
            yield names
            names, filled = [], 0
        names.append(name)
        filled += count
    yield names


def _cast(source: Source, dtype: str) -> Iterator[tuple[str, Any]]:
    import torch

    wanted = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
    for name, weight in source.weights():
        cast = (weight.to(wanted) if weight.is_floating_point() else weight).contiguous()  # positions and the like are counted, not rounded
        if wanted is torch.float16 and not torch.isfinite(cast).all():
            raise ModelError(f"{name} has numbers beyond what float16 can hold; export it as bfloat16")
        yield name, cast


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
