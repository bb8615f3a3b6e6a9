"""The shipped demo data is what its card says."""

from __future__ import annotations

import json
import re
from collections import Counter
from difflib import SequenceMatcher
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from zephyr.records import ASPECTS, parse_dialogue, parse_rated_prompt, prompt_id_of

CATEGORIES = {"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"}
SPLITS = ("train", "test")
Rows = list[dict[str, Any]]


def read(kind: str, split: str) -> Rows:
    path = Path(str(resources.files("zephyr") / "demo" / kind / f"{split}.jsonl"))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def dialogues() -> dict[str, Rows]:
    return {split: read("dialogues", split) for split in SPLITS}


@pytest.fixture(scope="module")
def feedback() -> dict[str, Rows]:
    return {split: read("feedback", split) for split in SPLITS}


def all_of(parts: dict[str, Rows]) -> Rows:
    return [row for split in SPLITS for row in parts[split]]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def mean_rating(completion: dict[str, Any]) -> float:
    return sum(a["rating"] for a in completion["annotations"].values()) / 4


def best_of(row: dict[str, Any]) -> dict[str, Any]:
    return max(row["completions"], key=mean_rating)


def test_sizes_and_splits(dialogues: dict[str, Rows], feedback: dict[str, Rows]) -> None:
    for parts in (dialogues, feedback):
        assert (len(parts["train"]), len(parts["test"])) == (160, 40)
        for split, each in (("train", 20), ("test", 5)):
            assert Counter(row["category"] for row in parts[split]) == dict.fromkeys(CATEGORIES, each)


def test_every_row_parses_and_has_the_public_columns(dialogues: dict[str, Rows], feedback: dict[str, Rows]) -> None:
    for row in all_of(dialogues):
        record = parse_dialogue(row)
        assert record.prompt == next(m["content"] for m in record.messages if m["role"] == "user")
        assert row["prompt_id"] == prompt_id_of(row["prompt"])
    for row in all_of(feedback):
        rated = parse_rated_prompt(row)
        assert row["prompt_id"] == prompt_id_of(row["prompt"])
        assert sorted(c.model for c in rated.completions) == ["large", "medium", "small", "tiny"]
        for c in rated.completions:
            assert c.rating is not None and set(c.rating.aspects) == set(ASPECTS)
            assert c.rating.overall_score is not None and 1 <= c.rating.overall_score <= 10
            assert c.rating.critique.strip() and all(r.strip() for r in c.rating.rationales.values())


def test_a_third_of_the_dialogues_has_several_turns(dialogues: dict[str, Rows]) -> None:
    for split in SPLITS:
        multi = [row for row in dialogues[split] if sum(m["role"] == "user" for m in row["messages"]) > 1]
        assert len(multi) >= len(dialogues[split]) / 4
    assert sum(sum(m["role"] == "user" for m in row["messages"]) > 1 for row in all_of(dialogues)) >= 200 / 3


def test_no_prompt_is_there_twice_nor_nearly(dialogues: dict[str, Rows], feedback: dict[str, Rows]) -> None:
    prompts = [" ".join(words(row["prompt"])) for row in all_of(dialogues) + all_of(feedback)]
    assert len(set(prompts)) == len(prompts) == 400
    sets = [frozenset(p.split()) for p in prompts]
    for (a, sa), (b, sb) in combinations(zip(prompts, sets, strict=True), 2):
        if len(sa & sb) > 0.6 * min(len(sa), len(sb)) and min(len(sa), len(sb)) > 4:  # a cheap sieve before the exact look
            assert SequenceMatcher(None, a, b).ratio() < 0.8, (a, b)


def test_no_answer_of_the_test_split_is_in_training(dialogues: dict[str, Rows], feedback: dict[str, Rows]) -> None:
    def grams(parts: list[str]) -> set[tuple[str, ...]]:
        return {tuple(w[i : i + 13]) for text in parts for w in [words(text)] for i in range(len(w) - 12)}

    def texts(split: str) -> list[str]:
        said = [m["content"] for row in dialogues[split] for m in row["messages"]]
        return said + [c["response"] for row in feedback[split] for c in row["completions"]] + [row["prompt"] for row in feedback[split]]

    assert not grams(texts("train")) & grams(texts("test"))


def test_no_benchmark_question_is_among_the_prompts(shared: Path, dialogues: dict[str, Rows], feedback: dict[str, Rows]) -> None:
    lines = (shared / "data/eval/mt_bench/question.jsonl").read_text(encoding="utf-8").splitlines()
    lines += (shared / "data/eval/vicuna_bench/question.jsonl").read_text(encoding="utf-8").splitlines()
    known = {tuple(w[i : i + 8]) for line in lines for turn in json.loads(line)["turns"] for w in [words(turn)] for i in range(len(w) - 7)}
    for row in all_of(dialogues) + all_of(feedback):
        w = words(row["prompt"])
        assert not known & {tuple(w[i : i + 8]) for i in range(len(w) - 7)}, row["prompt"]


def tokens(text: str) -> float:
    # without a tokenizer at hand: English prose and code come to about 1.5 tokens a word of this set (test_models measures it exactly)
    return 1.5 * len(text.split())


def test_lengths(dialogues: dict[str, Rows], feedback: dict[str, Rows]) -> None:
    per_dialogue = [sum(tokens(m["content"]) for m in row["messages"]) for row in all_of(dialogues)]
    assert sum(per_dialogue) / len(per_dialogue) <= 250
    per_answer = [tokens(c["response"]) for row in all_of(feedback) for c in row["completions"]]
    assert sum(per_answer) / len(per_answer) <= 150


@pytest.mark.parametrize("split", SPLITS)
def test_length_does_not_give_the_best_away(feedback: dict[str, Rows], split: str) -> None:
    longest, wins, pairs = 0, 0.0, 0
    for row in feedback[split]:
        best = best_of(row)
        others = [c for c in row["completions"] if c is not best]
        longest += all(len(best["response"]) > len(c["response"]) for c in others)
        wins += sum(len(best["response"]) > len(c["response"]) for c in others)
        pairs += len(others)
    assert longest <= 0.4 * len(feedback[split])
    assert wins / pairs <= 0.6


def test_the_best_is_strictly_the_best_and_ties_are_few(feedback: dict[str, Rows]) -> None:
    ties = 0
    for row in all_of(feedback):
        means = sorted((mean_rating(c) for c in row["completions"]), reverse=True)
        assert means[0] > means[1]
        assert best_of(row)["overall_score"] > max(c["overall_score"] for c in row["completions"] if c is not best_of(row))
        ties += len(set(means)) < 4
    assert ties <= 0.2 * 200


def test_position_does_not_give_the_best_away(feedback: dict[str, Rows]) -> None:
    rows = all_of(feedback)
    positions = Counter(row["completions"].index(best_of(row)) for row in rows)
    # 200 draws of four: each 50, standard deviation 6.1
    assert all(30 <= positions[i] <= 70 for i in range(4)), positions


def test_the_numbers_of_the_readme_are_counted(dialogues: dict[str, Rows], feedback: dict[str, Rows]) -> None:
    text = " ".join((resources.files("zephyr") / "demo" / "README.md").read_text(encoding="utf-8").split())
    exchanges = [sum(m["role"] == "user" for m in row["messages"]) for row in all_of(dialogues)]
    systems = sum(row["messages"][0]["role"] == "system" for row in all_of(dialogues))
    assert set(exchanges) == {1, 2, 3}
    assert f"{sum(n > 1 for n in exchanges)} of the 200 have two or three exchanges, {systems} begin with a system message" in text
    rows = all_of(feedback)
    best = Counter(best_of(row)["model"] for row in rows)
    assert set(best) == {"large", "medium"}
    assert f"`large` is best in {best['large']} of the 200 prompts, `medium` in the other {best['medium']}" in text
    swapped = 0
    for row in rows:
        by_size = [mean_rating(next(c for c in row["completions"] if c["model"] == n)) for n in ("large", "medium", "small", "tiny")]
        swapped += by_size != sorted(by_size, reverse=True)
    assert f"in {swapped} two neighbours in size are out of order" in text


def test_no_control_tokens_and_no_loose_ends(dialogues: dict[str, Rows], feedback: dict[str, Rows]) -> None:
    texts = [m["content"] for row in all_of(dialogues) for m in row["messages"]]
    texts += [c["response"] for row in all_of(feedback) for c in row["completions"]]
    for text in texts:
        assert text == text.strip() and text
        assert not re.search(r"<\|[a-z_]+\|>|</s>|\[INST\]|https?://", text), text
