"""Formats that are only asked in: templates that treat answers by their place in the conversation will do, but nothing is learnt in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from zephyr.errors import DataError, ModelError
from zephyr.records import Message
from zephyr.text.chat import ChatFormat

# as Qwen 3 has it: the last answer gets a place for thoughts, those before the last question lose theirs
THINKS = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role != 'assistant' %}{{ m.content }}"
    "{% elif loop.index0 > ns.last %}{{ '<think>\\n' + (m.content.split('</think>')[0].split('<think>')[-1].strip('\\n') "
    "if '</think>' in m.content else '') + '\\n</think>\\n\\n' + m.content.split('</think>')[-1].lstrip('\\n') }}"
    "{% else %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
THOUGHT = "<think>\nIt is warm.\n</think>\n\nYes."


def tokenizer() -> Any:
    made = tiny.byte_tokenizer(eos="<|im_end|>")
    made.add_tokens(["<think>", "</think>"])  # ordinary ones, as in Qwen 3
    return made


def asked(*texts: str) -> list[Message]:
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]


def test_it_cannot_be_learnt_in() -> None:
    with pytest.raises(ModelError, match=r"turn 1: the chat template writes '' where the assistant says 'Two\."):
        ChatFormat(tokenizer(), THINKS)


def test_a_prompt_is_what_the_template_makes_of_it() -> None:
    chat = ChatFormat(tokenizer(), THINKS, learns=False)
    for messages in (asked("Hi!"), asked("Hi!", "Yes.", "Why?"), asked("Hi!", THOUGHT, "Why?", THOUGHT, "So?")):
        wanted = chat.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert chat.encode_prompt(messages) == tuple(wanted)
    assert "warm" not in chat.tokenizer.decode(list(chat.encode_prompt(asked("Hi!", THOUGHT, "Why?"))))


def test_it_stops_where_a_turn_ends() -> None:
    chat = ChatFormat(tokenizer(), THINKS, learns=False)
    assert chat.stop_ids == (chat.tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    made = tokenizer()
    made.eos_token = "<|endoftext|>"
    other = ChatFormat(made, THINKS, learns=False)
    assert set(other.stop_ids) == {*chat.stop_ids, made.convert_tokens_to_ids("<|endoftext|>")}
    endless = ChatFormat(made, tiny.CHATML.replace("<|im_end|>", "").replace("<|im_start|>", "##"), learns=False)
    assert endless.stop_ids == (made.convert_tokens_to_ids("<|endoftext|>"),)
    assert endless.encode_prompt(asked("Hi!", "Yes.", "Why?"))


def test_control_tokens_are_refused_all_the_same() -> None:
    chat = ChatFormat(tokenizer(), THINKS, learns=False)
    for messages in (asked("Hi<|im_end|>"), asked("Hi!", "Yes<|im_start|>", "Why?")):
        with pytest.raises(DataError, match="contains the control token"):
            chat.encode_prompt(messages)


def test_where_it_can_be_cut_it_is_cut_as_in_training() -> None:
    """The model is then asked in the very ids it learnt in, also where the tokenizer would merge across an answer's edge."""
    learnt, alone = ChatFormat(tiny.byte_tokenizer(), "zephyr"), ChatFormat(tiny.byte_tokenizer(), "zephyr", learns=False)
    for messages in (asked("Hi!"), asked("Hi!", "\n\n Yes.", "Why?"), asked(" a ", "\tb\n", "c", "\n", "d")):
        assert alone.encode_prompt(messages) == learnt.encode_prompt(messages)
    assert alone.stop_ids == learnt.stop_ids


def test_what_is_wrong_with_a_prompt_is_still_refused() -> None:
    with pytest.raises(ModelError, match="the chat template cannot be used: the chat template refuses this conversation"):
        ChatFormat(tiny.byte_tokenizer(), "{{ nothing.there }}", learns=False)
    with pytest.raises(ModelError, match="does not begin with the beginning-of-sequence token"):
        ChatFormat(tiny.sentencepiece_tokenizer(), tiny.MISTRAL.replace("{{ bos_token }}", ""), learns=False)
    with pytest.raises(ModelError, match="more beginning-of-sequence tokens"):
        ChatFormat(tiny.sentencepiece_tokenizer(), "{{ bos_token }}" + tiny.MISTRAL, learns=False)


def test_a_template_that_writes_no_turn_of_its_own(tmp_path: Path) -> None:
    """Thoughts that the generation prompt opens are no control token where an answer ends them."""
    opens = tiny.CHATML.replace("<|im_start|>assistant\\n", "<|im_start|>assistant\\n<think>\\n")
    chat = ChatFormat(tokenizer(), opens, learns=False)
    assert chat.tokenizer.decode(list(chat.encode_prompt(asked("Hi!", "It is warm.\n</think>\n\nYes.", "Why?")))).endswith("<think>\n")
