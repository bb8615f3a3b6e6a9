"""How long a sequence may be: by the model's context, and by what its rotary positions depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import small
import tiny
from zephyr import api
from zephyr.errors import ModelError
from zephyr.models import load
from zephyr.models.context import Context, context_of, refuse_beyond
from zephyr.recipe import ModelConfig
from zephyr.train.batches import Example, branching, flatten
from zephyr.train.logprobs import sequence_sums, stream_logprobs

LONGROPE = {
    "rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 16,
    "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0],
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip


def config(kind: str = "llama", **settings: Any) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(kind, **{"hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 64, **settings})


@pytest.mark.parametrize(
    ("given", "longest", "alike"),
    [
        (config(), 64, None),
        (config("gpt2", n_positions=1024, max_position_embeddings=1024), 1024, None),
        (config("bloom", max_position_embeddings=None), None, None),
        (config(max_position_embeddings=-1), None, None),
        (config(rope_parameters=LLAMA3), 64, None),
        (config(rope_parameters={"rope_type": "linear", "factor": 4.0}), 256, None),
        (config(rope_parameters={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}), 64, None),
        (config(rope_parameters={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}), 256, None),
        (config(rope_parameters=DYNAMIC), 64, 64),
        (config(rope_parameters=LONGROPE), 64, 16),
        (config("gemma3_text"), 64, None),
        (
            config(
                "gemma3_text",
                layer_types=["sliding_attention", "full_attention"],
                num_hidden_layers=2,
                rope_parameters={
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                    "full_attention": {**DYNAMIC, "rope_theta": 1e6},
                },
            ),
            64,
            64,
        ),
        (config("gemma3", text_config={"max_position_embeddings": 128}, max_position_embeddings=5), 128, None),
    ],
)  # fmt: skip
def test_what_a_configuration_says(given: Any, longest: int | None, alike: int | None) -> None:
    assert context_of(given) == Context(longest, alike)


def test_a_length_beyond_the_context_is_refused_with_both_numbers() -> None:
    refuse_beyond(config(), "it", {"sft.max_length": 64})
    with pytest.raises(ModelError, match=r"sft.max_length is 65, but it reads 64 tokens at most; set sft.max_length to 64 or less"):
        refuse_beyond(config(), "it", {"sft.max_length": 65})
    refuse_beyond(config(rope_parameters=LONGROPE), "it", {"dpo.max_length": 16})
    with pytest.raises(ModelError, match=r"dpo.max_length is 17, but beyond 16 tokens the positions of it depend on what else is in the"):
        refuse_beyond(config(rope_parameters=LONGROPE), "it", {"dpo.max_length": 17})


# --- rotary positions that depend on the longest sequence ------------------------------------------------------------


def trees() -> tuple[Example, Example, Example]:
    """A document of 6 tokens, one of 20, and a prompt with answers of which one ends at 20."""
    short, long, prompt = (tuple((37 * i * i + 11 * j) % 700 for i in range(1, n + 1)) for j, n in enumerate((6, 20, 5)))
    return Example(short, (True,) * 6), Example(long, (True,) * 20), branching(prompt, short, long[:15])


def sums(model: Any, *examples: Example) -> list[float]:
    stream = flatten(list(examples))
    found: list[float] = sequence_sums(stream_logprobs(model, stream), stream).tolist()
    return found


@pytest.mark.parametrize("rope", [LONGROPE, DYNAMIC], ids=["longrope", "dynamic"])
@pytest.mark.parametrize("within", [True, False])
def test_positions_depend_on_the_rest_of_a_stream_beyond_a_length_and_only_there(rope: dict[str, Any], within: bool) -> None:
    """transformers takes the longest sequence of a forward pass for the length of all: the reason for what is refused."""
    size = 32 if within else 16
    rope = {**rope, "original_max_position_embeddings": size} if rope is LONGROPE else rope
    model = tiny.tiny_model(rope_parameters=rope, max_position_embeddings=4 * size if rope["rope_type"] == "longrope" else size)
    assert context_of(model.config).alike == size
    short, long, pair = trees()
    alone = sums(model, short)[0]
    together = [sums(model, short, long)[0], sums(model, long, short)[1], sums(model, pair, short)[2]]
    afterwards = sums(model, short)[0]
    assert afterwards == pytest.approx(alone, abs=1e-4)
    for found in together:
        assert (found == pytest.approx(alone, abs=1e-4)) == within


@pytest.mark.parametrize("rope", [LONGROPE, DYNAMIC], ids=["longrope", "dynamic"])
def test_streams_that_go_beyond_it_are_refused(rope: dict[str, Any], tmp_path: Path) -> None:
    folder = small.model_folder(tmp_path / "model", rope_parameters=rope, max_position_embeddings=64 if rope is LONGROPE else 16)
    model = load.load_model(load.refer(ModelConfig(path=str(folder))))
    short, long, pair = trees()
    sums(model, short, short, branching(short.ids, short.ids, short.ids))
    for examples in ((short, long), (pair,)):
        with pytest.raises(ModelError, match="a sequence of 20 tokens; beyond 16 the positions of this model depend on what else is"):
            sums(model, *examples)


# --- the stages ------------------------------------------------------------------------------------------------------


def test_stages_refuse_it_before_they_read_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small.model_folder(tmp_path / "model", max_position_embeddings=100)
    lines = small.write_lines(tmp_path / "lines.jsonl", small.dialogues())
    pairs = small.write_lines(
        tmp_path / "pairs.jsonl",
        [
            {"prompt": p, "chosen": [{"role": "user", "content": p}, {"role": "assistant", "content": a}],
             "rejected": [{"role": "user", "content": p}, {"role": "assistant", "content": "No."}]}
            for p, a in small.QUESTIONS
        ],
    )  # fmt: skip
    monkeypatch.setattr(load, "load_model", lambda *args, **kwargs: pytest.fail("too late"))

    references = small.write_lines(tmp_path / "references.jsonl", [{"pair_id": "a", "ref_chosen_logps": -1.0, "ref_rejected_logps": -1.0}])
    preferences = {"preferences": [str(pairs)]}
    for stage, section, inputs in (
        ("sft", "sft", {"dialogues": [str(lines)]}),
        ("reference", "dpo", preferences),
        ("dpo", "dpo", {**preferences, "references": [str(references)]}),
    ):
        setting = f"{section}.max_length"
        with pytest.raises(ModelError, match=f"{setting} is 101, but {folder} reads 100 tokens at most; set {setting} to 100 or less"):
            api.stage(
                stage, section, inputs, tmp_path / stage, model=str(folder), settings=["max_length=101"], chat_template="zephyr"
            )  # fmt: skip


def test_what_has_learnt_positions_is_trained_up_to_its_context(tmp_path: Path) -> None:
    """GPT-2's embedding of positions ends there: one more would be an IndexError in the middle of training."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 480, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 100}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **sizes)).save_pretrained(tmp_path)
    tiny.byte_tokenizer().save_pretrained(tmp_path)
    ref = load.refer(ModelConfig(path=str(tmp_path)))
    load.refuse_longer(ref, {"sft.max_length": 100})
    with pytest.raises(ModelError, match="reads 100 tokens at most"):
        load.refuse_longer(ref, {"sft.max_length": 101})
    model = load.load_model(ref)
    ids = tuple(range(100))
    assert sums(model, Example(ids, (True,) * 100))[0] < 0
    with pytest.raises(IndexError):
        sums(model, Example((*ids, 1), (True,) * 101))
