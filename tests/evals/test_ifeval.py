"""IFEval: every instruction on cases of our own, what a prompt may say, files, scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zephyr.cli import main
from zephyr.errors import DataError
from zephyr.evals import ifeval
from zephyr.evals.ifeval.instructions import parse_asked
from zephyr.evals.ifeval.language import LANGUAGES, detect
from zephyr.evals.ifeval.text import count_capital_words, count_words, sentences
from zephyr.recipe import DataSource

# by id: kwargs, then responses that follow and responses that do not; the edges of each are among both
CASES: dict[str, list[tuple[dict[str, Any], list[str], list[str]]]] = {
    "keywords:existence": [
        ({"keywords": ["sea", "boat"]}, ["A BOAT at sea.", "Seaside boats."], ["Only a boat.", "s e a, boat"]),
        ({"keywords": ["c++"]}, ["I like C++."], ["I like ccc."]),
    ],
    "keywords:frequency": [
        ({"keyword": " tea ", "frequency": 2, "relation": "at least"}, ["Tea, then tea.", "teatea"], ["Tea.", "coffee"]),
        ({"keyword": "aa", "frequency": 2, "relation": "less than"}, ["aaa", "nothing"], ["aaaa", "aa aa aa"]),
    ],
    "keywords:forbidden_words": [
        ({"forbidden_words": ["rain", "wet"]}, ["Rainy weather.", "dry"], ["It will RAIN.", "wet-nosed"]),
        ({"forbidden_words": ["c++"]}, ["c is fine"], ["Write it in C++!", "c++, then"]),
    ],
    "keywords:letter_frequency": [
        ({"letter": "O", "let_frequency": 2, "let_relation": "at least"}, ["oO", "moo"], ["on", "x"]),
        ({"letter": "#", "let_frequency": 2, "let_relation": "less than"}, ["#one", "none"], ["#a #b", "###"]),
    ],
    "language:response_language": [
        ({"language": "de"}, ["Das ist ein kurzer Satz, und er ist auf Deutsch.", "42"], ["This is not it.", "Dit is niet wat je wilde."]),
        ({"language": "ja"}, ["今日はいい天気ですね。"], ["今天天气很好。", "좋은 아침입니다."]),
    ],
    "length_constraints:number_sentences": [
        ({"num_sentences": 2, "relation": "less than"}, ["Mr. Gray paid 3.50 to J. R. Hall.", "one"], ["One. Two.", "Yes! No?"]),
        ({"num_sentences": 3, "relation": "at least"}, ["One. Two. Three", "1. Eggs\n2. Milk"], ["Wait... no.", "Just one, e.g. this"]),
    ],
    "length_constraints:number_paragraphs": [
        ({"num_paragraphs": 2}, ["one\n***\ntwo", "***\none\n***\ntwo\n***"], ["one\n\ntwo", "one\n***\n\n***\ntwo", "a***b***c"]),
        ({"num_paragraphs": 1}, ["one", "one\n***"], ["***", "one *** two"]),
    ],
    "length_constraints:number_words": [
        ({"num_words": 4, "relation": "at least"}, ["it's well-known", "one two three four"], ["one two three", "- -- ---"]),
        ({"num_words": 3, "relation": "less than"}, ["हिन्दी में", "a b"], ["a b c", "1, 2, 3"]),
    ],
    "length_constraints:nth_paragraph_first_word": [
        (
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
            ["First.\n\nthen second", "First.\n\n\"Then, he said"],
            ["Then.\n\nThis", "one\n\nthen\n\nthree", "First.\n\n\n\nthen second", "then"],
        ),
    ],
    "detectable_content:number_placeholders": [
        ({"num_placeholders": 2}, ["[name], [address]", "[a][]"], ["[name]", "[na\nme] [a]"]),
        ({"num_placeholders": 0}, ["none"], []),
    ],
    "detectable_content:postscript": [
        ({"postscript_marker": "P.S."}, ["Bye.\n\nP.S. Write.", "p. s. too"], ["Bye. PS: write", "p.s"]),
        ({"postscript_marker": "P.P.S"}, ["P.P.S Write.", "P. P. S: so"], ["P.S. Write.", "pps"]),
        ({"postscript_marker": "N.B."}, ["n.b. so"], ["nib. so"]),
    ],
    "detectable_format:number_bullet_lists": [
        ({"num_bullets": 2}, ["* one\n- two", "-a\n  *b", "* one\n**bold**\n* two"], ["* one", "* a\n* b\n* c", "1. a\n2. b"]),
    ],
    "detectable_format:constrained_response": [
        ({}, ["My answer is yes.", "So: My answer is maybe. Really."], ["my answer is yes.", "My answer is yes", "Yes."]),
    ],
    "detectable_format:number_highlighted_sections": [
        ({"num_highlights": 2}, ["*one* and *two*", "**one** **two**", "*a* **b**"], ["*one*", "* *  ** **", "*on\ne* *two"]),
    ],
    "detectable_format:multiple_sections": [
        (
            {"section_spliter": "SECTION ", "num_sections": 2},
            ["SECTION 1\na\nSECTION 2\nb", "SECTION1SECTION2"],
            ["Section 1\nSection 2", "SECTION 1", "SECTION A SECTION B"],
        ),
        ({"section_spliter": "(Part)", "num_sections": 1}, ["(Part) 3"], ["Part 3"]),
    ],
    "detectable_format:json_format": [
        ({}, ['{"a": [1]}', "```json\n[1]\n```", " 42 ", "```\n{}\n```"], ["{'a': 1}", '{"a": 1} done', "```json\n{\n```", "[" * 100_000]),
    ],
    "detectable_format:title": [
        ({}, ["<<A title>>\ntext", "x <<<b>>> y"], ["<title>", "<<>>", "<< >>", "<<two\nlines>>"]),
    ],
    "combination:two_responses": [
        ({}, ["one\n******\ntwo", "******one******two******"], ["one\n******\none ", "one", "a******b******c", "a************b"]),
    ],
    "combination:repeat_prompt": [
        ({"prompt_to_repeat": "Say hi. "}, ["say HI. Hi!", "\n Say hi."], ["Sure. Say hi. Hi!", "Say hi"]),
    ],
    "startend:end_checker": [
        ({"end_phrase": "That is all."}, ["So. THAT IS ALL.", '"Yes. That is all."\n'], ["That is all. Bye.", "That is all"]),
    ],
    "startend:quotation": [
        ({}, ['"yes"', ' "a "b" c"\n', '""'], ['"', "'yes'", '"yes".', "“yes”"]),
    ],
    "change_case:capital_word_frequency": [
        ({"capital_frequency": 2, "capital_relation": "at least"}, ["I am in NATO.", "DON'T", "THE end OF"], ["NATO", "Nato And Eu", "12 34"]),
        ({"capital_frequency": 2, "capital_relation": "less than"}, ["NASA/ESA", "NASA's", "none"], ["AB CD", "**AB:CD**"]),
    ],
    "change_case:english_capital": [
        ({}, ["ALL OF THIS IS LOUD, 24/7.", "YES"], ["All OF THIS", "DAS IST ALLES LAUT UND ES IST NICHT ENGLISCH.", "1234"]),
    ],
    "change_case:english_lowercase": [
        ({}, ["this is quiet, and it is english.", "yes"], ["This is not.", "das ist leise und es ist kein wort davon fremd.", "1234"]),
    ],
    "punctuation:no_comma": [
        ({}, ["No such thing; none", "a、b"], ["one, two", "1,000"]),
    ],
}  # fmt: skip


def test_all_25_instructions_have_their_cases() -> None:
    assert set(CASES) == set(ifeval.INSTRUCTIONS) and len(CASES) == 25
    for name, cases in CASES.items():
        assert sum(len(yes) for _, yes, _ in cases) >= 2 and sum(len(no) for _, _, no in cases) >= 2, name


@pytest.mark.parametrize("name", CASES)
def test_an_instruction(name: str) -> None:
    for kwargs, follows, fails in CASES[name]:
        asked = parse_asked(name, kwargs)
        assert [text for text in follows if not asked.follows(text)] == []
        assert [text for text in fails if asked.follows(text)] == []
        assert not any(asked.follows(empty) for empty in ("", " ", "\n\t\n")), "nothing follows nothing"


def test_each_thing_that_can_be_wrong_with_an_instruction_is_said() -> None:
    words = {"num_words": 3, "relation": "at least"}
    for name, kwargs, said in [
        ("length_constraints:number_word", words, "did you mean length_constraints:number_words?"),
        ("zzz", {}, "unknown instruction 'zzz'; the 25 known ids"),
        ("length_constraints:number_words", {"num_words": 3}, "the argument `relation` is missing"),
        ("length_constraints:number_words", {**words, "num_words": None}, "the argument `num_words` is missing"),
        ("length_constraints:number_words", {**words, "num_words": "3"}, "`num_words` is '3', not a whole number"),
        ("length_constraints:number_words", {**words, "num_words": -1}, "`num_words` is -1"),
        ("length_constraints:number_words", {**words, "num_words": True}, "`num_words` is True"),
        ("length_constraints:number_words", {**words, "num_words": float("nan")}, "`num_words` is nan"),
        ("length_constraints:number_words", {**words, "relation": "at most"}, "'at most'; known are less than, at least"),
        ("punctuation:no_comma", {"num_words": 3}, "unknown argument `num_words`; it takes none"),
        ("keywords:existence", {"keywords": []}, "`keywords` is [], not a list of words"),
        ("keywords:existence", {"keywords": ["a", ""]}, "`keywords` is '', not a text"),
        ("keywords:letter_frequency", {"letter": "ab", "let_frequency": 1, "let_relation": "at least"}, "not a single letter"),
        ("language:response_language", {"language": "tlh"}, "'tlh'; known are en, es"),
        ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"}, "is 3, of 2 paragraphs"),
        ("punctuation:no_comma", None, "its kwargs are None"),
    ]:  # fmt: skip
        with pytest.raises(DataError) as error:
            parse_asked(name, kwargs)
        assert said in str(error.value)
    # the hub's table has every argument in every row, null where it means nothing; a whole number may come as a float
    assert parse_asked("length_constraints:number_words", {**words, "num_words": 3.0, "keywords": None}).arguments["num_words"] == 3


def test_loosened_responses_are_eight() -> None:
    assert set(ifeval.loosened("Sure:\n*yes*\nBye")) == {
        "Sure:\n*yes*\nBye", "*yes*\nBye", "Sure:\n*yes*", "*yes*", "Sure:\nyes\nBye", "yes\nBye", "Sure:\nyes", "yes",
    }  # fmt: skip
    item = ifeval.parse_item(row(1, "Q", ("startend:quotation", {}), ("punctuation:no_comma", {})))
    verdict = ifeval.judge(item, 'Sure, here:\n*"yes"*')
    assert (verdict.strict, verdict.loose) == ((False, False), (True, True))


def row(key: object, prompt: str, *asked: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"key": key, "prompt": prompt, "instruction_id_list": [a for a, _ in asked], "kwargs": [b for _, b in asked]}


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


COMMA, QUOTED = ("punctuation:no_comma", {}), ("startend:quotation", {})
PROMPTS = [row(1, "One", COMMA, QUOTED), row(2, "Two", COMMA), row("3", "Three", QUOTED, QUOTED)]
ANSWERS = [{"prompt": "Two", "response": "a, b"}, {"key": 1, "response": '"a"'}, {"key": "3", "prompt": "Three", "output": ""}]


def test_of_a_split_that_is_chosen_nothing_else_is_read(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", PROMPTS[:1])
    lines(tmp_path / "test.jsonl", PROMPTS[1:])
    folder = str(tmp_path)
    for source in (DataSource(path=folder, source_split="test"), DataSource(path=folder, split="test")):
        assert [item.key for item in ifeval.read_items(source)] == ["2", "3"]
    assert len(ifeval.read_items(DataSource(path=folder))) == 3
    with pytest.raises(DataError, match="no split 'tset'; it has test, train"):
        ifeval.read_items(DataSource(path=folder, source_split="tset"))


def test_scores_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, answers = lines(tmp_path / "p.jsonl", PROMPTS), lines(tmp_path / "a.jsonl", ANSWERS)
    main_ok(["score", "ifeval", str(answers), "--prompts", str(prompts), "--json", "--rows", str(tmp_path / "rows.jsonl")])
    found = json.loads(capsys.readouterr().out)
    assert found["prompt_level_strict_acc"]["value"] == pytest.approx(1 / 3)
    assert found["inst_level_strict_acc"]["value"] == pytest.approx(2 / 5) and found["inst_level_strict_acc"]["n"] == 5
    assert found["by_instruction"]["startend:quotation"]["strict"]["value"] == pytest.approx(1 / 3)
    assert (found["n_prompts"], found["n_instructions"], found["n_empty"]) == (3, 5, 1)
    low, high = found["inst_level_strict_acc"]["ci95"]
    assert 0 <= low < 0.4 < high <= 1
    assert [json.loads(line)["follow_instruction_list"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == [
        [True, True], [False], [False, False],
    ]  # fmt: skip
    # the same as lm-eval's samples, where the prompt is in each line
    samples = [{"doc": p, "resps": [["x"]], "filtered_resps": [text]} for p, text in zip(PROMPTS, ('"a"', "a, b", ""), strict=True)]
    main_ok(["score", "ifeval", str(lines(tmp_path / "samples.jsonl", samples)), "--json"])
    assert json.loads(capsys.readouterr().out) == found
    main_ok(["score", "ifeval", str(answers), "--prompts", str(prompts)])
    assert "instructions, strict  40.0% (" in (text := capsys.readouterr().out) and "1 response is empty: it follows nothing" in text


def main_ok(arguments: list[str]) -> None:
    """The command returns by SystemExit(0), or without."""
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code


BAD: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], str]] = {
    "a key twice": ([*PROMPTS, row(2, "Four", COMMA)], ANSWERS, "p.jsonl:4: the key 2 is there already, at"),
    "a prompt twice": ([*PROMPTS, row(4, "Two", COMMA)], ANSWERS, "p.jsonl:4: the same prompt as"),
    "an unknown id": ([row(1, "One", ("punctuation:no_coma", {}))], ANSWERS, "p.jsonl:1: unknown instruction 'punctuation:no_coma'"),
    "no kwargs": ([{**PROMPTS[0], "kwargs": [{}]}], ANSWERS, "with an object for each of the 2 instructions"),
    "half a run": (PROMPTS, ANSWERS[:2], "1 of 3 prompts have no response (the first: 3)"),
    "answered twice": (PROMPTS, [*ANSWERS, ANSWERS[0]], "a.jsonl:4: prompt 2 is answered already, at"),
    "another prompt": (PROMPTS, [*ANSWERS, {"prompt": "Six", "response": "a"}], "a.jsonl:4: answers a prompt that is not among the 3"),
    "another set": (PROMPTS, [{"key": 1, "prompt": "Other", "response": "a"}], "a.jsonl:1: has the key 1 and another prompt"),
    "no text": (PROMPTS, [{"key": 1, "response": None}], "`response` is NoneType, not a text"),
    "nothing that says whose": (PROMPTS, [{"response": "a"}], "neither `key` nor `prompt`"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, answers, said = BAD[name]
    with pytest.raises(SystemExit):
        main(["score", "ifeval", str(lines(tmp_path / "a.jsonl", answers)), "--prompts", str(lines(tmp_path / "p.jsonl", prompts))])
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_partial_runs_are_scored_when_asked_and_counted(tmp_path: Path) -> None:
    prompts = lines(tmp_path / "p.jsonl", PROMPTS)
    answers = lines(tmp_path / "a.jsonl", [*ANSWERS[:1], {"prompt": "Six", "response": "a"}])
    found = ifeval.score(str(answers), str(prompts), partial=True)
    assert (found["n_prompts"], found["prompt_level_strict_acc"]["value"]) == (1, 0.0)
    assert found["left_out"] == {"prompts without a response": 2, "responses to other prompts": 1}
    assert "left out: 2 prompts without a response, 1 responses to other prompts" in ifeval.describe(found)


# --- counting and languages -----------------------------------------------------------------------------------------


def test_sentences() -> None:
    for text, wanted in [
        ("Dr. Gray met Mr. Hall. They talked.", 2),
        ("It costs 3.50 in the U.S. today.", 1),
        ("He lives in the U.S. The rest is history.", 2),
        ('"Go." She left. (He did not.) Then', 4),
        ("Wait... what? No!!! Really?", 3),
        ("Really?!", 2),
        ("1. Eggs\n2. Milk", 3),
        ("In 1999. and later", 1),
        ("see example.com or v1.2", 1),
        ('The end.\n"', 1),
        ("**Bold.** More.", 2),
        ("no end", 1),
        (" \n", 0),
    ]:
        assert len(sentences(text)) == wanted, (text, sentences(text))


def test_words_and_capitals() -> None:
    assert count_words("it's well-known, snake_case 3.5 — ok") == 8
    assert count_words("नमस्ते दुनिया") == 2 and count_words("नमस्ते, 🙂 ⚠️") == 1
    assert count_capital_words("I CANNOT say: NASA/ESA, A-B, 3D... [NAME]! it's O'NEILL'S") == 9


SAID = {
    "en": "the weather is nice today and we would like to go out", "es": "hoy hace buen tiempo y nos gustaría salir a pasear por la ciudad",
    "pt": "hoje o tempo está bom e nós não vamos ficar em casa", "fr": "il fait beau aujourd'hui et nous voulons sortir dans la rue",
    "de": "das wetter ist heute schön und wir wollen nach draußen gehen", "it": "oggi il tempo è bello e non vogliamo restare a casa",
    "pl": "dzisiaj jest ładna pogoda i chcemy wyjść na spacer", "vi": "hôm nay thời tiết đẹp và chúng tôi muốn ra ngoài",
    "sw": "hali ya hewa ni nzuri leo na watu wengi wako nje", "fi": "tänään on kaunis sää ja haluamme mennä ulos, koska se on hyvin mukavaa",
    "ru": "сегодня хорошая погода, и мы хотим выйти на улицу", "uk": "сьогодні гарна погода, і ми хочемо вийти на вулицю",
    "bg": "днес времето е хубаво и искаме да излезем навън", "ar": "الطقس جميل اليوم ونريد أن نخرج إلى الحديقة",
    "fa": "امروز هوا خوب است و ما می خواهیم به پارک برویم", "ur": "آج موسم اچھا ہے اور ہم باہر جانا چاہتے ہیں",
    "hi": "आज मौसम अच्छा है और हम बाहर जाना चाहते हैं", "mr": "आज हवामान छान आहे आणि आम्ही बाहेर जाणार आहोत", "ne": "आज मौसम राम्रो छ र हामी बाहिर जान चाहन्छौं",
    "ja": "今日は天気がいいです", "ko": "오늘 날씨가 좋습니다", "bn": "আজ আবহাওয়া ভালো", "th": "วันนี้อากาศดี", "ta": "இன்று வானிலை நன்றாக உள்ளது",
    "te": "ఈరోజు వాతావరణం బాగుంది", "he": "היום מזג האוויר יפה", "kn": "ಇಂದು ಹವಾಮಾನ ಚೆನ್ನಾಗಿದೆ", "gu": "આજે હવામાન સારું છે",
    "pa": "ਅੱਜ ਮੌਸਮ ਚੰਗਾ ਹੈ", "ml": "ഇന്ന് കാലാവസ്ഥ നല്ലതാണ്",
}  # fmt: skip


def test_every_language_that_may_be_asked_for_is_told() -> None:
    assert set(SAID) == set(LANGUAGES)
    assert {name: detect(text) for name, text in SAID.items()} == {name: name for name in SAID}
    assert {name: detect(SAID[name].upper()) for name in ("en", "de", "ru", "pl")} == {name: name for name in ("en", "de", "ru", "pl")}
    assert detect("vandaag is het mooi weer en we gaan naar buiten") == "nl"  # nobody asks for it, and it is not German
    assert detect("123 !?") is None and detect("https://example.com/the/of/and") is None and detect("hello") == "en"


def test_two_models_on_the_same_prompts() -> None:
    """Paired by prompt: of ten that both answered, one follows all of eight and the other of four of those."""
    rows = {name: [{"prompt": f"p{i}", "follow_instruction_list": [True, i < n]} for i in range(10)] for name, n in (("a", 8), ("b", 4))}
    found = ifeval.difference(("a", rows["a"]), ("b", [*rows["b"], {"prompt": "other", "follow_instruction_list": [True]}]))
    assert found is not None and found["difference"] == pytest.approx(0.4) and found["n"] == 10
    assert found["paired_se"] == pytest.approx((0.24 / 9) ** 0.5) and found["in_words"].startswith("a is better than b by 40.0 [3.1, 76.9]")
    assert ifeval.difference(("a", rows["a"][:1]), ("b", rows["b"])) is None
