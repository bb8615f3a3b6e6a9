"""Academic tasks from files of lm-eval: scores by hand, two models item by item, and what does not fit said by name. lm-eval is not needed."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import small
from zephyr.cli import main
from zephyr.errors import DataError, UsageError, ZephyrError
from zephyr.evals.open_llm import score_files, show

Rows = list[dict[str, Any]]
RIGHT = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
SHARES = [0.9, 0.4, 0.5, 0.7, 0.2, 0.6]
DATE = "_2026-11-22T10-01-02.345678"


def samples(scores: Sequence[float], metric: str = "acc_norm", *, item: str = "item", prompt: str = "p") -> Rows:
    """As `--log_samples` writes them, as far as they are read."""
    return [
        {
            "doc_id": i,
            "doc": {"query": f"{item} {i}", "question": f"{item} {i}", "choices": ["a", "b"], "mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]}},
            "target": "0",
            "filter": "none",
            "metrics": ["acc", metric],
            "prompt_hash": f"{prompt} {i}",
            "acc": 1.0,
            metric: score,
        }
        for i, score in enumerate(scores)
    ]  # fmt: skip


def results(scores: dict[str, Sequence[float]], **more: Any) -> dict[str, Any]:
    """As lm-eval sums them up."""

    def of(task: str, items: Sequence[float]) -> dict[str, Any]:
        metric, n, mean = "acc" if task.startswith(("mmlu", "truth")) else "acc_norm", len(items), math.fsum(items) / len(items)
        spread = math.sqrt(math.fsum((x - mean) ** 2 for x in items) / (n - 1) / n) if n > 1 else "N/A"
        return {"alias": task, "acc,none": 0.5, f"{metric},none": mean, f"{metric}_stderr,none": spread}

    shots = {"arc_challenge": 25, "hellaswag": 10, "truthfulqa_mc2": 0}
    return {
        "results": {task: of(task, items) for task, items in scores.items()},
        "n-samples": {task: {"original": len(items), "effective": len(items)} for task, items in scores.items()},
        "n-shot": {task: shots.get(task, 5) for task in scores},
        "configs": {task: {"fewshot_config": {"sampler": "default"}} for task in scores},
        **more,
    }


def write(path: Path, content: Rows | dict[str, Any]) -> Path:
    if isinstance(content, list):
        return small.write_lines(path, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


# --- scores ------------------------------------------------------------------------------------------------------


def test_scores_by_hand_from_samples_and_from_sums_alike(tmp_path: Path) -> None:
    """Wilson's interval of right and wrong, Student's of shares, subjects of equal weight; both kinds of file tell the same."""
    anatomy, virology = [1.0, 1.0, 0.0, 1.0], [0.0, 1.0]
    given = {"hellaswag": RIGHT, "mmlu_anatomy": anatomy, "mmlu_virology": virology, "truthfulqa_mc2": SHARES}
    for task, scores in given.items():
        write(tmp_path / "a" / f"samples_{task}{DATE}.jsonl", samples(scores, "acc_norm" if task == "hellaswag" else "acc"))
    plain = tmp_path / "a" / f"samples_hellaswag{DATE}.jsonl"
    plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    sums = write(tmp_path / "sums.json", results(given, model_name="some/model"))

    found, summed = score_files([tmp_path / "a"]), score_files([sums])
    assert (found["model"], summed["model"]) == ("a", "some/model")
    hellaswag, mmlu, truth = (found["benchmarks"][name] for name in ("hellaswag", "mmlu", "truthfulqa"))
    assert hellaswag["value"] == 5 / 8 and hellaswag["stderr"] == pytest.approx(math.sqrt(5 * 3 / 8 / 7 / 8))
    n, t2 = 7, 2.364624252**2  # the effective number is p (1 - p) / V
    middle, half = 5 / 8 + t2 / (2 * n), math.sqrt(t2 * (15 / 64 / n + t2 / (4 * n**2)))
    assert hellaswag["ci95"] == pytest.approx([(middle - half) / (1 + t2 / n), (middle + half) / (1 + t2 / n)], abs=1e-6)
    assert mmlu["value"] == pytest.approx((3 / 4 + 1 / 2) / 2) and mmlu["value_by_item"] == pytest.approx(4 / 6)
    assert mmlu["stderr"] == pytest.approx(math.hypot(1 / 4, 1 / 2) / 2) and mmlu["n"] == 6
    assert mmlu["subjects"]["anatomy"]["value"] == 3 / 4 and mmlu["subjects"]["anatomy"]["ci95"][0] < 3 / 4
    assert truth["metric"] == "mc2" and truth["value"] == pytest.approx(0.55)
    assert truth["ci95"] == pytest.approx([0.55 - 2.570581836 * truth["stderr"], 0.55 + 2.570581836 * truth["stderr"]], abs=1e-6)
    for name, one in found["benchmarks"].items():
        other = summed["benchmarks"][name]
        for key in ("value", "stderr", "ci95", "n", "subjects") if name == "mmlu" else ("value", "stderr", "ci95", "n"):
            assert one[key] == (pytest.approx(other[key], rel=1e-12) if key != "subjects" else other[key]), (name, key)
        assert (one["read_from"], other["read_from"], one["num_fewshot"]) == ("samples", "results", None)
    assert [summed["benchmarks"][name]["num_fewshot"] for name in found["benchmarks"]] == [10, 5, 0]
    assert summed["benchmarks"]["hellaswag"]["sampler"] == "drawn"
    assert [text for text in summed["warnings"] if "of 57 subjects" not in text] == []
    text = show.describe(found)
    low, high = (100 * end for end in hellaswag["ci95"])
    assert f"hellaswag      62.5% [{low:.1f}, {high:.1f}] acc_norm over 8 items" in text and "anatomy " in text
    assert text.count("%") - text.count("95%") == text.count("% [") == 6, "no number without its interval"


def test_of_one_item_there_is_no_interval(tmp_path: Path) -> None:
    found = score_files([write(tmp_path / "r.json", results({"truthfulqa_mc2": [0.7], "arc_challenge": [1.0]}))])
    assert [(one["stderr"], one["ci95"], one["n"]) for one in found["benchmarks"].values()] == [(None, None, 1)] * 2
    assert show.describe(found).count("(no interval)") == 2


def test_two_models_are_paired_by_what_was_asked(tmp_path: Path) -> None:
    """In whatever order and beside whatever columns; only where the same was asked, and other prompts are said."""
    one = write(tmp_path / "one" / "samples_hellaswag.jsonl", samples(RIGHT))
    other = [0.0 if i in (0, 3) else score for i, score in enumerate(RIGHT)]
    rows = samples(other)
    for i, row in enumerate(rows):
        row["doc"]["ind"], row["doc_id"] = i, (i + 3) % 8
    theirs = write(tmp_path / "two" / "samples_hellaswag.jsonl", rows[::-1])
    found = score_files([one], against=[theirs])
    gap = found["benchmarks"]["hellaswag"]["against"]["two"]
    assert gap["difference"] == pytest.approx(2 / 8) and gap["n"] == 8
    assert gap["paired_se"] == pytest.approx(math.sqrt((2 - 4 / 8) / 7 / 8))
    assert found["against"]["benchmarks"]["hellaswag"]["value"] == 3 / 8 and not found["warnings"]
    assert f"hellaswag: {gap['in_words']}" in show.describe(found) and "one and two cannot be told apart" in gap["in_words"]

    def remark(*rows_of: Rows, sums: bool = False) -> tuple[Any, str]:
        folder = tmp_path / "three"
        path = write(folder / "r.json", results({"hellaswag": RIGHT})) if sums else write(folder / "samples_hellaswag.jsonl", rows_of[0])
        found = score_files([one], against=[path])
        (text,) = found["warnings"]
        return found["benchmarks"]["hellaswag"].get("against", {}).get("three"), text

    gap, text = remark(samples(RIGHT, prompt="q"))
    assert gap is not None and text == "hellaswag: 8 prompts differ (other examples, say): the difference is not of the models alone"
    assert remark(samples(RIGHT, item="another")) == (
        None,
        f"hellaswag: no paired difference: 16 items of hellaswag were asked of one of the two only, such as {one}:1",
    )
    assert remark(samples(RIGHT[:-1]))[1].endswith(f"1 items of hellaswag were asked of one of the two only, such as {one}:8")
    assert remark([{**row, "doc": None} for row in samples(RIGHT)])[1].endswith(
        "samples_hellaswag.jsonl:1 does not say what was asked (`doc`)"
    )
    assert remark(sums=True) == (None, "hellaswag: no paired difference: no samples of hellaswag by three")
    same = score_files([one], against=[one])
    assert list(same["benchmarks"]["hellaswag"]["against"]) == [f"one ({one})"], "two of one name are told apart by their files"


# --- what does not fit -------------------------------------------------------------------------------------------


def changed(**changes: Any) -> Callable[[Rows], Rows]:
    """The third sample is another; a column that is to be None goes."""
    return lambda rows: [{k: v for k, v in {**row, **changes}.items() if v is not None} if i == 2 else row for i, row in enumerate(rows)]


BAD: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "a number twice": (changed(doc_id=0), ":3: doc_id 0 stands twice, first at .*:1; one run was expected"),
    "no number": (changed(doc_id=None), ":3: `doc_id` is missing; the number of the item was expected"),
    "a number that is a text": (changed(doc_id="2"), ':3: `doc_id` is "2"'),
    "a gap": (lambda rows: rows[:2] + rows[4:], ": of doc_id 0 to 7 2 are missing, the first is 2; --partial"),
    "no score": (changed(acc_norm=math.nan), ":3: `acc_norm` is NaN, which is no score$"),
    "a truth value": (changed(acc_norm=True), ":3: `acc_norm` is true, which is no score"),
    "half right": (changed(acc_norm=0.5), ":3: `acc_norm` is 0.5; 0 or 1 was expected"),
    "another metric": (
        lambda rows: [{**{k: v for k, v in row.items() if k != "acc_norm"}, "metrics": ["exact_match"]} for row in rows],
        ":1: no `acc_norm`, by which hellaswag is scored; there is exact_match",
    ),
    "a filter": (changed(filter="strict-match"), ':3: read by the filter "strict-match"; hellaswag has none'),
    "nothing": (lambda _: [], ": no samples in it"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_samples_that_do_not_fit(change: Callable[[Rows], Rows], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "samples_hellaswag.jsonl", change(samples(RIGHT)))
    with pytest.raises(DataError, match=rf"^{path}{message}"):
        score_files([path])


def test_shares_that_are_none_are_explained(tmp_path: Path) -> None:
    path = write(tmp_path / "samples_truthfulqa_mc2.jsonl", samples([0.5, math.nan], "acc"))
    with pytest.raises(DataError, match="`acc` is NaN, which is no score; lm-eval divides nought by nought"):
        score_files([path])
    with pytest.raises(DataError, match=r"`acc` is 1\.5; a share from 0 to 1 was expected"):
        score_files([write(path, samples([0.5, 1.5], "acc"))])


def test_samples_and_sums_are_of_one_run(tmp_path: Path) -> None:
    write(tmp_path / "results.json", results({"hellaswag": RIGHT}))
    half = write(tmp_path / "samples_hellaswag.jsonl", samples(RIGHT[:5]))
    with pytest.raises(DataError, match=r"5 samples of hellaswag, of which .*results\.json has 8; --partial"):
        score_files([tmp_path])
    found = score_files([tmp_path], partial=True)
    assert found["benchmarks"]["hellaswag"]["n_missing"] == 3 and found["benchmarks"]["hellaswag"]["value"] == 3 / 5
    assert any("3 of 8 items are missing; the score leaves them out" in text for text in found["warnings"])
    write(half, [row for row in samples(RIGHT) if row["doc_id"] not in (2, 3)])
    assert score_files([half], partial=True)["benchmarks"]["hellaswag"]["n_missing"] == 2
    write(half, samples([1.0 - score for score in RIGHT]))
    with pytest.raises(DataError, match=r"come to 0\.3750, and .*results\.json says 0\.6250: they are of two runs"):
        score_files([tmp_path])
    write(half, samples([*RIGHT, 1.0]))
    with pytest.raises(DataError, match=r"9 samples of hellaswag, of which .*results\.json has 8$"):
        score_files([tmp_path], partial=True)


def test_how_it_was_asked_is_said(tmp_path: Path) -> None:
    whole = results(
        {"hellaswag": RIGHT, "gsm8k": RIGHT, "arc_easy": RIGHT, "mmlu": RIGHT, "ours": RIGHT}, group_subtasks={"ours": ["hellaswag"]}
    )
    whole["n-shot"]["hellaswag"], whole["chat_template"], whole["n-samples"]["hellaswag"]["original"] = 0, "{{ messages }}", 10042
    path = write(tmp_path / "m" / "results.json", whole)
    assert score_files([path])["warnings"] == [
        f"{path}: gsm8k, arc_easy: none of the four benchmarks, left out",
        "m, hellaswag: 8 of its 10,042 items were asked",
        "m, hellaswag: asked with 0 examples, and the leaderboard shows 10: not the same number",
        "m, hellaswag: asked within a chat template, and the leaderboard uses none: not the same number",
    ]


def of_results(**changes: Any) -> dict[str, Any]:
    whole = results({"hellaswag": RIGHT})
    whole["results"]["hellaswag"] = {k: v for k, v in {**whole["results"]["hellaswag"], **changes}.items() if v is not None}
    return whole


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (of_results(**{"acc_norm,none": math.nan}), ", hellaswag: `acc_norm,none` is NaN, which is no score"),
        (of_results(**{"acc_norm,none": None}), ", hellaswag: no `acc_norm,none`, by which hellaswag is scored; there is acc,none"),
        (of_results(**{"acc_norm,none": 62.5}), ", hellaswag: `acc_norm,none` is 62.5; a share from 0 to 1 was expected"),
        (of_results(**{"acc_norm,none": 0.6}), ", hellaswag: `acc_norm,none` is 0.6, which is no share of 8 items"),
        ({**of_results(), "n-samples": {}}, r", hellaswag: of how many items its score is, it does not say \(`n-samples`\)"),
        ({"scores": {}}, ": lm-eval's results were expected, an object with `results`"),
        (results({"gsm8k": RIGHT}), ": has gsm8k; of lm-eval's tasks arc_challenge, hellaswag, mmlu_SUBJECT and truthfulqa_mc2 are scored"),
    ],
)
def test_sums_that_do_not_fit(whole: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "results.json", whole)
    with pytest.raises(DataError, match=rf"^{path}{message}"):
        score_files([path])


def test_files_that_are_not_there_or_do_not_tell_what_they_are(tmp_path: Path) -> None:
    def refused(kind: type[ZephyrError], message: str, *paths: Path) -> None:
        with pytest.raises(kind, match=message):
            score_files(paths)

    refused(UsageError, "nowhere: no such file or folder", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused(UsageError, "empty: no file of lm-eval in it", tmp_path / "empty")
    refused(UsageError, r"rows\.jsonl: its name does not tell the task", write(tmp_path / "rows.jsonl", samples(RIGHT)))
    refused(DataError, "samples_gsm8k.jsonl: has gsm8k; of lm-eval's tasks", write(tmp_path / "samples_gsm8k.jsonl", samples(RIGHT)))
    both = [write(tmp_path / "runs" / m / "samples_hellaswag.jsonl", samples(RIGHT)) for m in "ab"]
    refused(UsageError, f"runs: files of lm-eval in {both[0].parent}, {both[1].parent}; name the folder of one model", tmp_path / "runs")
    refused(UsageError, f"{both[1]}: hellaswag stands in {both[0]} too; name the files of one run", *both)
    broken = tmp_path / "broken" / "samples_hellaswag.jsonl"
    write(broken, samples(RIGHT)).write_text(broken.read_text()[:-40])
    refused(DataError, f"^{broken}:8: not valid JSON", broken)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object on stdout, notes on stderr, 1 for rows that do not fit and 2 for wrong use."""

    def zephyr(*arguments: object) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["score", "open-llm", *map(str, arguments)])
        return (end.value.code or 0, *capsys.readouterr())

    one = write(tmp_path / "one" / f"samples_mmlu_anatomy{DATE}.jsonl", samples(RIGHT, "acc")).parent
    two = write(tmp_path / "two" / f"samples_mmlu_anatomy{DATE}.jsonl", samples(RIGHT[::-1], "acc")).parent
    code, out, err = zephyr(one, "--against", two, "--json")
    found = json.loads(out)
    assert code == 0 and found["benchmarks"]["mmlu"]["against"]["two"]["difference"] == 0.0
    assert "note: one, mmlu: 1 of 57 subjects" in err
    code, out, err = zephyr(one, "--against", two)
    assert code == 0 and "mmlu: one and two cannot be told apart" in out and out.endswith("In brackets: 95% intervals over items.\n")
    write(one / f"samples_mmlu_anatomy{DATE}.jsonl", samples(RIGHT, "acc")[1:])
    assert zephyr(one)[0] == 1 and zephyr(one, "--partial")[0] == 0
    assert zephyr(tmp_path / "nowhere")[0] == 2
