"""The policy of pairs, on rated answers alone: which are chosen and rejected, whatever their order, and what an unfit setting is told."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr.errors import DataError, UsageError
from zephyr.pairs import NoPair, checked, over_caps, pair_of, score_of
from zephyr.recipe import BinarizeConfig, PairPolicy, load
from zephyr.records import ASPECTS, Completion, Lineage, Preference, RatedPrompt, Rating, parse_preference, prompt_id_of
from zephyr.stages import binarize

HELP, HONEST = "helpfulness", "honesty"


def answer(text: str, overall: float | None = None, model: str = "", **aspects: int) -> Completion:
    return Completion(model or text, text, rating=Rating(aspects, {}, overall, ""))


def prompt(*answers: Completion, name: str = "p") -> RatedPrompt:
    return RatedPrompt(name, prompt_id_of(name), answers)


def policy(**values: Any) -> PairPolicy:
    return PairPolicy(**values)


def names(found: Preference | NoPair) -> tuple[str, str]:
    assert isinstance(found, Preference), found
    return found.chosen[-1]["content"], found.rejected[-1]["content"]


def drawn(answers: list[Completion], n: int = 600, **values: Any) -> Counter[tuple[str, str]]:
    """How often each pair comes of `n` prompts with the same answers."""
    return Counter(names(pair_of(prompt(*answers, name=f"p{i}"), policy(**values), seed=0)) for i in range(n))


def about(count: int, n: int, chance: float) -> bool:
    """Within four standard deviations of what is expected."""
    return abs(count - n * chance) < 4 * (n * chance * (1 - chance)) ** 0.5


# --- what ranks the answers ---------------------------------------------------------------------------------------


def test_weights_rank_by_what_they_weigh() -> None:
    answers = [answer("kind", helpfulness=5, honesty=2), answer("true", helpfulness=2, honesty=5), answer("bad", helpfulness=1, honesty=1)]
    for weights, best in (({HELP: 2.0, HONEST: 1.0}, "kind"), ({HELP: 1.0, HONEST: 2.0}, "true")):
        pair = pair_of(prompt(*answers), policy(score="weighted", weights=weights, rejected="lowest"), 0)
        assert names(pair) == (best, "bad")
        assert isinstance(pair, Preference) and (pair.score_chosen, pair.score_rejected) == (4.0, 1.0)


def test_an_answer_without_a_weighted_aspect_is_ranked_by_the_others() -> None:
    weights = {HELP: 3.0, HONEST: 1.0}
    assert score_of(Rating({HELP: 4, HONEST: 2}, {}, 9, ""), weights) == Fraction(14, 4)
    assert score_of(Rating({HELP: 4, "truthfulness": 1}, {}, 9, ""), weights) == 4
    assert score_of(Rating({"truthfulness": 1}, {}, 9, ""), weights) is None
    assert score_of(None, weights) is None


@given(
    st.dictionaries(st.sampled_from(ASPECTS), st.integers(1, 5), min_size=1),
    st.sampled_from([1.0, 0.1, 3.7]),
)
def test_equal_weights_are_the_mean(aspects: dict[str, int], weight: float) -> None:
    rating = Rating(aspects, {}, None, "")
    assert score_of(rating, dict.fromkeys(ASPECTS, weight)) == score_of(rating, "mean")


def test_what_is_equal_on_paper_ties_whatever_floats_make_of_it() -> None:
    """0.1 * 3 + 0.2 * 3 + 0.3 * 3 is not 0.6 * 3 in floating point: a strict comparison of floats would make a preference of that."""
    weights = {"instruction_following": 0.1, HONEST: 0.2, HELP: 0.3}
    three, one = {"instruction_following": 3, HONEST: 3, HELP: 3}, {HELP: 3}
    floats = [sum(weights[a] * r for a, r in given.items()) / sum(weights[a] for a in given) for given in (three, one)]
    assert floats[0] != floats[1]
    answers = [answer("a", **three), answer("b", **one)]
    assert pair_of(prompt(*answers), policy(score="weighted", weights=weights), 0) == NoPair("all answers tie")
    assert 2.3 - 1.8 < 0.5, "a margin has the same trouble"
    found = pair_of(prompt(answer("a", 2.3), answer("b", 1.8)), policy(score="overall", min_margin=0.5), 0)
    assert names(found) == ("a", "b")


# --- rejected --------------------------------------------------------------------------------------------------

FOUR = [answer("ten", 10), answer("nine", 9), answer("seven", 7), answer("four", 4)]


def test_lowest_and_nearest() -> None:
    assert set(drawn(FOUR, 20, score="overall", rejected="lowest")) == {("ten", "four")}
    assert set(drawn(FOUR, 20, score="overall", rejected="nearest")) == {("ten", "nine")}


def test_margin_weighted_draws_in_proportion_to_the_distance() -> None:
    found = drawn(FOUR, 2000, score="overall", rejected="margin_weighted")
    for rejected, distance in (("nine", 1), ("seven", 3), ("four", 6)):
        assert about(found["ten", rejected], 2000, distance / 10), found


def test_where_all_distances_are_equal_margin_weighted_takes_what_random_takes() -> None:
    answers = [answer("best", 9), *(answer(text, 3) for text in "abcd")]
    for i in range(50):
        p = prompt(*answers, name=f"p{i}")
        assert pair_of(p, policy(score="overall", rejected="margin_weighted"), 1) == pair_of(p, policy(score="overall"), 1)


def test_equally_low_ones_are_told_apart_by_a_hash() -> None:
    answers = [answer("best", 9), answer("a", 3), answer("b", 3), answer("c", 5)]
    found = drawn(answers, score="overall", rejected="lowest")
    assert set(found) == {("best", "a"), ("best", "b")} and about(found["best", "a"], 600, 0.5)


# --- ties --------------------------------------------------------------------------------------------------------

TIED = [answer("a", 9, helpfulness=3), answer("b", 9, helpfulness=5), answer("c", 9, helpfulness=4)]


def test_ties_are_dropped() -> None:
    assert pair_of(prompt(*TIED), policy(score="overall"), 0) == NoPair("all answers tie")
    assert {rejected for _, rejected in drawn([*TIED, answer("d", 8)], 50, score="overall")} == {"d"}


def test_ties_are_kept() -> None:
    found = drawn([*TIED, answer("d", 8)], 1200, score="overall", ties="keep")
    chosen, rejected = Counter(), Counter()
    for (a, b), n in found.items():
        chosen[a] += n
        rejected[b] += n
    assert set(chosen) == {"a", "b", "c"} and all(about(n, 1200, 1 / 3) for n in chosen.values())
    assert about(rejected["d"], 1200, 1 / 3) and len(rejected) == 4
    # what is nearest to the best is its equal; the lowest is not
    assert "d" not in {b for _, b in drawn([*TIED, answer("d", 8)], 50, score="overall", ties="keep", rejected="nearest")}
    assert {b for _, b in drawn([*TIED, answer("d", 8)], 50, score="overall", ties="keep", rejected="lowest")} == {"d"}
    # an equal one is at no distance: it is taken where there is no other
    assert {b for _, b in drawn([*TIED, answer("d", 8)], 50, score="overall", ties="keep", rejected="margin_weighted")} == {"d"}
    assert len(drawn(TIED, score="overall", ties="keep", rejected="margin_weighted")) == 6


def test_ties_are_resolved_by_the_second_score() -> None:
    second = {"score": "overall", "ties": "second"}
    assert set(drawn(TIED, 100, **second)) == {("b", "a"), ("b", "c")}
    assert set(drawn(TIED, 20, rejected="lowest", **second)) == {("b", "a")}
    assert set(drawn(TIED, 20, rejected="nearest", **second)) == {("b", "c")}
    found = drawn(TIED, rejected="margin_weighted", **second)  # of equals, the distances in the second score: 2 and 1
    assert about(found["b", "a"], 600, 2 / 3)
    pair = pair_of(prompt(*TIED), policy(**second), 0)
    assert isinstance(pair, Preference) and pair.score_chosen == pair.score_rejected == 9
    # among the lowest, too
    low = [answer("x", 9), answer("y", 4, helpfulness=1), answer("z", 4, helpfulness=2)]
    assert set(drawn(low, 20, rejected="lowest", **second)) == {("x", "y")}
    assert set(drawn(low, 20, rejected="nearest", **second)) == {("x", "z")}
    # the reverse: the mean ties and the overall score decides
    means = [answer("a", 5, helpfulness=4), answer("b", 7, helpfulness=4)]
    assert set(drawn(means, 20, ties="second")) == {("b", "a")}
    assert set(drawn(means, 20, score="weighted", weights={HELP: 1.0}, ties="second")) == {("b", "a")}


def test_what_ties_in_both_scores_or_has_no_second_stays_a_tie() -> None:
    both = [answer("a", 9, helpfulness=3), answer("b", 9, helpfulness=3)]
    assert pair_of(prompt(*both), policy(score="overall", ties="second"), 0) == NoPair("all answers tie")
    unknown = [answer("a", 9, helpfulness=3), answer("b", 9), answer("c", 9, helpfulness=5), answer("d", 2)]
    found = drawn(unknown, score="overall", ties="second")
    assert set(found) == {("a", "d"), ("b", "d"), ("c", "d")} and about(found["a", "d"], 600, 1 / 3)


# --- margin, equal texts, lineage ----------------------------------------------------------------------------------


def test_a_rejected_answer_is_far_enough_below() -> None:
    for margin, rejected in ((1, {"nine", "seven", "four"}), (1.5, {"seven", "four"}), (3, {"seven", "four"}), (6, {"four"})):
        assert {b for _, b in drawn(FOUR, 100, score="overall", min_margin=margin)} == rejected
    assert pair_of(prompt(*FOUR), policy(score="overall", min_margin=6.01), 0) == NoPair("no other answer is min_margin below the best")


def test_equal_texts_are_never_a_pair_not_even_kept_ties() -> None:
    same = [answer("Yes.", 9, "a"), answer(" Yes.\n", 9, "b"), answer("Yes. ", 2, "c")]
    for rejected in ("random", "lowest", "nearest", "margin_weighted"):
        found = pair_of(prompt(*same), policy(score="overall", ties="keep", rejected=rejected), 0)
        assert found == NoPair("every answer that may be rejected says the same as the best")


def test_a_pair_says_where_it_comes_from() -> None:
    answers = (
        Completion("m1", " ", "honesty"),
        Completion("m2", "low", "helpfulness", rating=Rating({HELP: 1, HONEST: 2}, {HELP: "poor"}, 2.0, "Bad.")),
        Completion("m3", "mid", "calibration", rating=Rating({HELP: 3}, {}, None, "")),
        Completion("m4", "top", "truthfulness", rating=Rating({HELP: 5}, {}, 9.0, "")),
    )
    pair = pair_of(replace(prompt(*answers), source="flan"), policy(rejected="lowest"), 0)
    assert isinstance(pair, Preference)
    row = pair.row()
    assert list(row)[:7] == ["prompt", "prompt_id", "chosen", "rejected", "messages", "score_chosen", "score_rejected"]
    empty = dict.fromkeys(ASPECTS)
    assert {name: row[name] for name in list(row)[7:]} == {
        "source": "flan",
        "category": "",
        "chosen_model": "m4",
        "chosen_principle": "truthfulness",
        "chosen_ratings": {**empty, HELP: 5, "overall_score": 9.0},
        "chosen_position": 3,
        "rejected_model": "m2",
        "rejected_principle": "helpfulness",
        "rejected_ratings": {**empty, HELP: 1, HONEST: 2, "overall_score": 2.0},
        "rejected_position": 1,
        "rejected_rank": 3,
        "answer_count": 4,
    }
    assert parse_preference(row).row() == row


# --- in any order --------------------------------------------------------------------------------------------------


@st.composite
def prompts(draw: st.DrawFn) -> RatedPrompt:
    """Answers of a few texts and scores, so that equals are common; some without a score, or without one of its parts."""

    def rating() -> Rating | None:
        aspects = draw(st.dictionaries(st.sampled_from(ASPECTS), st.integers(1, 3), max_size=3))
        overall = draw(st.none() | st.integers(1, 3).map(float))
        return Rating(aspects, {}, overall, "") if aspects or overall is not None else None

    texts = draw(st.lists(st.sampled_from(["a", "a ", "b", "c", "d", ""]), min_size=1, max_size=6))
    return prompt(*(Completion(f"m{i}", text, rating=rating()) for i, text in enumerate(texts)), name=draw(st.sampled_from("pqr")))


policies = st.builds(
    lambda score, rejected, ties, margin: policy(
        score=score,
        weights={HELP: 0.7, HONEST: 0.1, "truthfulness": 0.2} if score == "weighted" else {},
        rejected=rejected,
        ties=ties,
        min_margin=0.0 if ties == "keep" else margin,
    ),
    st.sampled_from(["mean", "overall", "weighted"]),
    st.sampled_from(["random", "lowest", "nearest", "margin_weighted"]),
    st.sampled_from(["drop", "keep", "second"]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)


@settings(max_examples=150, deadline=None)
@given(prompts(), policies, st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_pair_is_what_the_policy_says_in_whatever_order_its_answers_come(
    p: RatedPrompt, rules: PairPolicy, seed: int, rng: random.Random
) -> None:
    found = pair_of(p, rules, seed)
    mixed = list(p.completions)
    rng.shuffle(mixed)
    again = pair_of(replace(p, completions=tuple(mixed)), rules, seed)
    if isinstance(found, NoPair) or isinstance(again, NoPair):
        assert found == again
        return
    assert found == again and found.chosen_from.model == again.chosen_from.model and found.rejected_from.model == again.rejected_from.model
    chosen, rejected = (p.completions[c.position or 0] for c in (found.chosen_from, found.rejected_from))
    assert names(found) == (chosen.response, rejected.response) and chosen.response.strip() != rejected.response.strip()
    scores = {c.model: score_of(c.rating, rules.ranked_by) for c in p.completions if c.response.strip()}
    high, low = scores[chosen.model], scores[rejected.model]
    assert high is not None and low is not None
    assert high == max(s for s in scores.values() if s is not None)
    assert high - low >= Fraction(rules.min_margin)
    assert high > low or rules.ties != "drop"
    if high == low and rules.ties == "second":
        other = "mean" if rules.score == "overall" else "overall"
        seconds = [score_of(c.rating, other) for c in (chosen, rejected)]
        assert seconds[0] is not None and seconds[1] is not None and seconds[0] > seconds[1]
    assert found.rejected_rank == 1 + sum(s > low for s in scores.values() if s is not None)


# --- ready-made pairs ------------------------------------------------------------------------------------------------


def ready(*scores: float | None, ratings: tuple[Rating, Rating] | None = None) -> Preference:
    pair = parse_preference({"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": scores[0], "score_rejected": scores[1]})
    if ratings is None:
        return pair
    return replace(pair, chosen_from=Lineage(rating=ratings[0]), rejected_from=Lineage(rating=ratings[1]))


def test_ready_made_pairs_are_held_to_the_policy() -> None:
    assert checked(ready(7, 7), policy()) == NoPair("the scores tie")
    assert checked(ready(7, 7), policy(ties="keep")) == ready(7, 7)
    assert checked(ready(7, 7), policy(ties="second")) == NoPair("the scores tie"), "there is no second score"
    for ties in ("drop", "keep", "second"):
        assert checked(ready(6, 7), policy(ties=ties)) == NoPair("the rejected answer has the higher score")
    assert checked(ready(7, 6.5), policy(min_margin=1)) == NoPair("the scores differ by less than min_margin")
    assert checked(ready(7, 6), policy(min_margin=1)) == ready(7, 6)
    assert checked(ready(None, None), policy(min_margin=1)) == ready(None, None)


def test_a_tie_of_a_ready_made_pair_is_resolved_by_the_ratings_it_carries() -> None:
    good, bad = Rating({HELP: 4}, {}, 8, ""), Rating({HELP: 4}, {}, 3, "")
    assert isinstance(checked(ready(4, 4, ratings=(good, bad)), policy(ties="second")), Preference)
    assert checked(ready(4, 4, ratings=(bad, good)), policy(ties="second")) == NoPair("the scores tie")


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("chosen_ratings", 4.5, "`chosen_ratings` is a number, not an object"),
        ("chosen_ratings", {"helpfulness": 6}, "`chosen_ratings`: `annotations.helpfulness.rating` is 6, outside 1 to 5"),
        ("rejected_ratings", {"overall_score": 11}, "`rejected_ratings`: `overall_score` is 11, outside 1 to 10"),
        ("rejected_position", "2", "`rejected_position` is a text, and no whole number from 0 on"),
        ("rejected_rank", 0, "`rejected_rank` is a number, and no whole number from 1 on"),
        ("rejected_principle", 1, "`rejected_principle` is a number, not a text"),
    ],
)
def test_lineage_of_another_shape_is_refused(column: str, value: object, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_preference({"prompt": "p", "chosen": "a", "rejected": "b", column: value})
    assert str(caught.value) == problem


def test_a_pair_is_the_same_wherever_it_comes_from() -> None:
    plain = {"prompt": "p", "chosen": "a", "rejected": "b"}
    assert parse_preference({**plain, "chosen_model": "m", "rejected_position": 2}) == parse_preference(plain)
    assert parse_preference({**plain, "chosen_ratings": dict.fromkeys(ASPECTS)}).row()["chosen_ratings"] is None


# --- caps --------------------------------------------------------------------------------------------------------


def of_source(name: str, n: int) -> list[Preference]:
    rows = ({"prompt": f"{name} {i}", "chosen": "a", "rejected": "b", "source": name} for i in range(n))
    return [parse_preference(row) for row in rows]


def kept(pairs: list[Preference], seed: int = 0, **caps: int) -> set[str]:
    over = set(over_caps(pairs, policy(max_per_source=caps), seed))
    return {pair.prompt for i, pair in enumerate(pairs) if i not in over}


@given(st.integers(1, 40), st.integers(1, 40), st.randoms(use_true_random=False), st.data())
def test_a_larger_cap_only_adds_and_order_and_shards_do_not_matter(a: int, b: int, rng: random.Random, data: st.DataObject) -> None:
    pairs = of_source("x", 30)
    small, large = sorted((a, b))
    assert kept(pairs, x=small) <= kept(pairs, x=large) and len(kept(pairs, x=small)) == min(small, 30)
    mixed = list(pairs)
    rng.shuffle(mixed)
    assert kept(mixed, x=small) == kept(pairs, x=small)
    shard = pairs[: data.draw(st.integers(1, 30))]
    assert kept(pairs, x=small) & {p.prompt for p in shard} <= kept(shard, x=small)


def test_caps_are_by_source() -> None:
    pairs = of_source("x", 9) + of_source("y", 9) + of_source("", 9)
    count = Counter(prompt.split()[0] if prompt[0] != " " else "" for prompt in kept(pairs, **{"x": 2, "*": 4}))
    assert count == {"x": 2, "y": 4, "": 4}
    assert len(kept(pairs, x=2)) == 2 + 18
    assert kept(pairs, **{"*": 3}) != kept(pairs, seed=1, **{"*": 3})


# --- settings ------------------------------------------------------------------------------------------------------

RECIPE = "name: a\nmodel:\n  path: m\nbinarize:\n  data: [a.jsonl]\n"


def section(tmp_path: Path, text: str) -> BinarizeConfig:
    file = tmp_path / "my.yaml"
    file.write_text(f"{RECIPE}  {text}\n", encoding="utf-8")
    found = load(file).binarize
    assert found is not None
    return found


WRONG = {
    "rejected: worst": "binarize.rejected: input should be 'random', 'lowest', 'nearest' or 'margin_weighted', got 'worst' (my.yaml, line 6)",
    "weights: {helpfulness: 2}": "binarize.weights: score mean does not read it; take it out, or set score: weighted (my.yaml, line 6)",
    "score: weighted": "binarize: score: weighted needs the weights of aspects, as weights: {helpfulness: 2, honesty: 1} (my.yaml, line 4)",
    "ties: keep\n  min_margin: 1": (
        "binarize.min_margin: equal scores differ by nothing, and `ties: keep` asks for them; take one of the two out (my.yaml, line 7)"
    ),
    "min_margin: -1": "binarize.min_margin: input should be greater than or equal to 0, got -1 (my.yaml, line 6)",
    "score: weighted\n  weights: {honesty: 0}": "binarize.weights.honesty: input should be greater than 0, got 0 (my.yaml, line 7)",
    "max_per_source: 0": "binarize.max_per_source.*: input should be greater than or equal to 1, got 0 (my.yaml, line 6)",
    "max_per_source: {flan: many}": (
        "binarize.max_per_source.flan: is the text 'many'; write a whole number without quotes (my.yaml, line 6)"
    ),
    "max_per_source: true": "binarize.max_per_source: is True; a section with keys of its own belongs here (my.yaml, line 6)",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_setting_is_refused_at_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        section(tmp_path, text)
    assert str(caught.value).replace(str(tmp_path / "my.yaml"), "my.yaml") == WRONG[text]


def test_an_unknown_aspect_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"binarize\.weights\.humour: .*'helpfulness'.*line 7"):
        section(tmp_path, "score: weighted\n  weights: {humour: 1}")


def test_what_is_not_set_is_no_part_of_what_pairs_are_made_from(tmp_path: Path) -> None:
    assert list(section(tmp_path, "score: overall").model_dump()) == [
        "score",
        "rejected",
        "data",
        "test_fraction",
        "invalid",
        "decontaminate",
    ]
    file = tmp_path / "my.yaml"
    plain = binarize.configure(load(file)).model_dump()
    assert set(plain) == {"seed", "score", "rejected", "test_fraction", "invalid"}
    given = ["binarize.ties=second", "binarize.min_margin=1", "binarize.max_per_source=5", "binarize.rejected=nearest"]
    changed = binarize.configure(load(file, given)).model_dump()
    assert changed == {**plain, "rejected": "nearest", "ties": "second", "min_margin": 1.0, "max_per_source": {"*": 5}}
