"""A prompt that is too long loses its beginning, but not the token that begins a text."""

from __future__ import annotations

import tiny
from zephyr.text.chat import ChatFormat
from zephyr.text.tokens import adds_bos
from zephyr.train.encode import beheaded

TURNS = [{"role": "user", "content": "one two three four five six seven eight"}]


def test_a_leading_bos_is_kept() -> None:
    chat = ChatFormat(tiny.sentencepiece_tokenizer(), "zephyr")
    prompt = chat.encode_prompt(TURNS)  # type: ignore[arg-type]
    assert prompt[0] == chat.tokenizer.bos_token_id
    cut = beheaded(prompt, 10, chat)
    assert len(cut) == 10 and cut[0] == prompt[0] and cut[1:] == prompt[-9:]
    assert beheaded(prompt, len(prompt), chat) == prompt
    assert beheaded(prompt, 1, chat) == prompt[-1:]


def test_a_bos_that_the_template_alone_writes_is_kept() -> None:
    tokenizer = tiny.byte_tokenizer(template="{{ bos_token }}" + tiny.CHATML)
    tokenizer.bos_token = "<|endoftext|>"
    chat = ChatFormat(tokenizer, "tokenizer")
    prompt = chat.encode_prompt(TURNS)  # type: ignore[arg-type]
    assert prompt[0] == chat.tokenizer.bos_token_id and not adds_bos(chat.tokenizer)
    assert beheaded(prompt, 10, chat) == prompt[:1] + prompt[-9:]


def test_what_every_turn_begins_with_is_no_bos() -> None:
    """SmolLM2 calls `<|im_start|>` its BOS: kept, it would open a turn of nobody."""
    tokenizer = tiny.byte_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    chat = ChatFormat(tokenizer, "tokenizer")
    prompt = chat.encode_prompt(TURNS)  # type: ignore[arg-type]
    assert prompt[0] == chat.tokenizer.bos_token_id
    assert beheaded(prompt, 10, chat) == prompt[-10:]


def test_without_bos_the_end_alone_is_kept() -> None:
    chat = ChatFormat(tiny.byte_tokenizer(), "zephyr")
    prompt = chat.encode_prompt(TURNS)  # type: ignore[arg-type]
    assert beheaded(prompt, 10, chat) == prompt[-10:]
