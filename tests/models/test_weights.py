"""Weights that are not those of the model: nothing is filled in at random, and nothing is left out unsaid."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import small
import tiny
from zephyr.errors import ModelError
from zephyr.models import load
from zephyr.models.reading import say_once
from zephyr.recipe import ModelConfig
from zephyr.text.chat import ChatFormat

Weights = dict[str, torch.Tensor]
NORM = "model.layers.0.input_layernorm.weight"
UP = "model.layers.1.mlp.up_proj.weight"


def changed(folder: Path, change: Callable[[Weights], object]) -> load.ModelRef:
    """The model of a folder after something was done to its file of weights."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return load.refer(ModelConfig(path=str(folder)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small.model_folder(tmp_path / "model", tie_word_embeddings=False)


def extra_layer(weights: Weights) -> None:
    weights.update({name.replace("layers.1", "layers.2"): w.clone() for name, w in list(weights.items()) if "layers.1" in name})


REFUSED: dict[str, tuple[Callable[[Weights], object], str]] = {
    "a weight is missing": (lambda w: w.pop(UP), f"{UP} is missing"),
    "the head is missing": (lambda w: w.pop("lm_head.weight"), "lm_head.weight is missing"),
    "another shape": (lambda w: w.update({NORM: torch.ones(7)}), rf"{NORM} is of shape \(7,\), not \(32,\)"),
    "under another name": (
        lambda w: w.update({"up.weight": w.pop(UP)}),
        rf"{UP} is missing; there are up\.weight instead",
    ),
    "many": (lambda w: [w.pop(name) for name in list(w) if "layers.1" in name], r"is missing and 6 more; give a whole"),
    "a layer more": (extra_layer, r"a LlamaForCausalLM of this config.json has no model\.layers\.2\..* and 6 more, which its weights have"),
    "a bias more": (
        lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}),
        r"has no model\.layers\.0\.self_attn\.q_proj\.bias",
    ),
    "a bias of the head": (lambda w: w.update({"lm_head.bias": torch.ones(704)}), r"has no lm_head\.bias"),
}


@pytest.mark.parametrize("attention", ["segments", "generation"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_name(name: str, attention: Any, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    change, message = REFUSED[name]
    ref = changed(folder, change)
    with pytest.raises(ModelError, match=message) as caught:
        load.load_model(ref, attention=attention)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(folder))
    assert capfd.readouterr().err == "", "transformers' own report of it was printed"


def test_a_tied_head_is_not_missed(tmp_path: Path) -> None:
    folder = small.model_folder(tmp_path / "model")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model: Any = load.load_model(load.refer(ModelConfig(path=str(folder))))
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    with pytest.raises(ModelError, match=r"lm_head.weight is missing, model.embed_tokens.weight is missing"):
        load.load_model(changed(folder, lambda w: w.pop("model.embed_tokens.weight")))


def test_buffers_that_are_computed_anew_are_not_missed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    buffers = {f"model.layers.0.self_attn.rotary_emb.{name}": torch.ones(4) for name in ("inv_freq",)}
    load.load_model(changed(folder, lambda w: w.update({**buffers, "model.layers.0.attn.masked_bias": torch.ones(1)})))
    assert capfd.readouterr().err == ""


def test_a_head_that_is_no_part_of_the_model_is_named_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A value head, as reinforcement learning leaves it, does not change what the model says."""
    ref = changed(folder, lambda w: w.update({"v_head.summary.weight": torch.ones(1, 32)}))
    for _ in range(2):
        load.load_model(ref)
    said = capfd.readouterr().err
    assert said == f"  {folder}: v_head.summary.weight of its weights are no part of a LlamaForCausalLM, and are left out\n"


@pytest.mark.parametrize(("tied", "message"), [(True, r"is a LlamaForSequenceClassification \(it has score.weight\)"), (False, "lm_head.weight is missing; there are score.weight instead")])  # fmt: skip
def test_a_classifier_is_no_language_model(tied: bool, message: str, tmp_path: Path) -> None:
    """With a tied head nothing is missing: what a reward model was trained to say would be read as words."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder = small.model_folder(tmp_path / "model", tie_word_embeddings=tied)
    AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    with pytest.raises(ModelError, match=message):
        load.load_model(load.refer(ModelConfig(path=str(folder))))


def test_an_adapter_is_no_model(folder: Path, tmp_path: Path) -> None:
    """transformers would load its base model from wherever it names it, and put the adapter in."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    adapter = tmp_path / "adapter"
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules=["q_proj"])).save_pretrained(adapter)
    for _ in range(2):
        with pytest.raises(ModelError, match=r"adapter: holds an adapter \(adapter_config.json\), not a whole model; merge it"):
            load.refer(ModelConfig(path=str(adapter)))
        shutil.copy(folder / "config.json", adapter)
    tiny.byte_tokenizer().save_pretrained(adapter)
    (adapter / "adapter_config.json").write_text(
        json.dumps({**json.loads((adapter / "adapter_config.json").read_text()), "base_model_name_or_path": str(folder)})
    )
    (adapter / "config.json").unlink()
    with pytest.raises(ModelError, match="holds an adapter"):  # as it comes from the hub, where no folder can be looked into first
        load.load_model(load.ModelRef(str(adapter), ""))


def test_quantized_weights_are_not_trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = load.from_pretrained

    def quantized(*args: Any, **kwargs: Any) -> Any:
        model, found = really(*args, **kwargs)
        model.hf_quantizer = object()
        model.config.quantization_config = {"quant_method": "fp8"}
        return model, found

    monkeypatch.setattr(load, "from_pretrained", quantized)
    ref = load.refer(ModelConfig(path=str(folder)))
    with pytest.raises(ModelError, match="its weights are quantized, which cannot be trained or scored here"):
        load.load_model(ref)
    load.load_model(ref, attention="generation")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_read_as_they_are(folder: Path, dtype: torch.dtype) -> None:
    halves: Weights = {}

    def halve(weights: Weights) -> None:
        halves.update({name: w.to(dtype) for name, w in weights.items()})
        weights.update(halves)

    ref = changed(folder, halve)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": str(dtype).removeprefix("torch.")}))
    for attention in ("segments", "generation"):
        model: Any = load.load_model(ref, attention=attention)  # type: ignore[arg-type]
        assert all(torch.equal(p, halves[name].float()) for name, p in model.named_parameters())
        assert model.config.dtype == torch.float32
        assert {b.dtype for b in model.buffers()} == {torch.float32}, "rotary frequencies in half precision"


# --- the tokenizer's ids -------------------------------------------------------------------------------------------


def test_a_control_token_that_never_comes_up_needs_no_weight(tmp_path: Path) -> None:
    """Gemma 3's text models have a tokenizer with a token for images whose id is one beyond the last row."""
    folder = small.model_folder(tmp_path / "model", vocab_size=480)
    tokenizer = tiny.byte_tokenizer()
    assert len(tokenizer) == 480 and tokenizer.add_tokens(["<image>"], special_tokens=True) == 1
    tokenizer.save_pretrained(folder)
    ref = load.refer(ModelConfig(path=str(folder)))
    chat = load.load_chat(ref, "tokenizer")
    assert (len(chat.tokenizer), chat.ids_needed) == (481, 480) and "<image>" in chat.control_tokens
    load.load_model(ref, chat)
    written = ChatFormat(tokenizer, tiny.CHATML.replace("'<|im_start|>", "'<image><|im_start|>"))
    assert written.ids_needed == 481
    with pytest.raises(ModelError, match="its tokenizer has 481 tokens, the model 480; they do not belong together"):
        load.load_model(ref, written)
    tokenizer.add_tokens(["word"])
    assert ChatFormat(tokenizer, "tokenizer").ids_needed == 482


@pytest.mark.parametrize("token", ["pad_token", "eos_token"])
def test_a_token_that_is_used_needs_a_weight(token: str) -> None:
    tokenizer = tiny.byte_tokenizer()
    tokenizer.add_special_tokens({token: "<new>"})
    assert ChatFormat(tokenizer, "zephyr").ids_needed == 481


# --- where it comes from -------------------------------------------------------------------------------------------


def test_a_revision_is_for_the_hub(folder: Path) -> None:
    with pytest.raises(ModelError, match=re.escape(f"{folder}: is a folder, and only a model of the hub has a revision")):
        load.refer(ModelConfig(path=str(folder), revision="main"))
    with pytest.raises(ModelError, match="smollm2-135m-instruct: is a model of the registry, pinned by its hash"):
        load.refer(ModelConfig(path="smollm2-135m-instruct", revision="main"))


def test_a_hub_name_without_a_revision_is_said_to_move(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants
    from transformers import AutoModelForCausalLM

    really = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda name, **rest: really(folder, **rest))  # as if it were the hub's
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    load.load_model(load.refer(ModelConfig(path="owner/one")))
    assert capfd.readouterr().err == "  owner/one: taken as the hub has it now; set model.revision to keep to one commit\n"
    head = tmp_path / "models--owner--two" / "refs" / "main"
    head.parent.mkdir(parents=True)
    head.write_text("0123456789abcdef")
    load.load_model(load.refer(ModelConfig(path="owner/two")))
    assert capfd.readouterr().err == "  owner/two: taken as the hub has it now; set model.revision: 0123456789abcdef to keep to it\n"
    load.load_model(load.refer(ModelConfig(path="owner/two", revision="0123")))
    assert capfd.readouterr().err == ""


def test_a_folder_of_a_known_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The name is the registry's; `./NAME` is the folder, also when it is loaded."""
    name = "smollm2-135m-instruct"
    shutil.copytree(folder, folder.parent / name)
    monkeypatch.chdir(folder.parent)
    say_once.cache_clear()
    known, here = load.refer(ModelConfig(path=name)), load.refer(ModelConfig(path=f"./{name}"))
    assert capfd.readouterr().err.count(f"for the folder, write ./{name}") == 1
    assert known.digest != here.digest == load.refer(ModelConfig(path=str(folder))).digest
    assert here.locate() == name and load.load_model(here).config.hidden_size == 32
    assert list(own_cache.iterdir()) == [], "the registry's model was fetched for it"
