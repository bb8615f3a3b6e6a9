"""AlpacaEval on made-up files: preferences, win rates, length control, leaderboards, and what is wrong with a file."""

from __future__ import annotations

import gzip
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zephyr.errors import DataError, NonFiniteError, UsageError
from zephyr.evals import alpaca_eval, plain_files
from zephyr.evals.alpaca_eval import files, leaderboard, length, preferences, show, tables
from zephyr.evals.alpaca_eval.tables import Tables, Weights


def row(i: int, preference: object = 2, **changes: Any) -> dict[str, Any]:
    drawn = random.Random(i)
    made = {"instruction": f"Do thing {i}.", "output_1": "x" * drawn.randint(50, 400), "generator_1": "base", "dataset": ("a", "b")[i % 2]}
    made |= {"output_2": "y" * drawn.randint(50, 400), "generator_2": "mine", "annotator": "judge", "preference": preference}
    return {**made, **changes}


def write(path: Path, rows: object) -> Path:
    text = json.dumps(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


# --- preferences -------------------------------------------------------------------------------------------------


def test_the_order_is_drawn_from_the_instruction_alone() -> None:
    drawn = [preferences.model_shown_first(f"Do thing {i}.") for i in range(400)]
    assert drawn == [random.Random(f"is_switched_outputsDo thing {i}.0").choices([False, True], k=1)[0] for i in range(400)]
    assert 160 < sum(drawn) < 240 and drawn != [preferences.model_shown_first(f"Do thing {i}.", seed=1) for i in range(400)]


@pytest.mark.parametrize(
    ("reply", "strict", "original"),
    [
        ("[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]", 1.0, 1.0),
        ('[{"model": "model_2", "rank": 1}, {"model": "model_1", "rank": 2}]', 2.0, 2.0),
        ("[{'model': 'model_1', 'rank': 1}]", None, 1.0),
        ("[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 1}]", None, 1.0),
        ("[{'model': 'model_1', 'rank': 3}, {'model': 'model_2', 'rank': 1}]", None, None),
        ("model_1 is better", None, None),
        ("__import__('os').getcwd()", None, None),
        ("[" * 5000, None, None),
    ],
)
def test_a_ranking(reply: str, strict: float | None, original: float | None) -> None:
    assert preferences.of_ranking(reply) == strict and preferences.of_ranking_compatible(reply) == original
    assert preferences.of_completion(reply) == strict


def test_log_probabilities() -> None:
    def top(**tokens: float) -> list[dict[str, Any]]:
        return [{"token": token, "logprob": value} for token, value in tokens.items()]

    assert preferences.of_log_probabilities(top(m=math.log(0.6), M=math.log(0.2), The=-3)) == pytest.approx(2 - 0.75)
    assert preferences.of_log_probabilities(top(M=-0.1)) == 2 and preferences.of_log_probabilities(top(m=-900.0)) == 1
    assert preferences.of_log_probabilities(top(m=-900.0, M=-901.0)) == pytest.approx(2 - 1 / (1 + math.exp(-1)))
    assert preferences.of_log_probabilities(top(The=-0.1)) is None
    assert preferences.of_completion({"logprobs": {"content": [{"top_logprobs": top(M=-0.1)}]}}) == 2
    assert preferences.of_completion({"logprobs": None}) is None
    assert preferences.unswitched(1.25, model_first=False) == 1.25 and preferences.unswitched(1.25, model_first=True) == 1.75


# --- win rates ---------------------------------------------------------------------------------------------------


def test_the_win_rate(tmp_path: Path) -> None:
    given = [2] * 50 + [1] * 30 + [0] * 5 + [1.5] * 5 + [1.75] * 6 + [None] * 4
    found = alpaca_eval.score_file(write(tmp_path / "annotations.json.gz", [row(i, p) for i, p in enumerate(given)]))
    points = [1.0] * 50 + [0.0] * 30 + [0.5] * 10 + [0.75] * 6
    assert found["win_rate"] == pytest.approx(100 * np.mean(points))
    assert found["standard_error"] == pytest.approx(100 * np.std(points, ddof=1) / math.sqrt(96))
    assert [found[k] for k in ("n_wins", "n_wins_base", "n_draws", "n_total", "n_null")] == [56, 30, 10, 96, 4]
    assert found["discrete_win_rate"] == pytest.approx(100 * 61 / 96)
    assert found["ci95"] == pytest.approx(
        [found["win_rate"] - 1.98525 * found["standard_error"], found["win_rate"] + 1.98525 * found["standard_error"]], abs=1e-3
    )
    assert found["ci95_bootstrap"] == pytest.approx(found["ci95"], abs=1.5)
    assert found["nulls_as"]["worst"]["win_rate"] == pytest.approx(sum(points)) and found["nulls_as"]["best"]["win_rate"] == pytest.approx(
        sum(points) + 4
    )
    assert set(found["by_dataset"]) == {"a", "b"} and found["length_controlled_winrate"] is None
    assert "difficulties are not at hand" in found["length_controlled"]["reason"]
    assert "mine: 4 of 100 rows have no verdict; the win rate leaves them out" in found["warnings"]
    assert any("100 of 100 instructions are none of AlpacaEval's" in w for w in found["warnings"])
    text = show.describe(found)
    assert "56 won, 30 lost, 10 drawn; 4 rows without one)" in text and "length-controlled: not known" in text
    # a judge who always likes what is shown first
    biased = [row(i, 2 if preferences.model_shown_first(f"Do thing {i}.") else 1) for i in range(100)]
    order = alpaca_eval.score_file(write(tmp_path / "b.json", biased))["order"]
    assert (order["win_rate_shown_first"], order["win_rate_shown_second"]) == (100, 0) and order["win_rate_shown_second_ci95"][1] > 1
    longer = [row(i, 2 if len(row(i)["output_2"]) > len(row(i)["output_1"]) else 1) for i in range(100)]
    assert alpaca_eval.score_file(write(tmp_path / "l.json", longer))["longer_wins"]["share"] == 100


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preference": float("nan")}, "`preference` is NaN; it must be from 1 to 2"),
        ({"preference": 3}, "`preference` is 3;"),
        ({"preference": True}, "`preference` is True;"),
        ({"preference": "2"}, "`preference` is '2';"),
        ({"generator_2": "yours"}, "`generator_2` is yours, before it was mine"),
        ({"annotator": "another"}, "`annotator` is another, before it was judge"),
        ({"output_2": None}, "`output_2` must be a text"),
    ],
)
def test_an_annotation_that_does_not_fit(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "annotations.json", [row(0), row(1), row(2, **changes)])
    with pytest.raises(DataError, match=rf"annotations\.json\[2\]: {said}"):
        alpaca_eval.score_file(path)
    if isinstance(changes.get("preference"), float | int) and changes["preference"] is not True:
        assert alpaca_eval.score_file(path, compatible=True)["n_null"] == 1  # dropped without a word


def test_what_is_missing_twice_empty_or_another_models(tmp_path: Path) -> None:
    rows = [row(i, 1 + i % 2) for i in range(10)]
    twice = alpaca_eval.score_file(write(tmp_path / "t.json", [*rows, row(0, 2)]))
    assert twice["duplicates"] == 1 and twice["n_total"] == 10 and twice["win_rate"] == pytest.approx(55)  # 0 was lost once and won once
    assert [twice[k] for k in ("n_wins", "n_wins_base", "n_draws", "n_null")] == [5, 4, 1, 0], "what is counted is instructions"
    assert "of 10 instructions with a verdict (5 won, 4 lost, 1 drawn; 0 rows without one)" in show.describe(twice)
    assert any("1 row repeats an instruction" in w for w in twice["warnings"])
    theirs = alpaca_eval.score_file(tmp_path / "t.json", compatible=True)
    assert theirs["win_rate"] == pytest.approx(100 * 6 / 11) and theirs["n_total"] == 11
    assert "of 11 rows with a verdict (6 won, 5 lost, 0 drawn; 0 rows without one)" in show.describe(theirs)
    empty = alpaca_eval.score_file(write(tmp_path / "e.json", [*rows[1:], row(0, 1, output_2=" ")]))
    assert empty["n_empty"] == 1 and any("1 output is empty" in w for w in empty["warnings"])
    with pytest.raises(DataError, match="annotations of mine, not of other"):
        alpaca_eval.score_file(tmp_path / "t.json", model="other")
    placed = write(tmp_path / "falcon-7b" / "alpaca_eval_gpt4" / "annotations.json", rows)
    said = alpaca_eval.score_file(placed)["warnings"]
    assert any("that of falcon-7b, the rows are about mine" in w for w in said) and any(
        "the annotator of the rows is judge" in w for w in said
    )
    outputs = [files.Output(r["instruction"], r["output_2"] if i else "other", "mine") for i, r in enumerate(rows)]
    files.write_outputs(tmp_path / "model_outputs.json", outputs)
    assert files.read_outputs(tmp_path / "model_outputs.json", model="mine") == outputs
    said = alpaca_eval.score_file(placed, outputs=tmp_path / "model_outputs.json")["warnings"]
    assert any("1 of 10 judged outputs is not that of mine, the first is" in w for w in said)
    with pytest.raises(DataError, match="an output of mine, outputs of other were expected"):
        files.read_outputs(tmp_path / "model_outputs.json", model="other")
    for content, error, text in (([], DataError, "no annotations"), ([row(0, None)], DataError, "none of 1 annotation has a verdict")):
        with pytest.raises(error, match=text):
            alpaca_eval.score_file(write(tmp_path / "none.json", content))
    with pytest.raises(UsageError, match="no such file"):
        alpaca_eval.score_file(tmp_path / "nowhere.json")


def test_what_is_no_number_is_not_written(tmp_path: Path) -> None:
    (found,) = files.read(write(tmp_path / "a.json", [row(0, preference=1.5)]))
    files.write(tmp_path / "b.json", [found])
    before = (tmp_path / "b.json").read_bytes()
    with pytest.raises(NonFiniteError, match=r"b\.json: not written: a number in it is NaN or infinite"):
        files.write(tmp_path / "b.json", [replace(found, row={**found.row, "price": math.nan})])
    with pytest.raises(NonFiniteError, match=r"c\.jsonl"):
        plain_files.write_lines(tmp_path / "c.jsonl", [{"score": -math.inf}])
    assert (tmp_path / "b.json").read_bytes() == before and not (tmp_path / "c.jsonl").exists()


def test_two_models_on_the_same_instructions(tmp_path: Path) -> None:
    drawn = random.Random(3)
    hard = [drawn.random() < 0.5 for _ in range(200)]
    one = write(tmp_path / "one.json", [row(i, 1 if h else 2) for i, h in enumerate(hard)])
    two = write(tmp_path / "two.json", [row(i, 1 if h or i % 10 == 0 else 2, generator_2="theirs") for i, h in enumerate(hard)])
    found = alpaca_eval.score_file(one, against=two)["against"]
    assert (
        found["told_apart"]
        and found["in_words"].startswith("mine is better than theirs by")
        and found["paired_se"] < found["unpaired_se"] / 2
    )
    with pytest.raises(DataError, match="`annotator` is other, that of the other file is judge"):
        alpaca_eval.score_file(one, against=write(tmp_path / "o.json", [row(i, annotator="other") for i in range(3)]))


def test_rows_of_both_orders_are_read_as_such(tmp_path: Path) -> None:
    """A judge who always takes the first: the mean of both orders hides it, the verdicts do not, and no order is drawn for such rows."""
    both = [{"model_first": True, "reply": "[[A]]", "preference": 1.0}, {"model_first": False, "reply": "[[A]]", "preference": 1.0}]
    rows = [row(i, 1.5, verdicts=both) for i in range(12)]
    found = alpaca_eval.score_file(write(tmp_path / "both.json", rows))
    order = found["order"]
    assert (order["win_rate_shown_first"], order["win_rate_shown_second"], order["consistent"], order["n"]) == (100.0, 0.0, 0.0, 12)
    assert "both orders agree in 0.00% [0.00, " in show.describe(found)
    for strange in ("x", both[:1], [both[0]] * 2, [both[0], {"model_first": False, "preference": 3}]):  # another's column of that name
        assert "consistent" not in alpaca_eval.score_file(write(tmp_path / "s.json", [*rows[1:], row(0, 2, verdicts=strange)]))["order"]
    # a completion in which no verdict can be read, and none on record: they agree
    top = {"logprobs": {"content": [{"top_logprobs": [{"token": "x", "logprob": -0.1}]}]}}
    unread = alpaca_eval.score_file(write(tmp_path / "u.json", [*rows[1:], row(0, None, raw_completion=top)]))
    assert (unread["order"]["rederived"], unread["order"]["of"]) == (1, 1) and not any("raw completions" in w for w in unread["warnings"])


# --- length control ----------------------------------------------------------------------------------------------


def world(n: int, a: float, c: float, b: float, seed: int = 0) -> tuple[list[files.Annotation], np.ndarray, Tables]:
    """Verdicts drawn from known coefficients, and gamed rows that know a and c."""
    rng = np.random.default_rng(seed)
    difficulty, lengths = rng.normal(-0.5, 1, n), rng.integers(100, 2000, (2, n))
    delta = (lengths[0] - lengths[1]) / (lengths[0] - lengths[1]).std(ddof=1)
    p = 1 / (1 + np.exp(-(a * np.tanh(delta) + c * difficulty + b)))
    made = [
        files.Annotation("", f"i{i}", "x" * lengths[0, i], "y" * lengths[1, i], "base", "mine", "judge", 1.0 + (rng.random() < p[i]), {})
        for i in range(n)
    ]
    gamed = np.stack([np.tanh(rng.normal(0, 1, 500)), rng.normal(-0.5, 1, 500), np.zeros(500)], axis=1)
    return made, difficulty, Tables(difficulty, {}, (gamed, 1 / (1 + np.exp(-gamed @ [a, c, 0]))), {})


def test_a_fit_finds_what_the_verdicts_were_drawn_from() -> None:
    made, difficulty, found = world(4000, -1.5, 0.8, 0.4)
    problem = length.problem_of(made, difficulty, found)
    assert problem is not None
    fitted = length.fit(problem, [a.instruction for a in made], difficulty)
    truth = length.from_weights(Weights(-1.5, 0.8, 0.4), difficulty)
    assert fitted.ci95 is not None and fitted.ci95[0] < truth < fitted.ci95[1] and fitted.ci95[1] - fitted.ci95[0] < 6
    assert vars(fitted.weights) == pytest.approx({"length": -1.5, "difficulty": 0.8, "bias": 0.4}, abs=0.15)
    assert length.misfit(fitted.weights, problem) < 0.1 < 5 < length.misfit(Weights(-1.5, 0.8, 1.4), problem)


def test_the_minimum_is_one() -> None:
    """Against the conditions that hold at the minimum of a convex function: no step of any size makes it lower."""
    made, difficulty, found = world(300, -1.0, 0.05, 0.0, seed=1)
    problem = length.problem_of(made, difficulty, found)
    assert problem is not None
    for strength in (0.01, 0.36, 1e4):
        w = length.solve(problem, strength)
        p = 1 / (1 + np.exp(-problem.features @ w))
        gradient = strength * problem.features.T @ (problem.weights * (p - problem.points))
        for value, slope in zip(w, gradient, strict=True):
            assert slope == pytest.approx(-np.sign(value), abs=1e-5 * strength + 1e-6) if value else abs(slope) <= 1 + 1e-9
    assert length.solve(problem, 1e-6).tolist() == [0, 0, 0]


def test_the_interval_against_a_bootstrap() -> None:
    made, difficulty, found = world(400, -1.5, 0.8, 0.4, seed=2)
    names = [a.instruction for a in made]
    problem = length.problem_of(made, difficulty, found)
    assert problem is not None
    w = length.solve(problem, 1e6)
    analytic = length.at(Weights(*map(float, w)), problem, names, difficulty).stderr
    rng, rates, gamed = np.random.default_rng(0), [], 500
    for _ in range(200):
        drawn = rng.integers(0, 400, 400)
        kept = np.concatenate([np.arange(gamed), gamed + drawn])
        again = length.solve(problem.rows(kept), 1e6, w)
        rates.append(length.from_weights(Weights(*map(float, again)), difficulty[drawn]))
    assert analytic == pytest.approx(np.std(rates), rel=0.15)  # 200 draws know a standard deviation to 5%


def test_tables_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    n = 30
    (tmp_path / "instruction_difficulty.csv").write_text("index,instruction_difficulty\n" + "".join(f"{i},{i / 10}\n" for i in range(n)))
    (tmp_path / "baseline_b.csv").write_text(
        ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\nmine,-1.5,0.5,0.25\n"
    )
    (tmp_path / "leaderboard.csv").write_text(",win_rate\nmine,3\n")
    lengths = {
        "len_b": [100 + i for i in range(n)],
        "len_b_long": [200 + 3 * i for i in range(n)],
        "len_b_short": [50 + i % 7 for i in range(n)],
    }
    w = {"np.tanh(std_delta_len)": -1.0, "instruction_difficulty": 0.5, "not_gamed_baseline.astype(float)": 0.1}
    (tmp_path / "lc_gamed_baseline.json").write_text(json.dumps({**lengths, "weights": {"b_long": w, "b_short": w}}))
    found = tables.find([tmp_path])
    assert found.difficulties is not None and found.difficulties.tolist() == [i / 10 for i in range(n)]
    assert found.weights == {"mine": Weights(-1.5, 0.5, 0.25)} and set(found.paths) == {"difficulties", "weights", "gamed"}
    assert found.gamed is not None and found.gamed[0].shape == (60, 3) and (found.gamed[0][:, 2] == 0).all()
    delta = np.array(lengths["len_b"]) - np.array(lengths["len_b_long"])
    assert found.gamed[1][0] == pytest.approx(1 / (1 + math.exp(math.tanh(delta[0] / delta.std(ddof=1)) - 0.1)))
    (tmp_path / "difficulties.json").write_text("[0.5, null]")
    with pytest.raises(DataError, match="difficulties must be a list of numbers"):
        tables.find([tmp_path / "difficulties.json"])
    (tmp_path / "difficulties.json").write_text("[0.5, 0.25]")
    with pytest.raises(DataError, match="hold difficulties; leave one"):
        tables.find([tmp_path])
    assert tables.find([tmp_path / "nowhere"]).difficulties is None
    (tmp_path / "empty").mkdir()
    annotations = write(tmp_path / "annotations.json", [row(i, 1 + i % 2) for i in range(4)])
    for named, problem in (("nowhere", "no such file or folder"), ("empty", "none of the tables of the length-controlled rate is there")):
        with pytest.raises(UsageError, match=f"{named}: {problem}"):
            alpaca_eval.score_file(annotations, tables=tmp_path / named)


# --- leaderboards ------------------------------------------------------------------------------------------------


def test_a_leaderboard_in_and_out(tmp_path: Path) -> None:
    board = tmp_path / "board.csv"
    board.write_text(
        ",win_rate,standard_error,n_total,mode,avg_length,length_controlled_winrate\n"
        "a,45.7,1.75,805,verified,662,39.1\nb,45.7,1.75,805,verified,478,39.1\nc,45.7,1.75,805,verified,400,39.2\nmine,50.0,15.8,10,community,200,\n"
    )
    path = write(tmp_path / "x.json", [row(i, 1 + i % 2) for i in range(10)])
    found = alpaca_eval.score_file(path, board=board, write_board=tmp_path / "new.csv")
    assert found["published"]["win_rate_difference"] == 0 and found["published"]["length_controlled_winrate"] is None
    assert "published: win rate 50.0000" in show.describe(found)
    new = leaderboard.read(tmp_path / "new.csv")
    assert (
        next(iter(new)) == "mine"
        and float(new["mine"]["win_rate"]) == 50
        and new["a"] == {**new["a"], "win_rate": "45.7", "mode": "verified"}
    )
    assert leaderboard.copies(new) == [("a", "b")]  # c differs: the same counts by chance
    other = alpaca_eval.score_file(write(tmp_path / "y.json", [row(i, 1 + (i < 7), generator_2="b") for i in range(10)]), board=board)
    assert any("the rates of b are those of a to the last digit" in w for w in other["warnings"])
    assert any("the published win rate of b is 45.7000, that of these rows 70.0000" in w for w in other["warnings"])
    board.write_text(",win_rate\na,1\na,2\n")
    with pytest.raises(DataError, match="a is there twice"):
        leaderboard.read(board)
    board.write_text(",win_rate\na,1,3\n")
    with pytest.raises(DataError, match="not as many cells"):
        leaderboard.read(board)


def test_the_set_is_known_without_its_texts() -> None:
    assert len(files.positions()) == files.INSTRUCTIONS and sorted(files.positions().values()) == list(range(805))
    assert files.position("Do thing 1.") is None
