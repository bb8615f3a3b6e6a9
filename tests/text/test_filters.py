"""Each filter finds what it is for, leaves alone what only looks like it, and is quick on any text."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr.errors import UsageError
from zephyr.text.filters import FILTERS, LANGUAGES, Hit, Settings, all_hits, build, examine, is_on
from zephyr.text.filters.base import View

OWN = [json.loads(line) for line in (Path(__file__).parent / "data" / "filters_own.jsonl").read_text(encoding="utf-8").splitlines()]
GOOD = [
    {"role": "user", "content": "Name a river in France."},
    {"role": "assistant", "content": "The Loire is the longest river of France."},
]


@pytest.mark.parametrize("case", OWN, ids=lambda case: f"{case['filter']}-{'hit' if case['hit'] else 'near-miss'}")
def test_own_cases(case: dict[str, Any]) -> None:
    hit = FILTERS[case["filter"]].find(case["messages"])
    assert (hit is not None) == case["hit"], hit
    if hit is not None:
        text = case["messages"][hit.message]["content"]
        assert hit.filter == case["filter"] and 0 <= hit.start <= hit.end <= len(text)
        assert hit.end > hit.start or not text


def test_every_filter_has_hits_and_near_misses() -> None:
    assert {(c["filter"], c["hit"]) for c in OWN} == {(name, hit) for name in FILTERS for hit in (True, False)}


def test_the_span_is_the_reason() -> None:
    text = "It is hot. Sure, I don’t have personal opinions, but İstanbul is fine."
    hit = FILTERS["disclaimer"].find([("user", "Is it nice there?"), ("assistant", "İİ " + text)])
    assert hit is not None
    assert ("İİ " + text)[hit.start : hit.end] == "I don’t have personal opinions"


def test_the_order_is_the_filters_and_names_are_checked() -> None:
    bad = [("user", "Tell me."), ("assistant", "As an AI language model, I don't have personal opinions.</s>")]
    assert examine(bad, ["as-an-ai", "disclaimer", "template-tokens"]) == Hit("template-tokens", 1, 56, 60)
    assert [h.filter for h in all_hits(bad, FILTERS)] == ["template-tokens", "disclaimer", "as-an-ai"]
    assert examine(bad, ["language"]) is None and examine(GOOD, FILTERS) is None
    with pytest.raises(UsageError, match="did you mean as-an-ai"):
        examine(bad, ["as-a-ai"])


def test_the_page_names_every_filter_as_it_is_and_its_python_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (yes|no) \|", page, re.MULTILINE)
    assert rows == [(name, "yes" if f.on else "no") for name, f in FILTERS.items()]
    assert f"any of {len(LANGUAGES)} languages" in page
    for program in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(program, {})


def test_switches() -> None:
    on = is_on()
    assert "no-access" not in on and "refusal" in on and list(on) == [n for n in FILTERS if n in on]
    assert is_on({"no-access": True, "refusal": False}) == [n for n in FILTERS if n not in ("refusal", "knowledge-cutoff")]
    with pytest.raises(UsageError, match="no such filter"):
        is_on({"nothing": True})


@pytest.mark.parametrize(
    ("language", "answer"),
    [
        ("de", "Ein Blatt ist ein Teil der Pflanze, und es wird für die Aufnahme von Licht gebraucht, das nicht immer da ist."),
        ("ru", "Лист — это часть растения, которая улавливает свет и дышит."),
        ("ja", "葉は植物の一部で、光を受けて呼吸をするためにあります。"),
        ("zh", "叶子是植物的一部分，它吸收阳光，也帮助植物呼吸，没有叶子植物不能生长。"),
        ("en", "A leaf is a part of the plant, and it is there for the light and for the air that the plant needs."),
    ],
)
def test_the_wanted_language_is_a_setting(language: str, answer: str) -> None:
    talk = [("user", "?"), ("assistant", answer)]
    for wanted in ("de", "ru", "ja", "zh", "en"):
        assert (build(Settings(language=wanted))["language"].find(talk) is None) == (wanted == language), wanted


def test_settings_are_bounds_and_an_unknown_language_is_refused() -> None:
    talk = [("user", "Name a river."), ("assistant", "The Rhine."), ("user", "One more."), ("assistant", "The Loire.")]
    assert build(Settings(max_turns=4))["length"].find(talk) is None
    assert build(Settings(max_turns=3))["length"].find(talk) == Hit("length", 3, 0, 10)
    assert build(Settings(max_chars=30))["length"].find(talk) == Hit("length", 2, 7, 9)
    assert build(Settings(min_answer_chars=21))["length"].find(talk) == Hit("length", 3, 0, 10)
    assert "en" in LANGUAGES
    with pytest.raises(UsageError, match="'xx' is not known"):
        build(Settings(language="xx"))


PIECES = [
    "a",
    " ",
    "\n",
    "i ",
    "I cannot ",
    "as an ai ",
    "not ",
    "```",
    "`",
    '"',
    "<|",
    "[",
    "are you ",
    "user: ",
    "1. ",
    "the ",
    "é",
    "中",
    ".",
    "İ",
]
SEED = "as a large text-based i am not able i do not have personal "
LONG = [
    "a",
    "not ",
    "`",
    "<|",
    "İ",
    SEED,
    "I'm sorry, but I can't ",
    "you are human ",
    "i cannot provide as an ai like me ",
    "a: b\n",
    "x\n\n",
    "| a |\n",
]


@pytest.mark.parametrize("piece", LONG)
def test_no_text_makes_a_filter_slow(piece: str) -> None:
    """Time grows with the length, not with its square."""
    text = piece * (100_000 // len(piece))
    talk = View([("user", text), ("assistant", text)])
    for name, f in FILTERS.items():
        began = time.process_time()
        f.find(talk)
        assert time.process_time() - began < 2, name  # a few hundredths as a rule; the square of it would be hours


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant"]), st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))),
        max_size=5,
    )
)
def test_any_dialogue_is_examined_alike_twice(talk: list[tuple[str, str]]) -> None:
    hits = all_hits(talk, FILTERS)
    assert hits == all_hits([{"role": r, "content": t} for r, t in talk], FILTERS)
    for hit in hits:
        assert 0 <= hit.message < max(1, len(talk)) and (not talk or 0 <= hit.start <= hit.end <= len(talk[hit.message][1]))
    assert examine(talk, FILTERS) == (hits[0] if hits else None)


def test_what_lies_within_a_quotation_that_was_passed_over_is_no_hit_of_its_own() -> None:
    """A pattern that is tried at several beginnings finds what one search from left to right finds."""
    for said in (
        'The phrase "as an AI" is used by language models like me.',
        "Here it is: `as an AI` and then, language models such as me, too.",
    ):
        messages = [{"role": "user", "content": "What is a phrase that you know?"}, {"role": "assistant", "content": said}]
        assert examine(messages, ["as-an-ai"]) is None
    messages = [{"role": "user", "content": "Is it late?"}, {"role": "assistant", "content": "A chatbot like me cannot tell."}]
    assert examine(messages, ["as-an-ai"]) == Hit("as-an-ai", 1, 2, 17)
