"""Loading and saving: any causal language model that transformers reads, from a folder, the hub or the registry."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from zephyr import artifacts, hashes
from zephyr.artifacts import Artifact
from zephyr.errors import ArtifactError, ModelError
from zephyr.models import registry
from zephyr.models.context import refuse_beyond
from zephyr.models.reading import from_pretrained, say_once
from zephyr.models.streams import guard_positions, refuse_other_numbers, refuse_unknown_head
from zephyr.models.tokenizers import by_its_file
from zephyr.models.unused import free_unused
from zephyr.models.weights import ADAPTER, refuse_other_weights
from zephyr.recipe import ModelConfig
from zephyr.text.chat import ChatFormat
from zephyr.text.template import TODAY, ZEPHYR_BODY

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class ModelRef:
    """A model by name, with what identifies its content."""

    name: str
    digest: str
    revision: str | None = None
    trust_remote_code: bool = False

    def locate(self) -> str:
        """The folder (fetched if need be) or hub name to give to transformers."""
        known = registry.KNOWN.get(self.name)
        if known and known.digest == self.digest:  # a folder may have the same name, but not the same content
            return str(registry.fetch(known))
        return self.name


def refer(config: ModelConfig, cache: Path | None = None, *, verify: bool = False) -> ModelRef:
    """What a recipe's `model` section names. Nothing is fetched or loaded. With `verify`, an artifact's files are hashed again.

    A name of the registry means the registry's model, also where a folder has the same name: that one is `./NAME`.

    Raises:
        ModelError: a path where there is no model folder, or a revision of what has none.
    """
    path = Path(config.path).expanduser()
    known = registry.KNOWN.get(config.path)
    if config.revision is not None and (known or path.exists()):
        kind = "a model of the registry, pinned by its hash" if known else "a folder"
        raise ModelError(f"{config.path}: is {kind}, and only a model of the hub has a revision; take model.revision out")
    if known:
        if path.is_dir():
            say_once(f"  {config.path} is the model of that name that `zephyr models list` shows; for the folder, write ./{config.path}")
        return ModelRef(config.path, known.digest)
    if path.is_dir():
        return _refer_folder(path, config, cache, verify=verify)
    if path.exists():
        raise ModelError(f"{path}: a model is a folder (config.json, *.safetensors, tokenizer), this is a file")
    if config.path.startswith((".", "/", "~")) or config.path.count("/") != 1:
        known_names = ", ".join(registry.KNOWN)
        raise ModelError(f"{config.path}: no such folder; a model is a folder, a hub name (owner/name), or one of: {known_names}")
    return ModelRef(config.path, hashes.sha256_text(f"hub:{config.path}@{config.revision}"), config.revision, config.trust_remote_code)


def _refer_folder(path: Path, config: ModelConfig, cache: Path | None, *, verify: bool) -> ModelRef:
    """A plain model folder, or the artifact of a stage that made one, which has the digest of its manifest."""
    is_inside = path.name == "model" and not (path / artifacts.MANIFEST).exists()
    outer = path.parent if is_inside else path
    manifest = artifacts.Manifest.read(outer) if (outer / artifacts.MANIFEST).exists() else None
    if manifest and any(name.startswith("model/") for name in manifest.files):
        if problem := Artifact(outer, manifest).check(verify=verify):
            raise ArtifactError(f"{problem}; make the model again")
        return ModelRef(str(outer / "model"), manifest.digest, trust_remote_code=config.trust_remote_code)
    if (path / "adapter_config.json").exists():
        raise ModelError(f"{path}: {ADAPTER}")
    if not (path / "config.json").exists():
        raise ModelError(f"{path}: not a model folder (no config.json)")
    files = sorted(p for p in path.iterdir() if p.is_file() and p.suffix != ".md" and not p.name.startswith("."))
    return ModelRef(str(path), hashes.fingerprint(files, cache), trust_remote_code=config.trust_remote_code)


def load_tokenizer(ref: ModelRef) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, or a `ModelError` that says what is missing."""
    from transformers import AutoTokenizer

    where = ref.locate()
    if Path(where).is_dir() and not any(
        (Path(where) / f).exists() for f in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
    ):
        raise ModelError(
            f"{where}: a model folder without a tokenizer; copy the files of its base model there (tokenizer.json, tokenizer_config.json)"
        )
    tokenizer: PreTrainedTokenizerBase = from_pretrained(AutoTokenizer.from_pretrained, ref, where, "its tokenizer")
    return by_its_file(tokenizer, ref, where)


def load_chat(ref: ModelRef, template: str, *, learns: bool = True) -> ChatFormat:
    """The chat format of a model: `zephyr`, `tokenizer` (its own), or a Jinja file.

    With `learns` false it is for prompts alone: nothing is trained on or scored in it, so its template need not be one that can be cut.
    """
    if template not in ("zephyr", "tokenizer"):
        try:
            template = Path(template).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ModelError(f"{template}: the chat template cannot be read ({why}); it is `zephyr`, `tokenizer` or a Jinja file") from None
    tokenizer = load_tokenizer(ref)
    own = tokenizer.chat_template
    chat = ChatFormat(tokenizer, template, learns=learns)
    if template == "zephyr" and own and ZEPHYR_BODY not in own:
        say_once(
            f"  {ref.name}: its own chat template is replaced by Zephyr's; `chat_template: tokenizer` (--chat-template tokenizer) keeps it"
        )
    if chat.asked_for_the_date:
        say_once(
            f"  {ref.name}: its chat template writes the date of the day; here it is {TODAY:%Y-%m-%d} on every day, also in what is saved"
        )
    return chat


def device() -> str:
    """`cuda` where there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def refuse_longer(ref: ModelRef, settings: Mapping[str, int]) -> None:
    """Refuse lengths (in tokens, by the name of the setting) that a model cannot take in training. Its weights are not loaded.

    Raises:
        ModelError: one is beyond the model's context, or the model has no configuration that can be read.
    """
    refuse_beyond(_configuration(ref), ref.name, settings)


def is_here(ref: ModelRef) -> bool:
    """Whether it can be looked at without fetching anything."""
    known = registry.KNOWN.get(ref.name)
    return registry.is_ready(known) if known and known.digest == ref.digest else Path(ref.name).is_dir()


def without_weights(ref: ModelRef) -> PreTrainedModel:
    """The model's modules, with nothing in them (on torch's meta device)."""
    import torch
    from transformers import AutoModelForCausalLM

    config = _configuration(ref)
    with torch.device("meta"):
        made: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=ref.trust_remote_code)
    return made


def _configuration(ref: ModelRef) -> Any:
    from transformers import AutoConfig

    return from_pretrained(AutoConfig.from_pretrained, ref, ref.locate(), "its configuration")


def load_model(
    ref: ModelRef,
    chat: ChatFormat | None = None,
    *,
    attention: Literal["segments", "generation"] = "segments",
    on: str | None = None,
) -> PreTrainedModel:
    """The model in float32, in evaluation mode, on the GPU if there is one; models that nobody uses any more are freed before.

    Args:
        ref: which.
        chat: the format it will be used with, whose tokens it must know.
        attention: `segments` for our flat, unpadded streams; `generation` for whatever transformers thinks best.
        on: another device.

    Raises:
        ModelError: it cannot be loaded, is not whole, or computes its logits in a way we would get wrong.
    """
    import torch
    from transformers import AutoModelForCausalLM

    free_unused()
    implementation = None
    if attention == "segments":
        from zephyr.train.attention import NAME

        implementation = NAME
    where = ref.locate()
    model, found = from_pretrained(
        AutoModelForCausalLM.from_pretrained,
        ref,
        where,
        "the model",
        dtype=torch.float32,
        attn_implementation=implementation,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
    )
    if ref.revision is None and not Path(where).is_dir():
        say_once(f"  {where}: taken as the hub has it now; {_how_to_pin(where)}")
    refuse_other_weights(model, found, where)
    refuse_unknown_head(model, where)
    rows = int(cast(Any, model.get_input_embeddings()).weight.shape[0])
    if chat is not None and chat.ids_needed > rows:
        raise ModelError(f"{where}: its tokenizer has {len(chat.tokenizer)} tokens, the model {rows}; they do not belong together")
    model = model.to(on or device())
    model.eval()
    if attention == "segments":
        if getattr(model, "hf_quantizer", None) is not None and getattr(model.config, "quantization_config", None) is not None:
            raise ModelError(f"{where}: its weights are quantized, which cannot be trained or scored here; give the model it was made of")
        from zephyr.train.fused import fuse

        fuse(model)
        refuse_other_numbers(model, where)
        guard_positions(model, where)
    whole: PreTrainedModel = model
    return whole


def _how_to_pin(name: str) -> str:
    """How to keep to the commit that the local cache of the hub holds, if it is known."""
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        commit = (Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return "set model.revision to keep to one commit"
    return f"set model.revision: {commit} to keep to it"


def ready_to_generate(model: Any) -> None:
    """Switch a model from our flat streams to padded batches: SDPA where its architecture allows it (Gemma 2 does not)."""
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")


def save_model(model: PreTrainedModel, chat: ChatFormat, out: Path, weights: dict[str, torch.Tensor] | None = None) -> None:
    """Write a plain model folder: safetensors weights, tokenizer, and the chat template it was trained with.

    `weights` are the model's by name, where it does not hold them in one piece itself.
    """
    import transformers
    from transformers import GenerationConfig

    transformers.utils.logging.disable_progress_bar()
    model.generation_config = GenerationConfig(
        eos_token_id=list(chat.stop_ids), pad_token_id=chat.tokenizer.pad_token_id, bos_token_id=chat.tokenizer.bos_token_id
    )
    with os_errors():
        model.save_pretrained(out, state_dict=weights)
        chat.tokenizer.save_pretrained(out)


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """The Rust libraries under transformers say `(os error 28)` in the text of an error of their own; here it is an OSError again."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(found.group(1)), os.strerror(int(found.group(1)))) from error
        raise
