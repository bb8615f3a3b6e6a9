"""Reward models from a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import small
import tiny
from zephyr.errors import ModelError
from zephyr.evals import preference_scores
from zephyr.evals.reward_model import RewardModel, _batches
from zephyr.models import load
from zephyr.recipe import ModelConfig
from zephyr.records import Message

TALKS: list[list[Message]] = [
    [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": text}]
    for text in ("No.", "Because air scatters short waves of light.", "I think so, but I am not sure. " * 3)
]


def classifier(folder: Path, **overrides: Any) -> Path:
    """A tiny Llama with one output, random weights, and a tokenizer with a chat template."""
    from transformers import AutoModelForSequenceClassification

    body = tiny.tiny_model(attention="sdpa")
    config = body.config
    config.num_labels, config.pad_token_id = 1, 0
    for name, value in overrides.items():
        setattr(config, name, value)
    torch.manual_seed(3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny.byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("reward"))


def opened(folder: Path) -> RewardModel:
    return RewardModel(load.refer(ModelConfig(path=str(folder))))


def by_hand(folder: Path, messages: list[Message]) -> float:
    """One conversation at a time, as transformers documents it."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer.apply_chat_template([dict(m) for m in messages], return_tensors="pt", return_dict=True)["input_ids"]
    with torch.no_grad():
        return float(model(ids).logits[0, 0])


def test_rewards_are_those_of_each_conversation_alone(folder: Path) -> None:
    model = opened(folder)
    found = model.rewards([model.encode(talk) for talk in TALKS])
    assert found == pytest.approx([by_hand(folder, talk) for talk in TALKS], abs=1e-5)
    assert len(set(found)) == 3 and model.longest == 2048


def test_padding_does_not_count_where_every_token_sees_every_other(tmp_path: Path) -> None:
    """An encoder: what is padded would be read, were it not masked."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=704, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, num_labels=1, pad_token_id=0
    )
    torch.manual_seed(4)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tiny.byte_tokenizer().save_pretrained(tmp_path)
    model = opened(tmp_path)
    encoded = [model.encode(talk) for talk in TALKS]
    assert model.rewards(encoded) == pytest.approx([model.rewards([ids])[0] for ids in encoded], abs=1e-6)
    assert len({len(ids) for ids in encoded}) == 3


def test_without_a_token_to_pad_with_each_is_alone() -> None:
    assert list(_batches([3, 9, 5], single=True)) == [[1], [2], [0]]
    assert list(_batches([3000, 5000, 3000, 2000], single=False)) == [[1], [0, 2], [3]]


def test_the_same_rows_by_a_reward_model(folder: Path, tmp_path: Path) -> None:
    pairs = [
        {"prompt": "Why?", "chosen": a[1]["content"], "rejected": b[1]["content"]} for a, b in [(TALKS[1], TALKS[0]), (TALKS[2], TALKS[0])]
    ]
    file, rows = small.write_lines(tmp_path / "rows.jsonl", pairs), tmp_path / "each.jsonl"
    found = preference_scores.score([str(file)], reward_model=str(folder), rows=rows)
    right = [by_hand(folder, TALKS[i]) > by_hand(folder, TALKS[0]) for i in (1, 2)]
    assert found["results"]["reward_model"]["accuracy"] == sum(right) / 2 and found["results"]["length"]["accuracy"] == 1.0
    first = json.loads(rows.read_text(encoding="utf-8").splitlines()[0])
    assert first["reward_model"] == pytest.approx([by_hand(folder, TALKS[1]), by_hand(folder, TALKS[0])], abs=1e-5)
    with pytest.raises(preference_scores.DataError, match="no rows are left to judge; of 2: 2 \\(an answer is longer"):
        preference_scores.score([str(file)], reward_model=str(folder), max_length=5)


def _two_outputs(folder: Path) -> None:
    classifier(folder, num_labels=2)


def _causal(folder: Path) -> None:
    model = tiny.tiny_model(attention="sdpa")
    model.config.num_labels = 1
    model.save_pretrained(folder)
    tiny.byte_tokenizer().save_pretrained(folder)


def _pickled(folder: Path) -> None:
    classifier(folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def _no_template(folder: Path) -> None:
    classifier(folder)
    (folder / "chat_template.jinja").unlink()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_two_outputs, "has 2 outputs; a reward model has one"),
        (_causal, "not a trained reward model of its config.json: score.weight is missing"),
        (_pickled, "pytorch_model.bin is a pickle, which can run code and is not read"),
        (_no_template, "its tokenizer has no chat template"),
    ],
)
def test_other_folders_are_refused_in_one_line(make: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    make(tmp_path / "model")
    with pytest.raises(ModelError) as error:
        opened(tmp_path / "model")
    assert said in str(error.value) and "\n" not in str(error.value)
