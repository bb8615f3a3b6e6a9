"""A tokenizer reads as its tokenizer.json says, by which its model was trained, whatever class its folder names."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers

import tiny
from zephyr.models import load

TEXT = "In 1234 there were 56 of 7.  The sky's\n\n\tnaïve 世界 <b>!</b> it's 2,718,281  "


def digits() -> Any:
    """As SmolLM2 has it: digits one by one, before the split into bytes."""
    made = tiny.byte_tokenizer()
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return made


def folder_of(path: Path, made: Any, name: str, model_type: str | None = "llama") -> Path:
    """The folder of a tokenizer that says that it is of some class."""
    from transformers import AutoConfig

    made.save_pretrained(path)
    if model_type:
        AutoConfig.for_model(model_type).save_pretrained(path)
    settings = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": name}))
    return path


def cuts(backend: Any) -> list[str]:
    """What a text is cut into before the vocabulary is asked: a tiny one may not have what the cuts forbid."""
    text = backend.normalizer.normalize_str(TEXT) if backend.normalizer else TEXT
    return [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)] if backend.pre_tokenizer else [text]


def by_file(folder: Path, text: str = TEXT) -> list[int]:
    ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    return ids


FOREIGN = [
    (digits, "GPT2Tokenizer", "llama"),  # SmolLM2
    (tiny.llama3_tokenizer, "GPT2TokenizerFast", "llama"),  # OLMo 2, Granite
    (tiny.llama3_tokenizer, "LlamaTokenizerFast", "qwen2"),  # DeepSeek's Qwens
    (partial(tiny.sentencepiece_tokenizer, prefix="always"), "GemmaTokenizer", "llama"),
    (partial(tiny.sentencepiece_tokenizer, prefix="never"), "LlamaTokenizer", "llama"),
]


@pytest.mark.parametrize(("build", "name", "model_type"), FOREIGN)
def test_its_file_counts_where_the_class_has_other_rules(
    build: Callable[[], Any], name: str, model_type: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer

    folder = folder_of(tmp_path / "model", build(), name, model_type)
    theirs = AutoTokenizer.from_pretrained(folder)
    capfd.readouterr()
    ours = load.load_tokenizer(load.ModelRef(str(folder), ""))
    said = capfd.readouterr().err
    file = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert type(theirs).__name__ != "TokenizersBackend" and cuts(theirs.backend_tokenizer) != cuts(file), "the class has the file's rules"
    assert cuts(ours.backend_tokenizer) == cuts(file)
    assert ours(TEXT, add_special_tokens=False)["input_ids"] == by_file(folder)
    assert ours.get_vocab() == file.get_vocab(with_added_tokens=True)
    assert f"than the {type(theirs).__name__} that transformers takes for it; here the file counts" in said
    assert (ours.eos_token, ours.bos_token) == (theirs.eos_token, theirs.bos_token)


def test_its_file_counts_after_a_control_token(tmp_path: Path) -> None:
    """Llama 2's file puts a space before every stretch of text; the class, before the first alone."""
    from transformers import AutoTokenizer

    folder = folder_of(tmp_path / "model", tiny.sentencepiece_tokenizer(prefix="always"), "LlamaTokenizer")
    text = "the dog</s>the dog"
    assert AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"] != by_file(folder, text)
    assert load.load_tokenizer(load.ModelRef(str(folder), ""))(text, add_special_tokens=False)["input_ids"] == by_file(folder, text)


def test_what_is_saved_is_read_so_by_plain_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = folder_of(tmp_path / "model", digits(), "GPT2Tokenizer")
    chat = load.load_chat(load.ModelRef(str(folder), ""), "zephyr")
    saved = folder_of(tmp_path / "saved", chat.tokenizer, "TokenizersBackend")
    plain = AutoTokenizer.from_pretrained(saved)
    assert plain(TEXT, add_special_tokens=False)["input_ids"] == by_file(folder)
    messages: list[Any] = [{"role": "user", "content": TEXT.strip()}, {"role": "assistant", "content": "It is 1234."}]
    assert tuple(plain.apply_chat_template(messages)["input_ids"]) == chat.encode(messages).ids


@pytest.mark.parametrize(
    ("build", "name", "model_type"),
    [
        (tiny.byte_tokenizer, "GPT2Tokenizer", "gpt2"),
        (digits, "PreTrainedTokenizerFast", "llama"),
        (tiny.llama3_tokenizer, "PreTrainedTokenizerFast", "llama"),
        (partial(tiny.sentencepiece_tokenizer, prefix="first"), "LlamaTokenizer", "llama"),
        (partial(tiny.sentencepiece_tokenizer, prefix="never"), "PreTrainedTokenizerFast", "gemma2"),
    ],
)
def test_where_class_and_file_agree_nothing_is_said(
    build: Callable[[], Any], name: str, model_type: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "model", build(), name, model_type)
    capfd.readouterr()
    ours = load.load_tokenizer(load.ModelRef(str(folder), ""))
    assert ours(TEXT, add_special_tokens=False)["input_ids"] == by_file(folder)
    assert capfd.readouterr().err == ""


def test_tokens_that_only_the_class_knows_are_kept(tmp_path: Path) -> None:
    """Llama's class has its `</s>` without any file's saying so."""
    folder = folder_of(tmp_path / "model", tiny.sentencepiece_tokenizer(prefix="never"), "LlamaTokenizer")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("bos_token", "eos_token", "unk_token"):
        settings.pop(name)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    ours = load.load_tokenizer(load.ModelRef(str(folder), ""))
    assert (ours.bos_token, ours.eos_token, ours.unk_token) == ("<s>", "</s>", "<unk>")
    assert ours(TEXT, add_special_tokens=False)["input_ids"] == by_file(folder)


def test_without_the_file_the_class_counts(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", tiny.byte_tokenizer(), "GPT2Tokenizer", "gpt2")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]))
    wanted = by_file(folder)
    (folder / "tokenizer.json").unlink()
    assert load.load_tokenizer(load.ModelRef(str(folder), ""))(TEXT, add_special_tokens=False)["input_ids"] == wanted
