"""A prompt of a benchmark is found as it is, in other clothes, and in a longer text; what only resembles it is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import small
from zephyr.errors import DataError, UsageError
from zephyr.recipe import DataSource
from zephyr.text.contamination import Benchmarks, Hit, normalised, prompts_of, words

LONG = "Compose an engaging travel blog post about a recent trip to Hawaii, highlighting cultural experiences and must-see attractions."
SHORT = "What happens if you eat watermelon seeds?"
WORDS = [f"w{i}" for i in range(40)]


@pytest.fixture(scope="module")
def benchmarks() -> Benchmarks:
    return Benchmarks({"mt": [LONG], "tqa": [SHORT, "C'est l'été."]})


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        (SHORT, Hit("tqa", "exact", SHORT)),
        (f"  {SHORT}\n", Hit("tqa", "exact", SHORT)),
        ("what happens, if you EAT\twatermelon   seeds", Hit("tqa", "normalised", SHORT)),
        ("ｗhat happens if you eat watermelon seeds?", Hit("tqa", "normalised", SHORT)),
        (f"Answer this. {LONG} Thank you.", Hit("mt", "ngram", LONG)),
        (SHORT + " Why?", None),  # shorter than a run: compared as a whole
        ("What happens if you eat pumpkin seeds?", None),
        ("", None),
        ("?!", None),
    ],
)
def test_kinds(benchmarks: Benchmarks, text: str, hit: Hit | None) -> None:
    assert benchmarks.find(text) == hit


@pytest.mark.parametrize(("kept", "found"), [(20, True), (16, True), (15, False), (13, False), (12, False)])
def test_the_share_of_runs_decides(kept: int, found: bool) -> None:
    """Of 20 words there are 8 runs of 13; the first `kept` words have kept - 12 of them, and half is 4."""
    theirs = " ".join(WORDS[:20])
    hit = Benchmarks({"b": [theirs]}).find(f"before {' '.join(WORDS[:kept])} after")
    assert (hit is not None) is found
    if hit:
        assert hit.kind == "ngram" and hit.overlap == (kept - 12) / 8


def test_the_run_and_the_share_are_as_declared() -> None:
    theirs, text = " ".join(WORDS[:6]), " ".join(["x", *WORDS[:4], "y"])
    assert Benchmarks({"b": [theirs]}, n=3, overlap=0.5).find(text) == Hit("b", "ngram", theirs, 0.5)
    assert Benchmarks({"b": [theirs]}, n=3, overlap=0.6).find(text) is None
    assert Benchmarks({"b": [theirs]}, n=4, overlap=0.5).find(text) is None
    for n, overlap in ((0, 0.5), (3, 0.0), (3, 1.1)):
        with pytest.raises(UsageError, match="runs of"):
            Benchmarks({"b": [theirs]}, n=n, overlap=overlap)


def test_a_phrase_that_many_tasks_begin_with_is_no_match() -> None:
    phrase = " ".join(WORDS[:14])
    found = Benchmarks({"b": [f"{phrase} {' '.join(f'a{i}_{j}' for j in range(20))}" for i in range(50)]})
    assert found.find(f"{phrase} {' '.join(f'other{j}' for j in range(20))}") is None
    assert found.find(f"{phrase} {' '.join(f'a7_{j}' for j in range(20))} more") is not None


def test_a_hash_alone_is_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were all runs to have one hash, the words would still have to be the same."""
    import zephyr.text.contamination as module

    monkeypatch.setattr(module, "hash", lambda _: 1, raising=False)
    found = Benchmarks({"b": [" ".join(WORDS[:13])]})
    assert found.find(" ".join(WORDS[20:34])) is None
    assert found.find("so: " + " ".join(WORDS[:13])) is not None


def test_the_strictest_comparison_then_the_first_benchmark() -> None:
    found = Benchmarks({"one": [SHORT.upper()], "two": [SHORT], "three": [SHORT]})
    hit = found.find(SHORT)
    assert hit is not None and (hit.benchmark, hit.kind) == ("two", "exact")
    assert [(h.benchmark, h.kind) for h in found.find_all(SHORT)] == [("one", "normalised"), ("two", "exact"), ("three", "exact")]


def test_words_where_no_spaces_stand_and_where_there_are_none() -> None:
    assert words("東京は日本") == list("東京は日本")
    assert normalised("  ?!  ") == "?!" and normalised("A-b  C") == "a b c"
    theirs = "東京は日本の首都であり世界で最も人口の多い都市"
    assert Benchmarks({"b": [theirs]}).find(f"質問。{theirs}。")
    assert Benchmarks({"b": ["?!"]}).find(" ?! ") == Hit("b", "exact", "?!")


@pytest.mark.parametrize(
    ("row", "prompts"),
    [
        ({"prompt": "a", "question": "b"}, ["a"]),
        ({"turns": ["a", "b"], "category": "writing"}, ["a", "b"]),
        ({"instruction": "a", "output": "b"}, ["a"]),
        ({"question": "a", "choices": ["b"]}, ["a"]),
        ({"ctx": "a"}, ["a"]),
        ({"prompt": None, "question": "a"}, ["a"]),
        ({"turns": ["a", " "]}, ["a"]),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]},
            ["a", "c"],
        ),
    ],
)
def test_where_a_row_has_its_prompts(row: dict[str, object], prompts: list[str]) -> None:
    assert prompts_of(row) == prompts


def test_read(tmp_path: Path) -> None:
    small.write_lines(tmp_path / "mt.jsonl", [{"turns": ["Say it.", "Say it again."]}, {"turns": ["Say it."]}])
    small.write_lines(tmp_path / "split" / "train.jsonl", [{"question": "One?"}])
    small.write_lines(tmp_path / "split" / "test.jsonl", [{"question": "Two?"}])
    found = Benchmarks.read({"mt": DataSource(path=str(tmp_path / "mt.jsonl")), "all": DataSource(path=str(tmp_path / "split"))})
    assert found.counts == {"mt": 2, "all": 2}
    assert all(found.find(text) for text in ("Say it again.", "One?", "Two?"))


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    bad = small.write_lines(tmp_path / "bad.jsonl", [{"prompt": "a"}, {"text": "b"}])
    with pytest.raises(DataError, match=r"bad.jsonl:2: no prompt; looked for prompt, turns.*'text'; name the column"):
        Benchmarks.read({"b": DataSource(path=str(bad))})
    assert Benchmarks.read(
        {"b": DataSource(path=str(small.write_lines(tmp_path / "c.jsonl", [{"text": "b"}])), columns={"prompt": "text"})}
    ).find("b")
    with pytest.raises(DataError, match="no prompts to compare with, in the benchmark b"):
        Benchmarks.read({"b": DataSource(path=str(small.write_lines(tmp_path / "empty.jsonl", [])))})
    with pytest.raises(DataError, match="`prompt` is neither a text nor a list of turns"):
        prompts_of({"prompt": 3})


@given(st.lists(st.sampled_from(WORDS[:5]), min_size=1, max_size=40), st.lists(st.sampled_from(WORDS[:5]), max_size=40), st.integers(1, 6))
def test_runs_as_defined(theirs: list[str], text: list[str], n: int) -> None:
    """Hashes and counts give what the definition does, where words repeat, too."""

    def runs(found: list[str]) -> set[tuple[str, ...]]:
        return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}

    hit = Benchmarks({"b": [" ".join(theirs)]}, n=n, overlap=0.5).find(" ".join(text))
    shared = len(runs(theirs) & runs(text)) / max(len(runs(theirs)), 1)
    assert (hit is not None) == (theirs == text or (bool(runs(theirs)) and shared >= 0.5))
    if hit and hit.kind == "ngram":
        assert hit.overlap == shared


def test_real_benchmarks(shared: Path) -> None:
    data = shared / "data/eval"
    given_ = {"mt": data / "mt_bench/question.jsonl", "alpaca": data / "alpaca_eval/baseline_text_davinci_003.jsonl.gz"}
    found = Benchmarks.read({name: DataSource(path=str(path)) for name, path in given_.items()})
    assert found.counts == {"mt": 160, "alpaca": 805}
    from zephyr import sources

    texts = [text for path in given_.values() for _, _, row in sources.rows(DataSource(path=str(path))) for text in prompts_of(row)]
    draw = random.Random(0)
    for text in texts:
        assert (hit := found.find(text)) and hit.kind == "exact"
        assert (hit := found.find(text.upper().replace(" ", "  "))) and hit.kind in ("exact", "normalised")
        if len(words(text)) >= 13:
            around = " ".join(draw.choices(WORDS, k=20))
            assert (hit := found.find(f"{around} {text} {around}")) and hit.kind == "ngram" and hit.overlap == 1
