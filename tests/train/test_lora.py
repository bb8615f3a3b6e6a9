"""Adapters: nothing at first, what they learn is what the exported folder computes, and without them the model is the reference."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("peft", reason="adapters need peft, which is not installed")

from test_loop import dialogues, pairs

import small
import tiny
import zephyr
from zephyr.errors import ModelError
from zephyr.objectives import dpo
from zephyr.recipe import DPOConfig, LoRAConfig, SFTConfig
from zephyr.train import loop
from zephyr.train.batches import flatten
from zephyr.train.checkpoint import Checkpoints
from zephyr.train.logprobs import sequence_sums, stream_logprobs
from zephyr.train.loop import Trainer
from zephyr.train.lora import adapt, merged
from zephyr.train.parallel import whole_weights
from zephyr.train.state import weights_of
from zephyr.train.tasks import SFT, Preferences


@contextlib.contextmanager
def switched_off(model: Any) -> Iterator[None]:
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    assert layers
    for layer in layers:
        layer.enable_adapters(False)
    yield
    for layer in layers:
        layer.enable_adapters(True)


def adapted(arch: str = "llama", **settings: Any) -> Any:
    model = tiny.tiny_model(arch)
    torch.manual_seed(1)
    adapt(model, LoRAConfig(**{"rank": 4, "alpha": 8, "dropout": 0.0, **settings}))
    return model


def sums(model: Any, items: Any) -> torch.Tensor:
    stream = flatten([e for item in items for e in item.examples])
    return sequence_sums(stream_logprobs(model, stream), stream)


def trained(
    model: Any, task: Any, items: Any, folder: Path | None = None, epochs: int = 2, dtype: torch.dtype = torch.float32
) -> Trainer[Any]:
    kind = DPOConfig if isinstance(task, Preferences) else SFTConfig
    config = kind(batch_size=3, learning_rate=3e-2, schedule="constant", epochs=epochs, lora=LoRAConfig(rank=4, alpha=8, dropout=0.0))
    checkpoints = Checkpoints(folder / "checkpoints", folder / "metrics.jsonl", 0) if folder else None
    training = Trainer(model, task, config, dtype, 200, 0, lambda _: None, checkpoints)
    training.train(items, items[:1], "lora")
    return training


@pytest.mark.parametrize("arch", ["llama", "gemma2", "qwen3"])
def test_an_adapter_is_nothing_at_first_and_can_be_switched_off_later(arch: str) -> None:
    plain, items = tiny.tiny_model(arch), pairs(tiny.tiny_model(arch))
    model = adapted(arch)
    assert torch.equal(sums(model, items), sums(plain, items))
    trained(model, Preferences(partial(dpo, beta=0.1), 0.1), items)
    assert (sums(model, items) - sums(plain, items)).abs().min() > 1e-3, "it has learnt"
    with switched_off(model):
        assert torch.equal(sums(model, items), sums(plain, items)), "which is the reference, to the bit"
    assert (sums(model, items) - sums(plain, items)).abs().min() > 1e-3


@pytest.mark.parametrize("arch", ["llama", "gemma2"])
def test_merged_it_computes_what_it_has_learnt(arch: str) -> None:
    model, items = adapted(arch), dialogues()
    trained(model, SFT(), items)
    plain = tiny.tiny_model(arch)
    weights = merged(model, whole_weights(model))
    assert weights.keys() == {name for name, _ in plain.named_parameters()}
    plain.load_state_dict(weights, strict=False)
    torch.testing.assert_close(sums(plain, items), sums(model, items), rtol=1e-5, atol=1e-4)


def test_merged_weights_leave_the_gpu_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that holds the model, its activations and its adapter has no room for a second model."""
    model, taken = adapted("llama"), []
    own = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self, *args: (taken.append(tuple(self.shape)), own(self, *args))[1])
    weights = merged(model, whole_weights(model))
    adapted_layers = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    assert taken == [tuple(weights[f"{name}.weight"].shape) for name in adapted_layers]


def test_merged_is_what_peft_merges() -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    theirs = get_peft_model(tiny.tiny_model(), config)
    inner = theirs.get_base_model()
    ours = merged(inner, {name: w.clone() for name, w in whole_weights(inner).items()})
    for name, weight in theirs.merge_and_unload().named_parameters():
        torch.testing.assert_close(ours[name], weight.detach(), rtol=1e-6, atol=1e-7)


def test_a_checkpoint_holds_the_adapter_alone_and_going_on_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SFTConfig(batch_size=3, learning_rate=3e-2, epochs=2, lora=LoRAConfig(rank=4, alpha=8, dropout=0.1))

    def run(folder: Path, stop_at: int | None = None) -> Trainer[Any]:
        def log(line: dict[str, Any]) -> None:
            if line["kind"] == "train" and line["step"] == stop_at:
                raise KeyboardInterrupt

        checkpoints = Checkpoints(folder / "checkpoints", folder / "metrics.jsonl", 0)
        training = Trainer(adapted(dropout=0.1), SFT(), config, torch.float32, 200, 0, log, checkpoints)
        torch.manual_seed(0)
        training.train(dialogues(), dialogues()[:1], "lora")
        return training

    whole = run(tmp_path / "whole")
    assert {name.split(".")[-3] for name in weights_of(whole.model)} == {"lora_A", "lora_B"}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_at=3)
    again = run(tmp_path / "cut")
    assert again.at.step == whole.at.step and again.checkpoints is not None and again.checkpoints.resumed.step == 3
    ours, theirs = weights_of(again.model), weights_of(whole.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    monkeypatch.setattr(loop, "clear_gradients", lambda optimizer, keep: optimizer.zero_grad(set_to_none=True))  # made anew, not kept
    fresh = weights_of(run(tmp_path / "fresh").model)
    assert all(torch.equal(fresh[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("modules", [["nope"], ["q_proj", "v_porj"], ["lm_head"], ["embed_tokens"], ["proj"]])
def test_what_is_no_linear_layer_of_the_model_is_refused(modules: list[str]) -> None:
    model = tiny.tiny_model(tie_word_embeddings=False)
    with pytest.raises(
        ModelError, match=rf"lora\.target_modules: '{modules[-1]}' is no linear layer .* there are down_proj, gate_proj, k_proj, o_proj"
    ):
        adapt(model, LoRAConfig(target_modules=modules))


def test_every_linear_layer_but_the_head_or_those_that_are_named() -> None:
    def layers(modules: list[str]) -> set[str]:
        model = tiny.tiny_model(tie_word_embeddings=False)
        adapt(model, LoRAConfig(target_modules=modules))
        return {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "lora_A")}

    assert layers(["all-linear"]) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert layers(["q_proj", "mlp.up_proj"]) == {"q_proj", "up_proj"}


def test_without_an_adapter_no_key_changes() -> None:
    assert "lora" not in SFTConfig().model_dump() and "lora" not in DPOConfig().model_dump()
    assert SFTConfig(lora=LoRAConfig()).model_dump()["lora"]["rank"] == 16


def test_a_recipe_with_adapters_gives_plain_model_folders(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    recipe = small.recipe(tmp_path / "data", small.model_folder(tmp_path / "model"))
    recipe["sft"]["lora"] = {"rank": 4, "dropout": 0.1}
    recipe["dpo"]["lora"] = {"rank": 2, "target_modules": ["q_proj", "v_proj"]}
    path = small.write_recipe(tmp_path / "r.yaml", recipe)
    result = zephyr.run(path, out=tmp_path / "out", until="dpo")
    for stage in ("sft", "dpo"):
        folder = Path(result["artifacts"][stage]["path"])
        model, info = AutoModelForCausalLM.from_pretrained(folder / "model", output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        results = json.loads((folder / "manifest.json").read_text())["results"]
        assert results["parameters"] == sum(p.numel() for p in model.parameters()) > 5 * results["trained_parameters"]
