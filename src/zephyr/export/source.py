"""A model folder as it lies on disk: its configuration, its tokenizer, and its weights one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.errors import ModelError
from zephyr.files import read_object
from zephyr.models import load
from zephyr.models.reading import first_line, from_pretrained
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
    def files(self) -> dict[str, Path]:
        """By the name of a weight, the file that holds it."""
        from safetensors import safe_open

        found = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    found.update(dict.fromkeys(file.keys(), path))
            except Exception as error:  # the Rust library has errors of its own
                raise ModelError(f"{path}: cannot be read ({first_line(error)}); make or fetch the model again") from None
        if not found:
            raise ModelError(f"{self.folder}: no weights in safetensors (*.safetensors); other files may hold code and are not read")
        return found

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of all weights that a model of this configuration has, tied ones once.

        Raises:
            ModelError: transformers cannot build it, or the files lack some, or have others.
        """
        import torch
        from transformers import AutoModelForCausalLM

        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(self.config)
        except Exception as error:
            raise ModelError(f"{self.ref.name}: is no causal language model that transformers can build ({first_line(error)})") from None
        wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
        tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - set(wanted)
        if missing := sorted(set(wanted) - set(self.files)):
            raise ModelError(f"{self.ref.name}: {missing[0]} is missing, which a {type(model).__name__} has; give a whole model")
        left = sorted(name for name in set(self.files) - set(wanted) - tied if "inv_freq" not in name)
        if left:
            raise ModelError(f"{self.ref.name}: {left[0]} is no part of a {type(model).__name__}; give the config.json of these weights")
        return wanted

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight, one at a time in memory, in the order of the architecture.

        Raises:
            ModelError: one is of another shape than the configuration says, or holds what is not a number.
        """
        import torch
        from safetensors import safe_open

        for name, shape in self.shapes.items():
            with safe_open(self.files[name], framework="pt") as file:
                weight = file.get_tensor(name)
            if tuple(weight.shape) != shape:
                raise ModelError(f"{self.ref.name}: {name} is of shape {tuple(weight.shape)}, not {shape} as its config.json says")
            if not torch.isfinite(weight).all():
                raise ModelError(f"{self.ref.name}: {name} holds numbers that are not finite; the model is broken")
            yield name, weight

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
        raise ModelError(f"{name}: neither a folder here nor a model that the hub gave us ({first_line(error)})") from None
