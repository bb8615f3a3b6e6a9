"""What is measured, on which rows, and what the numbers are: against the model asked directly."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import small
import tiny
from zephyr import api, pipeline
from zephyr.artifacts import Artifact
from zephyr.errors import DataError, UsageError
from zephyr.recipe import DataSource
from zephyr.recipe import load as load_recipe
from zephyr.records import prompt_id_of
from zephyr.stages import Needs
from zephyr.stages import evaluate as module

if TYPE_CHECKING:
    from conftest import SmallRun

QUICK = ["train.dtype=float32", "samples=0"]


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """Hashes of inputs go to a cache of the test's own."""


def evaluate(out: Path, base: Path, *, settings: list[str] | None = None, **rest: Any) -> dict[str, Any]:
    given = {"dialogues": [], "ratings": [], "models": {"base": str(base)}, **rest}
    models = given.pop("models")
    return api.evaluate(out, models, settings=[*QUICK, *(settings or [])], **given)


def direct_nll(folder: str, rows: list[dict[str, Any]]) -> tuple[float, int]:
    """Negative log-likelihood of what the assistant says and its end, by plain transformers, a turn at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for row in rows:
        for i, turn in enumerate(row["messages"]):
            if turn["role"] != "assistant":
                continue
            before = tokenizer.apply_chat_template(row["messages"][:i], add_generation_prompt=True, tokenize=False)
            prompt = tokenizer(before, add_special_tokens=False)["input_ids"]
            answer = tokenizer(turn["content"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
            total -= sum(float(logits[len(prompt) + k - 1, token]) for k, token in enumerate(answer))
            count += len(answer)
    return total, count


def test_the_likelihood_is_what_transformers_says(small_run: SmallRun) -> None:
    rows = Artifact.open(small_run.out / "curate").rows("test")
    for name, stage in (("dsft", "sft"), ("ddpo", "dpo")):
        total, count = direct_nll(str(small_run.out / stage / "model"), rows)
        found = small_run.result["scores"]["nll"][name]
        assert found["nll_per_token"] == pytest.approx(total / count, rel=1e-5)
        assert (found["tokens"], found["dialogues"]) == (count, len(rows))
        assert found["ci95"][0] < found["nll_per_token"] < found["ci95"][1]


def test_rewards_are_differences_of_log_probabilities(small_run: SmallRun) -> None:
    """beta (log pi - log ref) of every answer, each model against the one before it, by plain transformers."""
    before, after = small_run.out / "sft" / "model", small_run.out / "dpo" / "model"
    wins, margins = [], []
    for row in Artifact.open(small_run.out / "rate").rows("test"):
        turn = {"role": "user", "content": row["prompt"]}
        dialogues = {c["model"]: [{"messages": [turn, {"role": "assistant", "content": c["response"]}]}] for c in row["completions"]}
        reward = {m: 0.1 * (direct_nll(str(before), d)[0] - direct_nll(str(after), d)[0]) for m, d in dialogues.items()}
        pairs = [(a, b) for i, a in enumerate(small.POOL) for b in small.POOL[i + 1 :]]  # the pool stands from the best to the worst
        wins += [reward[a] > reward[b] for a, b in pairs]
        margins += [reward[a] - reward[b] for a, b in pairs]
    scores = small_run.result["scores"]
    assert scores["reward_accuracy"]["ddpo"]["accuracy"] == pytest.approx(sum(wins) / len(wins))
    assert scores["reward_margin"]["ddpo"]["mean"] == pytest.approx(sum(margins) / len(margins), rel=1e-3, abs=1e-6)


def test_a_model_against_itself_has_no_reward(small_run: SmallRun, tmp_path: Path) -> None:
    """Equal models: every implicit reward is 0, every pair half a win; the longer answer wins as often as it is the better."""
    sft = str(small_run.out / "sft" / "model")
    result = evaluate(
        tmp_path / "out",
        Path(sft),
        models={"base": sft, "dsft": sft},
        ratings=[str(small_run.out / "rate")],
        settings=["train.micro_batch_tokens=100000"],
        chat_template="tokenizer",
    )
    scores = result["results"]
    assert scores["reward_accuracy"]["dsft"]["accuracy"] == 0.5
    assert scores["reward_margin"]["dsft"] == {"mean": 0.0, "ci95": [0.0, 0.0]}
    from zephyr.models import load
    from zephyr.recipe import ModelConfig

    tokenizer = load.load_chat(load.refer(ModelConfig(path=sft)), "tokenizer").tokenizer
    wins = []
    for row in Artifact.open(small_run.out / "rate").rows("test"):
        sizes = {c["model"]: len(tokenizer(c["response"])["input_ids"]) for c in row["completions"]}
        worth = [sizes[name] for name in small.POOL]  # from the best to the worst
        wins += [(a > b) + 0.5 * (a == b) for i, a in enumerate(worth) for b in worth[i + 1 :]]
    assert scores["reward_accuracy"]["length"]["accuracy"] == pytest.approx(sum(wins) / len(wins))
    assert scores["reward_accuracy"]["length"]["pairs"] == len(wins) == 24


def test_the_base_speaks_its_own_template_where_that_suits_it_better(tiny_folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_folder, tmp_path / "base"))
    tiny.byte_tokenizer().save_pretrained(base)
    lines = small.write_lines(tmp_path / "d.jsonl", small.dialogues())
    both = evaluate(tmp_path / "a", base, dialogues=[str(lines)])["results"]["nll"]["base"]
    ours = evaluate(tmp_path / "b", tiny_folder, dialogues=[str(lines)])["results"]["nll"]["base"]
    own = evaluate(tmp_path / "c", base, dialogues=[str(lines)], chat_template="tokenizer")["results"]["nll"]["base"]
    assert "other_template" not in ours and "other_template" not in own
    assert both["nll_per_token"] == min(ours["nll_per_token"], own["nll_per_token"])
    assert both["other_template"]["nll_per_token"] == max(ours["nll_per_token"], own["nll_per_token"])
    assert {both["template"], both["other_template"]["template"]} == {"zephyr", "its own"}


def test_a_template_of_its_own_that_cannot_say_the_rows_is_left_alone(tiny_folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_folder, tmp_path / "base"))
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + tiny.CHATML
    tiny.byte_tokenizer(template=refuses).save_pretrained(base)
    lines = small.write_lines(tmp_path / "d.jsonl", small.dialogues())  # one has a system turn
    found = evaluate(tmp_path / "out", base, dialogues=[str(lines)])["results"]["nll"]["base"]
    assert found["template"] == "zephyr" and "other_template" not in found and found["dialogues"] == 12


def test_rows_that_no_format_holds_are_the_same_for_every_model(small_run: SmallRun, tmp_path: Path) -> None:
    rows = small.dialogues()
    rows[0]["messages"][0]["content"] += " <|user|>"
    rows[1]["messages"] = [{"role": "user", "content": "x " * 300}, {"role": "assistant", "content": "y"}]
    rows[2]["messages"] += [{"role": "user", "content": "x " * 300}, {"role": "assistant", "content": "y"}]
    ratings = small.feedback()
    ratings[0]["completions"][3]["response"] = "An <|im_end|> inside."
    result = evaluate(
        tmp_path / "out",
        Path(small_run.recipe["model"]["path"]),
        models={"base": small_run.recipe["model"]["path"], "dsft": str(small_run.out / "sft")},
        dialogues=[str(small.write_lines(tmp_path / "d.jsonl", rows))],
        ratings=[str(small.write_lines(tmp_path / "r.jsonl", ratings))],
        settings=["sft.max_length=200"],
    )
    assert result["dropped"] == {
        "not for this chat format: contains the control token '<|user|>'": 1,
        "not for this chat format: contains the control token '<|im_end|>'": 1,
        "the first exchange is longer than sft.max_length": 1,
    }
    assert [result["results"]["nll"][m]["dialogues"] for m in ("base", "dsft")] == [10, 10]
    assert result["results"]["nll"]["base"]["tokens"] == result["results"]["nll"]["dsft"]["tokens"]
    assert result["results"]["reward_accuracy"]["dsft"]["prompts"] == 9


def test_one_prompt_or_only_ties_give_no_interval_and_no_accuracy(tiny_folder: Path, tmp_path: Path) -> None:
    one = str(small.write_lines(tmp_path / "d.jsonl", small.dialogues()[:1]))
    row = small.feedback()[0]
    single = str(small.write_lines(tmp_path / "r.jsonl", [row]))
    result = evaluate(tmp_path / "a", tiny_folder, dialogues=[one], ratings=[single])
    assert result["results"]["nll"]["base"]["ci95"] is None
    assert result["results"]["reward_accuracy"]["length"]["ci95"] is None
    scores = json.loads((tmp_path / "a" / "data" / "scores.json").read_text())
    assert scores == result["results"]
    for c in row["completions"]:
        c["annotations"] = small.feedback()[0]["completions"][0]["annotations"]
    ties = str(small.write_lines(tmp_path / "t.jsonl", [row]))
    with pytest.raises(DataError, match=r"evaluate: nothing is left to measure\. The preferences were not measured: no prompt of the test"):
        evaluate(tmp_path / "b", tiny_folder, ratings=[ties])
    assert not (tmp_path / "b").exists()
    sampled = evaluate(tmp_path / "c", tiny_folder, ratings=[ties], settings=["samples=1", "max_new_tokens=2"])
    assert set(sampled["results"]) == {"models", "lengths"}
    assert sampled["notes"] == [note for note in sampled["notes"] if note.startswith("The preferences were not measured")] != []


def test_pairs_serve_where_there_are_no_ratings(tiny_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "prompt_id": prompt_id_of(f"{i}?"), "chosen": "yes " * (i + 1), "rejected": "no " * 3} for i in range(6)]
    pairs = str(small.write_lines(tmp_path / "p.jsonl", rows))
    found = evaluate(tmp_path / "out", tiny_folder, ratings=[pairs])["results"]["reward_accuracy"]["length"]
    assert (found["pairs"], found["prompts"]) == (6, 6) and 0 < found["accuracy"] < 1


def test_samples_are_spread_over_the_categories(tiny_folder: Path, tmp_path: Path) -> None:
    rows = small.feedback()
    for i, row in enumerate(rows):
        row["category"] = "abc"[0 if i < 8 else i - 7]
    file = str(small.write_lines(tmp_path / "r.jsonl", rows))
    result = evaluate(tmp_path / "out", tiny_folder, ratings=[file], settings=["samples=4", "max_new_tokens=3"])
    samples = Artifact.open(tmp_path / "out").rows("samples")
    assert [s["category"] for s in samples] == ["a", "b", "c", "a"]
    assert all(isinstance(s["base"], str) and s["dsft"] is None for s in samples)
    lengths = result["results"]["lengths"]["base"]
    assert (lengths["mean_tokens"], lengths["ended"], lengths["answers"]) == (3.0, 0.0, 4)
    # Wilson's, of nought (or all) in four with Student's t of three degrees of freedom: four answers alike are no certainty
    edge = 3.182446305**2 / (4 + 3.182446305**2)
    assert lengths["ended_ci95"] == pytest.approx([0.0, edge]) and lengths["ci95"] == pytest.approx([3 * (1 - edge), 3.0])


def test_nothing_to_measure_on_and_missing_files(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="evaluate: nothing to measure on"):
        evaluate(tmp_path / "out", tiny_folder)
    with pytest.raises(UsageError, match="no such file"):
        evaluate(tmp_path / "out", tiny_folder, settings=["benchmarks.arc_challenge=nobody/arc"])
    with pytest.raises(UsageError, match="did you mean temperature"):
        evaluate(tmp_path / "out", tiny_folder, settings=["temprature=1"])


# --- what is left out is counted ---------------------------------------------------------------------------------


def rated_by_length(answers: dict[str, float], prompt: str = "How long?") -> dict[str, Any]:
    """A prompt whose answers have these overall scores."""
    completions = [{"model": f"m{i}", "response": text, "overall_score": score} for i, (text, score) in enumerate(answers.items())]
    return {"prompt": prompt, "prompt_id": prompt_id_of(prompt), "completions": completions}


def test_an_answer_that_does_not_fit_is_left_out_and_never_cut(tiny_folder: Path, tmp_path: Path) -> None:
    """The prompt takes 30 tokens or so. Cut to one length, the two long answers would tie; one is too long to be compared at all."""
    rows = [
        rated_by_length({"x " * 40: 9.0, "x " * 30: 5.0, "x " * 300: 1.0}),
        rated_by_length({"Yes.": 9.0, "x " * 300: 1.0}, "Is only one of two left?"),
    ]
    given = str(small.write_lines(tmp_path / "r.jsonl", rows))
    result = evaluate(tmp_path / "out", tiny_folder, ratings=[given], settings=["binarize.score=overall", "dpo.max_length=150"])
    assert result["dropped"] == {
        "the answer does not fit into dpo.max_length": 2,
        "fewer than two answers are left to compare": 1,
    }
    length = result["results"]["reward_accuracy"]["length"]
    assert (length["accuracy"], length["pairs"], length["prompts"]) == (1.0, 1, 1)


def test_what_is_shortened_is_noted(tiny_folder: Path, tmp_path: Path) -> None:
    dialogues, ratings = small.dialogues(), small.feedback()
    dialogues[2]["messages"] += [{"role": "user", "content": "x " * 300}, {"role": "assistant", "content": "y"}]
    ratings[0]["prompt"] += " x" * 300
    del ratings[0]["prompt_id"]
    pairs = [
        {
            "prompt": "Why " * 100,
            "chosen": [*turn, {"role": "assistant", "content": good}],
            "rejected": [*turn, {"role": "assistant", "content": "No."}],
        }
        for turn in [[{"role": "user", "content": "Why " * 100}]]
        for good in ("Yes.", "Indeed.")
    ]
    settings = ["sft.max_length=200", "dpo.max_prompt_length=90", "dpo.max_length=200"]
    found = evaluate(
        tmp_path / "a",
        tiny_folder,
        dialogues=[str(small.write_lines(tmp_path / "d.jsonl", dialogues))],
        ratings=[str(small.write_lines(tmp_path / "r.jsonl", ratings))],
        settings=settings,
    )
    cut = "1 test prompts lost their beginning: they were longer than dpo.max_prompt_length (90 tokens)."
    assert found["notes"] == ["1 test dialogues lost their last exchanges: they were longer than sft.max_length (200 tokens).", cut]
    assert found["dropped"] == {} and found["results"]["reward_accuracy"]["length"]["prompts"] == 10
    found = evaluate(tmp_path / "b", tiny_folder, ratings=[str(small.write_lines(tmp_path / "p.jsonl", pairs))], settings=settings)
    assert found["notes"] == [cut]  # one prompt, though of two pairs


def test_answers_without_text_or_score_are_counted(tiny_folder: Path, tmp_path: Path) -> None:
    rows = small.feedback()
    rows[0]["completions"][1]["response"] = " \n"
    del rows[1]["completions"][2]["annotations"]
    for c in rows[2]["completions"][1:]:
        del c["annotations"]
    result = evaluate(tmp_path / "out", tiny_folder, ratings=[str(small.write_lines(tmp_path / "r.jsonl", rows))])
    assert result["dropped"] == {
        "the answer is empty": 1,
        "the answer has no score (binarize.score is mean)": 4,
        "fewer than two answers are left to compare": 1,
    }
    assert result["results"]["reward_accuracy"]["length"]["pairs"] == 7 * 6 + 2 * 3
    kept = [json.loads(line) for line in (tmp_path / "out" / "dropped" / "dropped.jsonl").read_text().splitlines()]
    assert [line["where"][-8:] for line in kept[:2]] == ["answer 1", "answer 2"]


def test_rows_with_the_other_score_are_not_passed_over_in_silence(tiny_folder: Path, tmp_path: Path) -> None:
    overall = str(small.write_lines(tmp_path / "r.jsonl", [rated_by_length({"Yes.": 9.0, "No.": 1.0})]))
    with pytest.raises(
        DataError,
        match=r"nothing is left to measure.* set binarize.score=overall if the answers only have an overall_score.* Or take `evaluate` out",
    ):
        evaluate(tmp_path / "a", tiny_folder, ratings=[overall])
    lines = str(small.write_lines(tmp_path / "d.jsonl", small.dialogues()))
    both = evaluate(tmp_path / "b", tiny_folder, dialogues=[lines], ratings=[overall])
    assert "nll" in both["results"] and "reward_accuracy" not in both["results"]
    (note,) = both["notes"]
    assert "set binarize.score=overall" in note
    long = [{"messages": [{"role": "user", "content": "x " * 300}, {"role": "assistant", "content": "y"}]}]
    lines = str(small.write_lines(tmp_path / "long.jsonl", long))
    settings = ["sft.max_length=100", "binarize.score=overall"]
    (note,) = evaluate(tmp_path / "c", tiny_folder, dialogues=[lines], ratings=[overall], settings=settings)["notes"]
    assert note.startswith("The likelihood was not measured: no dialogue of the test split is left") and "raise sft.max_length" in note


def test_prompts_of_train_splits_are_left_out(small_run: SmallRun, tmp_path: Path) -> None:
    """By id or by text: a test prompt that a dialogue of training begins with, a test dialogue that begins with a prompt of the pairs."""
    assert small_run.result["scores"]["unseen"] is True
    lines, rated = small.dialogues(), small.feedback()
    train = [*lines[:7], {**lines[7], "prompt": rated[6]["prompt"], "prompt_id": rated[6]["prompt_id"]}]
    test = [*lines[8:], {**lines[7], "prompt": rated[0]["prompt"], "prompt_id": "its own"}]
    dialogues = [
        DataSource(path=str(small.write_lines(tmp_path / f"{split}.jsonl", rows)), split=split)
        for split, rows in (("train", train), ("test", test))
    ]
    recipe = load_recipe(small_run.file)
    wanted = module.needs(recipe)
    needs = Needs({**wanted.data, "dialogues": dialogues}, wanted.models)
    work = pipeline.bind("evaluate", module.configure(recipe), needs, small_run.out, tmp_path / "out", tmp_path / "cache")
    manifest = pipeline.execute(work).manifest
    assert manifest.dropped == {"the prompt is in a train split, too": 2}
    assert manifest.results["nll"]["base"]["dialogues"] == 4 and manifest.results["reward_accuracy"]["ddpo"]["prompts"] == 3
    assert manifest.results["unseen"] is True


def test_whether_there_was_a_train_split_to_compare_with_is_said(small_run: SmallRun, tmp_path: Path) -> None:
    """An artifact has one, a file that names no split has none; where nothing was trained it does not matter."""
    lines, curated = str(small.write_lines(tmp_path / "d.jsonl", small.dialogues())), str(small_run.out / "curate")
    models = {"base": small_run.recipe["model"]["path"], "dsft": str(small_run.out / "sft")}
    file = evaluate(tmp_path / "a", Path(), models=models, dialogues=[lines])
    artifact = evaluate(tmp_path / "b", Path(), models=models, dialogues=[curated])
    assert (file["results"]["unseen"], artifact["results"]["unseen"]) == (False, True)
    assert artifact["results"]["nll"]["dsft"] == small_run.result["scores"]["nll"]["dsft"]
    both = evaluate(tmp_path / "c", Path(), models=models, dialogues=[curated], ratings=[lines_of(tmp_path, curated)])
    assert both["dropped"] == {"the prompt is in a train split, too": 1}
    assert "unseen" not in evaluate(tmp_path / "d", Path(models["base"]), dialogues=[lines])["results"]


def lines_of(folder: Path, curated: str) -> str:
    """Pairs, one of them for a prompt of the train split."""
    prompts = [Artifact.open(Path(curated)).rows("train")[0]["prompt"], "Another?"]
    return str(small.write_lines(folder / "pairs.jsonl", [{"prompt": p, "chosen": "Yes.", "rejected": "No."} for p in prompts]))


# --- what is said of the numbers ---------------------------------------------------------------------------------


def test_every_model_is_said_to_speak_what_it_speaks(tiny_folder: Path, tmp_path: Path) -> None:
    """A trained model speaks the template it carries, whatever the base is made to speak."""
    own = Path(shutil.copytree(tiny_folder, tmp_path / "own"))
    tiny.byte_tokenizer().save_pretrained(own)
    lines = str(small.write_lines(tmp_path / "d.jsonl", small.dialogues()))

    def said(out: str, template: str) -> dict[str, str]:
        models = {"base": str(tiny_folder), "dsft": str(own)}
        result = evaluate(tmp_path / out, Path(), models=models, dialogues=[lines], chat_template=template)["results"]
        return {name: nll["template"] for name, nll in result["nll"].items()}

    assert said("a", "zephyr") == {"base": "zephyr", "dsft": "its own"}
    file = tmp_path / "chatml.jinja"
    file.write_text(tiny.CHATML)
    assert said("b", str(file)) == {"base": str(file), "dsft": str(file)}


def test_simpos_reward_is_said_to_be_another(small_run: SmallRun, tmp_path: Path) -> None:
    models = {"base": small_run.recipe["model"]["path"], "ddpo": str(small_run.out / "dpo")}

    def notes(out: str, *settings: str) -> list[str]:
        rated = [str(small_run.out / "rate")]
        return list(evaluate(tmp_path / out, Path(), models=models, ratings=rated, settings=list(settings))["notes"])

    assert notes("a") == []
    (note,) = notes("b", "dpo.objective=simpo")
    assert "simpo trained another reward" in note and "those in the log of its training" in note


def test_the_tokens_of_samples_are_counted(tiny_folder: Path, tmp_path: Path) -> None:
    rated = [str(small.write_lines(tmp_path / "r.jsonl", small.feedback()))]
    read = evaluate(tmp_path / "a", tiny_folder, ratings=rated)
    said = evaluate(tmp_path / "b", tiny_folder, ratings=rated, settings=["samples=2", "max_new_tokens=5"])
    tokens = [Artifact.open(Path(r["path"])).manifest.tokens for r in (read, said)]
    assert tokens[1] - tokens[0] > 2 * 5  # the two prompts, too


def test_a_prompt_of_several_pairs_is_answered_once(tiny_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": prompt, "chosen": good, "rejected": "No."} for prompt in ("One?", "Two?") for good in ("Yes.", "Indeed.", "Sure.")]
    pairs = [str(small.write_lines(tmp_path / "p.jsonl", rows))]
    evaluate(tmp_path / "out", tiny_folder, ratings=pairs, settings=["samples=5", "max_new_tokens=2"])
    assert sorted(row["prompt"] for row in Artifact.open(tmp_path / "out").rows("samples")) == ["One?", "Two?"]


def test_the_items_of_academic_tasks_are_read_before_a_model_is(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")
    from zephyr.models import load

    def too_late(*_: Any, **__: Any) -> Any:
        raise AssertionError("a model was loaded before the items were read")

    monkeypatch.setattr(load, "load_chat", too_late)
    monkeypatch.setattr(load, "load_model", too_late)
    lines = str(small.write_lines(tmp_path / "d.jsonl", small.dialogues()))
    bad = small.write_lines(tmp_path / "mmlu.jsonl", [{"question": "Is it?"}])
    with pytest.raises(DataError, match=r"evaluate: .*mmlu\.jsonl:1: `subject` is missing"):
        evaluate(tmp_path / "a", tiny_folder, dialogues=[lines], settings=[f"benchmarks.mmlu={bad}"])
    few = [{"question": f"Why {i}?", "choices": ["a", "b"], "answer": 0} for i in range(5)]
    few_file = small.write_lines(tmp_path / "arc.jsonl", few)
    with pytest.raises(DataError, match=r"evaluate: .*5 rows to draw examples of arc_challenge from"):
        evaluate(tmp_path / "b", tiny_folder, dialogues=[lines], settings=[f"benchmarks.arc_challenge={few_file}"])


def test_weights_that_are_not_numbers_are_said_with_the_row(tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from zephyr.errors import NonFiniteError

    broken = Path(shutil.copytree(tiny_folder, tmp_path / "broken"))
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[0] = math.nan
    model.save_pretrained(broken)
    lines = str(small.write_lines(tmp_path / "d.jsonl", small.dialogues()))
    with pytest.raises(NonFiniteError, match=r"evaluate: base: dialogues: the log-probability of prompt [0-9a-f]{16} is not finite"):
        evaluate(tmp_path / "out", broken, dialogues=[lines])


def test_a_measurement_that_is_cut_again_and_again_ends_as_one_that_is_not(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after every fourth part that was kept, at each run; what was kept is not computed again, and the artifact is the same."""
    from zephyr.parts import Parts

    sft, dpo = (str(small_run.out / stage / "model") for stage in ("sft", "dpo"))
    sets = small.write_lines(tmp_path / "pairs.jsonl", [{"prompt": f"{n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(6)])
    given: dict[str, Any] = {
        "models": {"base": sft, "dsft": sft, "ddpo": dpo},
        "dialogues": [str(small_run.out / "curate")],
        "ratings": [str(small_run.out / "rate")],
        "chat_template": "tokenizer",
        "settings": ["train.micro_batch_tokens=60", "samples=3", "max_new_tokens=4", f"preferences.sets.mine={sets}"],
    }
    whole = evaluate(tmp_path / "whole", Path(sft), **given)
    computed, keep = [], Parts.keep

    def cut(self: Parts, part: int, result: Any) -> None:
        keep(self, part, result)
        computed.append(part)
        if len(computed) % 4 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Parts, "keep", cut)
    cuts = 0
    while True:
        try:
            result = evaluate(tmp_path / "cut", Path(sft), **given)
            break
        except KeyboardInterrupt:
            cuts += 1
    assert cuts >= 5
    assert result["results"] == whole["results"]
    a, b = (Artifact.open(tmp_path / name).manifest for name in ("whole", "cut"))
    assert (a.digest, a.tokens) == (b.digest, b.tokens)
    computed.clear()
    monkeypatch.setattr(Parts, "keep", lambda self, part, result: computed.append(part))
    evaluate(tmp_path / "again", Path(sft), **given)
    assert 4 * cuts <= len(computed) < 4 * (cuts + 1), "each part was computed once"
    assert not list(tmp_path.glob(".cut*")), "nothing is left over"
