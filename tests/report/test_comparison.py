"""Runs side by side: what is said to differ, what is paired and how far apart it is, and that the page is as safe as that of one run."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import fake_run
import pytest

from zephyr import api
from zephyr.artifacts import Artifact, Manifest
from zephyr.errors import UsageError
from zephyr.evals import items, side_by_side
from zephyr.evals.statistics import paired
from zephyr.report import beside, comparison, overlay, plots, scores


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    fake_run.make(folder / "a", fake_run.WITH_JUDGE)
    fake_run.make(folder / "b <i>", fake_run.WITH_JUDGE, shift=0.06, settings={"beta": 0.05, "learning_rate": 1e-6})
    return [folder / "a", folder / "b <i>"]


@pytest.fixture(scope="module")
def result(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw", lambda chart: f'<svg role="img" aria-label="{html.escape(chart.described)}"></svg>')
        return api.report(runs, tmp_path_factory.mktemp("out") / "page", "Two <b>betas</b>")


@pytest.fixture(scope="module")
def text(result: dict[str, Any]) -> str:
    return words(page_of(result))


def page_of(result: dict[str, Any]) -> str:
    return Path(result["path"], "report.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)).split())


def test_settings_that_differ_are_said_with_their_meaning(result: dict[str, Any], text: str) -> None:
    settings = {(s["stages"][0], s["setting"]): s for s in result["results"]["settings"]}
    assert set(settings) == {("dpo", "dpo.beta"), ("dpo", "dpo.learning_rate")}
    assert settings["dpo", "dpo.beta"]["values"] == {"a": 0.1, "b <i>": 0.05}
    assert "how far the model may move from the reference" in settings["dpo", "dpo.beta"]["about"]
    assert "dpo beta 0.1 0.05 how far the model may move" in text
    assert "All share curate, sft, complete, rate, binarize, reference, answer and judge: the same artifact, byte for byte." in text
    assert "share dpo" not in text and result["results"]["cost"]["b <i>"]["sft"]["shared_with"] == "a"
    assert result["results"]["cost"]["b <i>"]["dpo"]["shared_with"] is None


def test_differences_are_paired_on_the_rows_that_both_have(result: dict[str, Any], text: str) -> None:
    numbers = {(n["measure"], n["model"]): n for n in result["results"]["numbers"]}
    gap = numbers["nll", "ddpo"]["against_first"]["b <i>"]
    rows = [[r for r in fake_run.measured(shift) if (r["measure"], r["model"]) == ("nll", "ddpo")] for shift in (0.0, 0.06)]
    first, other = ({r["prompt_id"]: (r["value"], r["n"]) for r in one} for one in rows)
    want = paired(other, first)
    assert want is not None and gap["difference"] == pytest.approx(want.value) == pytest.approx(0.06)
    assert gap["ci95"] == pytest.approx([want.low, want.high]) and gap["n"] == 40 and gap["told_apart"]
    assert (
        "Test loss, nats per token, dDPO: b <i> is +0.060 [0.054, 0.066] from a, the worse one, on the 40 test rows that both have." in text
    )
    assert re.search(r"Reward accuracy, dDPO: b <i> (is|and a cannot be told apart) .{0,90}\d points", text)
    assert numbers["nll", "base"]["against_first"]["b <i>"]["difference"] == 0.0
    # what no rows are kept of is not called paired
    assert numbers["arc_challenge", "ddpo"]["against_first"] == {}
    assert json.loads(Path(result["path"], "data", "scores.json").read_text()) == result["results"]


def test_other_rows_are_not_paired(tmp_path: Path) -> None:
    """Equal ids are not enough: the texts must be the same, and of a likelihood the tokens of every one of them."""
    base = items.grouped(fake_run.measured())["nll", "dsft"]
    assert side_by_side._difference("nll", base, base)["n"] == 40
    other = {name: {**row, "contents": {"another"} if i < 10 else row["contents"]} for i, (name, row) in enumerate(base.items())}
    found = side_by_side._difference("nll", other, base)
    assert (found["n"], found["left_out"]) == (30, 10)
    retokenised = {name: {**row, "n": row["n"] + 1} for name, row in base.items()}
    by_chance = {name: {**row, "n": row["n"] + (i > 30)} for i, (name, row) in enumerate(base.items())}
    for rows in (retokenised, by_chance):  # a subset that happens to be cut alike is no sample of the rows
        gap = side_by_side._difference("nll", rows, base)
        assert not gap["paired"] and gap["why"].startswith("the two models have other tokenizers")
    assert side_by_side._difference("length", retokenised, base)["n"] == 40, "of lengths, which differ by right, only the texts"
    judge = fake_run.make(tmp_path / "j", ("judge",))
    (tmp_path / "k").mkdir()
    assert side_by_side.between_runs(judge, judge) == [], "without verdicts there is nothing to pair"


def test_chat_benchmarks_are_paired_by_question(tmp_path: Path) -> None:
    runs = []
    for name, better in (("one", 0), ("two", 2)):
        artifact = fake_run.make(tmp_path / name, ("judge",))["judge"]
        rows = [
            {"model": "ddpo", "question_id": q, "turn": t, "score": (q % 4) + 2 + better if t < 3 else -1}
            for q in range(8)
            for t in (1, 2, 3)
        ]
        (artifact.path / "data").mkdir()
        (artifact.path / "data" / "mt_bench_judgments.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        annotations = [{"generator_2": "ddpo", "instruction": f"{i}", "preference": 1 + (i + better) % 2} for i in range(6)]
        (artifact.path / "data" / "alpaca_eval.ddpo.annotations.json").write_text(
            json.dumps([*annotations, {**annotations[0], "preference": None}])
        )
        runs.append({"judge": Artifact.open(artifact.path)})
    mt, alpaca = side_by_side.between_runs(*runs)
    assert (mt["measure"], mt["model"], mt["difference"], mt["n"], mt["paired_se"]) == ("mt_bench", "ddpo", 2.0, 8, 0.0)
    assert (alpaca["measure"], alpaca["difference"], alpaca["n"]) == ("alpaca_eval", 0.0, 6)
    first, other = (run["judge"].manifest for run in runs)
    by_measure = {"mt_bench_pairs": ["compatible"], "mt_bench": ["compatible"], "alpaca_eval": ["order", "preference"]}
    for manifest in (first, other):
        manifest.results["mt_bench_pairs"] = {"ddpo": {}}
    for way in ("compatible", "order", "preference"):
        first.config[way] = "another"
        whys = {gap["measure"]: gap.get("why") for gap in side_by_side.between_runs(*runs)}
        assert whys.items() >= {(m, f"they were judged in other ways ({way})") for m, ways in by_measure.items() if way in ways}
        assert whys.items() >= {(m, None) for m, ways in by_measure.items() if way not in ways and m != "mt_bench_pairs"}
        first.config[way] = other.config[way] = "the same"
    for manifest, digest in ((first, "a"), (other, "b")):
        manifest.parents["teacher"] = {"path": f"runs/{digest}/dpo", "digest": digest}
    assert [gap["why"] for gap in side_by_side.between_runs(*runs)] == ["they were judged by different judges"] * 3
    other.parents["teacher"], other.results["judge"] = first.parents["teacher"], "another"
    assert side_by_side.between_runs(*runs)[0]["why"] == "they were judged by different judges"


def of_results(stage: str, results: dict[str, Any], digest: str = "a") -> dict[str, Artifact]:
    manifest = Manifest(stage, "0" * 64, {}, {}, results=results, seconds=60.0)
    manifest.digest = digest
    return {stage: Artifact(Path("/nowhere"), manifest)}


def test_no_measure_is_passed_over_and_each_has_its_own_interval() -> None:
    followed = {key: {"value": 1.0, "ci95": [0.7, 1.0]} for key in scores.IFEVAL}
    pairs = {"ddpo": {"win_rate": 61.0, "ci95": [50.5, 71.5], "against": ["base"]}}
    judge = of_results("judge", {"ifeval": {"ddpo": followed}, "mt_bench_pairs": pairs})
    own = {"ddpo_per_token": {"accuracy": 0.6, "ci95": [0.4, 0.8]}, "length": {"accuracy": 0.5, "ci95": [0.3, 0.7]}}
    arc = {"base": {"value": 1.0, "stderr": 0.0, "ci95": [0.7225, 1.0]}, "ddpo": {"value": 0.9, "stderr": 0.1, "ci95": [0.57, 0.99]}}
    first = {**judge, **of_results("evaluate", {"preferences": {"p_": {"results": own}}, "benchmarks": {"arc": arc}})}
    runs = {"one": first, "two": {**judge, **of_results("evaluate", {"benchmarks": {"arc": arc}}, "b")}, "three": of_results("curate", {})}
    gap = {"measure": "mt_bench_pairs", "model": "ddpo", "paired": False, "why": "they were judged on different files"}
    found = beside.found(runs, {"two": [gap], "three": []}, {}, order=("curate", "judge", "evaluate"))
    numbers = {(n["measure"], n["model"]): n["values"] for n in found["numbers"]}
    assert numbers["prompt_level_strict_acc", "ddpo"]["one"] == {"value": 1.0, "ci95": [0.7, 1.0]}
    assert numbers["mt_bench_pairs", "ddpo"]["two"] == {"value": 61.0, "ci95": [50.5, 71.5]}
    assert set(numbers["preferences p_", "length"]) == {"one"}
    assert [numbers["arc", model]["one"]["ci95"] for model in ("base", "ddpo")] == [[0.7225, 1.0], [0.57, 0.99]]
    assert found["not_compared"]["two"] == ["preferences p_"] and len(found["not_compared"]["three"]) == 7
    assert found["not_compared"].keys() == {"two", "three"}
    text = words(comparison.render("three runs", runs, found))
    assert "Not compared, for two has none: preference set p_, accuracy." in text
    assert "Not compared: three has none of the measures." in text
    assert "IFEval, instructions, loose" in text and "dDPO per token one 60.0% [40.0%, 80.0%]" in text
    assert "two, dDPO: they were judged on different files" in text
    assert "judge 1 min 00 s as in one – evaluate 1 min 00 s 1 min 00 s – in all 2 min 00 s 1 min 00 s 1 min 00 s" in text, "paid once"


def test_rows_that_are_left_out_are_said() -> None:
    gap = {"paired": True, "difference": 0.1, "ci95": [0.05, 0.15], "told_apart": True, "n": 30, "left_out": 10}
    assert (
        scores.gap_cells(gap, scores.fixed)[-1] == "30 (10 left out)" and scores.gap_cells({**gap, "left_out": 0}, scores.fixed)[-1] == "30"
    )
    numbers = [{"measure": "nll", "model": "ddpo", "against_first": {"b": {**gap, "paired_se": 0.1}}}]
    assert comparison.sentences({"runs": ["a", "b"], "numbers": numbers})[0].endswith("on the 30 test rows that both have (10 left out).")
    equal = {**gap, "paired_se": 0.0, "ci95": None, "smallest_that_could_be_shown": None, "told_apart": False, "left_out": 0}
    assert scores.gap_cells(equal, scores.fixed) == ("+0.100", "no interval", "no: all differences are equal", "30")
    numbers[0]["against_first"] = {"b": equal}
    said = comparison.sentences({"runs": ["a", "b"], "numbers": numbers})[0]
    assert said.endswith("b is +0.100 from a on each of the 30 test rows that both have; no interval: all differences are equal.")
    other = {"measure": "nll", "before": "base", "after": "dsft", "paired": False, "why": side_by_side.OTHER_UNIT}
    table = scores.differences([other, {**gap, "measure": "entropy", "before": "dsft", "after": "ddpo"}])
    assert table is not None and f"Not paired: test loss, nats per token, base → dSFT: {side_by_side.OTHER_UNIT}." in table.note


def test_curves_lie_in_one_picture(runs: list[Path]) -> None:
    logs = {run.name: {s: Artifact.open(run / s).log() for s in ("sft", "dpo")} for run in runs}
    charts = {chart.name: chart for chart in overlay.overlaid(logs)}
    assert list(charts) == ["sft-loss", "dpo-loss", "dpo-accuracy", "dpo-margin", "dpo-chosen_logp", "dpo-rejected_logp"]
    moved = charts["dpo-chosen_logp"]
    assert [c.colour for c in moved.curves] == ["run1", "run2"] and all(c.points[0][1] == 0.0 for c in moved.curves)
    assert moved.curves[0].points[-1][1] == pytest.approx(-5.0) and moved.curves[1].points[-1][1] == pytest.approx(-5.0 * 1.24)
    drawn = charts["dpo-loss"].svg()
    assert "var(--run1)" in drawn and "var(--run2)" in drawn and "#0101ff" not in drawn


def test_the_page_is_safe_and_always_the_same(runs: list[Path], result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(result)
    assert "<b>betas</b>" not in page and "<i>" not in page and "&lt;i&gt;" in page
    assert "default-src 'none'" in page and not re.search(r"<(script|img|iframe|link)\b", page)
    monkeypatch.setattr(plots, "draw", lambda chart: f'<svg role="img" aria-label="{html.escape(chart.described)}"></svg>')
    opened = {run.name: {s: Artifact.open(run / s) for s in reversed(fake_run.WITH_JUDGE)} for run in runs}
    assert comparison.render("Two <b>betas</b>", opened, result["results"]) == page
    again = api.report(runs, Path(result["path"]), "Two <b>betas</b>")
    assert again["status"] == "done" and page_of(again) == page


def test_what_cannot_be_compared_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="named twice"):
        api.report([runs[0], runs[0] / ".." / "a"], tmp_path / "out")
    with pytest.raises(UsageError, match=r"nothing: no artifact of a run is there"):
        api.report([runs[0], tmp_path / "nothing"], tmp_path / "out")
    many = [tmp_path / f"{i}" for i in range(7)]
    for folder in many:
        folder.mkdir()
        (folder / "curate").symlink_to(runs[0] / "curate")
    with pytest.raises(UsageError, match="at most 6 fit"):
        api.report(many, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_reference_of_an_earlier_objective_is_no_part_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw", lambda chart: f'<svg role="img" aria-label="{html.escape(chart.described)}"></svg>')
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run, other):
        fake_run.make(folder)
    manifest = run / "dpo" / "manifest.json"
    values = json.loads(manifest.read_text(encoding="utf-8"))
    del values["parents"]["references"]  # as simpo makes it
    manifest.write_text(json.dumps(values), encoding="utf-8")
    result = api.report(run, tmp_path / "page")
    assert set(Artifact.open(Path(result["path"])).manifest.parents) == {*fake_run.ORDER} - {"reference"}
    assert words(page_of(result)).count("not in this run") == 1
    both = api.report([other, run], tmp_path / "both")
    assert {name for name in Artifact.open(Path(both["path"])).manifest.parents if "reference" in name} == {"other/reference"}
