"""One GGUF file: weights under the names and in the order of rows that llama.cpp knows, tokenizer, chat template.

Names come from the `gguf` package, which llama.cpp's own makers keep. Written are models of the Llama architecture, which Mistral's
is too; others have details that would have to be checked one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.errors import ModelError
from zephyr.export import header, vocabulary
from zephyr.export.check import DIALOGUES, renderings
from zephyr.export.source import Source
from zephyr.export.vocabulary import Vocabulary

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM")
# our name of a number format -> GGUF's, of matrices and of the whole file
FORMATS = {"float32": ("F32", 0), "float16": ("F16", 1), "bfloat16": ("BF16", 32), "q8_0": ("Q8_0", 7)}
_Q8_BLOCK = 32


@dataclass(frozen=True)
class Written:
    """A GGUF file and what the reader of a manifest should know of it."""

    path: Path
    tokens: Vocabulary
    notes: list[str]


def write(source: Source, out: Path, dtype: str) -> Written:
    """Write `out/NAME-FORMAT.gguf`, a weight at a time.

    Args:
        source: the model.
        out: an empty folder.
        dtype: one of `FORMATS`.

    Raises:
        ModelError: the model has something that cannot be said in GGUF, or not without being checked.
    """
    import gguf

    _refuse_unknown(source)
    template = template_of(source.tokenizer)
    written_dialogues = [text for text in renderings(source.tokenizer, template) if text is not None]
    stops = source.said("generation_config.json").get("eos_token_id")
    tokens = vocabulary.of(
        source.tokenizer, source.config.vocab_size, written_dialogues, stops if isinstance(stops, list) else [stops] if stops else []
    )
    path = out / f"{source.name}-{FORMATS[dtype][0]}.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    _say_what_it_is(writer, source, dtype)
    _say_tokens(writer, tokens)
    if template:
        writer.add_chat_template(template)
    names = _names(source)
    for name, shape in source.shapes.items():
        kind = _format(shape, dtype)
        writer.add_tensor_info(names[name], shape, _numpy(kind), _bytes(shape, kind), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for data in _tensors(source, dtype):
        writer.write_tensor_data(data)
    writer.close()
    return Written(path, tokens, _notes(source, template))


def template_of(tokenizer: Any) -> str | None:
    """The template that chats, where a tokenizer has several."""
    found = tokenizer.chat_template
    return found.get("default") if isinstance(found, dict) else found


def _refuse_unknown(source: Source) -> None:
    config, made = source.config, (source.config.architectures or ["nothing named"])[0]
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type") or "default"
    problem = ""
    if made not in ARCHITECTURES:
        problem = f"a {made}, and GGUF is written here of {', '.join(ARCHITECTURES)} alone"
    elif kind != "default":
        problem = f"its rotary positions are of the type {kind}"
    elif getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        problem = "its layers have biases"
    elif config.hidden_act != "silu":
        problem = f"its layers use {config.hidden_act}"
    if problem:
        raise ModelError(f"{source.ref.name}: {problem}, which is not checked in GGUF; export it as safetensors")


def _notes(source: Source, template: str | None) -> list[str]:
    notes = []
    window = getattr(source.config, "sliding_window", None)
    if window:
        notes.append(f"Its attention sees {window:,} tokens back; a reader of this file lets it see all, which differs in longer texts.")
    if not template:
        notes.append("It has no chat template: the model it was made of has none.")
    return notes


# --- what it says ------------------------------------------------------------------------------------------------


def _say_what_it_is(writer: Any, source: Source, dtype: str) -> None:
    import gguf

    config = source.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(source.name)
    writer.add_file_type(FORMATS[dtype][1])
    if dtype == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float((getattr(config, "rope_parameters", None) or {}).get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _say_tokens(writer: Any, tokens: Vocabulary) -> None:
    writer.add_tokenizer_model(tokens.model)
    writer.add_tokenizer_pre(tokens.rule)
    writer.add_token_list(list(tokens.tokens))
    writer.add_token_types(list(tokens.types))
    if tokens.model == "llama":
        writer.add_token_scores(list(tokens.scores))
        writer.add_add_space_prefix(tokens.space_first)
    else:
        writer.add_token_merges([" ".join(pair) for pair in tokens.merges])
    for role, i in tokens.special.items():
        getattr(writer, f"add_{role}_token_id")(i)
    writer.add_add_bos_token(tokens.adds_bos)
    writer.add_add_eos_token(tokens.adds_eos)


# --- weights -----------------------------------------------------------------------------------------------------


def _names(source: Source) -> dict[str, str]:
    """What GGUF calls each weight."""
    import gguf

    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, source.config.num_hidden_layers)
    found = {name: known.get_name(name, try_suffixes=(".weight",)) for name in source.shapes}
    if nameless := [name for name, theirs in found.items() if theirs is None]:
        raise ModelError(f"{source.ref.name}: GGUF has no name for {nameless[0]}; export it as safetensors")
    return {name: str(theirs) for name, theirs in found.items()}


def _format(shape: tuple[int, ...], dtype: str) -> Any:
    """Of a matrix as it was asked for; norms stay in float32, and rows that do not divide into blocks of 8 bits in float16."""
    from gguf import GGMLQuantizationType

    if len(shape) == 1:
        return GGMLQuantizationType.F32
    if dtype == "q8_0" and shape[-1] % _Q8_BLOCK:
        return GGMLQuantizationType.F16
    return GGMLQuantizationType[FORMATS[dtype][0]]


def _numpy(kind: Any) -> Any:
    import numpy as np

    return np.dtype({"F32": "float32", "F16": "float16"}.get(kind.name, "int8"))


def _bytes(shape: tuple[int, ...], kind: Any) -> int:
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[kind]
    count = 1
    for n in shape:
        count *= n
    return count // block * size


def _tensors(source: Source, dtype: str) -> Iterator[Any]:
    """The weights in the form they are written, in the order they were announced."""
    import gguf
    import numpy as np

    config = source.config
    for name, weight in source.weights():
        numbers = weight.float().numpy()
        if name.endswith("q_proj.weight"):
            numbers = _paired(numbers, config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            numbers = _paired(numbers, config.num_key_value_heads)
        kind = _format(numbers.shape, dtype)
        if kind.name == "F16" and np.abs(numbers).max(initial=0) > np.finfo(np.float16).max:
            raise ModelError(f"{source.ref.name}: {name} has numbers beyond what float16 can hold; export it as bfloat16")
        yield np.ascontiguousarray(gguf.quants.quantize(np.ascontiguousarray(numbers), kind))


def _paired(weight: Any, heads: int) -> Any:
    """Rows of a head in the order i, i + half -> neighbours: rotary positions turn halves in transformers, neighbours in llama.cpp."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


# --- read back ---------------------------------------------------------------------------------------------------


def read_back(path: Path) -> tuple[Vocabulary, str | None, list[str]]:
    """(tokenizer, chat template, names of the weights) of a GGUF file."""
    said = header.read(path)
    field = said.fields.get
    ids = {role: field(f"tokenizer.ggml.{key}_token_id") for role, key in _ROLES.items()}
    merges = [tuple(pair.split(" ", 1)) for pair in field("tokenizer.ggml.merges", ())]
    found = Vocabulary(
        model=said.fields["tokenizer.ggml.model"],
        tokens=tuple(said.fields["tokenizer.ggml.tokens"]),
        types=tuple(said.fields["tokenizer.ggml.token_type"]),
        special={role: i for role, i in ids.items() if i is not None},
        adds_bos=said.fields["tokenizer.ggml.add_bos_token"],
        adds_eos=said.fields["tokenizer.ggml.add_eos_token"],
        merges=tuple(merges),
        scores=tuple(field("tokenizer.ggml.scores", ())),
        rule=said.fields["tokenizer.ggml.pre"],
        space_first=field("tokenizer.ggml.add_space_prefix", False),
    )
    return found, field("tokenizer.chat_template"), list(said.shapes)


_ROLES = {"bos": "bos", "eos": "eos", "eot": "eot", "unk": "unknown", "pad": "padding"}


def dialogues_of(tokens: Vocabulary, template: str | None) -> list[str | None]:
    """The dialogues as a reader of the file writes them: with its template, and the texts of the tokens that it names."""
    from zephyr.export.template import render

    names = {f"{role}_token": tokens.tokens[i] for role, i in tokens.special.items() if role != "eot"}
    return [render(template, dialogue, prompt, names) for dialogue in DIALOGUES for prompt in (False, True)] if template else []
