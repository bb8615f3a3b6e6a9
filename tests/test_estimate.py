"""The plan of a training: what is counted is what happens, on models small enough to look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MistralConfig, Qwen3Config

import small
from zephyr import api
from zephyr.errors import UsageError
from zephyr.estimate import machines, memory, shape, show, training, volume
from zephyr.recipe import load
from zephyr.train.attention import NAME
from zephyr.train.batches import Example, flatten
from zephyr.train.fused import fuse
from zephyr.train.logprobs import stream_hidden

ROOT = Path(__file__).resolve().parents[1]
SIZES = {
    "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 300, "head_dim": 24,
}  # fmt: skip
KINDS = {
    "llama": LlamaConfig(**SIZES),
    "tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES),
    "qwen3": Qwen3Config(**SIZES),
    "gemma2": Gemma2Config(**SIZES, query_pre_attn_scalar=24),
}


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_those_of_the_model(kind: str) -> None:
    model = AutoModelForCausalLM.from_config(KINDS[kind])
    found = shape.shape_of(KINDS[kind])
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.products == found.parameters - (0 if tied else 300 * 96)
    assert (found.layers, found.hidden, found.attention, found.vocabulary, found.head) == (5, 96, 96, 300, 300 * 96)


def test_operations_are_those_of_the_products() -> None:
    """Counted by torch: all products of a forward, causal attention in full as a plain model computes it."""
    config = KINDS["llama"]
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    tokens = 64
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, tokens, dtype=torch.long))
    counted = shape.shape_of(config).forward_flops(tokens, tokens, tokens)
    norms = 2 * tokens * 96 * (2 * 5 + 1)  # weights of the norms multiply too, but in no product
    assert counted - norms == pytest.approx(counter.get_total_flops(), rel=2e-3)  # and the rotary table is a product to torch


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2"])
def test_what_layers_keep_is_what_they_keep(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From copies half as wide with one and three layers, to the model itself at another length."""
    monkeypatch.setattr(memory, "PROBE_WIDTH", 48)
    config = KINDS[kind]
    assert memory._factor(config.get_text_config()) == 2
    found = memory.kept(config, "float32")
    model = AutoModelForCausalLM.from_config(config, attn_implementation=NAME)
    fuse(model)
    tokens = 300
    stream = flatten([Example(tuple(range(tokens)), (False,) * (tokens - 1) + (True,))])
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    kept: dict[int, tuple[Any, int]] = {}

    def remember(tensor: Any) -> Any:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor, tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda t: t):
        stream_hidden(model, stream)
    assert found.bytes(tokens, 5) == pytest.approx(sum(size for _, size in kept.values()), rel=0.05 if kind != "gemma2" else 0.3)
    assert memory.kept(config, "float32", recompute=True).layer_token == 4 * 96  # what goes into a layer, and nothing else


def test_copies_in_another_format_are_counted() -> None:
    config = KINDS["llama"]
    layer = shape.shape_of(config).layer - 2 * 96
    assert memory.kept(config, "bfloat16").layer == pytest.approx(2 * layer, rel=0.02)
    assert memory.kept(config, "float32").layer == pytest.approx(0, abs=0.01 * layer)


def test_volumes_are_those_of_the_rows(tmp_path: Path) -> None:
    model = small.model_folder(tmp_path / "model")
    values = small.recipe(tmp_path / "data", model)
    recipe = load(small.write_recipe(tmp_path / "r.yaml", values))
    chat = training._chat(recipe)
    found = volume.dialogues(recipe, {}, chat)
    exact = [len(chat.encode(row["messages"]).ids) for row in small.dialogues()]
    assert (found.train, found.test) == (8, 4)
    assert [x.tokens for x in found.lengths] == [min(128, n) for n in exact]
    pairs = volume.pairs(recipe, {}, chat)
    assert (pairs.train, pairs.test) == (6, 4) and pairs.lengths, "recorded answers are written already"
    assert all(len(x.branches) == 2 and x.predicted == sum(x.branches) for x in pairs.lengths)


def test_a_mixture_weighs_as_much_as_its_rows(tmp_path: Path) -> None:
    """Twenty short rows beside a stated set of many long ones; and what is too long is dropped, or cut where the recipe says so."""
    values = small.recipe(tmp_path / "data", small.model_folder(tmp_path / "model"))
    values["curate"]["data"].append({"path": "owner/long", "rows": 2000, "tokens": 200_000, "split": "train"})
    recipe = load(small.write_recipe(tmp_path / "r.yaml", values))
    found = volume.dialogues(recipe, {}, training._chat(recipe))
    assert found.train == 2008 and found.mean == pytest.approx(100, abs=2)
    short = load(tmp_path / "r.yaml", ["dpo.max_length=20", "dpo.max_prompt_length=10"])
    assert volume.pairs(short, {}, training._chat(short)).train == 0
    cut = load(tmp_path / "r.yaml", ["dpo.max_length=20", "dpo.max_prompt_length=10", "dpo.truncation=answer_right"])
    pairs = volume.pairs(cut, {}, training._chat(cut))
    assert pairs.train == 6 and all(max(x.branches) <= 10 for x in pairs.lengths)


def test_what_is_not_made_yet_is_not_known(tmp_path: Path) -> None:
    values = small.recipe(tmp_path / "data", small.model_folder(tmp_path / "model"))
    recipe = load(small.write_recipe(tmp_path / "r.yaml", values), ["dpo.max_length=20", "dpo.max_prompt_length=10"])
    found = training.plan(recipe, tmp_path / "run", gpus=["h200"], devices=[1])
    assert found is not None and found["unknown"] == ["dpo"] and "dpo: not known yet" in show.describe(found)


def test_four_bits_are_counted() -> None:
    recipe = load(ROOT / "recipes" / "zephyr-7b-handbook-f0ffa0d-qlora.yaml")
    planner = training.Planner(recipe)
    work = training.works(recipe, Path("nowhere"), None)[0]
    found = planner.bytes(work, "bfloat16", 1, recompute=True, budget=2048)
    assert found.weights < 0.25 * 4 * planner.shape.parameters and found.peak < 24e9


def test_the_papers_recipe_is_planned_without_a_network() -> None:
    found = api.plan(ROOT / "recipes" / "zephyr-7b-beta.yaml", gpus=["a100-80gb", "h200"], devices=[1, 16], utilization=0.5)["training"]
    assert found["parameters"] == 7_241_732_096
    sft = next(s for s in found["stages"] if s["stage"] == "sft")
    assert sft["steps"] == 272 and sft["tokens"] == pytest.approx(285e6, rel=0.01)
    ways = {(way["gpu"], way["devices"]): way for way in sft["ways"]}
    assert ways["a100-80gb", 16]["fits"] and not ways["a100-80gb", 1]["fits"]
    one, many = (ways["h200", n]["bytes"] for n in (1, 16))
    assert one["weights"] == 4 * 7_241_732_096 and one["optimizer"] == 2 * one["weights"]
    assert many["weights"] * 16 == pytest.approx(one["weights"], abs=16)
    assert one["logits_of_all_tokens"] == 0 and one["peak"] == pytest.approx(sum(v for k, v in one.items() if k != "peak"), abs=8)
    assert ways["h200", 16]["hours"] * 3600 == pytest.approx(sft["flops"] / (989e12 * 0.5 * 16))
    assert any("recipe says" in line for line in found["assumptions"])
    assert "training of mistralai/Mistral-7B-v0.1" in show.describe(found)


def test_it_says_what_would_make_it_fit() -> None:
    recipe = load(ROOT / "recipes" / "zephyr-7b-beta.yaml")
    planner = training.Planner(recipe)
    work = training.works(recipe, Path("nowhere"), None)[0]
    assert training._advice(planner, work, machines.KNOWN["h200"], 16, "bfloat16") == ""
    advice = training._advice(planner, work, machines.KNOWN["a100-80gb"], 1, "bfloat16")
    count = int(advice.split("fits on ")[1].split()[0])
    smaller = {"recompute": True, "budget": work.longest}
    limit = machines.USABLE * 80e9
    assert planner.bytes(work, "bfloat16", count, **smaller).peak <= limit < planner.bytes(work, "bfloat16", count // 2, **smaller).peak


def test_a_name_that_is_not_known() -> None:
    with pytest.raises(UsageError, match=r"--gpu k80: not a known name; known are rtx-4090"):
        api.plan(ROOT / "recipes" / "zephyr-7b-beta.yaml", gpus=["k80"])
    assert all(m.bytes > 1e9 and m.flops > 1e12 for m in machines.KNOWN.values())


def test_this_machine_is_measured(tmp_path: Path, own_cache: Path) -> None:
    model = small.model_folder(tmp_path / "model")
    path = small.write_recipe(tmp_path / "r.yaml", small.recipe(tmp_path / "data", model))
    found = api.plan(path, out=tmp_path / "run", gpus=["h200"], devices=[1], calibrate=True)["training"]
    assert [here["stage"] for here in found["here"]] == ["sft", "dpo"]
    for here in found["here"]:
        assert here["seconds"] > 0 and here["tokens_per_second"] > 0
        assert 0.2 < here["counted_bytes"] / here["peak_bytes"] < 2, "a process of a few hundred megabytes, whatever the tiny model"
    assert not (tmp_path / "run").exists(), "a plan writes nothing"
