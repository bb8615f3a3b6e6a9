"""Rows from outside become records, or are refused with a reason; nothing is coerced."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr import records
from zephyr.errors import DataError
from zephyr.records import (
    ASPECTS,
    Preference,
    RatedPrompt,
    parse_dialogue,
    parse_feedback,
    parse_preference,
    parse_prompt,
    parse_rated_prompt,
    parse_rating,
    prompt_id_of,
    seeded_unit,
)

U, A, S = ({"role": role, "content": f"{role} says"} for role in ("user", "assistant", "system"))
B = {"role": "assistant", "content": "another answer"}
V = {"role": "user", "content": "and then?"}


def said(role: str, content: object) -> dict[str, Any]:
    return {"role": role, "content": content}


# --- dialogues -----------------------------------------------------------------------------------------------

BAD_DIALOGUES: dict[str, tuple[object, str]] = {
    "no messages": (None, "`messages` is empty; a list of turns was expected"),
    "none of them": ([], "`messages` is empty; a list of turns was expected"),
    "a text": ("hello", "`messages` is a text; a list of turns was expected"),
    "an object": ({"role": "user"}, "`messages` is an object; a list of turns was expected"),
    "no assistant turn": ([U], "`messages` has no assistant turn: there is nothing to learn"),
    "only a system turn": ([S], "`messages` has no assistant turn: there is nothing to learn"),
    "two system turns": ([S, S, U, A], "`messages[1]`: a second system turn"),
    "system not first": ([U, S, A], "`messages[1]`: a system turn that is not the first"),
    "empty question": ([said("user", ""), A], "`messages[0]`: the user turn is empty"),
    "blank answer": ([U, said("assistant", " \n\t")], "`messages[1]`: the assistant turn is empty"),
    "a number as content": ([U, said("assistant", 3)], "`messages[1]`: `content` is a number, not a text"),
    "a boolean as content": ([U, said("assistant", True)], "`messages[1]`: `content` is a boolean, not a text"),
    "parts as content": ([U, said("assistant", [{"type": "text"}])], "`messages[1]`: `content` is a list, not a text"),
    "no content": ([{"role": "user"}, A], "`messages[0]`: `content` is null, not a text"),
    "wrong role": ([said("human", "hi"), A], "`messages[0]`: role 'human' is not one of system, user, assistant"),
    "a list as role": ([{"role": ["user"], "content": "hi"}, A], "`messages[0]`: role ['user'] is not one of system, user, assistant"),
    "no role": ([{"content": "hi"}, A], "`messages[0]`: role None is not one of system, user, assistant"),
    "a turn that is a text": ([U, "hi"], "`messages[1]` is a text, not an object with `role` and `content`"),
    "a turn that is null": ([None, A], "`messages[0]` is null, not an object with `role` and `content`"),
    "two questions": ([U, U, A], "`messages`: turns do not alternate (found user where assistant belongs, turn 1)"),
    "two answers": ([S, U, A, A], "`messages`: turns do not alternate (found assistant where user belongs, turn 3)"),
    "answer first": ([A, U, A], "`messages`: turns do not alternate (found assistant where user belongs, turn 0)"),
    "ends with the user": ([U, A, U], "`messages` ends with a user turn; the last must be the assistant's"),
    "lone surrogate": ([said("user", "\ud800"), A], "`messages[0].content` holds a lone surrogate, which is not valid Unicode text"),
}


@pytest.mark.parametrize("case", BAD_DIALOGUES)
def test_a_bad_dialogue_is_refused_with_its_reason(case: str) -> None:
    messages, problem = BAD_DIALOGUES[case]
    with pytest.raises(DataError) as caught:
        parse_dialogue({"messages": messages})
    assert str(caught.value) == problem


def test_dialogues_of_another_shape_are_told_where_they_are_read() -> None:
    reads = "`zephyr curate` reads `conversations`, `data` and `instruction` with `output`, too"
    with pytest.raises(DataError, match=rf"^`messages` is missing \({reads}\); the row has 'conversations', 'id'$"):
        parse_dialogue({"conversations": [], "id": "7"})


@pytest.mark.parametrize(
    ("beside", "problem"),
    [
        ({"weight": 0}, "`weight` is not 1 (but 0); each answer is learnt"),
        ({"weight": 0.5}, "`weight` is not 1 (but 0.5)"),
        ({"train": False}, "`train` is not true (but False)"),
        ({"tool_calls": [{"name": "f"}]}, "`tool_calls` holds something (only `role` and `content` are read); put it into `content`, or"),
        ({"function_call": {"name": "f", "arguments": None}}, "`function_call` holds something"),
        ({"reasoning_content": "Hm."}, "`reasoning_content` holds something"),
        ({"thinking": "Hm.", "content": None}, "`thinking` holds something"),
    ],
)
def test_what_a_turn_says_beside_its_content_does_not_vanish(beside: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_dialogue({"messages": [U, {**A, **beside}]})
    assert str(caught.value).startswith(f"`messages[1]`: {problem}")
    with pytest.raises(DataError) as caught:
        parse_preference({"chosen": [U, {**A, **beside}], "rejected": [U, B]})
    assert str(caught.value).startswith(f"`chosen[1]`: {problem}")


def test_what_says_nothing_beside_the_content_is_passed_over() -> None:
    empty = {"tool_calls": [], "function_call": {"name": None}, "reasoning_content": "", "thinking": None}
    said_so = {**A, **empty, "weight": 1, "train": True}
    unlearnt = {**U, **empty, "weight": 0, "train": False}  # as nothing of the user's is
    assert parse_dialogue({"messages": [unlearnt, said_so]}) == parse_dialogue({"messages": [U, {**A, "weight": None}]})


def test_of_a_pair_the_last_answer_alone_is_learnt() -> None:
    """An earlier one may be marked as not to be: it is not."""
    earlier = [U, {**A, "weight": 0, "train": False}, {"role": "user", "content": "And?"}]
    answers = [{"role": "assistant", "content": text, "weight": 1} for text in ("Yes.", "No.")]
    for row in (
        {"chosen": [*earlier, answers[0]], "rejected": [*earlier, answers[1]]},
        {"prompt": earlier, "chosen": [answers[0]], "rejected": [answers[1]]},
    ):
        assert [m["content"] for m in parse_preference(row).chosen] == [U["content"], A["content"], "And?", "Yes."]
    unlearnt = {**answers[0], "weight": 0}
    with pytest.raises(DataError, match=r"`chosen\[3\]`: `weight` is not 1 \(but 0\)"):
        parse_preference({"chosen": [*earlier, unlearnt], "rejected": [*earlier, answers[1]]})


@pytest.mark.parametrize("key", ["prompt", "prompt_id", "source", "category"])
@pytest.mark.parametrize(("value", "what"), [(3, "a number"), (True, "a boolean"), ([], "a list"), ({}, "an object")])
def test_a_column_that_is_no_text_is_refused(key: str, value: object, what: str) -> None:
    with pytest.raises(DataError, match=rf"^`{key}` is {what}, not a text$"):
        parse_dialogue({"messages": [U, A], key: value})


def test_good_dialogues_keep_their_turns_and_get_an_id() -> None:
    for messages in ([U, A], [S, U, A], [said("system", ""), U, A], [U, A, V, B]):
        dialogue = parse_dialogue({"messages": messages})
        assert [dict(m) for m in dialogue.messages] == messages
        assert dialogue.prompt == "user says"
        assert dialogue.prompt_id == hashlib.sha256(b"user says").hexdigest()
        assert parse_dialogue(dialogue.row()) == dialogue


def test_given_names_are_kept_and_null_is_absent() -> None:
    dialogue = parse_dialogue({"messages": [U, A], "prompt": "p", "prompt_id": "mine", "source": "s", "category": None})
    assert (dialogue.prompt, dialogue.prompt_id, dialogue.source, dialogue.category) == ("p", "mine", "s", "")


# --- prompts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({}, "`prompt` is missing"),
        ({"prompt": None}, "`prompt` is null, not a text"),
        ({"prompt": 3.5}, "`prompt` is a number, not a text"),
        ({"prompt": [U]}, "`prompt` is a list, not a text"),
        ({"prompt": "  "}, "`prompt` is empty"),
        ({"prompt": "a\udfff"}, "`prompt` holds a lone surrogate, which is not valid Unicode text"),
        ({"prompt": "a", "prompt_id": 3}, "`prompt_id` is a number, not a text"),
    ],
)
def test_a_bad_prompt_is_refused(row: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_prompt(row)
    assert str(caught.value) == problem


# --- ratings -------------------------------------------------------------------------------------------------


def rated(**changes: Any) -> dict[str, Any]:
    value = {"annotations": {name: {"rating": 4, "rationale": "why"} for name in ASPECTS}, "overall_score": 8, "critique": "fine"}
    return {**value, **changes}


def honesty(value: object) -> dict[str, Any]:
    return rated(annotations={**rated()["annotations"], "honesty": value})


BAD_RATINGS = {
    **{f"rating {x}": (honesty({"rating": x}), f"`annotations.honesty.rating` is {x}, outside 1 to 5") for x in (0, 6, -1)},
    **{
        f"rating {x!r}": (honesty({"rating": x}), f"`annotations.honesty.rating` is {x!r}, not a whole number from 1 to 5")
        for x in (4.5, 4.0, "5", True, None, [5], math.nan)
    },
    "missing aspect": (honesty(None), "`annotations.honesty` is missing"),
    "a bare number": (honesty(4), "`annotations.honesty` is a number, not an object"),
    "no annotations": (rated(annotations=None), "`annotations.instruction_following` is missing"),
    "annotations as a list": (rated(annotations=[1]), "`annotations` is a list, not an object"),
    "unknown aspect": (
        rated(annotations={"style": {"rating": 4}}),
        "`annotations`: unknown aspect 'style'; known are instruction_following, honesty, truthfulness, helpfulness",
    ),
    "unknown aspect that cannot be written": (
        rated(annotations={"\ud800": {"rating": 4}}),
        "`annotations`: unknown aspect '\\ud800'; known are instruction_following, honesty, truthfulness, helpfulness",
    ),
    "reason as a number": (honesty({"rating": 4, "rationale": 3}), "`rationale` is a number, not a text"),
    "score missing": (rated(overall_score=None), "`overall_score` is null, not a number"),
    "score as a text": (rated(overall_score="8"), "`overall_score` is a text, not a number"),
    "score as a boolean": (rated(overall_score=True), "`overall_score` is a boolean, not a number"),
    "score nan": (rated(overall_score=math.nan), "`overall_score` is nan, not a finite number"),
    "score infinite": (rated(overall_score=-math.inf), "`overall_score` is -inf, not a finite number"),
    "score beyond floats": (rated(overall_score=10**400), "`overall_score` is a number too large to use"),
    "score 11": (rated(overall_score=11), "`overall_score` is 11, outside 1 to 10"),
    "score 0.5": (rated(overall_score=0.5), "`overall_score` is 0.5, outside 1 to 10"),
    "critique as a list": (rated(critique=[]), "`critique` is a list, not a text"),
}


@pytest.mark.parametrize("case", BAD_RATINGS)
def test_a_bad_rating_is_refused_with_its_reason(case: str) -> None:
    value, problem = BAD_RATINGS[case]
    with pytest.raises(DataError) as caught:
        parse_rating(value)
    assert str(caught.value) == problem


def test_data_of_others_may_lack_aspects_but_not_all() -> None:
    rating = parse_rating(
        {"annotations": {"honesty": {"rating": 2}, "helpfulness": None, "truthfulness": {"rating": None}}}, complete=False
    )
    assert rating.aspects == {"honesty": 2}
    assert (rating.mean, rating.overall_score) == (2, None)
    assert parse_rating({"overall_score": 3}, complete=False).mean is None
    for nothing in ({}, {"annotations": {}}, {"annotations": {"honesty": {"rating": None}}, "overall_score": None}):
        with pytest.raises(DataError, match="neither aspect ratings nor an overall score"):
            parse_rating(nothing, complete=False)


@pytest.mark.parametrize(
    ("completions", "problem"),
    [
        (None, "`completions` is missing or empty; a list of answers was expected"),
        ([], "`completions` is missing or empty; a list of answers was expected"),
        ({"a": 1}, "`completions` is missing or empty; a list of answers was expected"),
        ([None], "`completions[0]`: is null, not an object"),
        (["hi"], "`completions[0]`: is a text, not an object"),
        ([{"response": "r"}], "`completions[0]`: `model` is missing"),
        ([{"model": "m", "response": None}], "`completions[0]`: `response` is null, not a text"),
        (
            [{"model": "m", "response": "r", **honesty({"rating": 6})}],
            "`completions[0]`: `annotations.honesty.rating` is 6, outside 1 to 5",
        ),
        ([{"model": "m", "response": "r"}], "`completions[0]`: the answer has neither aspect ratings nor an overall score"),
    ],
)
def test_bad_completions_are_refused(completions: object, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_rated_prompt({"prompt": "p", "completions": completions})
    assert str(caught.value) == problem


def test_a_rated_prompt_reads_back_as_it_was_written() -> None:
    row = {"prompt": "p", "completions": [{"model": "m", "response": "r", **rated()}, {"model": "n", "response": "", "overall_score": 2.5}]}
    record = parse_rated_prompt(row)
    assert record.completions[0].rating is not None
    assert record.completions[0].rating.mean == 4
    assert parse_rated_prompt(json.loads(json.dumps(record.row()))) == record
    assert parse_rated_prompt({**row, "completions": [{"model": "m", "response": "r"}]}, rated=False).completions[0].rating is None


# --- preferences ---------------------------------------------------------------------------------------------

BAD_PREFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "`chosen` is missing (`zephyr binarize` makes pairs of rated `completions`); the row has no columns"),
    "answers": (
        {"prompt": "p", "completions": []},
        "`chosen` is missing (`zephyr binarize` makes pairs of rated `completions`); the row has 'prompt', 'completions'",
    ),
    "chosen null": ({"prompt": "p", "chosen": None, "rejected": "b"}, "`chosen` is empty; a list of turns was expected"),
    "chosen a number": ({"prompt": "p", "chosen": 3, "rejected": "b"}, "`chosen` is a number; a list of turns was expected"),
    "empty text": ({"prompt": "p", "chosen": "a", "rejected": " "}, "`rejected` is empty"),
    "texts without prompt": ({"chosen": "a", "rejected": "b"}, "`chosen` is a bare text and there is no `prompt` that it answers"),
    "identical texts": (
        {"prompt": "p", "chosen": "a", "rejected": " a\n"},
        "`chosen` and `rejected` are the same answer: a preference needs two",
    ),
    "identical turns": (
        {"chosen": [U, A], "rejected": [U, A]},
        "`chosen` and `rejected` are the same answer: a preference needs two",
    ),
    "different conversations": ({"chosen": [U, A], "rejected": [V, B]}, "`chosen` and `rejected` answer different conversations"),
    "different lengths": ({"chosen": [U, A, V, B], "rejected": [U, A]}, "`chosen` and `rejected` answer different conversations"),
    "ends with the user": ({"chosen": [U, A, V], "rejected": [U, B]}, "`chosen` ends with a user turn; the last must be the assistant's"),
    "only the user": ({"chosen": [U], "rejected": [U]}, "`chosen` ends with a user turn; the last must be the assistant's"),
    "score nan": ({"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": math.nan}, "`score_chosen` is nan, not a finite number"),
    "score boolean": (
        {"prompt": "p", "chosen": "a", "rejected": "b", "score_rejected": False},
        "`score_rejected` is a boolean, not a number",
    ),
    "score text": ({"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": "1"}, "`score_chosen` is a text, not a number"),
    "score beyond floats": (
        {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": -(10**400)},
        "`score_chosen` is a number too large to use",
    ),
    "lone surrogate": (
        {"prompt": "p", "chosen": "\ud800", "rejected": "b"},
        "`chosen` holds a lone surrogate, which is not valid Unicode text",
    ),
    "prompt of no turns": (
        {"prompt": ["p"], "chosen": [A], "rejected": [B]},
        "`prompt[0]` is a text, not an object with `role` and `content`",
    ),
    "prompt turn without role": (
        {"prompt": [{"content": "p"}], "chosen": [A], "rejected": [B]},
        "`prompt[0]`: role None is not one of system, user, assistant",
    ),
    "turns beside text": (
        {"prompt": [U], "chosen": "a", "rejected": "b"},
        "`chosen` is a text; beside a `prompt` that is a list of turns, a list of turns was expected",
    ),
    "turns beside null": (
        {"prompt": [U], "chosen": [A], "rejected": None},
        "`rejected` is null; beside a `prompt` that is a list of turns, a list of turns was expected",
    ),
    "prompt an object": ({"prompt": {}, "chosen": "a", "rejected": "b"}, "`prompt` is an object, not a text"),
}


@pytest.mark.parametrize("case", BAD_PREFERENCES)
def test_a_bad_preference_is_refused_with_its_reason(case: str) -> None:
    row, problem = BAD_PREFERENCES[case]
    with pytest.raises(DataError) as caught:
        parse_preference(row)
    assert str(caught.value) == problem


def test_the_three_shapes_of_a_preference_are_one() -> None:
    texts = parse_preference({"prompt": U["content"], "chosen": A["content"], "rejected": B["content"]})
    turns = parse_preference({"prompt": [U], "chosen": [A], "rejected": [B]})
    whole = parse_preference({"chosen": [U, A], "rejected": [U, B]})
    assert texts == turns == whole
    assert [dict(m) for m in whole.chosen] == [U, A]
    assert (whole.prompt, whole.prompt_id) == ("user says", prompt_id_of("user says"))
    assert (whole.score_chosen, whole.score_rejected) == (None, None)
    assert parse_preference(whole.row()) == whole


def test_a_conversation_before_the_answers_is_kept() -> None:
    pair = parse_preference({"prompt": [S, U, A, V], "chosen": [A], "rejected": [B], "score_chosen": 2, "score_rejected": 1.5})
    assert [dict(m) for m in pair.chosen] == [S, U, A, V, A]
    assert [dict(m) for m in pair.rejected] == [S, U, A, V, B]
    assert (pair.prompt, pair.score_chosen, pair.score_rejected) == ("user says", 2.0, 1.5)


def test_the_pair_id_tells_pairs_of_one_prompt_apart() -> None:
    answers = ["a", "b", "c"]
    pairs = [parse_preference({"prompt": "p", "chosen": x, "rejected": y}) for x in answers for y in answers if x != y]
    assert len({pair.pair_id for pair in pairs}) == len(pairs) == 6
    assert len({pair.prompt_id for pair in pairs}) == 1


# --- anything at all -----------------------------------------------------------------------------------------

texts = st.sampled_from(["", " ", "a", "b", "user", "assistant", "system", "\ud800", "é"]) | st.text(max_size=5)
numbers = st.integers() | st.floats(allow_nan=True) | st.just(10**400)
roles = st.sampled_from(["user", "assistant", "system", "tool"])
turn = st.fixed_dictionaries({"role": roles | texts | numbers, "content": texts | st.none()})
aspect = st.dictionaries(st.sampled_from(["rating", "rationale"]), texts | numbers | st.none())
KEYS = (
    *("prompt", "prompt_id", "source", "category", "messages", "chosen", "rejected", "score_chosen", "score_rejected", "completions"),
    *("model", "response", "principle", "finish_reason", "annotations", "overall_score", "critique", "role", "content", "rating"),
    *ASPECTS,
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | turn | aspect,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4),
    max_leaves=8,
)
turns = st.lists(turn | values, max_size=4)
completion = st.fixed_dictionaries(
    {},
    optional={
        "model": texts | values,
        "response": texts | values,
        "annotations": st.dictionaries(st.sampled_from(ASPECTS) | texts, aspect | values, max_size=4) | values,
        "overall_score": numbers | values,
    },
)
row = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("prompt_id", "score_chosen", "score_rejected", "source"), values),
        "prompt": texts | turns | values,
        "messages": turns | values,
        "chosen": texts | turns | values,
        "rejected": texts | turns | values,
        "completions": st.lists(completion, max_size=3) | values,
    },
)


@pytest.mark.parametrize("parse", [parse_dialogue, parse_prompt, parse_preference, parse_rated_prompt])
def test_any_row_is_a_record_that_can_be_written_or_a_data_error(parse: Callable[[dict[str, Any]], Any]) -> None:
    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(row)
    def holds(value: dict[str, Any]) -> None:
        try:
            record = parse(value)
        except DataError as error:
            str(error).encode("utf-8")  # a reason is written to the manifest
            return
        assert len(record.prompt_id) > 0
        if hasattr(record, "row"):
            written = record.row()
            json.dumps(written, ensure_ascii=False, allow_nan=False).encode("utf-8")
            assert parse(written) == record

    holds()


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(st.sampled_from(["annotations", "overall_score", "critique"]), completion | values), st.booleans())
def test_any_rating_is_in_its_ranges_or_a_data_error(value: dict[str, Any], complete: bool) -> None:
    try:
        rating = parse_rating(value, complete=complete)
    except DataError:
        return
    assert all(1 <= x <= 5 for x in rating.aspects.values())
    assert rating.overall_score is None or math.isfinite(rating.overall_score)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=2, max_size=6))
def test_turns_in_order_are_a_dialogue_as_given(contents: list[str]) -> None:
    contents = contents[: len(contents) // 2 * 2]
    messages = [said("assistant" if i % 2 else "user", text) for i, text in enumerate(contents)]
    dialogue = parse_dialogue({"messages": messages})
    assert [dict(m) for m in dialogue.messages] == messages
    assert dialogue.prompt_id == hashlib.sha256(contents[0].encode()).hexdigest()


# --- chance --------------------------------------------------------------------------------------------------


def test_seeded_unit_is_the_same_everywhere() -> None:
    # sha256 of "7\x1fsplit\x1fabc", its first seven bytes over 2**56
    expected = int(hashlib.sha256(b"7\x1fsplit\x1fabc").hexdigest()[:14], 16) / 2**56
    assert seeded_unit(7, "split", "abc") == expected
    assert seeded_unit(7, "split", "abc") != seeded_unit(8, "split", "abc")
    assert seeded_unit(7, "ab", "c") != seeded_unit(7, "a", "bc")


def test_seeded_unit_is_uniform() -> None:
    count, bins = 20_000, 20
    seen = [0] * bins
    for i in range(count):
        seen[int(seeded_unit(3, "x", i) * bins)] += 1
    chi2 = sum((n - count / bins) ** 2 / (count / bins) for n in seen)
    assert chi2 < 43.8  # 19 degrees of freedom, one in a thousand


def test_seeded_unit_is_below_one_whatever_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ones:
        def digest(self) -> bytes:
            return b"\xff" * 32

    monkeypatch.setattr(hashlib, "sha256", lambda _: Ones())
    assert seeded_unit(0) < 1


def public_row(**ratings: Any) -> dict[str, Any]:
    """An answer as UltraFeedback was first published."""
    annotations = {name: {"Rating": "4", "Rationale": "good"} for name in ASPECTS}
    annotations["truthfulness"] = {"Type": ["1"], "Rationale": "of the type", "Rating": "5", "Rationale For Rating": "true"}
    return {"annotations": {**annotations, **{name: {"Rating": r, "Rationale": ""} for name, r in ratings.items()}}, "overall_score": 7.5}


def test_ratings_as_ultrafeedback_was_published() -> None:
    rating = parse_rating(public_row(honesty="N/A"), complete=False)
    assert rating.aspects == {"instruction_following": 4, "truthfulness": 5, "helpfulness": 4}
    assert rating.rationales["truthfulness"] == "true" and rating.overall_score == 7.5
    for wrong in ("6", "0", "4.0", " 4", "four", 4, True):
        with pytest.raises(DataError, match="not one of the texts '1' to '5' or 'N/A'"):
            parse_rating(public_row(honesty=wrong), complete=False)


@pytest.mark.parametrize("score", [0, 0.99, 10.5, 85])
def test_an_overall_score_of_others_is_from_1_to_10_too(score: float) -> None:
    with pytest.raises(DataError, match="outside 1 to 10"):
        parse_rating({"overall_score": score}, complete=False)


# --- what is the same ----------------------------------------------------------------------------------------


def test_columns_of_the_other_kind_are_null_in_a_table_of_pairs_and_ratings() -> None:
    rated = {"prompt": "p", "completions": [{"response": "r", "model": "m", "overall_score": 8}], "chosen": None, "rejected": None}
    assert isinstance(parse_feedback(rated), RatedPrompt)
    assert isinstance(parse_feedback({"prompt": "p", "chosen": "a", "rejected": "b", "completions": None}), Preference)
    with pytest.raises(DataError, match=r"neither `chosen` and `rejected` nor `completions`; the row has 'prompt'$"):
        parse_feedback({"prompt": "p", "chosen": None, "completions": None})


def test_the_words_of_a_prompt_are_its_text_without_spaces_and_capitals() -> None:
    same = ["What is a \ufb01x?", " what\tIS a\n fix? ", "WHAT\u00a0is a fix\uff1f"]
    assert len({records.content_id(text) for text in same}) == 1
    assert len({records.content_id(text) for text in (*same, "What is a fix", "What's a fix?", "Whatis a fix?")}) == 4


def test_a_dialogue_is_its_own_id_or_its_texts() -> None:
    def identity(**columns: Any) -> str:
        return parse_dialogue({"messages": [U, A], **columns}).identity

    assert identity(prompt_id="mine") == "mine"
    assert identity() == identity(prompt_id=prompt_id_of("user says")) == identity(source="elsewhere", category="c")
    others = [[U, B], [S, U, A], [U, A, V, B], [said("user", "user says\x1eassistant"), A]]
    assert len({identity(), *(parse_dialogue({"messages": turns}).identity for turns in others)}) == 5
    assert parse_dialogue({"messages": [U, A], "source": "x"}) == parse_dialogue({"messages": [U, A]})
    assert parse_dialogue({"messages": [U, A], "source": "x"}).row()["source"] == "x"
