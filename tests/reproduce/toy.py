"""The demo at toy size: every step of every experiment in a few seconds."""

from __future__ import annotations

# a model 16 wide that learns almost nothing, from a tenth of the shipped rows
SMALL = [
    "data.train_dialogues=8",
    "data.test_dialogues=6",
    "data.train_pairs=8",
    "data.test_pairs=20",
    "base.shape.hidden_size=16",
    "base.shape.intermediate_size=24",
    "base.shape.num_hidden_layers=1",
    "base.shape.num_attention_heads=2",
    "base.shape.num_key_value_heads=2",
    "base.shape.vocab_size=400",
    "base.training.epochs=1",
    "base.training.max_length=128",
    "base.training.batch_size=16",
    "dpo.max_length=96",
    "dpo.max_prompt_length=48",
    "dpo.batch_size=4",
    "curve_every=1",
    "sampling.prompts=4",
    "sampling.max_new_tokens=4",
]
