"""Tiny models and tokenizers, made in a second: random weights, vocabularies learnt from the few lines below.

The tokenizers stand for the families in use:

- `byte_tokenizer`: byte-level BPE, ChatML tokens, no beginning-of-sequence token (GPT-2, Qwen, SmolLM).
- `sentencepiece_tokenizer`: BPE over text with `▁` for a space and bytes for what is unknown, `<s>` before a text, and a
  space put before every stretch of text between special tokens (Llama 2), before the first only (Mistral), or never (Gemma).
- `llama3_tokenizer`: byte-level BPE with the splitting rule and the header tokens of Llama 3, `<|begin_of_text|>` before a text.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

CORPUS = """The quick brown fox jumps over the lazy dog, and the dog does not mind at all.
Why is the sky blue? Because air scatters short waves of light more than long ones.
A list of three things:\n\n1. Bread\n2. Milk\n3. Eggs\n\nThat is all you need for today, 12 of 365 days, 3.14159 or 2,718,281.
def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))  # prints 3\n
if (x < 10 && y >= 20) { return items[0]; } else { throw new Error("no such item"); }
Übung macht den Meister; l'été à la plage, señor; naïve façade, œuvre, straße.
Привет, как дела? Всё хорошо. こんにちは、世界。今日はいい天気ですね。 你好，世界。
The answer is yes. The answer is no. I think that you should see a doctor, since I am not one.
user assistant system model Hello! Hi there. Thank you. You are welcome. One? Two. Three? Four.
"""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = none %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% if loop.first and system is not none %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
# one <s> at the start, as Mistral has it; Llama 2 writes one a pair of turns
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported') }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)

GPT2_SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3_SPLIT = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""


def _byte_level(split: str, special: list[str], size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # its own order changes from run to run
    tokenizer.train_from_iterator(
        [CORPUS], trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def _wrap(tokenizer: Tokenizer, **kwargs: Any) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **kwargs)


@functools.cache
def _byte_json() -> str:
    return _byte_level(GPT2_SPLIT, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 480).to_str()


def byte_tokenizer(*, eos: str = "<|im_end|>", template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Byte-level BPE of 480 tokens with ChatML's, and no BOS."""
    made = _wrap(Tokenizer.from_str(_byte_json()), eos_token=eos, extra_special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made.chat_template = template
    return made


@functools.cache
def _llama3_json() -> str:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = _byte_level(LLAMA3_SPLIT, special, 480)
    tokenizer.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)])
    return tokenizer.to_str()


def llama3_tokenizer(*, eos: str = "<|end_of_text|>", template: str | None = LLAMA3) -> PreTrainedTokenizerFast:
    """Byte-level BPE of 480 tokens with Llama 3's specials; turns end in `<|eot_id|>`, which is not the EOS of the base model."""
    made = _wrap(Tokenizer.from_str(_llama3_json()), bos_token="<|begin_of_text|>", eos_token=eos)
    made.chat_template = template
    return made


@functools.cache
def _sentencepiece_json(prefix: str) -> str:
    """The learnt merges over `▁`-text, and a vocabulary that begins as SentencePiece's does: specials, 256 bytes, pieces."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    learner.train_from_iterator([CORPUS.replace("\n", " ")], trainers.BpeTrainer(vocab_size=380, limit_alphabet=120, show_progress=False))
    model = json.loads(learner.to_str())["model"]
    special = ["<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(model["vocab"], key=model["vocab"].get)]
    merges = [tuple(pair) for pair in model["merges"]]
    if prefix == "never":  # Gemma has tokens for runs of line breaks, which are no control tokens
        pieces.append("\n\n")
    bpe = models.BPE(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(bpe)
    space = normalizers.Replace(" ", "▁")
    if prefix == "always":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space])
    elif prefix == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = space
    strip = [] if prefix == "never" else [decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", pieces.index("<s>"))])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    if prefix == "never":
        tokenizer.add_tokens([AddedToken("\n\n", normalized=False, special=False)])
    return tokenizer.to_str()


def sentencepiece_tokenizer(
    *, prefix: Literal["always", "first", "never"] = "always", template: str | None = None
) -> PreTrainedTokenizerFast:
    """BPE over `▁`-text with bytes for the unknown, `<s>` before a text, and a space before every stretch, the first, or none."""
    made = _wrap(Tokenizer.from_str(_sentencepiece_json(prefix)), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.chat_template = template
    return made


# --- models --------------------------------------------------------------------------------------------------

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3")
_EXTRA: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 7, "head_dim": 8},
    "qwen2": {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    # soft caps low enough to bend what a random model computes
    "gemma2": {
        "head_dim": 8,
        "sliding_window": 7,
        "query_pre_attn_scalar": 6,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3": {"head_dim": 8, "sliding_window": 7, "query_pre_attn_scalar": 6, "layer_types": ["sliding_attention", "full_attention"]},
}


def tiny_model(
    arch: str = "llama", *, seed: int = 0, attention: str | None = None, dtype: torch.dtype | None = None, **overrides: Any
) -> PreTrainedModel:
    """A random causal model: 2 layers, 32 wide, 4 heads over 2 pairs of keys and values, 704 tokens; in evaluation mode.

    Args:
        arch: one of `ARCHITECTURES`, or gemma; those that have sliding windows see 7 positions.
        seed: of the weights; the global random state stays what it was.
        attention: the attention implementation; by default the project's own, over flat streams.
        dtype: of the weights; float32 by default.
        overrides: fields of the model's configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from zephyr.train.attention import NAME

    settings: dict[str, Any] = {
        "vocab_size": 704,  # holds the ids of every tokenizer above
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,  # as long as the lengths that a recipe has by default
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": None,
        **_EXTRA[arch],
        **overrides,
    }
    config = AutoConfig.for_model({"gemma3": "gemma3_text"}.get(arch, arch), **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, attn_implementation=attention or NAME, dtype=dtype or torch.float32
        )
        with torch.no_grad():
            for parameter in model.parameters():  # also norms and biases, which begin as ones and zeros: errors there would not show
                parameter += 0.15 * torch.randn_like(parameter)
    return model.eval()
