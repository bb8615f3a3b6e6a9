"""From a GGUF file to a plain Hugging Face folder: float32 weights, tokenizer, chat template."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

from zephyr.errors import ModelError


def convert(gguf: Path, out: Path) -> None:
    """Write `out/` with safetensors weights (dequantized to float32), tokenizer and configuration.

    transformers reads the weights. Its tokenizer is right but for one thing: it takes no notice of
    `tokenizer.ggml.pre`, which says how a text is split before merging; that is put right here.

    Raises:
        ModelError: a splitting rule that is not known here.
    """
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from zephyr.models.load import os_errors

    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with contextlib.redirect_stderr(io.StringIO()):  # its bars write past the switch above
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = _pre_tokenizer(_field(gguf, "tokenizer.ggml.pre"))
    config = type(read.config).from_dict(
        {k: v for k, v in read.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    )
    tokenizer.model_max_length = config.max_position_embeddings
    # a model of its own for the plain weights: the one that was read still calls itself quantized
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(read.state_dict())
    with os_errors():
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


def _field(gguf: Path, name: str) -> str:
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field(name)
    if field is None:
        raise ModelError(f"{gguf}: no field {name}; how its tokenizer splits text is not known")
    return str(field.contents())


def _pre_tokenizer(rule: str) -> object:
    from tokenizers import pre_tokenizers as pre

    if rule == "smollm":  # digits one by one, before the byte-level split
        return pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False, use_regex=True)])
    raise ModelError(f"GGUF tokenizer rule {rule!r} is not known here; give a Hugging Face folder of the model instead")
