"""The forecast counts the tokens that the stages will see, and speaks of the stages that are still to run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny import byte_tokenizer, tiny_model
from zephyr import forecast, pipeline, recipe, sources
from zephyr.estimate import speed, volume
from zephyr.models import load
from zephyr.recipe import ModelConfig

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama", max_position_embeddings=8192).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_tokens_are_those_of_the_data(model: Path) -> None:
    demo = recipe.load(ROOT / "recipes/demo.yaml", [f"model.path={model}", "sft.max_length=8192", "dpo.max_length=8192"])
    assert demo.curate and demo.complete
    chat = load.load_chat(load.refer(ModelConfig(path=str(model))), "zephyr")
    found = volume.dialogues(demo, {}, chat)
    for split, source in zip(("train", "test"), demo.curate.data, strict=True):
        exact = sum(len(chat.encode(row["messages"]).ids) for _, _, row in sources.rows(source))
        # the mean is over both splits
        assert getattr(found, split) * found.mean == pytest.approx(exact, rel=0.1)
    assert (found.train, found.test) == (160, 40)
    answers = volume.pairs(demo, {}, chat)
    assert (answers.answers, answers.train, answers.test) == (4, 160, 40)
    exact = 0
    for source in demo.complete.prompts:
        for _, _, row in sources.rows(source):
            encoded = [
                chat.encode_pair([{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": c["response"]}])
                for c in row["completions"]
            ]
            exact += len(encoded[0][0]) + sum(len(answer) for _, answer in encoded)
    assert (answers.train + answers.test) * answers.all_answers == pytest.approx(exact, rel=0.05)


def test_it_lists_what_is_asked_and_scales_with_epochs(model: Path) -> None:
    ref = load.refer(ModelConfig(path=str(model)))
    demo = recipe.load(ROOT / "recipes/demo.yaml", [f"model.path={model}"])
    seconds = forecast.forecast(demo, ["evaluate", "sft"], ref, {})
    assert list(seconds) == ["sft", "evaluate"] and all(s > 0 for s in seconds.values())
    assert "about" in forecast.describe(seconds)
    data = volume.dialogues(demo, {}, load.load_chat(ref, "zephyr"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "probe", lambda *_: (1.0, 0.0, 0.0))
        once = forecast.forecast(demo, ["sft"], ref, {})["sft"]
        assert once == pytest.approx(data.train * data.mean)
        longer = recipe.load(ROOT / "recipes/demo.yaml", [f"model.path={model}", "sft.epochs=3"])
        assert forecast.forecast(longer, ["sft"], ref, {})["sft"] == pytest.approx(3 * once)
        few = recipe.load(ROOT / "recipes/demo.yaml", [f"model.path={model}", "curate.select.target=50"])
        assert forecast.forecast(few, ["sft"], ref, {})["sft"] == pytest.approx(once * 50 / 160), "test rows that are named are not counted"
        assert volume.dialogues(few, {}, load.load_chat(ref, "zephyr")).test == 40


@pytest.mark.parametrize(("device", "share"), [("cuda", 4), ("cpu", 1)])
def test_processes_share_what_they_do_together_where_each_has_a_gpu(
    device: str, share: int, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = load.refer(ModelConfig(path=str(model)))
    demo = recipe.load(ROOT / "recipes/demo.yaml", [f"model.path={model}"])
    monkeypatch.setattr(speed, "probe", lambda *_: (1.0, 1.0, 1.0))
    monkeypatch.setattr(load, "device", lambda: device)
    alone = forecast.forecast(demo, forecast.MEASURED, ref, {})
    monkeypatch.setenv("WORLD_SIZE", "4")
    shared = forecast.forecast(demo, forecast.MEASURED, ref, {})
    assert {*forecast.MEASURED} - {*forecast.ALONE} == {*pipeline.graph.TOGETHER}
    assert ("by one process" in forecast.describe(shared)) == (share == 1)
    for stage, seconds in alone.items():
        assert seconds and shared[stage] == seconds / (share if stage in pipeline.graph.TOGETHER else 1), stage


def test_what_is_made_need_not_be_guessed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curated rows instead of those they were chosen from; of pairs the answers that were rated are still all scored."""
    from zephyr.artifacts import draft

    monkeypatch.setattr(speed, "probe", lambda *_: (1.0, 1.0, 0.0))
    ref = load.refer(ModelConfig(path=str(model)))
    demo = recipe.load(ROOT / "recipes/demo.yaml", [f"model.path={model}"])
    with draft(tmp_path / "curate", stage="curate", key="k", config={}, parents={}) as out:
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        out.write_rows("train", [{"prompt": "a", "prompt_id": "1", "messages": turns}] * 3)
    few = forecast.forecast(demo, ["sft"], ref, {"curate": tmp_path / "curate"})["sft"]
    assert few is not None and 0 < few < 200 < forecast.forecast(demo, ["sft"], ref, {})["sft"]  # type: ignore[operator]
    rated = [
        {"prompt": f"{n}", "completions": [{"model": m, "response": m, "overall_score": n} for n, m in enumerate("abcd")]} for n in "xy"
    ]
    with draft(tmp_path / "rate", stage="rate", key="k", config={}, parents={}) as out:
        out.write_rows("test", rated)
    with draft(tmp_path / "binarize", stage="binarize", key="k", config={}, parents={}) as out:
        out.write_rows("test", [{"prompt": "x", "chosen": "a", "rejected": "b"}])
    settings = [f"rate.data=[{tmp_path / 'rate'}]", f"rate.teacher={{kind: local, path: {model}}}"]
    given = recipe.load(ROOT / "recipes/pairs.yaml", [f"model.path={model}", "binarize.data=[]", *settings])
    chat = load.load_chat(ref, "zephyr")
    assert volume.pairs(given, {stage: tmp_path / stage for stage in ("rate", "binarize")}, chat).answers == 4


def test_a_reference_is_counted_where_there_is_one(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "probe", lambda *_: (1.0, 1.0, 0.0))
    ref = load.refer(ModelConfig(path=str(model)))
    both = [recipe.load(ROOT / "recipes/demo.yaml", [f"model.path={model}", f"dpo.objective={name}"]) for name in ("dpo", "simpo")]
    plain, simpo = (forecast.forecast(r, pipeline.stages_of(r), ref, {}) for r in both)
    assert plain.pop("reference") and plain == simpo


def test_pairs_that_do_not_fit_are_not_counted(model: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    long = "word " * 4000
    pairs.write_text(f'{{"prompt": "a", "chosen": "{long}", "rejected": "b"}}\n' * 3, encoding="utf-8")
    found = recipe.load(ROOT / "recipes/pairs.yaml", [f"model.path={model}", f"binarize.data=[{pairs}]"])
    chat = load.load_chat(load.refer(ModelConfig(path=str(model))), "zephyr")
    assert volume.pairs(found, {}, chat).train == 0


@pytest.mark.parametrize(("truncation", "rows", "tokens"), [("exchanges", 20, {"short", "cut"}), ("drop", 10, {"short"})])
def test_a_dialogue_that_is_too_long_counts_as_what_the_stage_learns(
    truncation: str, rows: int, tokens: set[str], model: Path, tmp_path: Path
) -> None:
    """It loses its last exchanges; one whose first does not fit is left out, and every one that is too long where the recipe says so."""

    def turns(exchanges: int, size: int) -> list[dict[str, str]]:
        return [{"role": role, "content": "x" * size} for _ in range(exchanges) for role in ("user", "assistant")]

    chat = load.load_chat(load.refer(ModelConfig(path=str(model))), "zephyr")
    whole = {"short": turns(1, 10), "cut": turns(2, 40)}  # the second is what is left of three exchanges
    sizes = {name: len(chat.encode(messages).ids) for name, messages in whole.items()}  # type: ignore[arg-type]
    file = tmp_path / "x.jsonl"
    given = [turns(1, 10), turns(3, 40), turns(1, 400)]
    file.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in given * 10), encoding="utf-8")
    curated = recipe.CurateConfig(data=[{"path": str(file), "split": "train"}])  # type: ignore[list-item]
    sft = recipe.SFTConfig(max_length=sizes["cut"] + 10, truncation=truncation)  # type: ignore[arg-type]
    found = volume.dialogues(recipe.Recipe(name="x", model=ModelConfig(path=str(model)), curate=curated, sft=sft), {}, chat)
    assert found.train == rows and {x.tokens for x in found.lengths} == {sizes[name] for name in tokens}


def test_what_is_not_known_is_said(model: Path, tmp_path: Path) -> None:
    """A pool that has yet to answer: no lengths, so no seconds for what comes after it."""
    pool = ", ".join(f"{name}: {{kind: local, path: {model}}}" for name in "ab")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a"}\n', encoding="utf-8")
    settings = [f"model.path={model}", f"complete.pool={{{pool}}}", f"complete.prompts=[{prompts}]", "complete.models_per_prompt=2"]
    demo = recipe.load(ROOT / "recipes/demo.yaml", settings)
    seconds = forecast.forecast(demo, ["sft", "reference", "dpo", "evaluate"], load.refer(ModelConfig(path=str(model))), {})
    assert seconds["sft"] is not None
    assert seconds["reference"] is seconds["dpo"] is seconds["evaluate"] is None
    assert forecast.describe(seconds).endswith("; not known yet: reference, dpo, evaluate")
    assert forecast.describe({"dpo": None}) == "forecast: not known yet: dpo"


def test_a_prompt_that_loses_its_beginning_counts_as_what_is_left(model: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    long = "word " * 2000
    pairs.write_text(f'{{"prompt": "{long}", "chosen": "a", "rejected": "b"}}\n' * 3, encoding="utf-8")
    found = recipe.load(ROOT / "recipes/pairs.yaml", [f"model.path={model}", f"binarize.data=[{pairs}]"])
    assert found.dpo
    chat = load.load_chat(load.refer(ModelConfig(path=str(model))), "zephyr")
    assert {x.first for x in volume.pairs(found, {}, chat).lengths} == {found.dpo.max_prompt_length}


def test_of_a_mixture_the_share_that_is_used_counts(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 100, encoding="utf-8")
    chat = load.load_chat(load.refer(ModelConfig(path=str(model))), "zephyr")

    def counted(**given: object) -> tuple[int, int]:
        curated = recipe.CurateConfig(data=[{"path": str(file), **given}], test_fraction=0.2)  # type: ignore[list-item]
        found = volume.dialogues(recipe.Recipe(name="x", model=ModelConfig(path=str(model)), curate=curated), {}, chat)
        return found.train, found.test

    assert counted() == (80, 20)
    assert counted(weight=0.25) == (20, 20)
    assert counted(weight=0.25, split="train") == (25, 0)
    assert counted(weight=0.25, split="test") == (0, 100)
