"""The recipes that ship say what their sources say, can be planned where nothing is at hand, and are told apart in words."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zephyr
from zephyr import api, recipes
from zephyr.errors import UsageError
from zephyr.files import Unread
from zephyr.pipeline import first_rows
from zephyr.recipe import Recipe, Section, ShapeConfig, load
from zephyr.recipes.cost import cost_of
from zephyr.recipes.flat import settings
from zephyr.recipes.meaning import sections_in
from zephyr.sources import rename

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "recipes").glob("*.yaml"))
PAPER, BEFORE, SINCE, QLORA = (
    ROOT / "recipes" / f"zephyr-7b-{name}.yaml" for name in ("beta", "handbook-e316174", "handbook-f0ffa0d", "handbook-f0ffa0d-qlora")
)
SEVEN_B = (PAPER, BEFORE, SINCE, QLORA)


def differences(a: Path, b: Path) -> dict[str, dict[str, Any]]:
    return {d["setting"]: d for d in recipes.compare(load(a), load(b))["differences"]}


def test_the_paper_is_the_paper() -> None:
    recipe = load(PAPER)
    assert recipe.sft and recipe.dpo and recipe.binarize
    sft = {name: getattr(recipe.sft, name) for name in ("epochs", "learning_rate", "schedule", "warmup_ratio", "batch_size", "max_length")}
    assert sft == {"epochs": 1, "learning_rate": 2e-5, "schedule": "cosine", "warmup_ratio": 0.1, "batch_size": 512, "max_length": 2048}
    dpo = {name: getattr(recipe.dpo, name) for name in ("beta", "epochs", "learning_rate", "schedule", "warmup_ratio", "batch_size")}
    assert dpo == {"beta": 0.1, "epochs": 3, "learning_rate": 5e-7, "schedule": "linear", "warmup_ratio": 0.1, "batch_size": 32}
    assert (recipe.binarize.score, recipe.binarize.rejected, recipe.sft.weight_decay, recipe.dpo.weight_decay) == ("mean", "random", 0, 0)
    assert (recipe.sft.packing, recipe.sft.loss_on, recipe.sft.lora, recipe.train.dtype) == (True, "assistant", None, "bfloat16")


@pytest.mark.parametrize("path", SEVEN_B, ids=lambda path: path.stem)
def test_every_value_has_its_source_and_every_source_stays(path: Path) -> None:
    """A setting of the training stands with a comment beside it; a model or data set with the commit that it had."""
    recipe = load(path)
    sources = [*recipe.curate.data, *recipe.binarize.data] if recipe.curate and recipe.binarize else []
    assert len(sources) >= 3 and all(re.fullmatch("[0-9a-f]{40}", source.revision or "") for source in [*sources, recipe.model])
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        section = line[:-1] if re.fullmatch(r"\w+:", line) else section
        if path == PAPER and section in ("sft", "dpo") and re.match(r" {2}\w+: ", line) and not line.strip().startswith("adam"):
            assert "#" in line, f"{line} says not where it comes from"


@pytest.mark.parametrize("path", SEVEN_B, ids=lambda path: path.stem)
def test_planned_without_anything_at_hand(path: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def no_network(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    free = [] if importlib.util.find_spec("bitsandbytes") or path != QLORA else ["sft.lora.quantize=null", "dpo.lora.quantize=null"]
    if free:
        with pytest.raises(UsageError, match=r"zephyr-align\[qlora\]"):
            zephyr.run(path, out=tmp_path / "run", dry_run=True)
    pytest.importorskip("peft", reason="adapters need peft, which is not installed")
    planned = zephyr.run(path, free, out=tmp_path / "run", dry_run=True)
    stages = ["curate", "sft", "binarize", "reference", "dpo", "evaluate", "report"]
    assert {stage: a["status"] for stage, a in planned["artifacts"].items()} == dict.fromkeys(stages, "would run")
    assert not (tmp_path / "run").exists()
    if path in (PAPER, QLORA):  # seconds each: what layers keep is tried on small copies
        api.plan(path, free, out=tmp_path / "run")


def _turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]


# a row as each data set was published, its texts invented
PUBLISHED: dict[str, dict[str, Any]] = {
    "HuggingFaceH4/ultrachat_200k": {"prompt": "Why?", "prompt_id": "a" * 64, "messages": _turns("Why?", "So.", "And?", "Yes.")},
    "openbmb/UltraFeedback": {
        "source": "evol_instruct",
        "instruction": "Name a bird.",
        "models": ["alpaca-7b", "llama-2-7b-chat"],
        "completions": [
            {
                "annotations": {
                    "helpfulness": {"Type": ["1"], "Rationale": "It names one.", "Rating": rating, "Rationale For Rating": "It helps."},
                    "honesty": {"Rating": "N/A", "Rationale": "Nothing is claimed."},
                    "instruction_following": {"Rating": rating, "Rationale": "As asked."},
                    "truthfulness": {"Type": ["None"], "Rationale": "True.", "Rating": rating, "Rationale For Rating": "No error."},
                },
                "custom_system_prompt": "Be helpful.",
                "model": model,
                "principle": "helpfulness",
                "response": answer,
                "critique": "Short.",
                "overall_score": overall,
                "fine-grained_score": overall / 2,
            }
            for model, answer, rating, overall in (("alpaca-7b", "A wren.", "5", 8.0), ("llama-2-7b-chat", "A bat.", "2", 3.0))
        ],
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    },
    "HuggingFaceH4/ultrafeedback_binarized": {
        "prompt": "Name a bird.",
        "prompt_id": "b" * 64,
        "chosen": _turns("Name a bird.", "A wren."),
        "rejected": _turns("Name a bird.", "A bat."),
        "messages": _turns("Name a bird.", "A wren."),
        "score_chosen": 8.0,
        "score_rejected": 3.0,
    },
}


@pytest.mark.parametrize("path", SEVEN_B, ids=lambda path: path.stem)
def test_their_stages_can_use_the_rows_of_their_sources(path: Path) -> None:
    recipe = load(path)
    assert recipe.curate and recipe.binarize
    for stage, data in (("curate", recipe.curate.data), ("binarize", recipe.binarize.data)):
        for source in data:
            row = rename(PUBLISHED[source.path], source.columns)
            assert not isinstance(row, Unread)
            first_rows.PARSERS[stage][1](row)


def test_what_they_train_on() -> None:
    """The paper: 272 steps of 512 x 2,048 tokens; DPO three times through 62,000 pairs by 32."""
    volumes = recipes.volumes(load(PAPER))
    assert volumes["sft"].steps == 272 and volumes["sft"].rows == 207_865 and volumes["sft"].tokens == 285_000_000
    assert volumes["dpo"].rows == 3 * round(63_967 * (1 - 0.0313)) and volumes["dpo"].steps == 3 * 1937
    assert recipes.volumes(load(SINCE))["dpo"].steps == 478


def test_the_shape_counts_the_parameters_of_the_model() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = load(PAPER).model.shape
    assert shape is not None and shape.parameters == 7_241_732_096
    small = ShapeConfig(
        model_type="mistral", hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=12, vocab_size=96,
    )  # fmt: skip
    for tied in (False, True):
        some = small.model_copy(update={"tie_word_embeddings": tied})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**some.model_dump(exclude_none=True)))
        assert some.parameters == sum(p.numel() for p in model.parameters())


def test_facts_of_what_is_not_at_hand_change_nothing_that_is_made(tmp_path: Path, tiny_folder: Path) -> None:
    """Rows, tokens and shape are no part of any key: stating or correcting them runs nothing again."""
    import small
    from zephyr import pipeline

    values = small.recipe(tmp_path / "data", tiny_folder)
    plain = small.write_recipe(tmp_path / "plain.yaml", values)
    source = values["curate"]["data"][0]
    source = {"path": source} if isinstance(source, str) else source
    shape = dict.fromkeys(
        ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size"), 8
    )
    told = {**values, "model": {**values["model"], "shape": shape}}
    told["curate"] = {**values["curate"], "data": [{**source, "rows": 7, "tokens": 700}, *values["curate"]["data"][1:]]}
    other = small.write_recipe(tmp_path / "told.yaml", told)
    keys = [pipeline.bound(load(path), "curate", tmp_path, tmp_path / "cache").key for path in (plain, other)]
    assert keys[0] == keys[1]
    assert load(plain).model_dump() == load(other).model_dump()
    assert recipes.compare(load(plain), load(other))["differences"] == []


# --- diff ------------------------------------------------------------------------------------------------------------


def test_comments_order_and_defaults_are_no_difference(tmp_path: Path) -> None:
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text("name: a\nmodel: {path: x/y}\nbinarize: {data: [one.jsonl, two.jsonl]}\ndpo: {epochs: 1}\n", encoding="utf-8")
    b.write_text(
        "# another order, and defaults written out\ndpo:\n  beta: 0.1  # the default\n  epochs: 1\n  batch_size: 32\n"
        "binarize:\n  ties: drop\n  data: [two.jsonl, {path: one.jsonl, weight: 1.0}]\nmodel: {chat_template: zephyr, path: x/y}\nname: b\n",
        encoding="utf-8",
    )
    assert differences(a, b) == {}
    found = load(a), load(b)
    assert recipes.describe(recipes.compare(*found), *found) == "a and b compute the same"


def test_what_the_handbook_changed() -> None:
    found = differences(BEFORE, SINCE)
    changed = {name: (d["before"], d["after"]) for name, d in found.items()}
    assert changed == {
        "sft.warmup_ratio": (0.0, 0.1),
        "sft.batch_size": (512, 128),
        "dpo.epochs": (3, 1),
        "dpo.schedule": ("linear", "cosine"),
        "dpo.batch_size": (64, 128),
        "dpo.beta": (0.1, 0.01),
    }
    assert found["dpo.beta"]["about"].startswith("how far the model may move") and found["dpo.beta"]["cost"] == "nothing"
    assert found["sft.batch_size"]["cost"].startswith("272 → 1,088 steps (×4)")
    # of one setting alone, not of all of them together
    assert found["dpo.epochs"]["cost"] == "146M → 48.6M tokens (×0.333), 2,868 → 956 steps (×0.333)"


def test_what_costs_something_and_what_does_not() -> None:
    found = differences(PAPER, BEFORE)
    # of 272 steps neither looks in between, however the two numbers stand to each other
    assert (found["sft.evaluate_every"]["before"], found["sft.evaluate_every"]["after"]) == (1000, 20000)
    assert found["sft.evaluate_every"]["cost"] == "nothing"
    assert found["dpo.evaluate_every"]["cost"] == "13 → 60 looks at the test split"  # of 5,811 steps
    assert found["sft.loss_on"]["cost"] == "more tokens meet the output matrix: those that are learnt"
    assert found["binarize.test_fraction"]["cost"] == "nothing: every source of zephyr-7b-handbook-e316174 names its split"
    back = differences(BEFORE, PAPER)
    assert back["binarize.test_fraction"]["cost"] == "nothing" and back["sft.loss_on"]["cost"].startswith("fewer tokens")


def test_what_adapters_do_to_memory() -> None:
    found = differences(SINCE, QLORA)
    assert found["sft.lora"]["before"] is None and not any(name.startswith("sft.lora.") for name in found)
    # rank 16 x (in + out) of the seven matrices of 32 layers
    assert "7.24B → 41.9M weights learn: 86.4 GB less" in found["sft.lora"]["cost"] and "4 bits" in found["sft.lora"]["cost"]
    text = recipes.describe(recipes.compare(load(SINCE), load(QLORA)), load(SINCE), load(QLORA))
    assert "  lora: not there → rank 16, alpha 16, dropout 0.05, target_modules all-linear, quantize nf4\n" in text
    assert "sft in all: 285M tokens, 1,088 steps → 285M tokens, 17,396 steps" in text


def test_what_saves_a_pass_or_leaves_rows_out_or_moves_weights() -> None:
    def cost(*overrides: str, back: bool = False) -> str:
        one, other = load(PAPER), load(PAPER, overrides)
        found = recipes.compare(*((other, one) if back else (one, other)))["differences"]
        return str(next(d["cost"] for d in found if d["setting"] == overrides[0].partition("=")[0]))

    simpo = "dpo.objective=simpo"
    assert cost(simpo) == "the reference's pass, forward through every pair once, is not made"
    assert cost(simpo, back=True).endswith("is made first") and cost("dpo.objective=ipo") == "nothing"
    assert cost("train.offload=all").startswith("the GPU holds a layer at a time")
    assert "most of its memory" in cost("train.offload=all", back=True) and "8 bytes" in cost("train.offload=optimizer")
    assert cost("sft.truncation=drop").startswith("fewer rows") and cost("sft.truncation=drop", back=True).startswith("more rows")
    kept = "dpo.truncation=prompt_left"  # where an answer that does not fit is not cut, as the paper's recipe does
    assert cost(kept).startswith("fewer rows") and cost(kept, back=True).startswith("more rows")
    assert cost("binarize.ties=second") == "more pairs, if any answers score the same"
    assert cost("curate.filters=all").startswith("how many rows are left is known when `curate` has run")


LEFT = "how many rows are left is known when `curate` has run: tokens and steps count those before it"


def test_what_teachers_judges_and_tasks_cost() -> None:
    recipe = load(PAPER)
    for path, before, after, said in (
        ("rate.teacher.prices.prompt", 2.0, 3.0, "dollars for what is sent ×1.5"),
        ("complete.pool.limit.prices.completion", 0.0, 3.0, "dollars for what comes back"),
        ("complete.pool.limit.prices", None, "there", "nothing: what is asked is the same, and its price is known"),
        ("complete.pool.limit", None, "there", ""),  # a model of that name; models_per_prompt says how many answer
        ("complete.pool.seed", None, "there", ""),
        ("benchmarks.ifeval", None, "there", ""),
        ("judge.endpoints.gpt-4.1", None, "there", "answers and verdicts of one model more"),
        ("judge.endpoints.order", "there", None, "answers and verdicts of one model less"),
        ("judge.models", ["dsft"], ["base", "dsft", "ddpo"], "answers and verdicts ×3: each model has its own"),
        ("judge.models", None, ["ddpo"], "answers and verdicts: each model has its own"),
        ("judge.mt_bench", "there", None, "two answers of each model to each question, and a verdict on each, less"),
        ("judge.mt_bench.single", True, False, "a verdict an answer, less"),
        ("judge.mt_bench.against", None, "a.jsonl", "two verdicts an answer, one in each order, more"),
        ("judge.mt_bench.against", "b.jsonl", "a.jsonl", ""),
        ("judge.mt_bench.compatible", False, True, "nothing"),
        ("judge.alpaca_eval.order", "both", "seeded", "verdicts ×0.5"),
        ("judge.alpaca_eval.preference", "words", "log_probabilities", "a token back for each verdict, not reasons"),
        ("judge.canary", True, False, "verdicts on answers that say nothing, as many as of a model, less"),
        ("judge.limit", None, 20, "fewer items of each benchmark, if it has so many"),
        ("evaluate.limit", 20, None, "more items of each benchmark, if it has so many"),
        ("evaluate.sampler", "drawn", "first_n", "less: what few-shot prompts begin with is computed once"),
        ("evaluate.benchmarks", {"mmlu": "a"}, {"mmlu": "b"}, ""),
        ("curate.select", None, "there", LEFT),
        ("curate.select.target", 200_000, 100_000, "dialogues that are taken, where there are so many, ×0.5"),
        ("curate.select.balance", "root", "even", "as many dialogues, of other lengths"),
        ("curate.select.by", ["topic"], ["turns"], "as many dialogues, of other lengths"),
        ("curate.gate.overlap", 0.5, 0.25, LEFT),
        ("curate.near_prompts.threshold", 0.8, 0.7, LEFT),
        ("curate.gen_fraction", 0.0, 0.5, LEFT),
        ("synthesize.world", "there", None, "dialogues of that kind, and the calls for them, less"),
        ("synthesize.world.count", 100, 300, "dialogues of that kind, and the calls for them, ×3"),
        ("synthesize.world.turns", [2, 4], [3, 6], "turns of a dialogue, and calls for them, ×1.5 on average"),
        ("synthesize.self_instruct.rounds", 1, 2, "calls that refine an instruction ×2"),
        (
            "evaluate.benchmarks",
            {"mmlu": "a"},
            {"arc_challenge": "b"},
            "each model reads the items of arc_challenge, too; no model reads those of mmlu",
        ),
    ):
        assert cost_of(path, before, after, recipe, recipe) == said, path


def test_costs_that_do_not_add_up_are_said_to_be_of_one_difference_alone() -> None:
    def described(*overrides: str) -> list[str]:
        found = load(PAPER), load(PAPER, overrides)
        return recipes.describe(recipes.compare(*found), *found).splitlines()

    line = "each cost above is that of one difference alone; all of them together:"
    both = described("dpo.batch_size=64", "dpo.epochs=1")
    assert "5,811 → 2,907 steps (×0.5)" in "".join(both) and both[-3] == line  # 3 x 969, where one epoch has 969
    assert both[-1].endswith("969 steps")
    assert line not in described("dpo.batch_size=64", "dpo.beta=0.2")


def test_a_setting_outside_of_sections_goes_by_its_name() -> None:
    a, b = load(PAPER), load(PAPER, ["seed=7"])
    assert f"  seed: {a.seed} → 7" in recipes.describe(recipes.compare(a, b), a, b).splitlines()


def test_a_section_that_is_absent_is_one_difference() -> None:
    found = differences(ROOT / "recipes" / "demo.yaml", ROOT / "recipes" / "pairs.yaml")
    assert found["complete"]["after"] is None and found["complete"]["cost"] == "the stage complete is not run"
    assert not any(name.startswith(("complete.", "curate.", "curate[")) for name in found)
    assert "binarize.data" not in found and found["binarize.data[pairs.jsonl]"]["before"] is None
    assert found["complete"]["about"] == "Several models answer each prompt: paper, section 3, step 2"


def test_every_setting_says_what_it_means() -> None:
    """The comment above a setting is what `recipe show` and `recipe diff` say of it, so each has one."""
    waiting: list[type[Section]] = [Recipe]
    seen: set[type[Section]] = set()
    silent = []
    while waiting:
        section = waiting.pop()
        if section in seen:
            continue
        seen.add(section)
        silent += [f"{section.__name__}.{name}" for name in section.model_fields if not recipes.meaning_of(section, name)]
        for field in section.model_fields.values():
            waiting += sections_in(field.annotation)
    assert len(seen) > 20 and silent == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_recipe_in_full_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load(path)
    written = tmp_path / "full.yaml"
    written.write_text(recipes.shown(recipe), encoding="utf-8")
    assert load(written) == recipe
    assert {s.path: s.value for s in settings(load(written))} == {s.path: s.value for s in settings(recipe)}
    if recipe.dpo:  # defaults are written out, and what they mean
        assert "  adam_betas: [0.9, 0.999]\n" in written.read_text() and "  # the peak size of an update\n" in written.read_text()


def test_the_commands() -> None:
    def command(*arguments: str | Path) -> str:
        done = subprocess.run([sys.executable, "-m", "zephyr", "recipe", *map(str, arguments)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = json.loads(command("diff", BEFORE, SINCE, "--json"))
    assert [d["setting"] for d in found["differences"]][:2] == ["sft.warmup_ratio", "sft.batch_size"]
    assert found["volumes"]["b"]["dpo"] == {"rows": 61135, "tokens": 48_600_000, "steps": 478}
    shown = json.loads(command("show", PAPER, "dpo.beta=0.5", "--json"))
    assert {"setting": "dpo.beta", "value": 0.5, "about": recipes.meaning_of(type(load(PAPER).dpo), "beta")} in shown["settings"]  # type: ignore[arg-type]
