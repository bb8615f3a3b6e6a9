"""A model folder as it lies on disk: its configuration, its tokenizer, and its weights one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.errors import ModelError
from zephyr.export import whole
from zephyr.files import read_object
from zephyr.models import load
from zephyr.models.reading import first_line, from_pretrained, how_to_ask
from zephyr.models.weights import BUFFER
from zephyr.recipe import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

# of a model on the hub, what is needed of it
PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.md", "LICENSE*"]


@dataclass(frozen=True)
class Source:
    """A whole model: its folder, and what identifies it.

    Args:
        folder: where its files are.
        ref: the name it was asked for under, and its digest.
    """

    folder: Path
    ref: load.ModelRef

    @property
    def name(self) -> str:
        """What it may be called in a file's name: that of its folder, or of the artifact it is part of."""
        path = Path(self.ref.name)
        return (path.parent if path.name == "model" else path).resolve().name if path.exists() else path.name

    @cached_property
    def config(self) -> Any:
        """Its transformers configuration."""
        from transformers import AutoConfig

        found = from_pretrained(AutoConfig.from_pretrained, self.ref, str(self.folder), "its configuration")
        if getattr(found, "quantization_config", None) is not None:
            raise ModelError(f"{self.ref.name}: its weights are quantized; give the model it was made of")
        return found

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, by the rules that the model was trained with."""
        return load.load_tokenizer(load.ModelRef(str(self.folder), self.ref.digest))

    @cached_property
    def files(self) -> dict[str, tuple[Path, tuple[int, ...]]]:
        """What the files say that they hold: by the name of a weight, the file that holds it, and its shape."""
        from safetensors import safe_open

        found = {}
        for path in self._paths():
            try:
                with safe_open(path, framework="pt") as file:
                    names = file.keys()
                    found.update({name: (path, tuple(file.get_slice(name).get_shape())) for name in names})
            except Exception as error:  # the Rust library has errors of its own
                raise ModelError(f"{path}: cannot be read ({first_line(error)}); make or fetch the model again") from None
        if not found:
            raise ModelError(f"{self.folder}: no weights in safetensors (*.safetensors); other files may hold code and are not read")
        return found

    def _paths(self) -> list[Path]:
        """The files that transformers reads; others may hold the same weights in another form (Mistral's `consolidated`)."""
        single, shards = self.folder / "model.safetensors", self.said("model.safetensors.index.json").get("weight_map")
        if single.exists():
            return [single]
        if isinstance(shards, dict) and shards:
            return [self.folder / str(name) for name in sorted(set(shards.values()))]
        return sorted(self.folder.glob("*.safetensors"))

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of all weights of the model, as the files have them, in the order of layers.

        Left out are old buffers that are computed anew, and the second of two tied weights that are the same.

        Raises:
            ModelError: transformers cannot build the model, or the files lack weights of it, or have others.
        """
        shapes = {name: shape for name, (_, shape) in self.files.items()}
        model = whole.loaded(self.ref, self.config, shapes)
        parts = set(model.state_dict())
        unused = {name for name in shapes if BUFFER.search(name) and name not in parts}
        unused |= {name for name, other in model.all_tied_weights_keys.items() if {name, other} <= set(shapes) and self._same(name, other)}
        return {name: shapes[name] for name in sorted(set(shapes) - unused, key=_in_order)}

    def _same(self, name: str, other: str) -> bool:
        """Two weights that the configuration ties may differ in the files; transformers does not tie them then."""
        (_, one), (_, two) = self._read([name, other])
        return one.dtype == two.dtype and one.equal(two)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight, one at a time in memory, in the order of `shapes`.

        Raises:
            ModelError: one holds what is not a number.
        """
        import torch

        for name, weight in self._read(self.shapes):
            if not torch.isfinite(weight).all():
                raise ModelError(f"{self.ref.name}: {name} holds numbers that are not finite; the model is broken")
            yield name, weight

    def _read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        from safetensors import safe_open

        for path, here in groupby(names, key=lambda name: self.files[name][0]):  # to open one reads the names of all that it holds
            with safe_open(path, framework="pt") as file:
                for name in here:
                    yield name, file.get_tensor(name)

    def said(self, file: str) -> dict[str, Any]:
        """What a JSON file of the folder says, {} where it is not there.

        Raises:
            DataError: it is damaged.
        """
        path = self.folder / file
        return read_object(path, other="one JSON object was expected, as in any model's folder") if path.exists() else {}


def open_model(name: str, revision: str | None = None) -> Source:
    """A model by its folder, artifact, hub name or a name of `zephyr models list`; of the hub, its files are fetched.

    Raises:
        ModelError: there is none, or the hub did not give it.
    """
    ref = load.refer(ModelConfig(path=name, revision=revision))
    where = Path(ref.locate())
    if where.is_dir():
        return Source(where, ref)
    from huggingface_hub import snapshot_download

    try:
        return Source(Path(snapshot_download(ref.name, revision=revision, allow_patterns=PATTERNS)), ref)
    except Exception as error:  # the hub's client raises many kinds; the user needs one line
        problem = f"neither a folder here nor a model that the hub gave us ({first_line(error)}){how_to_ask(name, error)}"
        raise ModelError(f"{name}: {problem}") from None


def _in_order(name: str) -> list[str | int]:
    """A key that sorts layer 2 before layer 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]
