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
from zephyr.errors import ModelError, UsageError
from zephyr.estimate import machines, memory, shape, show, speed, training, volume, ways, workload
from zephyr.estimate.volume import Length
from zephyr.recipe import DPOConfig, SFTConfig, load
from zephyr.train.attention import NAME
from zephyr.train.batches import Example, flatten, micro_batches
from zephyr.train.fused import fuse
from zephyr.train.logprobs import stream_hidden
from zephyr.train.tasks import tokens_of

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
    assert 0 < found.predicted < 0.9
    every = volume.dialogues(load(tmp_path / "r.yaml", ["sft.loss_on=all"]), {}, chat)
    assert all(x.learnt == n - 1 for x, n in zip(every.lengths, exact, strict=True) if n < 128), "every token but the first is learnt"
    fit = volume.dialogues(load(tmp_path / "r.yaml", ["sft.truncation=drop", f"sft.max_length={max(exact) - 1}"]), {}, chat)
    assert len(fit.lengths) == sum(n < max(exact) for n in exact) < len(exact)
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
    work = workload.works(recipe, Path("nowhere"), None)[0]
    found = planner.bytes(work, "bfloat16", 1, recompute=True, budget=2048)
    assert found.weights < 0.25 * 4 * planner.shape.parameters and found.peak < 24e9
    one, eight = (way for _, way in ways.of(planner, work, [machines.KNOWN["rtx-4090"]], [1, 8], "bfloat16"))
    assert one["fits"] and one["refused"] is None and one["loaded_bytes"] == 0
    assert not eight["fits"] and "one device alone" in eight["refused"]
    assumed = training._assumptions(planner, [work], 0.35, "bfloat16", {})
    assert any("one device alone" in line for line in assumed)
    assert not any(line.startswith(training._WHOLE) for line in assumed), "it is loaded in the host's memory"


def test_what_is_elsewhere_is_not_on_the_device() -> None:
    found = shape.shape_of(KINDS["llama"])
    kept = memory.Kept(0.0, 0.0, 0.0)
    n = found.parameters
    for offload, passes, expected in (
        ("none", 1, (4 * n, 4 * n, 8 * n)),
        ("none", 2, (4 * n, 4 * n, 8 * n)),
        *(("all", passes, (0, 4 * (n - 3 * found.layer), 0)) for passes in (1, 2)),  # gradients go back in every pass
    ):
        got = memory.step_bytes(found, kept, trained=n, tokens=64, learnt=32, dtype="float32", passes=passes, offload=offload)
        assert (got.weights, got.gradients, got.optimizer) == expected, offload
    large = shape.Shape(10**10, 10**10, 10**8, 10**8, 90, 4096, 4096, 32000)
    got = memory.step_bytes(large, kept, trained=10**10, tokens=64, learnt=32, dtype="bfloat16", offload="optimizer")
    assert got.optimizer == 2 * 2**30, "both moments of a gigabyte of weights"


def test_an_objective_without_a_reference_does_not_hold_one() -> None:
    data = volume.Volume(100, 10, (volume.Length(7, (3, 4)),))
    planner = training.Planner(load(ROOT / "recipes" / "zephyr-7b-beta.yaml"))
    plain, simpo = (workload.dpo(DPOConfig.model_validate({"objective": name}), data) for name in ("dpo", "simpo"))
    assert (plain.reference, simpo.reference) == (110 * data.mean, 0) and plain.looked - simpo.looked == plain.reference
    assert ways.loaded(planner, plain, "all") > 0 == ways.loaded(planner, simpo, "all")
    for work, times in ((plain, 2), (simpo, 0)):  # when it is held, and what its time is that of
        assert "\n".join(training._assumptions(planner, [work], 0.35, "bfloat16", {})).count("reference") == times


def test_it_says_when_a_device_holds_the_whole_model() -> None:
    """Counted where it is said: `loaded` has its bytes then, and none where no line says when."""
    data = volume.Volume(100, 10, (volume.Length(7, (3, 4)),))
    work = workload.dpo(DPOConfig(), data)
    simpo = workload.dpo(DPOConfig.model_validate({"objective": "simpo"}), data)
    quantized = workload.dpo(DPOConfig.model_validate({"lora": {"quantize": "nf4"}}), data)
    planner = training.Planner(load(ROOT / "recipes" / "zephyr-7b-beta.yaml"))
    for offload, given, said in (
        ("none", work, "when it is loaded and as the reference"),
        ("optimizer", work, "when it is loaded and as the reference"),
        ("all", work, "as the reference, which train.offload=all does not keep off it"),
        ("none", simpo, "when it is loaded"),
        ("all", simpo, ""),
        ("none", quantized, ""),
    ):
        planner.recipe = load(ROOT / "recipes" / "zephyr-7b-beta.yaml", [f"train.offload={offload}"])
        lines = [line for line in training._assumptions(planner, [given], 0.35, "bfloat16", {}) if "whole model" in line]
        assert lines == ([training._WHOLE + said] if said else []), offload
        assert bool(ways.loaded(planner, given, offload)) == bool(said), offload


def test_the_test_rows_are_looked_at_as_often_as_the_trainer_does() -> None:
    """Before the first step, at every so many, and after the last, once where these coincide; so often that it costs more, it is said."""
    data = volume.Volume(100, 10, (volume.Length(7, learnt=5),))
    for every, looks in ((5, 3), (4, 4), (10, 2), (100, 2)):
        work = workload.sft(SFTConfig(batch_size=10, packing=False, evaluate_every=every), data)
        assert (work.steps, work.looks, work.looked) == (10, looks, 10 * 7 * looks), every


def test_looks_that_take_much_of_the_work_are_named() -> None:
    def said(path: Path, *changed: str) -> list[list[str]]:
        recipe = load(path, changed)
        planner = training.Planner(recipe)
        works = workload.works(recipe, Path("nowhere"), None)
        return [ways.too_many_looks(planner, work, workload.flops(work, planner.shape, recompute=True)) for work in works]

    qlora = ROOT / "recipes" / "zephyr-7b-handbook-f0ffa0d-qlora.yaml"
    others = set((ROOT / "recipes").glob("zephyr-7b-*.yaml")) - {qlora}
    assert len(others) == 3 and [said(path) for path in others] == [[[], []]] * 3
    # its eval_steps are those of the recipe of whole weights, a step of which is of 128 rows, not of 8
    found, pairs = said(qlora, "sft.evaluate_every=10")
    assert pairs == ["78 looks at the test rows take 39% of all operations: dpo.evaluate_every=900 looks 10 times"]
    assert found == ["1,741 looks at the test rows take 98% of all operations: sft.evaluate_every=4000 looks 6 times"]


@pytest.mark.parametrize(
    ("tested", "every", "said"),
    [
        (140, 10, ""),  # 19% of all
        (160, 10, "evaluate_every=20 looks 2 times"),  # 21%
        (130, 7, "evaluate_every=10 looks 3 times"),  # ten would be more than there are
        (2000, 10, "evaluate_every=20 looks 2 times"),  # the fewest there can be
        (48, 1, "evaluate_every=3 looks 8 times"),
    ],
)
def test_what_is_said_of_looks_is_fewer_of_them(tested: int, every: int, said: str) -> None:
    planner = training.Planner(load(ROOT / "recipes" / "zephyr-7b-beta.yaml"))
    data = volume.Volume(600, tested, (volume.Length(7, learnt=5),))
    work = workload.sft(SFTConfig(batch_size=30, packing=False, evaluate_every=every), data)
    found = ways.too_many_looks(planner, work, workload.flops(work, planner.shape, recompute=False))
    assert (found[0].partition("sft.")[2] if found else "") == said


def test_rows_that_are_not_at_hand_may_be_as_long_as_they_are_let() -> None:
    """What fits is asked of the longest pair, not of the mean one that the recipe states."""
    recipe = load(ROOT / "recipes" / "zephyr-7b-beta.yaml")
    assert [work.longest for work in workload.works(recipe, Path("nowhere"), None)] == [2048, 2 * 1024]
    seen = volume.Volume(10, 0, (volume.Length(7, (5, 6)),))
    assert workload.dpo(DPOConfig(), seen).longest == 18


def test_a_batch_is_as_full_as_it_may_be_where_it_is_about_memory() -> None:
    """Of the longest rows that were read, or that the settings let through; its gradients wait where that takes several passes."""
    rows = (*[Length(60, (20, 20))] * 99, *[Length(200, (400, 400))] * 8)
    planner = training.Planner(load(ROOT / "recipes" / "zephyr-7b-handbook-f0ffa0d.yaml"))
    work = workload.dpo(DPOConfig(batch_size=8), volume.Volume(107, 0, rows))
    assert work.fullest == 8000 > 5 * work.batch
    found = planner.bytes(work, "bfloat16", 1, recompute=False, budget=65536)
    kept = planner.kept(work, "bfloat16", recompute=False, fused=False)
    assert found.activations == pytest.approx(8000 * (kept.token + planner.shape.layers * kept.layer_token))
    one = workload.dpo(DPOConfig(batch_size=8), volume.Volume(107, 0, (Length(60, (20, 20)),)))
    assert one.fullest == one.batch == 800, "one length stands for all rows"
    assert workload.sft(SFTConfig(batch_size=8, max_length=512), volume.Volume(107, 0, rows)).fullest == 8 * 512, "packed"
    pairs = workload.works(planner.recipe, Path("nowhere"), None)[1]
    assert pairs.fullest == 128 * 2 * 1024
    found = planner.bytes(pairs, "bfloat16", 8, recompute=True, budget=planner.recipe.train.micro_batch_tokens)
    assert found.gradients == 4 * planner.shape.parameters


def test_a_longer_row_takes_no_more_bytes_until_it_is_more_than_goes_through_at_once() -> None:
    paper = ROOT / "recipes" / "zephyr-7b-beta.yaml"
    planner = training.Planner(load(paper))
    peaks = {}
    for length in (1024, 2048, 4096):
        work = workload.works(load(paper, [f"sft.max_length={length}"]), Path("nowhere"), None)[0]
        peaks[length] = planner.bytes(work, "bfloat16", 16, recompute=False, budget=2048).peak
    assert peaks[1024] == pytest.approx(peaks[2048], rel=1e-6) and peaks[4096] > 1.01 * peaks[2048]  # but for halves of tokens


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
    dpo = next(way for s in found["stages"] if s["stage"] == "dpo" for way in s["ways"] if way["devices"] == 16)
    # the frozen model is whole on each of them
    assert dpo["peak_bytes"] == dpo["loaded_bytes"] == 4 * 7_241_732_096 > dpo["bytes"]["peak"]
    assert sft["advice"] == ["1 x a100-80gb: fits with train.offload=optimizer"]
    assert any("recipe says" in line for line in found["assumptions"])
    assert "training of mistralai/Mistral-7B-v0.1" in show.describe(found)


def test_it_says_what_would_make_it_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(ROOT / "recipes" / "zephyr-7b-beta.yaml")
    planner = training.Planner(recipe)
    work, pairs = workload.works(recipe, Path("nowhere"), None)
    assert ways.change(planner, work, machines.KNOWN["h200"], 16, "bfloat16") == ""
    # not on 32 either: the frozen model is whole on each of them
    small = machines.KNOWN["rtx-4090"]
    assert ways.change(planner, pairs, small, 16, "bfloat16") == "does not fit; take GPUs with more memory"
    larger = machines.Machine("larger", 32e9, 1e14)
    assert "train.offload=all" in ways.change(planner, pairs, larger, 1, "bfloat16")
    # and if that did not help
    held = planner.bytes
    monkeypatch.setattr(planner, "bytes", lambda *args, **how: held(*args, **{**how, "offload": "none"}))
    advice = ways.change(planner, pairs, larger, 1, "bfloat16")
    count = int(advice.split("fits on ")[1].split()[0])
    assert f"fits on {count} of them with train.micro_batch_tokens=2048" in advice
    smaller = {"recompute": True, "budget": pairs.longest}
    limit = machines.USABLE * 32e9
    assert planner.bytes(pairs, "bfloat16", count, **smaller).peak <= limit < planner.bytes(pairs, "bfloat16", count // 2, **smaller).peak
    pytest.importorskip("peft", reason="adapters need peft, which is not installed")
    assert "or with an adapter: dpo.lora.quantize=nf4" in advice


def test_a_name_that_is_not_known() -> None:
    with pytest.raises(UsageError, match=r"--gpu k80: not a known name; known are rtx-4090"):
        api.plan(ROOT / "recipes" / "zephyr-7b-beta.yaml", gpus=["k80"])
    assert all(m.bytes > 1e9 and m.flops > 1e12 for m in machines.KNOWN.values())


def test_this_machine_is_measured(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small.model_folder(tmp_path / "model")
    path = small.write_recipe(tmp_path / "r.yaml", small.recipe(tmp_path / "data", model))
    found = api.plan(path, out=tmp_path / "run", gpus=["h200"], devices=[1], calibrate=True)["training"]
    assert [here["stage"] for here in found["here"]] == ["sft", "dpo"]
    for here in found["here"]:
        assert here["seconds"] > 0 and here["tokens_per_second"] > 0
        assert 0.2 < here["counted_bytes"] / here["peak_bytes"] < 2, "a process of a few hundred megabytes, whatever the tiny model"
    assert not (tmp_path / "run").exists(), "a plan writes nothing"
    assert found["here"][0]["device"] == "cpu" and found["here"][0]["gpu"] is None
    # on a GPU that is known, its hours are those that were measured; another's are not
    monkeypatch.setattr(speed, "measure", lambda *_: speed.Speed(1e-4, 5e-5, 0.1, 2.0, 10**9, 2 * 10**9, "bfloat16", "NVIDIA H200"))
    found = api.plan(path, out=tmp_path / "run", gpus=["h200", "l40s"], devices=[1], calibrate=True)["training"]
    for stage, here in zip(found["stages"], found["here"], strict=True):
        hours = {way["gpu"]: way["hours"] for way in stage["ways"]}
        assert hours["h200"] == pytest.approx(here["hours"]) and hours["l40s"] == pytest.approx(stage["flops"] / 362e12 / 0.35 / 3600)
    assert "sft on h200 goes by what was measured here" in show.describe(found)
    for setting, name in {"sft.lora.quantize=nf4": r"sft\.lora\.quantize", "train.offload=optimizer": r"train\.offload"}.items():
        with pytest.raises(UsageError, match=rf"{name} is set: plan without --calibrate"):
            api.plan(path, [setting], out=tmp_path / "run", calibrate=True)


def test_a_model_that_is_not_at_hand_is_not_measured_and_it_says_what_to_do(tmp_path: Path, own_cache: Path) -> None:
    model = small.model_folder(tmp_path / "model")
    path = small.write_recipe(tmp_path / "r.yaml", small.recipe(tmp_path / "data", model))
    (weights,) = model.glob("*.safetensors")
    weights.unlink()  # its configuration and tokenizer alone are there
    with pytest.raises(ModelError, match=r"the model cannot be loaded .*: plan without it, or name a folder .* as model\.path=FOLDER"):
        api.plan(path, out=tmp_path / "run", gpus=["h200"], devices=[1], calibrate=True)


def test_a_model_that_is_nowhere_is_described_as_the_papers_recipe_does(tmp_path: Path, own_cache: Path) -> None:
    path = small.write_recipe(tmp_path / "r.yaml", small.recipe(tmp_path / "data", tmp_path))
    said = r"someone/model: its configuration cannot be read here .* in model\.shape, as the recipe of `zephyr init --from paper` does$"
    with pytest.raises(UsageError, match=said):
        api.plan(path, ["model.path=someone/model"], out=tmp_path / "run", gpus=["h200"], devices=[1])
    assert load(api.init(tmp_path / "paper.yaml", "paper")).model.shape, "which has it"


def test_a_gpu_holds_what_pytorch_says_it_does() -> None:
    """In GiB, of what each calls itself, as messages and logs that people have published have it."""
    said = {
        "rtx-4090": (23.51, 23.99),
        "l40s": (44.39, 44.42),
        "a100-80gb": (79.14, 79.33),
        "h100-80gb": (79.10, 79.40),
        "h200": (139.7, 139.81),
    }
    for name, (least, most) in said.items():
        assert least - 0.05 < machines.KNOWN[name].bytes / 2**30 < most, name


def test_a_gpu_is_known_by_what_it_calls_itself() -> None:
    names = {
        "NVIDIA GeForce RTX 4090": "rtx-4090", "NVIDIA L40S": "l40s", "NVIDIA A100-SXM4-80GB": "a100-80gb", "NVIDIA A100 80GB PCIe": "a100-80gb",
        "NVIDIA H100 80GB HBM3": "h100-80gb", "NVIDIA H200": "h200", "NVIDIA A100-SXM4-40GB": None, "NVIDIA H100 PCIe": None, "cpu": None,
        "NVIDIA GH200 480GB": None, "NVIDIA GeForce RTX 4090 Laptop GPU": None, "NVIDIA GeForce RTX 4090 D": None,
        "NVIDIA H100 80GB HBM3 MIG 3g.40gb": None,
    }  # fmt: skip
    assert {name: found.name if (found := machines.named(name)) else None for name in names} == names


THREE = [Length(100, (50, 50)), Length(200, (200, 200)), Length(60, (20, 20))]  # 200, 600 and 100 tokens
HUNDRED = [Length(60, (20, 20))] * 99  # and one longer


@pytest.mark.parametrize(
    ("lengths", "rows", "batch", "budget", "passes", "fullest"),
    [
        (THREE, 4, 2000, 1000, 2, 1000),
        (THREE, 4, 9000, 1000, 4, 1000),
        (THREE, 4, 900, 4096, 1, 900),
        (THREE, 4, 900, 400, 2, 600),
        ([*HUNDRED, Length(200, (200, 200))], 16, 1680, 512, 3, 600),
        ([*HUNDRED, Length(1000, (1500, 1500))], 16, 2224, 65536, 1, 5500),
        ([Length(60, (20, 20))], 16, 1600, 65536, 1, 1600),
    ],
    ids=[
        "two passes a batch", "four at most", "all rows are one batch", "a row longer than a pass", "one in a hundred is longer",
        "a batch smaller than a pass, its longest rows", "one length stands for all",
    ],
)  # fmt: skip
def test_calibration_makes_batches_as_the_training_does_and_meets_its_fullest_pass(
    lengths: list[Length], rows: int, batch: float, budget: int, passes: int, fullest: int
) -> None:
    made = speed._batches(DPOConfig(batch_size=rows), lengths, 97, batch, budget)
    sizes = [[sum(map(tokens_of, items)) for items in batch] for batch in made]
    assert {len(of) for of in sizes[:-1]} == {passes} and sum(map(len, sizes[1:])) >= speed.PASSES
    assert len(sizes[-1]) == passes + (fullest > budget), "the others of a batch that has a longer row go before it"
    at_once = [sum(map(tokens_of, some)) for batch in made for items in batch for some in micro_batches(items, tokens_of, budget)]
    assert fullest - speed.LEAST_TOKENS < max(at_once) <= fullest
    if len(lengths) == 100:
        assert at_once.count(fullest) == (1 if fullest > budget else len(made))


def test_a_batch_of_one_row_takes_one_pass() -> None:
    made = speed._batches(DPOConfig(batch_size=1), THREE, 97, 300, 400)
    assert {len(batch) for batch in made} == {1} and sum(map(tokens_of, made[-1][0])) == 600


def test_packs_of_a_calibration_are_as_many_as_a_batch_has() -> None:
    """Each goes alone where it is longer than a pass."""
    lengths = [Length(100, learnt=50), Length(90, learnt=45)]
    for budget, fullest in ((128, 256), (600, 512), (4096, 768)):
        made = speed._batches(SFTConfig(batch_size=8, max_length=256), lengths, 97, 768, budget)
        at_once = [sum(map(tokens_of, some)) for batch in made for items in batch for some in micro_batches(items, tokens_of, budget)]
        assert fullest - 3 * speed.LEAST_TOKENS < max(at_once) <= fullest


def test_a_row_that_is_cut_keeps_a_token_of_each_answer() -> None:
    """The mean over an answer of none is no number."""
    made = speed._batches(DPOConfig(objective="ipo", batch_size=3), [Length(100, (5, 400))], 97, 1515, 1100)
    cut = [items[-1].answers for batch in made for items in batch]
    assert all(example.tokens == 90 and min(map(len, example.branches)) > 0 for example in cut)
    assert speed._cut(Length(1, (5, 400)), speed.LEAST_TOKENS).tokens == speed.LEAST_TOKENS
