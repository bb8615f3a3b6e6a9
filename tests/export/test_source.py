"""The files of a model are read as transformers reads them: whatever they call its weights, and whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from zephyr.artifacts import Artifact
from zephyr.errors import ModelError
from zephyr.export import export
from zephyr.export.source import open_model
from zephyr.models import load
from zephyr.text.chat import ChatFormat


def held(path: Path) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in load_file(path / "model.safetensors").items()}


def hold(path: Path, weights: dict[str, torch.Tensor | None]) -> None:
    save_file(
        {name: weight for name, weight in weights.items() if weight is not None}, path / "model.safetensors", metadata={"format": "pt"}
    )


def dense(path: Path) -> Path:
    tiny.tiny_model(attention="sdpa").save_pretrained(path)
    tiny.byte_tokenizer().save_pretrained(path)
    return path


def experts(path: Path) -> Path:
    """A mixture of experts, as a training stage writes one."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("olmoe", vocab_size=704, hidden_size=32, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4,
                                  num_key_value_heads=2, num_experts=4, num_experts_per_tok=2, max_position_embeddings=128,
                                  eos_token_id=2, pad_token_id=None)  # fmt: skip
    torch.manual_seed(0)
    load.save_model(AutoModelForCausalLM.from_config(config), ChatFormat(tiny.byte_tokenizer()), path)
    return path


def vision(path: Path) -> Path:
    """A text model inside of another; its files have the names of older versions."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {"vocab_size": 704, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": 8,
            "num_key_value_heads": 2, "max_position_embeddings": 128}  # fmt: skip
    images = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(text_config=text, vision_config=images, mm_tokens_per_image=4, image_token_index=703)
    torch.manual_seed(0)
    Gemma3ForConditionalGeneration(config).save_pretrained(path)
    tiny.byte_tokenizer().save_pretrained(path)
    return path


def pythia(path: Path) -> Path:
    """With the buffers that its files on the hub hold."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("gpt_neox", vocab_size=704, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
                                  max_position_embeddings=128)  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tiny.byte_tokenizer().save_pretrained(path)
    within = "gpt_neox.layers.0.attention."
    old = {f"{within}bias": torch.ones(1, 1, 128, 128, dtype=torch.bool), f"{within}masked_bias": torch.tensor(float("-inf")),
           f"{within}rotary_emb.inv_freq": torch.ones(4)}  # fmt: skip
    hold(path, {**held(path), **old})
    return path


def logits(path: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        found: torch.Tensor = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)(input_ids=torch.arange(5, 45)[None]).logits
    return found


@pytest.mark.parametrize(
    ("make", "renamed"),
    [(experts, "mlp.experts.3.up_proj.weight"), (vision, "language_model.model.layers.0"), (pythia, "dense_4h_to_h.weight")],
)
def test_files_keep_the_names_that_they_have(make: Callable[[Path], Path], renamed: str, tmp_path: Path) -> None:
    """Transformers calls weights otherwise in memory than in files, and knows what older files hold beside them."""
    from transformers import AutoModelForCausalLM

    plain = make(tmp_path / "m")
    made = export(str(plain), tmp_path / "out", to="safetensors", dtype="float32")
    before, after = held(plain), held(tmp_path / "out")
    assert any(renamed in name for name in after) and set(open_model(str(plain)).shapes) == set(after)
    assert {name for name in before if not name.endswith(("attention.bias", "masked_bias", "inv_freq"))} == set(after)
    assert torch.equal(logits(tmp_path / "out"), logits(plain))
    assert made["parameters"] == AutoModelForCausalLM.from_pretrained(plain).num_parameters()


@pytest.mark.parametrize("make", [experts, vision, pythia])
def test_no_weight_may_be_missing_under_any_name(make: Callable[[Path], Path], tmp_path: Path) -> None:
    plain = make(tmp_path / "m")
    whole = held(plain)
    for name in open_model(str(plain)).shapes:
        hold(plain, {**whole, name: None})
        with pytest.raises(ModelError, match=f"{re.escape(name)} is missing"):
            export(str(plain), tmp_path / "out", to="safetensors")


def test_an_expert_that_is_missing_or_cut(tmp_path: Path) -> None:
    plain = experts(tmp_path / "m")
    whole = held(plain)
    within = "model.layers.1.mlp.experts."
    for to, problem in (
        ({name: None for name in whole if name.startswith(f"{within}2.")}, r"experts\.2\.down_proj\.weight is missing"),
        (
            {f"{within}2.up_proj.weight": whole[f"{within}2.up_proj.weight"][:4].clone()},
            r"experts\.2\.up_proj\.weight is of shape \(4, 32\)",
        ),
        ({f"{within}4.up_proj.weight": torch.zeros(16, 32)}, r"experts\.4\.up_proj\.weight is no part"),
        ({"model.layers.1.mlp.shared.weight": torch.zeros(2)}, "shared.weight is no part"),
    ):
        hold(plain, {**whole, **to})
        with pytest.raises(ModelError, match=problem):
            export(str(plain), tmp_path / "out", to="safetensors")


def test_numbers_that_are_counted_are_not_rounded(tmp_path: Path) -> None:
    """The positions that older files of a vision tower hold."""
    plain, name = vision(tmp_path / "m"), "vision_tower.vision_model.embeddings.position_ids"
    positions = torch.arange(300)[None]
    hold(plain, {**held(plain), name: positions})
    export(str(plain), tmp_path / "out", to="safetensors", dtype="bfloat16")
    made = held(tmp_path / "out")
    assert made[name].equal(positions) and {weight.dtype for other, weight in made.items() if other != name} == {torch.bfloat16}


def test_tied_weights_that_the_files_hold_twice(tmp_path: Path) -> None:
    """Where they are the same, once is enough; where they differ, transformers does not tie them."""
    plain = dense(tmp_path / "m")
    whole = held(plain)
    embedding = whole["model.embed_tokens.weight"]
    for i, (head, kept) in enumerate(((embedding.clone(), False), (embedding * 2, True))):
        hold(plain, {**whole, "lm_head.weight": head})
        export(str(plain), tmp_path / f"out{i}", to="safetensors", dtype="float32")
        assert ("lm_head.weight" in held(tmp_path / f"out{i}")) == kept
        assert torch.equal(logits(tmp_path / f"out{i}"), logits(plain))


def test_weights_in_another_form_beside_them(tmp_path: Path) -> None:
    """Only what transformers reads is read; what reads images goes along."""
    plain = dense(tmp_path / "m")
    save_file({"layers.0.attention.wq.weight": torch.zeros(2)}, plain / "consolidated.safetensors")
    (plain / "preprocessor_config.json").write_text("{}")
    export(str(plain), tmp_path / "out", to="safetensors")
    assert "preprocessor_config.json" in Artifact.open(tmp_path / "out").manifest.files
    names, shard = set(held(plain)), "model-00001-of-00001.safetensors"
    (plain / "model.safetensors").rename(plain / shard)
    (plain / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, shard)}))
    assert set(open_model(str(plain)).shapes) == names


def test_a_model_that_is_lent_on_request_alone_says_where_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def gated(*_: object, **__: object) -> None:
        raise OSError("403 Client Error.\n\nCannot access gated repo for url: ask its owners")

    monkeypatch.setattr("huggingface_hub.snapshot_download", gated)
    with pytest.raises(
        ModelError, match=r"403 Client Error\.\); ask for access on the page of owner/name on the hub, then `hf auth login`$"
    ):
        open_model("owner/name")
