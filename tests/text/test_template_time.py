"""Templates that write the date of the day: the same prompt on every day, here and in what is saved."""

from __future__ import annotations

import re
from datetime import datetime as real_datetime
from pathlib import Path
from typing import Any

import pytest

import small
import tiny
from zephyr.errors import ModelError
from zephyr.models import load
from zephyr.recipe import ModelConfig
from zephyr.records import Message
from zephyr.text.chat import ChatFormat
from zephyr.text.template import TODAY

# as Llama 3.2 has it
ASKS = (
    "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n"
    '        {%- set date_string = strftime_now("%d %b %Y") %}\n    {%- else %}\n        {%- set date_string = "26 Jul 2024" %}\n'
    "    {%- endif %}\n{%- endif %}\n{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string + '\\n<|eot_id|>' }}"
)
LLAMA32 = ASKS + tiny.LLAMA3.replace("{{ bos_token }}", "")
MESSAGES: list[Message] = [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Yes."}]
DAYS = [real_datetime(2023, 1, 1), real_datetime(2031, 12, 31, 23, 59, 58)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the day that transformers believes it is."""
    from transformers.utils import chat_template_utils

    def set_to(day: real_datetime) -> None:
        class Clock(real_datetime):
            @classmethod
            def now(cls, tz: Any = None) -> real_datetime:
                return day

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)

    return set_to


def test_a_prompt_is_the_same_on_every_day(clock: Any, tmp_path: Path) -> None:
    chat = ChatFormat(tiny.llama3_tokenizer(), LLAMA32)
    chat.tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(tmp_path)  # what the model is used with elsewhere
    untouched = tiny.llama3_tokenizer(template=LLAMA32)
    seen, elsewhere, live = set(), set(), set()
    for day in DAYS:
        clock(day)
        seen.add(ChatFormat(tiny.llama3_tokenizer(), LLAMA32).encode(MESSAGES))
        seen.add(chat.encode(MESSAGES))
        elsewhere.add(plain.apply_chat_template(MESSAGES, tokenize=False))
        live.add(untouched.apply_chat_template(MESSAGES, tokenize=False))
    assert len(live) == 2, "the clock is not the one that templates read"
    assert len(seen) == len(elsewhere) == 1
    assert elsewhere == {chat.render(MESSAGES)} and "Today Date: 26 Jul 2024\n" in chat.render(MESSAGES)
    assert "Today Date: 1 May 1999\n" in plain.apply_chat_template(MESSAGES, tokenize=False, date_string="1 May 1999")
    assert chat.asked_for_the_date and not ChatFormat(plain, "tokenizer").asked_for_the_date, "it is fixed once"


@pytest.mark.parametrize(
    ("call", "written"),
    [
        ("strftime_now('%Y-%m-%d')", "2024-07-26"),
        ('strftime_now( "%B %d, %Y" )', "July 26, 2024"),
        ("strftime_now ('%d %b %%')", "26 Jul %"),
        ("strftime_now('%A, %H:%M')", "Friday, 00:00"),
    ],
)
def test_dates_of_any_form(call: str, written: str) -> None:
    plain = ChatFormat(tiny.byte_tokenizer(), tiny.CHATML)
    chat = ChatFormat(tiny.byte_tokenizer(), "{{ 'It is ' + " + call + " + '. ' }}" + tiny.CHATML)
    assert chat.render(MESSAGES) == f"It is {written}. " + plain.render(MESSAGES)
    assert not plain.asked_for_the_date and plain.template == tiny.CHATML


@pytest.mark.parametrize("text", ["{{ strftime_now(form) }}", "{% set now = strftime_now %}{{ now('%Y') }}", "{{ '%Y' | map(strftime_now) }}"])  # fmt: skip
def test_what_cannot_be_fixed_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"the chat template depends on the time \(strftime_now\) in a way that cannot be fixed"):
        ChatFormat(tiny.byte_tokenizer(), text + tiny.CHATML)


def test_a_remark_about_it_is_none() -> None:
    assert ChatFormat(tiny.byte_tokenizer(), "{# strftime_now\n is not used #}" + tiny.CHATML).render(MESSAGES)
    assert ChatFormat(tiny.byte_tokenizer(), "{% if strftime_now is not defined %}{% endif %}" + tiny.CHATML).render(MESSAGES)


def test_it_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = small.model_folder(tmp_path / "model")
    tiny.llama3_tokenizer(template=LLAMA32).save_pretrained(folder)
    ref = load.refer(ModelConfig(path=str(folder)))
    capfd.readouterr()
    for _ in range(2):
        load.load_chat(ref, "tokenizer")
    said = capfd.readouterr().err
    assert re.fullmatch(rf"  {folder}: its chat template writes the date of the day; here it is {TODAY:%Y-%m-%d} on every day.*\n", said)
