"""Every finding on made-up rows whose count is known by how they were made; and on real ones."""

from __future__ import annotations

import html.parser
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import small
from zephyr.artifacts import draft
from zephyr.audit import Audit, audit, describe, page
from zephyr.audit.findings import EXAMPLES, LEVELS
from zephyr.errors import DataError, UsageError
from zephyr.records import ASPECTS, Preference, parse_feedback, seeded_unit

Row = dict[str, Any]
POOL = ("amber", "birch", "cedar", "dune", "elm", "fir")


def pair(i: int, **changes: Any) -> Row:
    """A pair with nothing wrong; which answer is longer goes back and forth."""
    texts = [f"good {i}", f"bad {i}{'.' * (i % 2 * 4)}"]
    return {
        "prompt": f"prompt {i}",
        "chosen": texts[0],
        "rejected": texts[1],
        "score_chosen": 8.0,
        "score_rejected": 3.0 + i // 2 % 2,
        **changes,
    }


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., Audit]:
    """The audit of rows that are first written to a file."""

    def look(rows: Iterable[Mapping[str, Any]], *, name: str = "pairs.jsonl", **options: Any) -> Audit:
        for key in ("test", "ratings"):
            if key in options:
                options[key] = [small.write_lines(tmp_path / f"{key}.jsonl", options[key])]
        return audit(small.write_lines(tmp_path / name, rows), **options)

    return look


def problems(found: Audit) -> dict[str, int]:
    return {name: found[name].count for name in found.problems}


# --- pairs ---------------------------------------------------------------------------------------------------------


def test_where_nothing_can_be_read_no_split_is_named(look: Callable[..., Audit]) -> None:
    assert describe(look([{"question": "a"}])).startswith("1 problem in 1 row, 0 pairs, 0 prompts with rated answers")


def test_nothing_wrong(look: Callable[..., Audit]) -> None:
    found = look(map(pair, range(40)))
    assert found.clean and problems(found) == {}
    assert {f.name for f in found.findings if f.level == "note"} == set()
    assert (found.rows, found.pairs, found.rated, found.splits) == (40, 40, 0, {"train": 40})


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("ties", {"score_rejected": 8.0}, "8 and 8"),
        ("reversed", {"score_rejected": 8.5}, "8 and 8.5"),
        ("identical", {"chosen": "the same ", "rejected": "\nthe same"}, "both the same"),
        ("empty_answers", {"rejected": " "}, "rejected is empty"),
        ("empty_answers", {"chosen": ""}, "chosen is empty"),
        ("bad_scores", {"score_chosen": "8"}, "'8'"),
        ("bad_scores", {"score_rejected": float("nan")}, "nan"),
        ("bad_scores", {"score_rejected": 10**400}, "a number too large to use"),
        (
            "different_prompts",
            {"rejected": [{"role": "user", "content": "no"}, {"role": "assistant", "content": "b"}]},
            "the turns before the answers differ",
        ),
    ],
)
def test_one_pair_at_a_time(look: Callable[..., Audit], name: str, change: Row, says: str) -> None:
    bad = {3, 5, 8, 13, 21, 34, 39}
    found = look(pair(i, **change) if i in bad else pair(i) for i in range(40))
    assert problems(found) == {name: 7}
    finding = found[name]
    assert finding.of == 40
    assert [e.where.rsplit(":", 1)[1] for e in finding.examples] == ["4", "6", "9", "14", "22"]
    assert len(finding.examples) == EXAMPLES and finding.examples[0].what == f"{says}: prompt 3"
    assert finding.advice and not found.clean


RATED = {"response": "r", "model": "m"}
BARE = {"response": "r", "overall_score": 5}


def refused(row: Row) -> str:
    """What `zephyr binarize` says of a row that it does not take."""
    try:
        parse_feedback(row)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("completions", "says"),
    [
        ([{**RATED, "overall_score": float("nan")}], "`completions[0]`: `overall_score` is nan"),
        ([{**RATED, "overall_score": 8}, {**RATED, "overall_score": "8"}], "`completions[1]`: `overall_score` is a text"),
        ([{**RATED, "overall_score": 11}], "`completions[0]`: `overall_score` is 11"),
        ([{**RATED, "overall_score": 8, "annotations": {"honesty": {"rating": 0}}}], "`completions[0]`: `annotations.honesty.rating` is 0"),
        ([{**RATED, "annotations": {"honesty": {"rating": 4.0}}}], "`completions[0]`: `annotations.honesty.rating` is 4.0"),
        ([{**RATED, "annotations": {"honesty": {"rating": "4"}}}], "`completions[0]`: `annotations.honesty.rating` is '4'"),
        ([{**RATED, "annotations": {"honesty": {"rating": "N/A"}}}], "`completions[0]`: `annotations.honesty.rating` is 'N/A'"),
        ([{**RATED, "annotations": {"honesty": {"Rating": 4}}}], "`completions[0]`: `annotations.honesty.Rating` is 4"),
        ([{**RATED, "annotations": {"honesty": {"Rating": "high"}}}], "`completions[0]`: `annotations.honesty.Rating` is 'high'"),
        ([{**RATED, "annotations": {"honesty": {"Rating": "N/A"}}}], "`completions[0]`: the answer has neither"),
        ([{**RATED, "overall_score": 8}, RATED], "`completions[1]`: the answer has neither"),
        ([BARE], "`completions[0]`: `model` is missing"),
        ([], "`completions` is missing or empty"),
        ([{**RATED, "overall_score": 10, "annotations": {"honesty": {"Rating": "N/A"}}}], ""),
        ([{**RATED, "overall_score": None, "annotations": {"honesty": {"rating": 4}, "helpfulness": {"rating": None}}}], ""),
    ],
)
def test_ratings_that_cannot_be_read(look: Callable[..., Audit], completions: list[Row], says: str) -> None:
    """They are those that `zephyr binarize` refuses."""
    good = [{"instruction": "good", "completions": [{**RATED, "overall_score": 10}]}]  # as a recipe's `columns` renames it
    one = {"prompt": "one", "completions": completions}
    assert bool(refused(one)) is bool(says) and refused(one).startswith(says)
    for found in (look([*good, one]), look([pair(0)], ratings=[*good, one])):
        assert problems(found) == ({"bad_ratings": 1} if says else {}) and found["bad_ratings"].of == 2
        assert [e.what[: len(says)] for e in found["bad_ratings"].examples] == [says] * bool(says)
        assert all(e.what.endswith(": one") and e.where.endswith(".jsonl:2") for e in found["bad_ratings"].examples)
    assert look([pair(0)])["bad_ratings"].level == "unknown"


def test_of_a_pair_with_rated_answers_the_pair_is_read(look: Callable[..., Audit]) -> None:
    both = pair(0, completions=[{**RATED, "overall_score": 85}])
    assert isinstance(parse_feedback(both), Preference)
    assert look([both]).clean and look([both])["bad_ratings"].of == 1


@pytest.mark.parametrize("bad", [{"overall_score": 11}, {"annotations": {name: {"rating": 7} for name in ASPECTS}}])
def test_an_answer_whose_rating_cannot_be_read_is_in_no_measure(look: Callable[..., Audit], bad: Row) -> None:
    rows = judged(100, 1, lambda grade: 2 * grade)
    for row in rows:
        row["completions"][0] |= bad
    found = look(rows)
    assert problems(found) == {"bad_ratings": 100}
    assert found["critique_and_score"].of == 300 and found["critique_and_score"].numbers["spearman"] == pytest.approx(1)


def test_a_tie_needs_two_scores(look: Callable[..., Audit]) -> None:
    rows = [pair(0, score_chosen=None), pair(1, score_chosen=None, score_rejected=None), pair(2), pair(3, score_rejected=8.0)]
    assert (look(rows)["ties"].count, look(rows)["ties"].of) == (1, 2)
    bare = look([{k: v for k, v in pair(0).items() if not k.startswith("score")}])
    assert bare["ties"].level == bare["reversed"].level == bare["length_and_score"].level == "unknown" and bare.clean


def test_what_is_there_twice(look: Callable[..., Audit]) -> None:
    rows = [
        *map(pair, range(20)),
        pair(0),  # a pair again
        pair(1, prompt="  PROMPT   1 "),  # and once more, in other clothes
        pair(2, rejected="another"),  # only the prompt again
        pair(3, chosen=pair(3)["rejected"], rejected=pair(3)["chosen"]),  # the opposite
        pair(4, chosen="same", rejected="same"),  # not the opposite of anything
        pair(4, chosen="same", rejected="same"),
    ]
    found = look(rows)
    counts = {"identical": 2, "duplicate_prompts": 6, "duplicate_pairs": 3, "contradictory": 1}
    assert problems(found) == counts
    assert (
        found["contradictory"].examples[0].what.startswith("the opposite of ") and ":4: prompt 3" in found["contradictory"].examples[0].what
    )
    assert ":24" in found["contradictory"].examples[0].where
    passed = look(rows, ignore=["duplicate_prompts", "identical"])
    assert set(passed.problems) == {"duplicate_pairs", "contradictory"} and passed["duplicate_prompts"].count == 6
    assert "duplicate_prompts (ignored): 6 of 26" in describe(passed)


def test_a_conversation_that_goes_on_otherwise_is_no_duplicate(look: Callable[..., Audit]) -> None:
    def talk(last: str) -> Row:
        turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": last}]
        return {side: [*turns, {"role": "assistant", "content": f"{side} {last}"}] for side in ("chosen", "rejected")}

    found = look([talk("one"), talk("two"), talk("one")])
    assert problems(found) == {"duplicate_prompts": 1, "duplicate_pairs": 1}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=25
    )
)
def test_counts_as_defined(tmp_path: Path, drawn: list[tuple[int, int, int, int, int]]) -> None:
    rows = [
        {"prompt": f"p{p}", "chosen": f"answer {c}", "rejected": f"answer {r}", "score_chosen": a, "score_rejected": b}
        for p, c, r, a, b in drawn
    ]
    found = audit(small.write_lines(tmp_path / "rows.jsonl", rows)).json()
    keys = [(p, c, r) for p, c, r, _, _ in drawn]
    assert found["ties"] == sum(a == b for *_, a, b in drawn)
    assert found["reversed"] == sum(a < b for *_, a, b in drawn)
    assert found["identical"] == sum(c == r for _, c, r in keys)
    assert found["duplicate_prompts"] == len(keys) - len({p for p, _, _ in keys})
    assert found["duplicate_pairs"] == len(keys) - len(set(keys))
    assert found["contradictory"] == sum((p, r, c) in keys[:i] for i, (p, c, r) in enumerate(keys) if c != r)
    different = [len(c) - len(r) for c, r in ((f"answer {c}", f"answer {r}") for _, c, r in keys if c != r)]
    assert found["chosen_longer"] == sum(d > 0 for d in different)


# --- shapes of rows ------------------------------------------------------------------------------------------------

USER, SYSTEM = {"role": "user", "content": "prompt 0"}, {"role": "system", "content": "Be brief."}
GOOD, BAD = {"role": "assistant", "content": "good"}, {"role": "assistant", "content": "bad"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "prompt 0", "chosen": "good", "rejected": "bad"},
        {"prompt": "prompt 0", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "", "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]},
        {"instruction": "prompt 0", "input": "", "chosen": "good", "rejected": "bad"},
        {"question": "prompt 0", "chosen": GOOD, "rejected": BAD},
        {
            "conversations": [{"from": "human", "value": "prompt 0"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        {"chosen": "\n\nHuman: prompt 0\n\nAssistant: good", "rejected": "\n\nHuman: prompt 0\n\nAssistant: bad"},
    ],
)
def test_every_shape_is_the_same_pair(look: Callable[..., Audit], row: Row) -> None:
    """Beside a plain row with the opposite pair and a test row with the prompt, each shape gives the same findings."""
    plain = {"prompt": "prompt 0", "chosen": "bad", "rejected": "good"}
    found = look([row], test=[plain])
    assert (found.pairs, found["unreadable"].count) == (2, 0)
    assert found["train_test_overlap"].count == 1
    assert found["contradictory"].count == (0 if row.get("prompt") == "" else 1)  # a system turn makes it another conversation
    assert found["identical"].count == found["different_prompts"].count == 0


@pytest.mark.parametrize("key", ["chosen_score", "chosen_rating", "chosen-rating"])
def test_scores_by_other_names(look: Callable[..., Audit], key: str) -> None:
    other = key.replace("chosen", "rejected")
    assert look([{"prompt": "p", "chosen": "a", "rejected": "b", key: 3, other: 3}])["ties"].count == 1


def test_rows_that_cannot_be_read(look: Callable[..., Audit], tmp_path: Path) -> None:
    good = json.dumps(pair(0))
    lines = [
        "{",
        "[1]",
        '{"text": 1}',
        '{"chosen": 3, "rejected": "b", "prompt": "p"}',
        '{"chosen": "a", "rejected": "b"}',
        '{"completions": [1], "prompt": "p"}',
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n".join([lines[0], good, *lines[1:]]) + "\n", encoding="utf-8")
    finding = audit(path)["unreadable"]
    assert (finding.count, finding.of) == (6, 7)
    assert [e.where.rsplit(":", 1)[1] for e in finding.examples] == ["1", "3", "4", "5", "6"]
    said = [e.what for e in finding.examples]
    assert "not valid JSON" in said[0] and "found list" in said[1] and "the row has 'text'" in said[2]
    assert "`chosen` is neither" in said[3] and "nothing says to which prompt" in said[4]


def test_parquet_folders_and_artifacts(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [pair(i, score_rejected=8.0 if i < 3 else 1.0) for i in range(10)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = audit(tmp_path / "rows.parquet")
    assert found["ties"].count == 3 and found["ties"].examples[2].where.endswith("rows.parquet[2]")
    with draft(tmp_path / "made", stage="binarize", key="k", config={}, parents={}) as out:
        out.write_rows("train", rows[:8])
        out.write_rows("test", rows[6:])
    found = audit(str(tmp_path / "made"))
    assert found.splits == {"test": 4, "train": 8} and found["train_test_overlap"].count == 2


def test_splits_of_a_folder(tmp_path: Path) -> None:
    for name, rows in (("train_prefs", range(10)), ("train_gen", range(5, 15)), ("test_prefs", range(8, 12))):
        small.write_lines(tmp_path / "set" / f"{name}.jsonl", map(pair, rows))
    with pytest.raises(DataError, match="has 2 splits that would be train rows, train_gen, train_prefs; choose one with --split"):
        audit(tmp_path / "set")
    found = audit(tmp_path / "set", splits=["train_prefs", "test_prefs"])
    assert found.splits == {"test": 4, "train": 10} and problems(found) == {"train_test_overlap": 2}


# --- train, test, benchmarks ---------------------------------------------------------------------------------------


def test_train_and_test(look: Callable[..., Audit]) -> None:
    rows = [*map(pair, range(30)), pair(5, rejected="another")]
    found = look(rows, test=[pair(5, prompt="Prompt  5"), pair(7, chosen="x"), pair(100)])
    overlap = found["train_test_overlap"]
    assert (overlap.count, overlap.of, overlap.numbers["prompts"]) == (3, 31, 2)
    assert problems(found) == {"train_test_overlap": 3, "duplicate_prompts": 1}
    assert overlap.examples[0].where.endswith(":6") and "test.jsonl:1: prompt 5" in overlap.examples[0].what
    assert look(rows)["train_test_overlap"].level == "unknown"
    opposite = look(map(pair, range(3)), test=[pair(1, chosen=pair(1)["rejected"], rejected=pair(1)["chosen"])])
    assert problems(opposite) == {"train_test_overlap": 1, "contradictory": 1}


def test_benchmarks(look: Callable[..., Audit], tmp_path: Path) -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    mt = small.write_lines(tmp_path / "mt.jsonl", [{"turns": ["prompt 3", long]}])
    other = small.write_lines(tmp_path / "other.jsonl.d" / "tqa.jsonl", [{"question": "Prompt, 4!"}, {"question": "prompt 3"}])
    second = [{"role": "user", "content": "Hi"}, GOOD, {"role": "user", "content": "prompt 3"}]
    rows = [*map(pair, range(10)), pair(10, prompt=f"Say: {long}."), pair(11, prompt=second, chosen=[GOOD], rejected=[BAD])]
    found = look(rows, against=[str(mt), f"truthful={other}"])
    finding = found["in_benchmarks"]
    assert (finding.count, finding.of) == (4, 12)
    assert [e.what.split(":")[0] for e in finding.examples] == ["mt, exact", "truthful, normalised", "mt, ngram (100%)", "mt, exact"]
    assert finding.table is not None
    assert finding.table.rows == (("mt", "2", "2", "0", "1"), ("truthful", "2", "2", "1", "0"))
    assert look(rows, against={"a": mt})["in_benchmarks"].count == 3
    assert look(rows, against=[str(mt)], ngram=20)["in_benchmarks"].count == 2
    assert look(rows)["in_benchmarks"].level == "unknown"
    with pytest.raises(UsageError, match="mt: two benchmarks of this name"):
        look(rows, against=[str(mt), f"mt={other}"])


# --- lengths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("longer", "level", "says"), [(70, "note", "The longer answer"), (50, "clear", "Length does not tell"), (30, "note", "The shorter")]
)
def test_length(look: Callable[..., Audit], longer: int, level: str, says: str) -> None:
    rows = [pair(i, chosen="a" * (9 if i < longer else 1), rejected="b" * 5) for i in range(100)]
    found = look(rows)
    finding = found["chosen_longer"]
    assert (finding.count, finding.of, finding.level) == (longer, 100, level) and says in finding.says
    low, high = finding.numbers["ci95"]
    assert low < longer / 100 < high and found.clean  # length is worth knowing, and no fault by itself
    # Wilson's interval, with the t of 99 degrees of freedom in place of 1.96
    assert (low, high) == pytest.approx({70: (0.603, 0.782), 50: (0.403, 0.597), 30: (0.218, 0.397)}[longer], abs=0.001)


def test_answers_of_one_length_are_on_neither_side(look: Callable[..., Audit]) -> None:
    finding = look(pair(i, chosen=f"a{i:03}", rejected=f"b{i:03}") for i in range(100))["chosen_longer"]
    assert (finding.count, finding.level, finding.numbers["shorter"]) == (0, "clear", 0)


def test_length_and_score(look: Callable[..., Audit]) -> None:
    def rows(slope: int) -> list[Row]:
        return [pair(i, chosen="a" * (i + 1), rejected="b" * 20, score_chosen=50 + slope * i, score_rejected=0) for i in range(40)]

    up, down = look(rows(1))["length_and_score"], look(rows(-1))["length_and_score"]
    assert up.numbers["spearman"] == 1 and down.numbers["spearman"] == -1 and up.level == down.level == "note"
    bent = look([pair(i, chosen="a" * (i + 1), rejected="b", score_chosen=2.0**i, score_rejected=0) for i in range(12)])["length_and_score"]
    assert bent.numbers["spearman"] == pytest.approx(1) and bent.numbers["pearson"] < 0.9


# --- the draw of the rejected answer -------------------------------------------------------------------------------


def rated(count: int, seed: int, *, score: Callable[[str, random.Random], int] | None = None, pool: Sequence[str] = POOL) -> list[Row]:
    """Prompts with four answers of a pool each, in random order, overall scores from 1 to 10."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        models = draw.sample(pool, 4) if len(pool) > 4 else list(pool)
        completions = [
            {"model": m, "response": f"{m} says {i}", "overall_score": score(m, draw) if score else draw.randint(1, 10)} for m in models
        ]
        rows.append({"instruction": f"prompt {i}", "completions": completions})
    return rows


Choice = Callable[[list[Row], str], Row]


def reseeded(others: list[Row], prompt: str) -> Row:
    """The defect: a generator that begins anew in every call draws the same place."""
    random.seed(42)
    return random.choice(others)


def seeded_by_prompt(others: list[Row], prompt: str) -> Row:
    """As it should be: by a hash of seed and prompt."""
    return others[int(seeded_unit(0, prompt) * len(others))]


def lowest(others: list[Row], prompt: str) -> Row:
    return min(others, key=lambda c: float(c["overall_score"]))


def binarized(rows: Iterable[Row], choose: Choice, *, less: bool = False, lineage: bool = False) -> list[Row]:
    """Pairs: chosen scores highest, rejected is one of the other three; with `less`, one of those that score less."""
    pairs = []
    for row in rows:
        completions = row["completions"]
        chosen = max(completions, key=lambda c: float(c["overall_score"]))
        others = [c for c in completions if c is not chosen and (not less or c["overall_score"] < chosen["overall_score"])]
        if not others:
            continue
        rejected = choose(others, row["instruction"])
        made = {"prompt": row["instruction"], "chosen": chosen["response"], "rejected": rejected["response"]}
        made |= {"score_chosen": chosen["overall_score"], "score_rejected": rejected["overall_score"]}
        if lineage:
            made |= {"chosen_model": chosen["model"], "rejected_model": rejected["model"]}
            made |= {"chosen_position": completions.index(chosen), "rejected_position": completions.index(rejected)}
        pairs.append(made)
    return pairs


@pytest.fixture(autouse=True)
def _own_generator() -> Iterable[None]:
    """The defect seeds the generator of the process: it gets its state back."""
    state = random.getstate()
    yield
    random.setstate(state)


def test_the_generator_that_begins_anew_is_found(look: Callable[..., Audit]) -> None:
    rows = rated(200, 1)
    found = look(binarized(rows, reseeded), ratings=rows)
    finding = found["rejected_by_position"]
    assert finding.level == "problem" and "rejected_by_position" in found.problems
    assert finding.numbers["p"] < 1e-12 and max(finding.numbers["places"]["3"]) == sum(finding.numbers["places"]["3"])
    assert "seeded anew" in finding.advice and len(finding.examples) == EXAMPLES


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_proper_draw_is_not(look: Callable[..., Audit], seed: int, less: bool) -> None:
    rows = rated(200, seed)
    finding = look(binarized(rows, seeded_by_prompt, less=less), ratings=rows)["rejected_by_position"]
    assert finding.level == "clear" and finding.count == 0 and finding.of > 150


def test_a_proper_draw_from_a_fixed_order_is_not(look: Callable[..., Audit]) -> None:
    """The best model always stands first and the worst last: a draw among those that score less is even all the same."""
    pool = POOL[:4]
    rows = rated(300, 3, score=lambda m, draw: min(10, 8 - 2 * pool.index(m) + draw.randint(0, 4)), pool=pool)
    for less in (False, True):
        found = look(binarized(rows, seeded_by_prompt, less=less), ratings=rows)
        assert found["rejected_by_position"].level == "clear", found["rejected_by_position"].says
    assert look(binarized(rows, reseeded), ratings=rows)["rejected_by_position"].level == "problem"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(40, 150))
def test_found_with_any_fixed_place_and_never_with_a_hash(tmp_path: Path, seed: int, count: int) -> None:
    rows = rated(count, seed)
    ratings = [small.write_lines(tmp_path / "ratings.jsonl", rows)]

    def level(choose: Choice) -> str:
        made = binarized(rows, choose)
        return audit(small.write_lines(tmp_path / "pairs.jsonl", made), ratings=ratings)["rejected_by_position"].level

    assert level(lambda others, prompt: others[seed % len(others)]) == "problem"
    assert level(lambda others, prompt: others[int(seeded_unit(seed, prompt) * len(others))]) == "clear"


def test_the_lowest_by_rule_is_no_draw(look: Callable[..., Audit]) -> None:
    rows = rated(200, 5)
    finding = look(binarized(rows, lowest, less=True), ratings=rows)["rejected_by_position"]
    assert finding.level == "clear" and finding.numbers["lowest"] == 1
    # where a weak model usually stands last, the places are uneven by the rule, and that is no fault of a draw
    pool = POOL[:4]
    rows = rated(300, 6, score=lambda m, draw: max(1, 8 - 2 * pool.index(m) + draw.randint(-2, 2)), pool=pool)
    finding = look(binarized(rows, lowest, less=True), ratings=rows)["rejected_by_position"]
    assert finding.level == "note" and "If rejecting by score is the policy" in finding.advice


def test_rows_that_are_sorted_by_score(look: Callable[..., Audit]) -> None:
    """The defect on rows that are sorted: always the lowest, and always the last. That may be a rule, but it has to be looked at."""
    rows = rated(200, 10)
    for row in rows:
        row["completions"].sort(key=lambda c: -c["overall_score"])
    finding = look(binarized(rows, reseeded), ratings=rows)["rejected_by_position"]
    assert finding.level == "problem" and finding.numbers["lowest"] >= 0.95
    assert look(binarized(rows, seeded_by_prompt), ratings=rows)["rejected_by_position"].level == "clear"


def test_a_strong_model_in_the_first_place_leaves_the_others_uneven(look: Callable[..., Audit]) -> None:
    """Three of four places share what the first does not get: a third each is no fixed place."""
    rows = [pair(i, rejected_position=0 if i % 10 == 0 else 1 + i % 3) for i in range(300)]
    finding = look(rows)["rejected_by_position"]
    assert (finding.level, finding.numbers["bound"]) == ("clear", pytest.approx(1 / 3))
    rows = [pair(i, rejected_position=0 if i % 10 == 0 else 3) for i in range(300)]
    assert look(rows)["rejected_by_position"].count == 270


def test_pairs_beside_their_answers_in_one_row(look: Callable[..., Audit]) -> None:
    rows = rated(100, 7)
    both = [{**row, **made} for row, made in zip(rows, binarized(rows, reseeded), strict=True)]
    found = look(both)
    assert (found.pairs, found.rated) == (100, 100) and found["rejected_by_position"].level == "problem"


def test_places_that_the_pairs_record(look: Callable[..., Audit]) -> None:
    rows = rated(200, 8)
    assert look(binarized(rows, reseeded, lineage=True))["rejected_by_position"].level == "problem"
    assert look(binarized(rows, seeded_by_prompt, lineage=True))["rejected_by_position"].level == "clear"


def test_recorded_places_where_good_answers_tie(look: Callable[..., Audit]) -> None:
    """Places alone do not say that the second best mostly ties with the best and cannot be drawn: that makes them uneven, not fixed."""
    pool = POOL[:4]
    rows = rated(400, 3, score=lambda m, draw: 9 if m == pool[0] else 9 - (draw.random() < 0.05) if m == pool[1] else 4, pool=pool)
    made = binarized(rows, seeded_by_prompt, less=True, lineage=True)
    assert look(made)["rejected_by_position"].level == look(made, ratings=rows)["rejected_by_position"].level == "clear"
    assert look(binarized(rows, reseeded, lineage=True))["rejected_by_position"].level == "problem"


def test_the_number_of_answers_that_pairs_record(look: Callable[..., Audit]) -> None:
    """Of two answers there is nothing to draw; of three the last place is one of two."""
    two = [pair(i, chosen_position=0, rejected_position=1, answer_count=2) for i in range(40)]
    assert look(two)["rejected_by_position"].level == "unknown"
    three = [pair(i, chosen_position=i % 2, rejected_position=2, answer_count=3) for i in range(40)]
    finding = look(two + three)["rejected_by_position"]
    assert (finding.level, finding.count, finding.of, finding.numbers["places"]) == ("problem", 40, 40, {"2": [0, 40]})
    ruled = [
        pair(i, chosen_position=i % 3, rejected_position=3 if i % 10 else 2 - (i % 3 == 2), rejected_rank=4, answer_count=4)
        for i in range(60)
    ]
    assert look(ruled)["rejected_by_position"].level == "note"  # always the lowest, and not always at one place


@pytest.mark.parametrize("first", [0, 1])
def test_places_of_the_rejected_alone(look: Callable[..., Audit], first: int) -> None:
    def only(choose: Choice) -> list[Row]:
        made = binarized(rated(200, 9), choose, lineage=True)
        return [
            {
                **{k: v for k, v in row.items() if "model" not in k and k != "chosen_position"},
                "rejected_position": row["rejected_position"] + first,
            }
            for row in made
        ]

    finding = look(only(reseeded))["rejected_by_position"]
    assert finding.level == "problem" and finding.numbers["p"] < 1e-6
    assert look(only(seeded_by_prompt))["rejected_by_position"].level == "clear"
    constant = look(pair(i, rejected_position=2) for i in range(30))["rejected_by_position"]
    assert (constant.level, constant.count) == ("problem", 30)


def test_too_few_tell_nothing(look: Callable[..., Audit]) -> None:
    rows = rated(10, 1)
    assert look(binarized(rows, reseeded), ratings=rows)["rejected_by_position"].level == "unknown"
    assert (
        look(map(pair, range(40)), ratings=rows)["rejected_by_position"].says == "Not recorded: no pair's answers are among the rated ones."
    )
    assert "`--ratings FILE`" in look(map(pair, range(40)))["rejected_by_position"].says


def test_models(look: Callable[..., Audit]) -> None:
    rows = [pair(i, chosen_model="amber", rejected_model="birch") for i in range(30)]
    rows += [pair(i, chosen_model="birch", rejected_model="amber") for i in range(30, 40)]
    found = look(rows)
    assert found["rejected_by_model"].level == "note"  # of two models, one is always the other
    assert found["rejected_by_model"].table is not None
    assert found["rejected_by_model"].table.rows == (("amber", "30", "10", "75.0%"), ("birch", "10", "30", "25.0%"))
    # four models in a fixed order, and the last of the others always rejected: who is rejected follows from who is chosen
    fixed = rated(120, 2, pool=POOL[:4])
    names = [{k: v for k, v in row.items() if "position" not in k} for row in binarized(fixed, reseeded, lineage=True)]
    finding = look(names)["rejected_by_model"]
    assert finding.level == "problem" and finding.count == 120
    names = [{k: v for k, v in row.items() if "position" not in k} for row in binarized(fixed, seeded_by_prompt, lineage=True)]
    assert look(names)["rejected_by_model"].level == "note"
    # models that only the rated answers name
    table = look(binarized(fixed, seeded_by_prompt), ratings=fixed)["rejected_by_model"].table
    assert table is not None and sum(int(row[1]) for row in table.rows) == 120


# --- the judge -----------------------------------------------------------------------------------------------------


def judged(count: int, seed: int, overall: Callable[[int], int], *, shift: float = 0.0, positions: bool = True) -> list[Row]:
    """Prompts with four answers: one grade for all aspects, an overall score made of it, a bonus for the one shown first."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        order = draw.sample(range(4), 4)
        completions = []
        for place in order:
            grade = draw.randint(1, 4) + (1 if place == 0 and draw.random() < shift else 0)
            annotations = {name: {"rating": grade, "rationale": "so"} for name in ASPECTS}
            completion = {"model": f"m{place}", "response": f"{i} {place}", "annotations": annotations, "overall_score": overall(grade)}
            completions.append({**completion, "position": place} if positions else completion)
        rows.append({"prompt": f"prompt {i}", "completions": completions})
    return rows


def test_ones_that_became_tens(look: Callable[..., Audit]) -> None:
    """The defect: a reply of 1 was taken for a share of 1, and made a 10, by a test `score > 1`."""
    right = judged(100, 1, lambda grade: 2 * grade - 1)
    wrong = judged(100, 1, lambda grade: 10 * (2 * grade - 1) if 2 * grade - 1 <= 1 else 2 * grade - 1)
    ones = sum(c["overall_score"] == 1 for row in right for c in row["completions"])
    assert ones > 50
    clean = look(right)
    assert clean["tens_with_low_aspects"].level == clean["critique_and_score"].level == "clear"
    assert clean["critique_and_score"].numbers["spearman"] == pytest.approx(1)
    found = look(wrong)
    assert (found["tens_with_low_aspects"].count, found["tens_with_low_aspects"].of) == (ones, ones)
    assert found["tens_with_low_aspects"].numbers == {"ones": 0}
    assert found["critique_and_score"].level == "problem"
    assert "tens_with_low_aspects" in look(map(pair, range(20)), ratings=wrong).problems


def test_ratings_that_the_pairs_keep(look: Callable[..., Audit]) -> None:
    kept = {**dict.fromkeys(ASPECTS, 2), "honesty": None, "overall_score": 10.0}
    rows = [pair(i, chosen_ratings={**kept, "overall_score": 5.0}, rejected_ratings=kept if i < 3 else None) for i in range(20)]
    finding = look(rows)["tens_with_low_aspects"]
    assert (finding.count, finding.of) == (3, 3)
    # the answers themselves are told of by --ratings: not twice
    assert look(rows, ratings=judged(10, 1, lambda grade: grade))["tens_with_low_aspects"].count == 0


def test_what_binarize_makes(tmp_path: Path) -> None:
    from zephyr import api

    rows = judged(120, 5, lambda grade: 2 * grade)
    ratings = small.write_lines(tmp_path / "ratings.jsonl", rows)
    api.stage("binarize", "binarize", {"ratings": [str(ratings)]}, tmp_path / "pairs", settings=[], test=None, seed=0)
    found = audit(tmp_path / "pairs", ratings=[ratings])
    assert found.clean and found.pairs > 90 and found["rejected_by_position"].level == "clear"
    assert found["train_test_overlap"].level == "clear" and found["judge_position"].level == "clear"
    assert found["rejected_by_model"].of == found.pairs


def test_a_ten_of_a_good_answer_is_none(look: Callable[..., Audit]) -> None:
    found = look(judged(50, 2, lambda grade: 10 if grade >= 3 else grade))
    assert found["tens_with_low_aspects"].count == 0 < found["tens_with_low_aspects"].of


def test_aspects_as_they_were_published(look: Callable[..., Audit]) -> None:
    published = {"instruction_following": {"Rating": "1"}, "honesty": {"Rating": "N/A"}, "truthfulness": {"Rating": "2"}}
    found = look([{"instruction": "p", "completions": [{"model": "m", "response": "r", "annotations": published, "overall_score": 10}]}])
    assert found["tens_with_low_aspects"].count == 1 and "10 over all, 1.5 on average" in found["tens_with_low_aspects"].examples[0].what


def test_the_place_at_which_the_judge_saw_it(look: Callable[..., Audit]) -> None:
    fair, unfair = (look(judged(150, 3, lambda grade: grade, shift=shift))["judge_position"] for shift in (0.0, 0.9))
    assert fair.level == "clear" and (fair.of, fair.count) == (150, 0)
    assert unfair.level == "problem" and unfair.numbers["shift"]["0"] > 0.3 and "at place 0" in unfair.says
    assert look(judged(150, 3, lambda grade: grade, positions=False))["judge_position"].level == "unknown"


def test_an_order_that_was_never_shuffled(look: Callable[..., Audit]) -> None:
    rows = judged(150, 4, lambda grade: grade, shift=0.9)
    for row in rows:
        row["completions"].sort(key=lambda c: c["position"])
    finding = look(rows)["judge_position"]
    assert finding.level == "note" and "cannot be told from the models" in finding.says


# --- what is said --------------------------------------------------------------------------------------------------

HOSTILE = "</details><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} \x1b[31mred \u202eesrever"


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_what_others_wrote_is_text_and_no_more(look: Callable[..., Audit], tmp_path: Path) -> None:
    rows = [
        pair(i, prompt=f"{HOSTILE[:40]}{i}", chosen="same", rejected="same", chosen_model=HOSTILE, rejected_model="b") for i in range(30)
    ]
    bench = small.write_lines(tmp_path / "b.jsonl", [{"prompt": f"{HOSTILE[:40]}0"}])
    rows += [pair(99, prompt=HOSTILE, chosen_model=HOSTILE, rejected_model="b"), {HOSTILE: 1}, {"chosen": 1, "rejected": "\ud800"}]
    found = look(rows, against={HOSTILE: str(bench)})
    assert {"identical", "unreadable", "in_benchmarks"} <= set(found.problems)
    html_text, text = page(found), describe(found)
    tags = _Tags()
    tags.feed(html_text)
    assert not {"script", "img", "link", "iframe", "a"} & {tag for tag, _ in tags.seen if tag != "a"}
    assert {attrs["href"] for tag, attrs in tags.seen if tag == "a"} == {"#main"}
    assert not any(name.startswith("on") or name == "src" for _, attrs in tags.seen for name in attrs)
    assert "&lt;script&gt;" in html_text and "7*7" in html_text and "49" not in html_text.split("<main")[1]
    for said in (html_text, text):
        assert "\x1b" not in said and "\u202e" not in said
        said.encode("utf-8")
    json.dumps(found.json(), allow_nan=False).encode("utf-8")


def test_json_is_one_object(look: Callable[..., Audit]) -> None:
    rows = [pair(0), pair(1, score_rejected=8.0), pair(2, score_rejected=9.0), pair(3, chosen="s", rejected="s"), pair(0, chosen="other")]
    found = look(rows).json()
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))
    assert {k: found[k] for k in ("ties", "reversed", "identical", "duplicate_prompts")} == {
        "ties": 1,
        "reversed": 1,
        "identical": 1,
        "duplicate_prompts": 1,
    }

    def keys(value: object) -> list[str]:
        if isinstance(value, dict):
            return [*value, *(k for v in value.values() for k in keys(v))]
        return [k for v in value for k in keys(v)] if isinstance(value, list | tuple) else []

    for word in ("ties", "reversed", "identical", "duplicate_prompts"):
        assert [k for k in keys(found) if word in k] == [word]  # one count, under one name
    assert found["clean"] is False and set(found["problems"]) == {"ties", "reversed", "identical", "duplicate_prompts"}


def test_text_and_page_have_every_finding(look: Callable[..., Audit]) -> None:
    found = look([*map(pair, range(30)), pair(3, score_rejected=8.0)])
    levels = [LEVELS.index(f.level) for f in found.findings]
    assert levels == sorted(levels)
    text, html_text = describe(found), page(found)
    assert text.startswith("3 problems in 31 rows (31 train), 31 pairs")
    for finding in found.findings:
        assert f"{finding.level:8} {finding.name}: " in text and f'id="{finding.name}"' in html_text
    assert "problem  ties: 1 of 31 pairs with two scores" in text and "What to do: " in text
    assert "3 problems found" in html_text and "http" not in html_text.replace("http-equiv", "")
    assert describe(look(map(pair, range(30)))).startswith("nothing wrong in 30 rows")


def test_used_wrongly(look: Callable[..., Audit], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        audit(tmp_path / "not-there.jsonl")
    with pytest.raises(UsageError, match="tie: no finding has this name; they are unreadable, ties"):
        look([pair(0)], ignore=["tie"])
    with pytest.raises(DataError, match="no rows to look at"):
        look([])
    with pytest.raises(DataError, match=r"ratings.jsonl:1: no rated answers; the rows of --ratings have `completions`"):
        look([pair(0)], ratings=[pair(0)])


# --- real data -----------------------------------------------------------------------------------------------------


def test_ultrafeedback(shared: Path) -> None:
    data = shared / "data"
    against = {"mt_bench": data / "eval/mt_bench/question.jsonl", "truthful_qa": data / "eval/open_llm/truthfulqa_mc.jsonl.gz"}
    found = audit(data / "feedback/ultrafeedback_binarized_1k.jsonl.gz", against=against)
    assert found.rows == found.pairs == 1000
    assert problems(found) == {"ties": 111, "identical": 4, "empty_answers": 2}
    assert (found["chosen_longer"].count, found["chosen_longer"].of) == (552, 996)
    assert found["in_benchmarks"].level == "clear"


def test_prompts_of_alpaca_eval_are_found_in_pairs_made_of_them(shared: Path, look: Callable[..., Audit]) -> None:
    path = shared / "data/eval/alpaca_eval/baseline_text_davinci_003.jsonl.gz"
    rows = [*map(pair, range(10)), *({"instruction": r, "chosen": "a", "rejected": "b"} for r in _instructions(path))]
    finding = look(rows, against=[f"alpaca_eval={path}"])["in_benchmarks"]
    assert (finding.count, finding.of) == (805, 815)


def _instructions(path: Path) -> list[str]:
    from zephyr import sources
    from zephyr.recipe import DataSource

    return [row["instruction"] for _, _, row in sources.rows(DataSource(path=str(path)))]
