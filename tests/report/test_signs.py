"""Likelihood displacement, sharpness, contamination, judges and money: what is said of them, and when."""

from __future__ import annotations

import math
from typing import Any

import fake_run
import pytest

from zephyr.artifacts import Artifact, Manifest
from zephyr.records import Row
from zephyr.report import accounts, plots, scores, signs, tables, trust
from zephyr.report.facts import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    return fake_run.make(tmp_path_factory.mktemp("run"), fake_run.WITH_JUDGE)


def with_manifest(run: dict[str, Artifact], stage: str, **changes: Any) -> Run:
    old = run[stage]
    return Run({**run, stage: Artifact(old.path, Manifest(**{**vars(old.manifest), **changes}))})


def log(chosen: float, rejected: float) -> list[Row]:
    start = {"chosen_logp": -200.0, "rejected_logp": -150.0}
    end = {"chosen_logp": -200.0 + chosen, "rejected_logp": -150.0 + rejected}
    return [
        {"kind": "test", "step": 0, **start},
        {"kind": "train", "step": 1, "chosen_logp": -7.0, "rejected_logp": -9.0},
        {"kind": "test", "step": 40, **end},
    ]


@pytest.mark.parametrize(
    ("chosen", "rejected", "said"),
    [
        (
            -4.0,
            -10.0,
            "the chosen answers lost 4.0 nats and the rejected ones lost 10.0 nats. Both fell, the rejected ones 2.5 times as far",
        ),
        (-9.0, -3.0, "Both fell, the chosen ones further: the model now likes the rejected answers better"),
        (-4.0, 0.0, "the rejected ones stayed where they were. Only the chosen ones fell, which is the wrong way round"),
        (3.0, -6.0, "the chosen answers gained 3.0 nats and the rejected ones lost 6.0 nats. There is no displacement"),
        (0.1, -0.2, "the model has hardly moved from where it started"),
    ],
)
def test_displacement_is_said_with_its_size(chosen: float, rejected: float, said: str) -> None:
    found = signs.moved(log(chosen, rejected))
    assert found is not None and (found.chosen, found.rejected, found.steps) == (pytest.approx(chosen), pytest.approx(rejected), 40)
    text = signs.displacement_words(found)
    assert text.startswith("On the test pairs, over 40 steps, ") and said in text


def test_without_test_rows_the_rewards_of_the_last_steps_tell() -> None:
    """A batch's log-probabilities are its rows'; its rewards are changes against the frozen model."""
    rows = [{"kind": "train", "step": i, "chosen_reward": -0.01 * i, "rejected_reward": -0.03 * i, "chosen_logp": -i} for i in range(1, 41)]
    found = signs.moved(rows, 0.1)
    assert found is not None and found.chosen == pytest.approx(-0.1 * 38.5) and found.rejected == pytest.approx(-0.3 * 38.5)
    assert found.of == "the pairs of the last 4 steps"
    assert signs.moved(rows, 0.1, "simpo") is None, "its reward is no change against a frozen model"
    assert signs.moved(log(-4.0, -10.0), 0.1, "simpo") is not None, "of test rows the log-probabilities themselves tell"
    assert signs.moved(rows) is None and signs.moved([], 0.1) is None and signs.displacement_words(None) == ""
    assert signs.moved([{"kind": "test", "step": 0, "chosen_logp": math.nan, "rejected_logp": 1.0}] * 2) is None


def test_the_picture_is_in_nats() -> None:
    rows = [{"kind": "test", "step": i, "chosen_reward": -0.1 * i, "rejected_reward": -0.4 * i} for i in range(3)]
    chart = plots.dpo_charts(rows, "dpo", 0.2)[-1]
    assert chart.title == "Likelihood displacement"
    assert [c.points[-1][1] for c in chart.curves] == pytest.approx([-1.0, -4.0])
    raw = plots.dpo_charts(rows, "simpo", 0.2)[-1]
    assert raw.title == "Rewards" and raw.curves[0].points[-1][1] == pytest.approx(-0.2), "simpo's reward is no change"


def test_sharpness_and_displacement_of_the_test_prompts(run: dict[str, Artifact]) -> None:
    found = signs.sharpness(Run(run))
    assert found is not None
    last = found.rows[-1]
    assert last[0] == "dDPO" and last[1] == "1.634" and last[4:] == ("60.2%", "88.1%", "97.2", "90%")
    assert "dDPO lowered the entropy from 2.105 to 1.634 nats, by 22%; its sampled answers are 1.05 times as long" in signs.sharpness_words(
        Run(run)
    )
    moved = signs.displacement(Run(run))
    assert moved is not None and [row[:3] for row in moved.rows[2:]] == [
        ("dSFT → dDPO", "best rated", "−5.20"),
        ("dSFT → dDPO", "worst rated", "−13.10"),
    ]
    old = with_manifest(run, "evaluate", results={})
    assert (signs.sharpness(old), signs.displacement(old), signs.sharpness_words(old)) == (None, None, "")


def test_contamination_is_counted_where_it_was_looked_for(run: dict[str, Artifact]) -> None:
    parents = {**run["curate"].manifest.parents, "against mt_bench": {"path": "q.jsonl"}, "against arc": {"path": "a.jsonl"}}
    dropped = {"in the benchmark mt_bench (exact)": 3, "in the benchmark mt_bench (ngram)": 2, "duplicate of another dialogue": 9}
    found = trust.contamination(with_manifest(run, "curate", parents=parents, dropped=dropped))
    assert found is not None
    assert found.rows == (
        ("arc", "208 dialogues", "0", "0", "0", "nothing to leave out"),
        ("mt_bench", "208 dialogues", "3", "0", "2", "5 left out"),
        ("MT-Bench", "the training prompts", "1", "0", "1", "2 of its 80 items were trained on"),
    )
    alone = Run({name: run[name] for name in ("curate", "sft")})
    assert trust.contamination(alone) is None and "names none under `benchmarks`" in trust.contamination_words(alone)
    assert trust.contamination_words(Run({})) == ""


def test_what_was_found_of_the_judges(run: dict[str, Artifact]) -> None:
    table = trust.hygiene(Run(run))
    assert table is not None
    found = {row[0]: row[1] for row in table.rows}
    assert found["replies of the feedback's teacher that could not be read"] == "0, of 816 ratings that were"
    assert found["canary, MT-Bench"] == "1.21 of 10 [1.07,\N{NO-BREAK SPACE}1.35]"
    assert found["canary, AlpacaEval"] == "3.1% wins (no interval)"
    assert found["unread verdicts, MT-Bench"] == "dSFT 1 of 160, dDPO 0 of 160, canary 0 of 160"
    assert found["order, dDPO"].replace("\N{NO-BREAK SPACE}", " ") == (
        "wins 37.9% [34.5, 41.3] shown first, 24.9% [21.9, 27.9] shown second; the same verdict in 71.2% [67.9, 74.2] of 797"
    )
    assert "of one family (GPT)" in found["self-preference"]
    assert all(row[2] for row in table.rows), "each with a sentence on what it means"
    assert trust.hygiene(Run({"sft": run["sft"]})) is None
    followed = with_manifest(run, "judge", results={"judge": None, "ifeval": {"ddpo": {}}}, notes=[])
    assert "self-preference" not in str(trust.hygiene(followed)), "nobody judged"


def test_which_models_judged_is_said_and_that_they_were_several(run: dict[str, Artifact]) -> None:
    for stage, counts, what, means in (
        ("judge", {"gpt-4-0613": 1200, "gpt-4-1106": 2, "": 1}, "gpt-4-0613 in 1,200 verdicts, gpt-4-1106 in 2 verdicts, not said in 1 verdicts", "Several"),
        ("rate", {"gpt-4-0613": 816}, "gpt-4-0613 in 816 ratings", "One name"),
    ):  # fmt: skip
        table = trust.hygiene(with_manifest(run, stage, results={"served": counts}))
        assert table is not None
        (row,) = (row for row in table.rows if row[0].endswith("as its server calls it"))
        assert row[1] == what and row[2].startswith(means)
    table = trust.hygiene(Run(run))
    assert table is not None and not any("server calls" in row[0] for row in table.rows), "nobody said"


def test_pairs_are_looked_at_as_the_other_benchmarks_are(run: dict[str, Artifact]) -> None:
    order = {"consistent": 71.2, "consistent_ci95": None, "first_shown_wins": 64.0, "first_shown_wins_ci95": [51.0, 75.0], "n": 18}
    ours = {"win_rate": 61.0, "ci95": [50.5, 71.5], "n": 18, "n_unparsed": 2, "against": ["gpt"], "order": order}
    pairs = {
        "gpt": {**ours, "against": ["ddpo"]},
        "ddpo": ours,
        "canary": {"win_rate": 88.0, "ci95": [70.0, 96.0], "n": 20, "n_unparsed": 0},
    }
    judged = with_manifest(
        run, "judge", results={"judge": "j", "mt_bench_pairs": pairs, "canary": {"mt_bench_pairs": 88.0}}, notes=["a note."]
    )
    table, shown = trust.hygiene(judged), tables.judged(judged)
    assert table is not None and shown is not None
    found = {row[0]: row[1] for row in table.rows}
    assert found["canary, MT-Bench pairs"] == "88.0% wins [70.00,\N{NO-BREAK SPACE}96.00]"
    assert found["pairs without a verdict in one of the orders, MT-Bench pairs"].startswith("dDPO 2 of 20, gpt 2 of 20, canary 0 of 20")
    assert found["order, MT-Bench pairs, dDPO"].startswith(
        "the same verdict in both orders in 71.2% (no interval) of 18; of the decided verdicts 64.0% [51.0"
    )
    assert "order, MT-Bench pairs, gpt" not in found, "the same pairs"
    assert "both orders agree in 71.20% (no interval);" in shown.note and "a note." not in shown.note, "notes stand among the limits"


def test_pairs_judged_in_one_order_are_not_said_to_be_in_both(run: dict[str, Artifact]) -> None:
    """`order: seeded`: what AlpacaEval's rows say of the order, without a second verdict to agree with."""
    order = {"n_model_shown_first": 9, "win_rate_shown_first": 40.0, "win_rate_shown_second": 25.0, "rederived": 0, "of": 0}
    ends = {"win_rate_shown_first_ci95": [10.0, 70.0], "win_rate_shown_second_ci95": None}
    ours = {"win_rate": 33.0, "ci95": [10.0, 56.0], "n_total": 18, "n_null": 0, "order": {**order, **ends}}
    table = trust.hygiene(with_manifest(run, "judge", results={"judge": "j", "alpaca_eval": {"ddpo": ours}}))
    assert table is not None
    (row,) = (row for row in table.rows if row[0] == "order, dDPO")
    assert row[1].replace("\N{NO-BREAK SPACE}", " ") == "wins 40.0% [10.0, 70.0] shown first, 25.0% (no interval) shown second"
    assert "in one order" in row[2] and "both orders" not in row[2]


def test_the_lengths_of_answers_have_intervals(run: dict[str, Artifact]) -> None:
    table = scores.lengths(Run(run))
    assert table is not None
    rows = [tuple(cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row) for row in table.rows]
    assert rows[1] == ("dSFT", "92.7 [72.7, 112.7]", "90% [60%, 98%]", "10")
    older = with_manifest(run, "evaluate", results={"lengths": {"base": {"mean_tokens": 7.0, "ended": 0.5, "answers": 2}}})
    table = scores.lengths(older)
    assert table is not None and table.rows[0][1:3] == ("7.0 (no interval)", "50% (no interval)")


def test_what_ifeval_lacks_is_not_nought(run: dict[str, Artifact]) -> None:
    table = tables.judged(with_manifest(run, "judge", results={"judge": None, "ifeval": {"ddpo": {"n_prompts": 4}}}))
    assert table is not None and {row[2:4] for row in table.rows} == {("not measured", "not measured")}


def test_money_and_calls_of_every_stage(run: dict[str, Artifact]) -> None:
    table = accounts.cost(Run(run), fake_run.WITH_JUDGE)
    assert table is not None and [c.label for c in table.columns][4:6] == ["calls", "spent"]
    assert next(row for row in table.rows if row[0] == "judge")[4:6] == ("2,410", "$96.40")
    assert table.foot[4:6] == ("2,410", "$96.40")
    free = accounts.cost(Run({"sft": run["sft"]}), fake_run.WITH_JUDGE)
    assert free is not None and "spent" not in [c.label for c in free.columns]
    assert [accounts.money(v) for v in (12.349, 0.02, 0.00002)] == ["$12.35", "$0.02", "$0.00002"]
    lost = with_manifest(
        run,
        "rate",
        dropped={"the rating may have been paid for, and is lost": 4, "the answer is empty": 1, "fewer than two rated answers": 2},
    )
    left = accounts.dropped(lost, ("rate",))
    assert left is not None and [row[3] for row in left.rows] == ["answers", "prompts", "answers"]


def test_differences_between_models_are_in_their_unit() -> None:
    gap = {"paired": True, "difference": 0.031, "ci95": [-0.01, 0.072], "told_apart": False, "smallest_that_could_be_shown": 0.058, "n": 40}
    ones = [{"measure": m, "before": "dsft", "after": "ddpo", **gap} for m in ("reward_accuracy", "entropy")]
    table = scores.differences([*ones, {"measure": "nll", "before": "base", "after": "dsft", "paired": False, "why": "x"}])
    assert table is not None
    assert table.rows == (
        ("reward accuracy", "dSFT → dDPO", "+3.1 points", "[−1.0,\N{NO-BREAK SPACE}7.2]", "no (5.8 points)", "40"),
        ("entropy, nats", "dSFT → dDPO", "+0.031", "[−0.010,\N{NO-BREAK SPACE}0.072]", "no (0.058)", "40"),
    )
    assert scores.differences([]) is None
