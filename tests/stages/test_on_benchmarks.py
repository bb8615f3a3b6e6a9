"""`zephyr evaluate MODEL --on …` where no judge is needed: IFEval, preference sets, academic tasks; against what each says by itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import small
import tiny
from zephyr import api
from zephyr.artifacts import Artifact
from zephyr.cli import main
from zephyr.errors import DataError, UsageError, ZephyrError
from zephyr.evals import contamination, ifeval, in_words, names, open_llm, preference_scores
from zephyr.recipe import DataSource, EvaluateConfig, Recipe, benchmarking, build
from zephyr.recipe import load as load_recipe

if TYPE_CHECKING:
    from conftest import SmallRun

PROMPTS = [
    {"key": 1, "prompt": "Name two rivers. Use no commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {"key": "b", "prompt": "Why is the sky blue?", "instruction_id_list": ["change_case:english_lowercase"], "kwargs": [{}]},
    {"key": 3, "prompt": "Say hi.", "instruction_id_list": ["startend:quotation"], "kwargs": [{}]},
]
PAIRS = [
    {"prompt": question, "chosen": answer, "rejected": "I do not know what to say to that.", "subset": "odd" if i % 2 else "even"}
    for i, (question, answer) in enumerate(small.QUESTIONS)
]


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """Hashes of inputs go to a cache of the test's own."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model that chats."""
    tiny.tiny_model(attention="sdpa").save_pretrained(tmp_path / "model")
    tiny.byte_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def zephyr(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def classifier(folder: Path) -> Path:
    from transformers import AutoModelForSequenceClassification

    config = tiny.tiny_model(attention="sdpa").config
    config.num_labels, config.pad_token_id = 1, 0
    torch.manual_seed(3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny.byte_tokenizer().save_pretrained(folder)
    return folder


def test_the_command_a_newcomer_types(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No recipe; the numbers are those of `zephyr score` on the same files; what is there is not made again."""
    other = Path(shutil.copytree(model, tmp_path / "other"))
    tiny.tiny_model(attention="sdpa", seed=4).save_pretrained(other)
    prompts, pairs = small.write_lines(tmp_path / "prompts.jsonl", PROMPTS), small.write_lines(tmp_path / "pairs.v1.jsonl", PAIRS)
    reward, trained = classifier(tmp_path / "reward"), small.write_lines(tmp_path / "trained.jsonl", small.dialogues())
    command = ["evaluate", model, "--on", f"ifeval={prompts},preferences={pairs}", "--reference", other, "--reward-model", reward]
    command += ["--trained-on", trained, "--out", tmp_path / "out", "--json", "train.dtype=float32", "judge.ifeval.max_new_tokens=9"]
    assert zephyr(*command) == 0
    found = json.loads(capsys.readouterr().out)

    data = tmp_path / "out" / "answer" / "data"
    responses = [json.loads(line) for line in (data / "ifeval.base.jsonl").read_text().splitlines()]
    assert [(r["key"], r["prompt"]) for r in responses] == [(str(p["key"]), p["prompt"]) for p in PROMPTS]
    assert any(r["response"] for r in responses)
    assert found["judged"]["ifeval"]["base"] == ifeval.score(str(data / "ifeval.base.jsonl"), str(prompts))
    assert (found["judged"]["judge"], found["judged"]["canary"]) == (None, None)
    each = [json.loads(line) for line in (tmp_path / "out/judge/data/ifeval.base.jsonl").read_text().splitlines()]
    assert [e["response"] for e in each] == [r["response"] for r in responses] and "follow_instruction_list" in each[0]

    alone = preference_scores.score([str(pairs)], model=str(model), reference=str(other), reward_model=str(reward))["results"]
    ours = found["scores"]["preferences"]["pairs.v1"]
    assert ours["against"] == {"base": "reference"} and (ours["rows"], ours["length_in"]) == (len(PAIRS), "tokens")
    names = {"base": "implicit_reward", "base_per_token": "implicit_reward_per_token", "reward_model": "reward_model", "length": "length"}
    assert set(ours["results"]) == set(names)
    for name, theirs in names.items():
        assert ours["results"][name]["accuracy"] == alone[theirs]["accuracy"], name
        assert ours["results"][name]["ci95"] == pytest.approx(alone[theirs]["ci95"])
        assert ours["results"][name]["margin"]["mean"] == pytest.approx(alone[theirs]["margin"]["mean"], abs=1e-5)
    assert ours["results"]["base"]["mean_of_subsets"]["subsets"] == 2
    assert len((tmp_path / "out/evaluate/data/preferences.pairs.v1.jsonl").read_text().splitlines()) == len(PAIRS)

    # among what was trained on: one of IFEval's prompts, and all of the pairs'
    assert (found["judged"]["contamination"]["ifeval"]["found"], found["scores"]["contamination"]["pairs.v1"]["found"]) == (1, 12)
    said = "\n".join(in_words.judged(found["judged"]) + in_words.scores(found["scores"]))
    assert "ifeval, model: " in said and "of instructions, loose" in said and "pairs-v1" not in said.split("preferences pairs.v1")[0]
    assert "ifeval: 1 of its 3 items are among the training prompts (1 exactly" in said and " above length" in said
    assert "  model is set against other" in said and "  model per token  " in said

    assert zephyr(*command) == 0
    again = json.loads(capsys.readouterr().out)
    assert {a["status"] for a in again["artifacts"].values()} == {"done"} and again["scores"] == found["scores"]
    api.report(tmp_path / "out", tmp_path / "page")
    page = (tmp_path / "page" / "report.html").read_text()
    assert "IFEval, instructions, loose" in page and "Preference sets" in page and "reward model" in page and "12 of 12" in page

    # answers are durable before anything is made of them: of an artifact that is lost none is asked for again
    from zephyr.teachers import local

    def too_late(*_: Any, **__: Any) -> Any:
        raise AssertionError("an answer that the journal has was asked for again")

    shutil.rmtree(tmp_path / "out" / "answer")
    monkeypatch.setattr(local, "LocalTeacher", too_late)
    assert zephyr(*command) == 0
    assert json.loads(capsys.readouterr().out)["judged"]["ifeval"] == found["judged"]["ifeval"]


def test_preference_sets_in_a_run(small_run: SmallRun, tmp_path: Path) -> None:
    """Each model against the one before it, as on the run's own test pairs: on these, to the same accuracy."""
    rated = [{"prompt": row["prompt"], "completions": row["completions"]} for row in Artifact.open(small_run.out / "rate").rows("test")]
    file = small.write_lines(tmp_path / "rated.jsonl", rated)
    models = {"base": small_run.recipe["model"]["path"], "dsft": str(small_run.out / "sft"), "ddpo": str(small_run.out / "dpo")}
    settings = ["train.dtype=float32", "samples=0", f"preferences={{sets: {{own: {file}}}, score: mean}}"]
    result = api.evaluate(tmp_path / "out", models, dialogues=[], ratings=[], settings=settings)["results"]["preferences"]["own"]
    assert result["against"] == {"dsft": "base", "ddpo": "dsft"}
    assert set(result["results"]) == {"dsft", "dsft_per_token", "ddpo", "ddpo_per_token", "length"}
    expected = small_run.result["scores"]["reward_accuracy"]
    for name in ("dsft", "ddpo", "length"):
        assert result["results"][name]["accuracy_ties_half"] == pytest.approx(expected[name]["accuracy"])
    assert result["results"]["ddpo"]["margin"]["mean"] == pytest.approx(
        small_run.result["scores"]["reward_margin"]["ddpo"]["mean"], rel=1e-4, abs=1e-7
    )


def test_a_model_alone_is_said_to_be_and_the_rows_it_cannot_read_are_counted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"prompt": "How long?", "chosen": "x " * 200, "rejected": "y"}
    file = small.write_lines(tmp_path / "few.jsonl", [*PAIRS[:3], long])
    settings = ["train.dtype=float32", "evaluate.preferences.max_length=90"]
    result = api.benchmark(str(model), [f"preferences={file}"], None, tmp_path / "out", settings=settings)
    found = result["scores"]["preferences"]["few"]
    assert found["left_out"] == {"an answer is longer than a model reads": 1} and found["against"] == {"base": None}
    notes = Artifact.open(tmp_path / "out" / "evaluate").manifest.notes
    assert any("β log π of one model alone" in note for note in notes)
    assert result["scores"]["contamination"] is None and in_words.NOT_LOOKED in api.describe(result)
    # who types the command is told, too
    assert zephyr("evaluate", model, "--on", f"preferences={file}", "--out", tmp_path / "out", *settings) == 0
    said = capsys.readouterr()
    assert "note: " in said.err and "β log π of one model alone" in said.err and "β log π" not in said.out
    with pytest.raises(DataError, match=r"evaluate: evaluate\.preferences\.sets\.few: no rows are left to judge"):
        api.benchmark(str(model), [f"preferences={file}"], None, tmp_path / "two", settings=["evaluate.preferences.max_length=4"])


# --- academic tasks ------------------------------------------------------------------------------------------------


def _truth(i: int) -> dict[str, Any]:
    return {"question": f"Is {i} a number?", "mc2_targets": {"choices": [f"Yes, {i} is.", "No.", "Perhaps."], "labels": [1, 0, 0]}}


@pytest.fixture
def _hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A hub that has TruthfulQA and IFEval, and what was asked of it."""
    import datasets

    asked: list[Any] = []

    def load_dataset(path: str, subset: str | None, revision: str | None) -> Any:
        asked.append((path, subset, revision))
        if path == benchmarking.IFEVAL:
            return datasets.DatasetDict({"train": datasets.Dataset.from_list([{**PROMPTS[0], "kwargs": [{"num_words": None}]}])})
        rows = datasets.Dataset.from_list([_truth(i) for i in range(4)])
        return datasets.DatasetDict({"validation": rows})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    yield asked


def test_rows_from_the_hub(tiny_folder: Path, model: Path, tmp_path: Path, _hub: list[Any]) -> None:
    """A task's own name is taken, at a commit where one is named; a base model needs no chat template for it."""
    pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")
    commit = "a" * 40
    settings = ["train.dtype=float32"]
    name = f"truthfulqa=truthfulqa/truthful_qa@{commit}"
    found = api.benchmark(str(tiny_folder), [name], None, tmp_path / "hub", limit=3, settings=settings)["scores"]
    file = small.write_lines(tmp_path / "rows.jsonl", [_truth(i) for i in range(4)])
    local = api.benchmark(str(tiny_folder), [f"truthfulqa={file}"], None, tmp_path / "here", limit=3, settings=settings)["scores"]
    assert found["benchmarks"] == local["benchmarks"] and found["benchmarks"]["truthfulqa"]["base"]["n"] == 3
    assert set(_hub) == {("truthfulqa/truthful_qa", "multiple_choice", commit)}
    assert not any("is not noticed" in note for note in Artifact.open(tmp_path / "hub" / "evaluate").manifest.notes)

    settings = [*settings, "judge.ifeval.max_new_tokens=3"]
    api.benchmark(str(model), ["ifeval", "truthfulqa"], None, tmp_path / "two", limit=1, settings=settings)
    for stage, where in (("answer", "google/IFEval"), ("evaluate", "truthfulqa/truthful_qa")):
        notes = Artifact.open(tmp_path / "two" / stage).manifest.notes
        assert any(f"{where} was taken from the hub as it was" in note for note in notes), stage


def test_models_are_set_against_those_before_them_on_the_same_items(tiny_folder: Path, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")
    tiny.tiny_model(attention="sdpa", seed=4).save_pretrained(model)
    file = small.write_lines(tmp_path / "rows.jsonl", [_truth(i) for i in range(4)])
    settings = ["train.dtype=float32", "samples=0", f"benchmarks.truthfulqa={file}", "log_samples=true"]
    models = {"base": str(tiny_folder), "dsft": str(model)}
    found = api.evaluate(tmp_path / "out", models, dialogues=[], ratings=[], settings=settings)["results"]
    base, dsft = (found["benchmarks"]["truthfulqa"][name] for name in models)
    assert "against" not in base and set(dsft["against"]) == {"base"} and dsft["against"]["base"]["n"] == 4
    assert dsft["against"]["base"]["difference"] == pytest.approx(dsft["value"] - base["value"])
    assert any(line.startswith("truthfulqa: ") and "4 items" in line for line in in_words.scores(found))
    # lm-eval's own files, of each model; whether they are kept is no part of what was measured
    kept = tmp_path / "out" / "data" / "lm_eval"
    for name, one in (("base", base), ("dsft", dsft)):
        samples = [json.loads(line) for line in (kept / name / "samples_truthfulqa_mc2.jsonl").read_text().splitlines()]
        assert sum(sample["acc"] for sample in samples) / 4 == pytest.approx(one["value"]) and "arguments" in samples[0]
        assert json.loads((kept / name / "results_truthfulqa.json").read_text())["results"]
        scored = open_llm.score_files([kept / name])["benchmarks"]["truthfulqa"]
        assert {key: scored[key] for key in ("value", "stderr", "ci95", "n")} == {key: one[key] for key in ("value", "stderr", "ci95", "n")}
    again = api.evaluate(tmp_path / "out", models, dialogues=[], ratings=[], settings=settings[:-1])
    assert again["status"] == "done"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("arc.jsonl", r"arc\.jsonl: no such file or folder"),
        ("./arc", r"\./arc: no such file or folder"),
        (
            "Rowan/hellaswag",
            "Rowan/hellaswag: no such file or folder; items of arc_challenge are read from a local file, or from allenai/ai2",
        ),
    ],
)
def test_what_is_not_there_is_said_before_any_stage_runs(small_run: SmallRun, tmp_path: Path, path: str, problem: str) -> None:
    from zephyr.pipeline.up_front import refuse_benchmarks

    with pytest.raises(UsageError, match=problem):
        refuse_benchmarks(EvaluateConfig(benchmarks={"arc_challenge": path}))
    with pytest.raises(UsageError, match=problem):
        api.run(small_run.file, [f"evaluate.benchmarks.arc_challenge={path}"], out=tmp_path / "run")
    assert not (tmp_path / "run" / "curate").exists()


@pytest.mark.parametrize(("section", "wanted"), [("benchmarks", "test"), ("fewshot", "train")])
def test_a_folder_without_the_split_that_is_wanted_is_refused_before_any_stage_runs(section: str, wanted: str, tmp_path: Path) -> None:
    from zephyr.pipeline.up_front import refuse_benchmarks

    rows = [{"question": f"Which is {i}?", "choices": ["0", "1"], "answer": 0} for i in range(3)]
    for split in ("dev", "validation"):
        small.write_lines(tmp_path / "arc" / f"{split}.jsonl", rows)
    items = str(small.write_lines(tmp_path / "items.jsonl", rows))
    paths = {"benchmarks": {"arc_challenge": items}, section: {"arc_challenge": str(tmp_path / "arc")}}
    with pytest.raises(
        UsageError, match=rf"its splits are dev, validation, but arc_challenge needs {wanted}; name the file of one of them"
    ):
        refuse_benchmarks(EvaluateConfig(**paths))


def test_the_first_examples_are_those_of_all_items(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")
    rows = [{"question": f"Which is {i}?", "choices": [f"{i}", f"{i + 1}", "none"], "answer": 0} for i in range(32)]
    items, shots = small.write_lines(tmp_path / "arc.jsonl", rows[:2]), small.write_lines(tmp_path / "shots.jsonl", rows[4:])
    settings = ["train.dtype=float32", f"evaluate.fewshot.arc_challenge={shots}"]

    def tokens(*more: str) -> tuple[str, int]:
        out = tmp_path / f"out-{len(more)}"
        result = api.benchmark(str(tiny_folder), [f"arc_challenge={items}"], None, out, settings=[*settings, *more])
        one = result["scores"]["benchmarks"]["arc_challenge"]["base"]
        return one["sampler"], one["tokens"]

    (drawn, of_drawn), (first, of_first) = tokens(), tokens("evaluate.sampler=first_n")
    assert (drawn, first) == ("drawn", "first_n") and of_first < 0.7 * of_drawn


def test_where_the_examples_come_from_and_what_was_cut_are_said(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")
    rows = [{"question": f"Which is {i}?", "choices": [f"{i}", f"{i + 1}", "none"], "answer": 0} for i in range(30)]
    items, shots = small.write_lines(tmp_path / "arc.jsonl", rows), small.write_lines(tmp_path / "shots.jsonl", rows[4:])

    def words(*more: str) -> tuple[dict[str, Any], str]:
        settings, out = ["train.dtype=float32", *more], tmp_path / f"out-{len(more)}"
        found = api.benchmark(str(tiny_folder), [f"arc_challenge={items}"], None, out, limit=2, settings=settings)["scores"]
        return found["benchmarks"]["arc_challenge"]["base"], "\n".join(in_words.scores(found))

    own, said = words()
    assert own["examples_from_items"] and "its examples are other items of the same rows" in said and "left out" not in said
    apart, said = words(f"evaluate.fewshot.arc_challenge={shots}")
    assert (
        not apart["examples_from_items"] and "other items of" not in said and "left out, as they are among the examples: 26 items" in said
    )
    cut = {**apart, "truncated": 2, "examples_from_items": False, "excluded": 0}
    said = "\n".join(in_words.scores({"benchmarks": {"arc_challenge": {"base": cut}}}))
    assert "the beginning is lost: the prompts of 2 of 2 items" in said and "left out" not in said


def test_beside_a_recipe_the_models_own_settings_count(tiny_folder: Path, tmp_path: Path) -> None:
    prompts = small.write_lines(tmp_path / "prompts.jsonl", PROMPTS[:1])
    values = {"name": "r", "model": {"path": "m"}, "judge": {"ifeval": {"prompts": str(prompts), "max_new_tokens": 3}}}
    recipe = small.write_recipe(tmp_path / "r.yaml", values)
    with pytest.raises(ZephyrError, match=r"no chat template; set `model\.chat_template: zephyr`"):
        api.benchmark(str(tiny_folder), ["ifeval"], recipe, tmp_path / "out")
    found = api.benchmark(str(tiny_folder), ["ifeval"], recipe, tmp_path / "out", settings=["model.chat_template=zephyr"])
    assert found["judged"]["ifeval"]["base"]["n_prompts"] == 1


# --- the words after --on --------------------------------------------------------------------------------------------


def test_what_words_stand_for(tmp_path: Path) -> None:
    values = {
        "name": "r",
        "model": {"path": "m"},
        "judge": {"ifeval": {"prompts": "own.jsonl", "max_new_tokens": 7}, "canary": False},
        "evaluate": {
            "benchmarks": {"mmlu": "mmlu.jsonl", "arc_challenge": "arc.jsonl"},
            "fewshot": {"mmlu": "dev.jsonl", "arc_challenge": "shots.jsonl"},
            "preferences": {"sets": {"a": "a.jsonl"}, "score": "mean"},
            "limit": 4,
        },
    }
    given = build(Recipe, values, {}, "test")

    def of(*on: str) -> dict[str, dict[str, Any]]:
        return benchmarking.sections(on, given, "r.yaml")

    everything = of("all")
    assert set(everything["judge"]) == {"ifeval", "canary", "models"} and set(everything["evaluate"]["benchmarks"]) == {
        "mmlu",
        "arc_challenge",
    }
    assert everything == of("ifeval", "open-llm", "preferences")
    one = of("mmlu", "preferences=data/b-1.jsonl.gz", "ifeval=mine.jsonl")
    assert one["evaluate"]["benchmarks"] == {"mmlu": "mmlu.jsonl"} and one["evaluate"]["fewshot"] == {"mmlu": "dev.jsonl"}
    assert one["evaluate"]["preferences"] == {"score": "mean", "sets": {"b-1": "data/b-1.jsonl.gz"}}
    assert (one["judge"]["ifeval"], one["evaluate"]["limit"]) == ({"prompts": "mine.jsonl", "max_new_tokens": 7}, 4)
    bare = benchmarking.sections(["open-llm", "ifeval"], None, "")
    assert bare["judge"]["ifeval"] == {"prompts": "google/IFEval"} and bare["evaluate"]["benchmarks"] == benchmarking.TASKS
    assert {name: found.hub.path for name, found in open_llm.BENCHMARKS.items()} == benchmarking.TASKS


@pytest.mark.parametrize(
    ("on", "problem"),
    [
        (["gsm8k"], "--on gsm8k: not a benchmark that is known here; known are mt-bench, .*truthfulqa, all"),
        (["all"], "means all that a recipe names; give --recipe"),
        (["alpaca-eval"], "alpaca-eval is judged by a teacher; give --recipe with a section `judge`"),
        (["preferences"], "needs a file of pairs or rated answers, preferences=FILE"),
        (["open-llm=x"], "is four tasks; name those whose files you have"),
        (["ifeval="], "--on ifeval=: needs a file, ifeval=FILE"),
        (["preferences=a/x.jsonl", "preferences=b/x.jsonl"], "a second set called x; name them in a recipe"),
    ],
)
def test_words_that_cannot_be(on: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        benchmarking.sections(on, None, "")


def test_the_option_may_be_given_more_than_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def benchmark(model: str, on: list[str], *args: object, **settings: object) -> None:
        asked.append(on)
        raise UsageError("that is all")

    monkeypatch.setattr(api, "benchmark", benchmark)
    assert zephyr("evaluate", "m", "--on", "ifeval=a.jsonl, mmlu=b.jsonl", "--on", "arc_challenge=c.jsonl", "--out", tmp_path / "out") == 2
    assert asked.pop() == ["ifeval=a.jsonl", "mmlu=b.jsonl", "arc_challenge=c.jsonl"]
    there = small.write_lines(tmp_path / "a,b.jsonl", PROMPTS)
    assert zephyr("evaluate", "m", "--on", f"ifeval={there}", "--out", tmp_path / "out") == 2
    assert asked == [[f"ifeval={there}"]]


def test_a_recipe_that_names_none(tmp_path: Path, model: Path) -> None:
    recipe = small.write_recipe(tmp_path / "r.yaml", {"name": "r", "model": {"path": "m"}, "evaluate": {"samples": 1}})
    with pytest.raises(UsageError, match=r"--on all: .*r\.yaml names no benchmark"):
        api.benchmark(str(model), ["all"], recipe, tmp_path / "out")
    with pytest.raises(UsageError, match="--reference: is for preference sets"):
        api.benchmark(str(model), ["ifeval=x.jsonl"], None, tmp_path / "out", reference="m")


# --- what was trained on ---------------------------------------------------------------------------------------------


def test_what_a_model_of_ours_was_trained_on_is_known(small_run: SmallRun, tmp_path: Path) -> None:
    """From its manifests, also where the run was moved; a test row is none of it; what was changed since is not believed."""
    moved = small_run.copy(tmp_path / "moved")
    for model in (moved / "dpo", moved / "dpo" / "model"):
        assert known(model) == (["binarize", "curate"], [])
    assert known(moved / "sft") == (["curate"], [])
    assert known(tmp_path / "nothing") == known("owner/name") == ([], [])

    rows = {split: Artifact.open(moved / "curate").rows(split) for split in ("train", "test")}
    pairs = Artifact.open(moved / "binarize").rows("train")
    items = {
        "b": {"dialogue": [rows["train"][0]["prompt"]], "pair": [pairs[0]["prompt"]], "test": [rows["test"][0]["prompt"]], "no": ["No?"]}
    }
    found = contamination.beside({"trained on": contamination.known_training(str(moved / "dpo")).sources}, items)
    assert found is not None and [m["item_id"] for m in found["b"]["matches"]] == ["dialogue", "pair"]
    assert contamination.beside({"dialogues": []}, items) is None

    manifest = json.loads((moved / "dpo" / "manifest.json").read_text())
    manifest["parents"]["preferences"]["digest"] = "0" * 64
    (moved / "dpo" / "manifest.json").write_text(json.dumps(manifest))
    assert known(moved / "dpo") == (["curate"], ["the pairs of dpo"])


def known(model: object) -> tuple[list[str], list[str]]:
    """The names of what a model is known to be trained on, and what is lost."""
    found = contamination.known_training(str(model))
    return sorted(Path(source.path).name for source in found.sources), found.lost


def test_what_is_no_longer_there_is_said_and_what_is_said_adds_to_what_is_known(small_run: SmallRun, tmp_path: Path) -> None:
    """Of a run whose dialogues are gone, by its folder's name; the recipe's file, the option's and the pairs that are still there."""
    run = small_run.copy(tmp_path / "run")
    shutil.rmtree(run / "curate")
    for stage in ("sft", "dpo"):
        file = run / stage / "manifest.json"
        file.write_text(file.read_text().replace(str(small_run.out), str(run)))
    for name in ("one", "two"):
        small.write_lines(tmp_path / f"{name}.jsonl", [{"prompt": f"Nothing like it, {name}."}])
    pairs = small.write_lines(tmp_path / "pairs.jsonl", PAIRS[:4])
    values = {
        "name": "r",
        "model": {"path": "m"},
        "train": {"dtype": "float32"},
        "judge": {"ifeval": {"prompts": "x"}, "trained_on": [str(tmp_path / "one.jsonl")]},
    }
    recipe, on = small.write_recipe(tmp_path / "r.yaml", values), [f"preferences={pairs}"]
    options: dict[str, Any] = {"trained_on": [str(tmp_path / "two.jsonl")]}
    with pytest.raises(UsageError, match=r"the reference, .*run/dpo/model, has the content of the model .*, .*run/dpo/model: all"):
        api.benchmark(str(run / "dpo"), on, recipe, tmp_path / "out", reference=str(run / "dpo" / "model"), **options)
    assert not (tmp_path / "out" / "evaluate").exists()
    result = api.benchmark(str(run / "dpo"), on, recipe, tmp_path / "out", reference=str(run / "sft"), **options)
    said = api.describe(result)
    assert "; the dialogues of sft are not at hand; looked in one.jsonl, two.jsonl, the pairs only" in said
    assert "  dpo is set against sft" in said and result["scores"]["names"] == {"base": "dpo", "reference": "sft"}

    # who has the rows elsewhere and names them where they were is believed
    again = contamination.known_training(str(run / "dpo"), [DataSource(path=str(run / "curate"))])
    assert ([Path(source.path).name for source in again.sources], again.lost) == (["curate", "binarize"], [])
    shutil.rmtree(run / "sft")
    assert known(run / "dpo") == (["binarize"], ["the data of sft"])


def test_what_a_model_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/dpo", "b/dpo", "lr=1e-5", "canary"):
        (tmp_path / name).mkdir(parents=True)
    one, two = str(tmp_path / "a" / "dpo"), str(tmp_path / "b" / "dpo")
    assert names.of_models({"base": one}) == {"base": "dpo"}
    assert names.of_models({"base": one, "reference": two}) == {"base": "a-dpo", "reference": "b-dpo"}
    assert names.of_models({"base": one}, ["dpo"]) == {"base": "a-dpo"}
    assert names.of_models({"base": one, "reference": one}) == {"base": "dpo-base", "reference": "dpo-reference"}
    assert names.of_models({"base": "owner/name: x"}) == {"base": "name-x"}
    assert names.of_models({"base": str(tmp_path / "canary")})["base"].endswith("-canary")
    # a folder with a sign that settings have is a model
    assert zephyr("evaluate", tmp_path / "lr=1e-5", "--on", "gsm8k", "--out", tmp_path / "out") != 0
    assert "--on gsm8k: not a benchmark" in capsys.readouterr().err


def test_a_run_looks_in_what_it_trained_on(small_run: SmallRun, tmp_path: Path) -> None:
    from zephyr.stages import From, evaluate, judge

    prompts = small.write_lines(tmp_path / "p.jsonl", PROMPTS)
    pairs = small.write_lines(tmp_path / "pairs.jsonl", PAIRS)
    recipe = load_recipe(small_run.file, [f"judge.ifeval.prompts={prompts}", f"evaluate.preferences.sets={{x: {pairs}}}"])
    for module in (judge, evaluate):
        data = module.needs(recipe).data
        assert (data["trained on, dialogues"], data["trained on, pairs"]) == (From("curate"), From("binarize"))
    assert "trained on, dialogues" not in evaluate.needs(load_recipe(small_run.file)).data, "there is nothing to look for"
