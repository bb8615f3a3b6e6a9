"""`zephyr reproduce` from end to end at toy size: what is shared is made once, a cut goes on, the page says what was found."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import toy

from conftest import ROOT
from zephyr import api
from zephyr.artifacts import Manifest
from zephyr.errors import DataError, UsageError
from zephyr.reproduce import graph, preset, results, run
from zephyr.reproduce.evidence import Evidence
from zephyr.reproduce.experiment import Experiment
from zephyr.reproduce.graph import Model, Step

PAPER = ROOT / "recipes" / "zephyr-7b-beta.yaml"
ARGUMENTS: dict[str, Any] = {"overrides": toy.SMALL, "seeds": 1}


@dataclass
class Whole:
    """The folder, what the last command returned, and which steps each command made."""

    out: Path
    result: dict[str, Any]
    made: dict[str, list[Step]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """table3, cut after its third step and taken up again; then everything."""
    out = tmp_path_factory.mktemp("reproduce") / "run"
    made: dict[str, list[Step]] = {"cut": [], "table3": [], "all": [], "again": []}
    now, make = "cut", Experiment.make

    def counted(self: Experiment, step: Step, seed: int, number: str = "") -> None:
        if now == "cut" and len(made["cut"]) == 3:
            raise KeyboardInterrupt("sft", False)
        made[now].append(step)
        make(self, step, seed, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "make", counted)
        with pytest.raises(KeyboardInterrupt):
            api.reproduce("table3", out=out, **ARGUMENTS)
        for now, what in (("table3", "table3"), ("all", "all"), ("again", "table3")):
            result = api.reproduce(what, out=out, **ARGUMENTS)
            if now == "all":
                last = result
    return Whole(out, last, made)


def test_what_two_experiments_need_is_made_once_and_a_cut_goes_on(whole: Whole) -> None:
    every = Counter(step for steps in whole.made.values() for step in steps)
    assert set(every.values()) == {1}
    assert set(every) == set(graph.steps(graph.models_of(graph.EXPERIMENTS)))
    assert len(whole.made["cut"]) == 3
    assert {Step("sft", Model(sft=1)), Step("dpo", Model(sft=1, dpo=1))} <= {*whole.made["cut"], *whole.made["table3"]}
    assert whole.made["again"] == []


def test_a_reference_belongs_to_the_model_that_dpo_starts_from_and_comes_before_it() -> None:
    steps = graph.steps(graph.models_of(["table3", "figure3"]))
    for model in (Model(dpo=1), *(m for m in graph.GRID if m.dpo)):
        assert steps.index(Step("reference", model.parent)) < steps.index(Step("dpo", model))
        assert model.is_base or model.parent.is_base or steps.index(Step("sft", model.parent)) < steps.index(Step("dpo", model))
    assert Counter(step.kind for step in steps) == {"sft": 4, "reference": 4, "dpo": 10, "scores": 14}


def test_each_training_has_the_epochs_the_rows_and_the_start_of_its_name(whole: Whole) -> None:
    def manifest(name: str) -> Manifest:
        found = Manifest.read(whole.out / "seed-1" / name)
        assert found is not None
        return found

    start = manifest("sft1").digest
    assert manifest("sft1-best1").parents["base"]["digest"] == start
    assert manifest("sft1-best1").parents["dialogues"]["path"].endswith("rows/pairs")
    for dpo in (1, 2, 3):
        one = manifest(f"sft1-dpo{dpo}")
        assert (one.config["dpo"]["epochs"], one.parents["policy"]["digest"]) == (dpo, start)
    base = Manifest.read(whole.out / "base")
    assert base is not None
    assert manifest("dpo1").parents["policy"]["digest"] == manifest("sft3").parents["base"]["digest"] == base.digest
    assert manifest("sft3").config["sft"]["epochs"] == 3
    # the base was shown no dialogue: the format is ours
    assert "chat_template" not in json.loads((whole.out / "base" / "model" / "tokenizer_config.json").read_text())
    assert not (whole.out / "base" / "model" / "chat_template.jinja").exists()
    assert manifest("sft1").config["chat_template"] == "zephyr"


def test_the_files_hold_the_papers_numbers_beside_ours(whole: Whole) -> None:
    table = json.loads((whole.out / "table3.json").read_text(encoding="utf-8"))
    assert [(arm["paper"]["mt_bench"], arm["paper"]["alpaca_eval"]) for arm in table["arms"]] == [
        (4.76, 30.76), (6.64, 85.65), (6.19, 78.54), (7.0, 86.07),
    ]  # fmt: skip
    with (whole.out / "table3.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    of_json = {(arm["arm"], name): found["value"] for arm in table["arms"] for name, found in arm["measures"].items()}
    assert {(r["arm"], r["measure"]): float(r["value"]) for r in rows if r["paper_mt_bench"]} == of_json
    figure = json.loads((whole.out / "figure3.json").read_text(encoding="utf-8"))
    assert [(cell["sft"], cell["dpo"]) for cell in figure["grid"]] == [(s, d) for s in (1, 2, 3) for d in (0, 1, 2, 3)]
    assert [len(curve["train"]) for curve in figure["curves"]] == [6]  # 8 pairs in batches of 4, three times
    assert [step for step, _ in figure["curves"][0]["test"]] == [0, 1, 2, 3, 4, 5, 6]
    assert {p.name for p in whole.out.glob("*.png")} == {"table3.png", "figure3-curve.png", "figure3-grid.png"}
    # the same model in both is the same number
    both = next(arm for arm in table["arms"] if arm["model"] == "sft1-dpo1")["measures"]
    assert both == next(cell for cell in figure["grid"] if cell["model"] == "sft1-dpo1")["measures"]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_shows_everything_and_loads_nothing(whole: Whole) -> None:
    text = (whole.out / "reproduction.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not [a for _, attrs in page.tags for a in ("src", "onclick") if a in attrs]
    assert all(str(attrs["href"]).startswith("#") for _, attrs in page.tags if "href" in attrs)
    assert "default-src 'none'" in text
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {"findings", "table3", "figure3", "tables", "samples", "limits", "how"} <= set(ids)
    for finding in whole.result["findings"]:
        assert finding["claim"] in text
        assert re.search(rf"{finding['finding']}: [^<]*<span class=\"word\">{finding['verdict']}( at this scale)?</span>", text)
    assert [f["finding"] for f in whole.result["findings"]] == [f"F{n}" for n in range(1, 9)]
    assert "86.07 (1.22)" in text
    assert re.search(r"sft1-dpo1: learnt \d of 8 rows, in 2 updates; \d+ of their \d+ answers lost their end", text)
    assert "held-out pairs: measured on" in text and "test dialogues: measured on" in text
    assert "Sampled answers: how they end" in text and "cut off at the limit of 4 tokens" in text
    assert not re.search(r"\binf\b|∞|None|nan", re.sub(r"<[^>]*>", "", text))
    assert "No judge was asked" in text
    assert "one training of each model, so that the spread between trainings is not known" in text.lower()
    assert "How many helicopters" in text
    assert "<code>zephyr evaluate MODEL --on mt-bench</code>" in text
    assert str(whole.out) not in text


def test_a_dry_run_says_what_is_there_and_what_is_shared(whole: Whole, tmp_path: Path) -> None:
    lines = api.reproduce("all", out=whole.out, dry_run=True, **ARGUMENTS)["steps"]
    assert {line["status"] for line in lines} == {"done"}
    shared = {line["step"]: line["for"] for line in lines}
    assert shared["seed-1/sft1"] == shared["seed-1/sft1-dpo1"] == ["table3", "figure3", "samples"]
    assert shared["seed-1/sft1-best1"] == ["table3"]
    assert shared["seed-1/sft2-dpo3"] == ["figure3"]
    other = api.reproduce("table3", [*toy.SMALL, "dpo.learning_rate=1e-3"], seeds=1, out=whole.out, dry_run=True)["steps"]
    again = {line["step"]: line["status"] for line in other if line["status"] != "done"}
    assert set(again) == {f"seed-1/{name}{what}" for name in ("dpo1", "sft1-dpo1") for what in ("", ".scores")}
    assert "dpo.learning_rate 0.0002 -> 0.001" in again["seed-1/dpo1"]
    assert again["seed-1/dpo1.scores"] == "after what it is made from"
    assert not list(tmp_path.iterdir())


def test_models_made_with_other_settings_are_named_and_not_compared(whole: Whole, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole.out, out)
    # dSFT-2 is of table3 alone, so that figure3 has nothing to make
    other = {**ARGUMENTS, "overrides": [*toy.SMALL, "best.learning_rate=0.5"]}
    result = api.reproduce("figure3", out=out, **other)
    of = {f["finding"]: f for f in result["findings"]}
    why = "seed-1/sft1-best1 (best.learning_rate 0.001 -> 0.5)"
    assert (of["F4"]["verdict"], of["F4"]["not_compared"], of["F4"]["comparison"]) == ("not examined", [why], None)
    assert "Not compared, for it was made with other settings" in of["F4"]["sentence"] and why in of["F4"]["sentence"]
    assert all(of[name]["comparison"] for name in ("F1", "F3", "F5", "F6", "F7"))
    for made in (result, api.reproduce("tables", out=out)):  # and one that has no settings of its own
        assert [line for line in made["not_compared"] if why in line and line.startswith("Table 3 (table3.json) is left out")]
        page = (out / "reproduction.html").read_text(encoding="utf-8")
        assert "Table 3 (table3.json) is left out" in page and 'id="table3"' not in page and 'id="figure3"' in page
    assert json.loads((out / "table3.json").read_text(encoding="utf-8"))["arms"]  # the file stays
    # with the settings it was made with it is there again, and nothing is made
    result = api.reproduce("samples", out=out, **ARGUMENTS)
    assert not result["not_compared"] and result["findings"] == whole.result["findings"]
    assert 'id="table3"' in (out / "reproduction.html").read_text(encoding="utf-8")
    # other rows: nothing is compared across them
    rows = Evidence(Experiment(preset.load("demo", [*toy.SMALL, "data.test_pairs=10"]), out), [1]).lacks(Model(sft=1))
    assert "rows/pairs (data.test_pairs 20 -> 10)" in map(str, rows) and all(lack.other for lack in rows)
    # a seed that was not made is not there, which is another matter
    assert {str(lack) for lack in Evidence(Experiment(preset.load("demo", toy.SMALL), out), [1, 2]).lacks(Model(sft=1))} == {"seed-2/sft1"}


def test_results_of_another_version_are_left_off_by_name_and_damaged_ones_are_told_before_anything_is_made(
    whole: Whole, tmp_path: Path
) -> None:
    (tmp_path / "samples.json").write_text(json.dumps({"experiment": "samples", "answers": []}), encoding="utf-8")
    table = json.loads((whole.out / "table3.json").read_text(encoding="utf-8"))
    del table["own_answers_would_end"], table["format"]
    (tmp_path / "table3.json").write_text(json.dumps(table), encoding="utf-8")
    left_out = api.reproduce("tables", out=tmp_path)["not_compared"]
    assert [line.split(" is left out")[0] for line in left_out] == ["Table 3 (table3.json)", "The samples (samples.json)"]
    (tmp_path / "figure3.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"figure3\.json: not a readable JSON file"):
        api.reproduce("table3", out=tmp_path, **ARGUMENTS)
    assert not (tmp_path / "rows").exists()


def test_samples_train_the_one_seed_they_show(tmp_path: Path) -> None:
    given = Experiment(preset.load("demo", toy.SMALL), tmp_path)
    assert {seed for _, seed in run.todo(given, ["samples"], 3)} == {0, 1}
    both = run.todo(given, ["table3", "samples"], 3)
    assert set(both) == set(run.todo(given, ["table3"], 3))


def test_validation_is_said_first() -> None:
    result = {"findings": [], "results": {"samples": {"validation": True}}, "not_compared": [], "page": "p"}
    assert results.described(result).startswith("Validation rows")
    assert not results.described({**result, "results": {}}).startswith("Validation")


def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the paper's recipe is found from any folder
    for what, given, message in (
        ("table4", {}, "table4: not an experiment; known are table3"),
        ("table3", {"preset": "large"}, "--preset large: not a preset; known are demo, small, paper"),
        ("tables", {"preset": "smal"}, "--preset smal: not a preset"),
        ("table3", {"preset": "small"}, "--preset small: needs --data"),
        ("table3", {"preset": "small", "data": tmp_path}, "text/public_domain_books.jsonl.gz is missing"),
        ("table3", {"data": tmp_path}, "takes the texts of the package"),
        ("table3", {"overrides": ["dpo.betta=1"]}, "did you mean beta"),
        ("table3", {"overrides": ["dpo.epochs=3"]}, "the experiment says how many"),
        ("table3", {"overrides": ["sft.max_length=4096"]}, "max_position_embeddings is 512, and a max_length is 4096"),
        ("table3", {"seeds": 0}, "--seeds 0"),
        ("table3", {"preset": "paper"}, "is planned here, not made"),
        ("table3", {"preset": "paper", "data": tmp_path, "dry_run": True}, "the rows of --preset paper are those that its recipe names"),
        ("table3", {"preset": "paper", "model": "x", "dry_run": True}, "give model.path=x (and its model.shape.*) as settings"),
        ("table3", {"preset": "paper", "overrides": ["dpo.betta=1"], "dry_run": True}, "did you mean beta"),
        ("table3", {"preset": "paper", "overrides": ["dpo.betta=1"], "dry_run": True, "recipe": PAPER}, "did you mean beta"),
        ("table3", {"preset": "paper", "dry_run": True, "recipe": tmp_path / "no.yaml"}, "no.yaml is not there"),
        ("table3", {"preset": "paper", "overrides": ["dpo.epochs=3"], "dry_run": True}, "dpo.epochs=3: the experiments of the paper say"),
        ("tables", {"preset": "paper", "overrides": ["dpo.beta=1"]}, "dpo.beta=1: tables makes no model and takes no settings"),
        ("figure1", {"model": "x"}, "--model x: figure1 makes no model"),
        ("table3", {"scores": ["mine=x"]}, "zephyr reproduce tables --scores mine=x"),
        ("tables", {"scores": ["mine"]}, "as NAME=FOLDER or NAME=FILE"),
        ("tables", {"scores": ["mine=nowhere"]}, "no such file or folder"),
        ("tables", {"scores": ["mine=nowhere"], "dry_run": True}, "no such file or folder"),
        ("tables", {"scores": ["mine=nowhere"], "dry_run": True, "preset": "paper"}, "no such file or folder"),
        ("all", {"scores": ["mine=nowhere"]}, "no such file or folder"),  # before anything is made
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            api.reproduce(what, out=tmp_path / "out", **given)
    for name in ("demo", "paper"):  # where nothing is trained, a dry run says so
        assert results.described(api.reproduce("tables", preset=name, out=tmp_path / "out", dry_run=True)).startswith(
            "no steps: no model is"
        )
    assert not (tmp_path / "out").exists()


def test_the_commands_of_the_page_are_commands() -> None:
    import shlex

    import typer

    from zephyr.cli import app
    from zephyr.reproduce.run import WHAT

    command = typer.main.get_command(app).commands["reproduce"]
    text = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("zephyr reproduce ")]
    assert len(lines) >= 7
    for line in lines:
        _, _, what, *rest = shlex.split(line, comments=True)
        given = command.make_context("reproduce", [what, *rest]).params
        assert what in WHAT and given["what"] == what
    assert all(f"`{name}`" in text for name in graph.EXPERIMENTS)
