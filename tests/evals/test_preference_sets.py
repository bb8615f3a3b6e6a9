"""Preference sets of several shapes, and what judges that need no API make of them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import small
import tiny
from zephyr.artifacts import draft
from zephyr.cli import main
from zephyr.errors import DataError, NonFiniteError, UsageError
from zephyr.evals import preference_scores
from zephyr.evals.preference import Group, compared
from zephyr.evals.preference_sets import AGAINST, ALIKE, DIVIDED, EMPTY, NO_TEXT, SAME, TIE, TWICE, group_of, read
from zephyr.evals.statistics import share
from zephyr.recipe import DataSource

PAIR = {"prompt": "Why?", "chosen": "Because it is.", "rejected": "No.", "subset": "plain"}
LLMBAR = {"subset": "LLMBar/Natural", "input": "Why?", "output_1": "No.", "output_2": "Because.", "label": 2}
PANDALM = {"instruction": "Say", "input": "hi", "response1": "Hi", "response2": "Ho", "annotator1": 1, "annotator2": 0, "annotator3": 1}


def group(*scores: float, prompt: str, category: str = "all") -> Group:
    return Group(prompt, "p", category, (), tuple((f"answer {i}", s) for i, s in enumerate(scores)))


def test_shapes_of_rows() -> None:
    found = [group_of(r) for r in (PAIR, LLMBAR, PANDALM, small.feedback()[0])]
    pair, bar, panda, rated = [g for g in found if isinstance(g, Group)]
    assert (pair.category, pair.answers) == ("plain", (("Because it is.", 1.0), ("No.", 0.0)))
    assert (bar.category, bar.prompt, bar.answers) == ("LLMBar/Natural", "Why?", (("No.", 0.0), ("Because.", 1.0)))
    assert (panda.context[0]["content"], panda.answers) == ("Say\n\nhi", (("Hi", 1.0), ("Ho", 0.0)))
    assert [score for _, score in rated.answers] == [9.0, 7.0, 4.0, 2.0]
    assert group_of({**PAIR, "prompt": None, "instruction": "x"} | {"prompt": "Why?"}) == pair


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({**PANDALM, "annotator2": 2, "annotator3": 0}, DIVIDED),
        ({**PANDALM, "annotator1": 0}, TIE),
        ({**PANDALM, "response1": True}, NO_TEXT),
        ({**PANDALM, "response2": " "}, EMPTY),
        ({**LLMBAR, "output_2": "No. "}, SAME),
        ({**PAIR, "chosen": " No."}, SAME),
        ({**PAIR, "rejected": ""}, EMPTY),
        ({**PAIR, "score_chosen": 3.0, "score_rejected": 4.0}, AGAINST),
        ({**PAIR, "score_chosen": 4.0, "score_rejected": 4.0}, ALIKE),
    ],
)
def test_rows_that_tell_nothing_are_counted_by_their_reason(row: dict[str, Any], why: str, tmp_path: Path) -> None:
    file = small.write_lines(tmp_path / "rows.jsonl", [PAIR, row, PAIR])
    found = read([DataSource(path=str(file))])
    assert (len(found.groups), found.rows, found.left_out) == (1, 3, {why: 1, TWICE: 1})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**LLMBAR, "label": 3}, "`label` is 3"),
        ({**LLMBAR, "label": math.nan}, "`label` is nan"),
        ({**PANDALM, "annotator2": None}, "`annotator2` is None"),
        ({k: v for k, v in PANDALM.items() if not k.startswith("ann")}, "no annotator says"),
        ({**PAIR, "score_chosen": math.nan, "score_rejected": 1.0}, "`score_chosen` is nan"),
        ({"prompt": "Why?", "answer": "No."}, "the row has 'prompt', 'answer'"),
        ({k: v for k, v in LLMBAR.items() if k != "output_2"}, "`output_2` is missing"),
    ],
)
def test_rows_that_are_wrong_are_errors(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = small.write_lines(tmp_path / "rows.jsonl", [PAIR, row])
    with pytest.raises(DataError, match=r"rows\.jsonl:2: ") as error:
        read([DataSource(path=str(file))])
    assert said in str(error.value)


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    file = small.write_lines(tmp_path / "rows.jsonl", [{**PANDALM, "annotator1": 0}] * 2)
    with pytest.raises(DataError, match=rf"of 2 rows: 2 \({TIE}\)"):
        read([DataSource(path=str(file))])


def test_of_a_split_that_is_chosen_nothing_else_is_read(tmp_path: Path) -> None:
    import datasets

    rows = [{**PAIR, "prompt": f"Why {i}?"} for i in range(6)]
    saved, own = str(tmp_path / "saved"), str(tmp_path / "own")
    datasets.DatasetDict(
        {"train_prefs": datasets.Dataset.from_list(rows[:4]), "test_prefs": datasets.Dataset.from_list(rows[4:])}
    ).save_to_disk(saved)
    with draft(Path(own), stage="binarize", key="k", config={}, parents={}) as out:
        out.write_rows("train", rows[:4])
        out.write_rows("test", rows[4:])
    for source in (
        DataSource(path=saved, source_split="test_prefs"),
        DataSource(path=saved, split="test"),
        DataSource(path=own, split="test"),
    ):
        assert [g.prompt for g in read([source]).groups] == ["Why 4?", "Why 5?"]
    assert [read([DataSource(path=path)]).rows for path in (saved, own)] == [6, 6]
    with pytest.raises(DataError, match="no split 'test_pref'; it has test_prefs, train_prefs"):
        read([DataSource(path=saved, source_split="test_pref")])


def test_measures_are_compared_by_hand() -> None:
    groups = [group(1, 0, prompt=str(i), category=name) for i, name in enumerate(["a", "a", "a", "b", "b"])]
    values = {"reward": [[2.0, 1.0], [1.0, 1.0], [0.0, 1.0], [3.0, 1.0], [3.0, 2.0]], "length": [[1.0, 2.0]] * 5}
    found = compared(groups, values)
    reward = found["reward"]
    assert (reward["accuracy"], reward["ties"], reward["accuracy_ties_half"]) == (3 / 5, 1, 3.5 / 5)  # a tie is no win
    assert (found["length"]["accuracy"], found["length"]["ties"]) == (0.0, 0)
    assert reward["above_length"]["difference"] == pytest.approx(3 / 5) and "above_length" not in found["length"]
    assert {name: part["accuracy"] for name, part in reward["by_subset"].items()} == {"a": pytest.approx(1 / 3), "b": 1.0}
    assert reward["mean_of_subsets"]["value"] == pytest.approx(2 / 3)
    # the interval of the mean: the distances to the ends of both subsets' intervals, squared, summed, halved (there are two)
    a, b = share([(1.0, 1), (0.0, 1), (0.0, 1)]), share([(1.0, 1), (1.0, 1)])
    assert a is not None and b is not None
    assert reward["mean_of_subsets"]["ci95"][0] == pytest.approx(2 / 3 - math.hypot(1 / 3 - a.low, 1 - b.low) / 2)
    assert reward["mean_of_subsets"]["ci95"][1] == pytest.approx(2 / 3 + math.hypot(a.high - 1 / 3, b.high - 1) / 2)
    # against length, which is always wrong: on the scale, and without an interval where every prompt says the same
    low, high = reward["above_length"]["ci95"]
    assert -1 < low < 3 / 5 < high == 1.0
    worse = compared(groups[:3], {"reward": [[0.0, 1.0]] * 3, "length": [[2.0, 1.0]] * 3})
    gap = worse["reward"]["above_length"]
    assert (gap["difference"], gap["ci95"], gap["told_apart"]) == (-1.0, None, False)
    lines = preference_scores.measured({"results": worse, "length_in": "tokens", "left_out": {}})
    assert lines[1].split("  ")[-1] == "-100.0 (no interval: all differences are equal) above length"
    with pytest.raises(NonFiniteError, match="reward: the value of an answer to prompt 4"):
        compared(groups, {**values, "reward": [*values["reward"][:4], [math.nan, 0.0]]})


# --- with models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two tiny models of one tokenizer, with its chat template."""
    folders = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("policy")
        tiny.tiny_model(attention="sdpa", seed=seed).save_pretrained(folder)
        tiny.byte_tokenizer().save_pretrained(folder)
        folders.append(folder)
    return folders[0], folders[1]


def _by_hand(folder: Path, prompt: str, answer: str) -> tuple[float, int]:
    """Log-probability and number of the answer's tokens, by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    head = tokenizer(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    tail = tokenizer(f"{answer}<|im_end|>", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([head + tail])).logits[0].double()
    found = torch.log_softmax(logits, -1)[len(head) - 1 : -1].gather(1, torch.tensor(tail)[:, None])
    return float(found.sum()), len(tail)


def test_implicit_rewards_are_those_of_the_definition(policies: tuple[Path, Path], tmp_path: Path) -> None:
    file = small.write_lines(tmp_path / "rows.jsonl", [PAIR, LLMBAR, {**PAIR, "chosen": "A very long one. " * 30}])
    policy, reference = policies
    rows = tmp_path / "each.jsonl"
    found = preference_scores.score(
        [str(file)], model=str(policy), reference=str(reference), beta=0.5, max_length=60, rows=rows
    )  # fmt: skip
    assert found["left_out"] == {"an answer is longer than a model reads": 1} and found["rows"] == 3
    for line in map(json.loads, rows.read_text(encoding="utf-8").splitlines()):
        for i, answer in enumerate(line["answers"]):
            (pi, n), (ref, _) = (_by_hand(folder, line["prompt"], answer) for folder in policies)
            assert line["implicit_reward"][i] == pytest.approx(0.5 * (pi - ref), abs=1e-4)
            assert line["implicit_reward_per_token"][i] == pytest.approx(0.5 * (pi - ref) / n, abs=1e-5)
            assert line["length"][i] == n
    assert set(found["results"]) == {"implicit_reward", "implicit_reward_per_token", "length"}
    alone = preference_scores.score([str(file)], model=str(policy), max_length=60, rows=rows)
    (first, *_) = map(json.loads, rows.read_text(encoding="utf-8").splitlines())
    assert first["implicit_reward"][0] == pytest.approx(0.1 * _by_hand(policy, "Why?", "Because it is.")[0], abs=1e-4)
    assert "without --reference" in preference_scores.describe(alone)
    name = "a-model-whose-name-is-longer-than-the-column"
    said = "\n".join(preference_scores.measured(alone, {"implicit_reward": name}))
    assert re.search(rf"  {name} {{12,}}\d", said) and re.search(rf"  {name} per token  \d", said), "a name ends before its number begins"
    assert "left out: 1 row, an answer is longer than a model reads" in said


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = small.write_lines(tmp_path / "rows.jsonl", [PAIR, LLMBAR, PANDALM])
    main_ok(["score", "preferences", str(file)])
    text = capsys.readouterr().out
    assert "length in characters" in text and "1 tie counts as wrong" in text and "mean of 3 subsets" in text
    with pytest.raises(UsageError, match="--reference needs --model"):
        preference_scores.score([str(file)], reference="x")


def main_ok(arguments: list[str]) -> None:
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code


def test_real_sets(shared: Path) -> None:
    """What is in the public files, counted once by hand: LLMBar's longer answer is the better in 249 of 619."""
    folder = shared / "data" / "feedback"
    found = preference_scores.score([str(folder / "llmbar_pairs.jsonl.gz")])
    length = found["results"]["length"]
    assert (length["pairs"], round(length["accuracy"] * 619), length["ties"], len(length["by_subset"])) == (619, 249, 7, 6)
    panda = read([DataSource(path=str(folder / "pandalm_testset_v1.jsonl.gz"))])
    assert panda.rows == 784 and len(panda.groups) + sum(panda.left_out.values()) == 784 and panda.left_out[NO_TEXT] == 6
    binarized = read([DataSource(path=str(folder / "ultrafeedback_binarized_1k.jsonl.gz"))])
    assert (len(binarized.groups), binarized.left_out) == (884, {ALIKE: 110, SAME: 4, EMPTY: 2})
