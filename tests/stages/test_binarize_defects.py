"""What went wrong in public sets of pairs: each defect rebuilt, seen to be one, and not found in ours on the same answers."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zephyr.errors import DataError
from zephyr.pairs import pair_of
from zephyr.recipe import PairPolicy
from zephyr.records import Completion, Preference, RatedPrompt, Rating, parse_rated_prompt, prompt_id_of

POLICY = PairPolicy(score="overall")


def score(answer: Completion) -> float:
    assert answer.rating is not None and answer.rating.overall_score is not None
    return answer.rating.overall_score


def rated(n: int) -> list[RatedPrompt]:
    """Prompts with four answers each, scores 1 to 10, ties among them."""
    rng = random.Random(7)
    return [
        RatedPrompt(
            f"p{i}",
            prompt_id_of(f"p{i}"),
            tuple(Completion(f"m{m}", f"answer {m} to {i}", rating=Rating({}, {}, float(rng.randint(1, 10)), "")) for m in range(4)),
        )
        for i in range(n)
    ]


def public(prompt: RatedPrompt) -> tuple[Completion, Completion]:
    """As the first public set was made: the seed is set for each prompt anew, and what is equal to the best may be rejected."""
    random.seed(42)
    chosen = max(prompt.completions, key=score)
    others = [c for c in prompt.completions if c is not chosen]
    return chosen, random.choice(others)


def ours(prompt: RatedPrompt) -> tuple[Completion, Completion] | None:
    pair = pair_of(prompt, POLICY, seed=42)
    if not isinstance(pair, Preference):
        return None
    return prompt.completions[pair.chosen_from.position or 0], prompt.completions[pair.rejected_from.position or 0]


def pairs(make: Callable[[RatedPrompt], tuple[Completion, Completion] | None], prompts: list[RatedPrompt]) -> Iterator[tuple[int, bool]]:
    """Of each pair, the place of the rejected answer among those that were not chosen, and whether the scores tie."""
    for prompt in prompts:
        if made := make(prompt):
            chosen, rejected = made
            others = [c for c in prompt.completions if c is not chosen]
            yield others.index(rejected), score(chosen) == score(rejected)


def untied(prompts: list[RatedPrompt]) -> list[RatedPrompt]:
    """Those in which every other answer may be rejected: then each place has one chance in three."""
    return [p for p in prompts if sorted(map(score, p.completions))[-1] > sorted(map(score, p.completions))[-2]]


def test_the_rejected_answer_is_not_always_at_the_same_place() -> None:
    prompts = untied(rated(1500))
    n = len(prompts)
    assert n > 1000
    theirs = Counter(place for place, _ in pairs(public, prompts))
    assert len(theirs) == 1, "the defect"
    found = Counter(place for place, _ in pairs(ours, prompts))
    assert found.total() == n and set(found) == {0, 1, 2}
    assert all(abs(count - n / 3) < 4 * (n * 2 / 9) ** 0.5 for count in found.values()), found


def test_ties_are_not_preferences() -> None:
    prompts = rated(400)
    assert sum(tie for _, tie in pairs(public, prompts)) > 10, "the defect"
    made = list(pairs(ours, prompts))
    assert len(made) > 380 and not any(tie for _, tie in made)


def test_a_score_of_one_is_the_worst_there_is_and_not_the_best() -> None:
    """A parser that took what is not above 1 for a share of 10 turned the worst answers into the best."""

    def theirs(overall: float) -> float:
        return overall if overall > 1 else overall * 10

    row = {
        "prompt": "p",
        "completions": [{"model": f"m{s}", "response": f"worth {s}", "overall_score": s, "critique": ""} for s in (1, 6, 9)],
    }
    prompt = parse_rated_prompt(row)
    assert max(prompt.completions, key=lambda c: theirs(score(c))).model == "m1", "the defect"
    assert [score(c) for c in prompt.completions] == [1, 6, 9]
    pair = pair_of(prompt, POLICY.model_copy(update={"rejected": "lowest"}), 0)
    assert isinstance(pair, Preference)
    assert (pair.chosen_from.model, pair.rejected_from.model, pair.score_chosen, pair.score_rejected) == ("m9", "m1", 9, 1)


@pytest.mark.parametrize("overall", [0.8, 0, 10.5, "1", "10/10", True])
def test_a_score_that_is_none_is_refused_not_mended(overall: object) -> None:
    row = {"prompt": "p", "completions": [{"model": "m", "response": "r", "overall_score": overall, "critique": ""}]}
    with pytest.raises(DataError, match="overall_score"):
        parse_rated_prompt(row)


def test_real_scores_of_fifteen_models(shared: Path) -> None:
    """A thousand sessions with a real judge's scores, four models drawn for each; the texts are not public, so each is its model's name."""
    by_session: dict[str, dict[str, float]] = {}
    with gzip.open(shared / "data" / "feedback" / "wildbench_scores.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row: dict[str, Any] = json.loads(line)
            by_session.setdefault(row["session_id"], {})[row["model"]] = float(row["score"])
    rng = random.Random(1)
    prompts = []
    for name, scores in sorted(by_session.items()):
        drawn = rng.sample(sorted(scores), 4) if len(scores) >= 4 else []
        answers = tuple(Completion(model, model, rating=Rating({}, {}, scores[model], "")) for model in drawn)
        prompts += [RatedPrompt(name, prompt_id_of(name), answers)] if answers else []
    assert len(prompts) > 1000
    assert sum(tie for _, tie in pairs(public, prompts)) > 100, "the defect"
    assert not any(tie for _, tie in pairs(ours, prompts))
    clear = untied(prompts)
    found = Counter(place for place, _ in pairs(ours, clear))
    assert found.total() == len(clear) > 400
    assert all(abs(count - len(clear) / 3) < 4 * (len(clear) * 2 / 9) ** 0.5 for count in found.values()), found
