"""Tokenizers by the rules that their models were trained with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zephyr.models.reading import from_pretrained, say_once

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from zephyr.models.load import ModelRef

# numbers, contractions, space, code, and what normalization changes: where the rules of tokenizers differ
_SAMPLE = (
    "In 1234 of 56,789.01 it's we'll I'M  a\n\n\n \tdef f(x):\n    return x**2  # naïve façade\r\nStraße İ ﬁ Ⅷ １２３ ½ ²"
    " 你好，世界。こんにちは 한국어 مرحبا ١٢٣ हिन्दी สวัสดี 😀👩\u200d👧 e\u0301\u00a0…\u2028▁ <b>x</b> snake_case camelCase --- end  "
)


def by_its_file(tokenizer: PreTrainedTokenizerBase, ref: ModelRef, where: str) -> PreTrainedTokenizerBase:
    """The tokenizer by the rules of its tokenizer.json, which are those that the model was trained with.

    transformers 5 builds some classes anew from the vocabulary, by the rules of the class: SmolLM2 and OLMo 2 name GPT2Tokenizer,
    and would read numbers otherwise than they learnt to.
    """
    from transformers import PreTrainedTokenizerFast
    from transformers.utils.hub import cached_file

    is_plain = type(tokenizer) is PreTrainedTokenizerFast or not type(tokenizer).__module__.startswith("transformers.")
    if is_plain or not hasattr(tokenizer, "backend_tokenizer"):
        return tokenizer
    if not cached_file(
        where,
        "tokenizer.json",
        revision=ref.revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    ):
        return tokenizer
    plain: Any = from_pretrained(PreTrainedTokenizerFast.from_pretrained, ref, where, "its tokenizer")
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):  # a class may know them without the files saying so
        if getattr(plain, name) is None and getattr(tokenizer, name) in plain.get_vocab():
            setattr(plain, name, getattr(tokenizer, name))
    if _read(tokenizer) == _read(plain):
        return tokenizer
    say_once(
        f"  {ref.name}: its tokenizer.json reads texts otherwise than the {type(tokenizer).__name__} that transformers takes for it; "
        "here the file counts, as it did in training"
    )
    whole: PreTrainedTokenizerBase = plain
    return whole


def _read(tokenizer: Any) -> tuple[list[str], list[int]]:
    """What a tokenizer cuts the sample into before it looks into its vocabulary, so that rules show in any; and the ids it gives."""
    backend, eos = tokenizer.backend_tokenizer, tokenizer.eos_token or ""
    text = backend.normalizer.normalize_str(_SAMPLE) if backend.normalizer else _SAMPLE
    pieces = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)] if backend.pre_tokenizer else [text]
    return pieces, tokenizer(f"{_SAMPLE}{eos}a {eos}\n b", add_special_tokens=False, verbose=False)["input_ids"]
