"""The forecast counts the tokens that the stages will see, and speaks of the stages that are still to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny import byte_tokenizer, tiny_model
from zephyr import forecast, recipe, sources
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
        assert forecast.forecast(few, ["sft"], ref, {})["sft"] == pytest.approx(once / 4), "of 200 rows 50 are chosen"


def test_pairs_that_do_not_fit_are_not_counted(model: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    long = "word " * 4000
    pairs.write_text(f'{{"prompt": "a", "chosen": "{long}", "rejected": "b"}}\n' * 3, encoding="utf-8")
    found = recipe.load(ROOT / "recipes/pairs.yaml", [f"model.path={model}", f"binarize.data=[{pairs}]"])
    chat = load.load_chat(load.refer(ModelConfig(path=str(model))), "zephyr")
    assert volume.pairs(found, {}, chat).train == 0


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
