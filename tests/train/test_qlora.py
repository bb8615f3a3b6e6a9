"""Adapters on a base in 4 bits: it trains, the reference is the policy with its adapter off, and what is exported is what was trained."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("peft", reason="adapters need peft, which is not installed")

from test_loop import dialogues, pairs
from test_lora import sums, switched_off, trained

import small
import tiny
import zephyr
from conftest import SmallRun
from zephyr.errors import DataError, ModelError, UsageError
from zephyr.models import load
from zephyr.objectives import dpo
from zephyr.recipe import DPOConfig, LoRAConfig, ModelConfig, TrainConfig
from zephyr.train import quantized, student
from zephyr.train.lora import adapt, merged
from zephyr.train.meter import matmul_weights
from zephyr.train.parallel import whole_weights
from zephyr.train.state import weights_of
from zephyr.train.tasks import SFT, Preferences


def test_a_base_that_is_not_quantized_changes_no_key() -> None:
    assert "quantize" not in DPOConfig(lora=LoRAConfig()).model_dump()["lora"]
    assert DPOConfig(lora=LoRAConfig(quantize="nf4")).model_dump()["lora"]["quantize"] == "nf4"


def test_without_bitsandbytes_it_is_refused_before_anything_runs(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else found(name, *more))
    with pytest.raises(UsageError, match=r"dpo\.lora\.quantize: 4 bits need bitsandbytes, .* pip install 'zephyr-align\[qlora\]'"):
        zephyr.run(small_run.file, out=tmp_path / "out", overrides=["dpo.lora={quantize: nf4}"])
    assert not (tmp_path / "out" / "curate").exists()


# --- with it -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bitsandbytes() -> Any:
    return pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")


# rows of whole blocks: on CPUs bitsandbytes 0.50 makes something else of others
SHAPE = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 16}


def model_of(arch: str = "llama", **settings: Any) -> Any:
    return tiny.tiny_model(arch, **{**SHAPE, **settings})


def four_bits(arch: str = "llama", **settings: Any) -> Any:
    model = model_of(arch, **settings)
    quantized.quantize(model, "cpu")
    return model


def plainly(arch: str, weights: dict[str, torch.Tensor], **settings: Any) -> Any:
    """A plain model with these weights."""
    plain = model_of(arch, **settings)
    assert weights.keys() == {name for name, _ in plain.named_parameters()}
    assert {w.dtype for w in weights.values()} == {torch.float32}
    plain.load_state_dict(weights, strict=False)
    return plain


# qwen2 has biases
@pytest.mark.parametrize("arch", ["llama", "qwen2", "gemma2"])
def test_four_bits_are_computed_as_the_numbers_they_stand_for(arch: str, bitsandbytes: Any) -> None:
    model, original, items = four_bits(arch), model_of(arch), pairs(model_of(arch))
    weights = whole_weights(model)
    plain = plainly(arch, weights)
    assert matmul_weights(model) == matmul_weights(original)
    torch.testing.assert_close(sums(model, items), sums(plain, items), rtol=1e-5, atol=1e-4)
    apart = {name for name, p in original.named_parameters() if not torch.equal(p, weights[name])}
    assert apart == {n for n, _ in original.named_parameters() if n.endswith("proj.weight")}, "the linear layers, and nothing else"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_learns_beside_a_base_that_stays_and_is_exported_as_what_it_computes(dtype: torch.dtype, bitsandbytes: Any) -> None:
    model, items = four_bits(tie_word_embeddings=False), pairs(model_of())
    base, before = sums(model, items), whole_weights(model)
    torch.manual_seed(1)
    adapt(model, LoRAConfig(rank=4, alpha=8, dropout=0.0, target_modules=["q_proj", "up_proj"]))
    assert torch.equal(sums(model, items), base), "an adapter is nothing at first"
    training = trained(model, Preferences(partial(dpo, beta=0.1), 0.1), items, dtype=dtype)
    assert {name.split(".")[-3] for name in weights_of(training.model)} == {"lora_A", "lora_B"}
    assert (sums(model, items) - base).abs().min() > 1e-3, "it has learnt"
    with switched_off(model):
        assert torch.equal(sums(model, items), base), "which is the reference, to the bit"
    weights = merged(model, whole_weights(model))
    same = {name for name in before if torch.equal(weights[name], before[name])}
    assert {name.split(".")[-2] for name in before.keys() - same} == {"q_proj", "up_proj"}
    torch.testing.assert_close(sums(plainly("llama", weights, tie_word_embeddings=False), items), sums(model, items), rtol=1e-5, atol=1e-4)


def test_a_gradient_is_that_of_the_numbers(bitsandbytes: Any) -> None:
    model = four_bits()
    plain = plainly("llama", whole_weights(model))
    found = []
    for one in (model, plain):
        torch.manual_seed(1)
        adapt(one, LoRAConfig(rank=4, dropout=0.0))
        trained(one, SFT(), dialogues(), epochs=1)
        found.append(weights_of(one))
    for name, weight in found[1].items():
        torch.testing.assert_close(found[0][name], weight, rtol=1e-3, atol=1e-5)


def test_a_recipe_in_four_bits_starts_at_its_reference_and_gives_plain_folders(bitsandbytes: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    values = small.recipe(tmp_path / "data", small.model_folder(tmp_path / "model", **SHAPE))
    values["sft"]["lora"] = values["dpo"]["lora"] = {"rank": 2, "dropout": 0.0, "quantize": "nf4"}
    path = small.write_recipe(tmp_path / "r.yaml", values)
    result = zephyr.run(path, out=tmp_path / "out", until="dpo")
    for stage in ("sft", "dpo"):
        folder = Path(result["artifacts"][stage]["path"])
        model, info = AutoModelForCausalLM.from_pretrained(folder / "model", output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"] and {p.dtype for p in model.parameters()} == {torch.float32}
        assert json.loads((folder / "manifest.json").read_text())["results"]["parameters"] == sum(p.numel() for p in model.parameters())
    first = json.loads((tmp_path / "out/dpo/metrics.jsonl").read_text().splitlines()[0])
    assert first["kind"] == "test" and first["loss"] == pytest.approx(0.693147, abs=1e-6) and first["accuracy"] == 0.5
    with pytest.raises(DataError, match="computed with quantize 'nf4', not None"):
        zephyr.run(path, out=tmp_path / "out", only="dpo", overrides=["dpo.lora={rank: 2}"])


def test_what_cannot_be_together_is_refused(tiny_folder: Path) -> None:
    ref = load.refer(ModelConfig(path=str(tiny_folder)))
    with pytest.raises(UsageError, match=r"lora\.quantize and `train\.offload: all` exclude each other"):
        student.load_student(ref, load.load_chat(ref, "zephyr"), TrainConfig(offload="all"), "nf4")


def test_a_layer_that_four_bits_spoil_is_refused(bitsandbytes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "FAR", 0.05)
    with pytest.raises(ModelError, match=r"model\.layers\.0\.self_attn\.q_proj: comes out of 4 bits \d+% off on this machine"):
        four_bits()
