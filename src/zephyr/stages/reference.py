"""Log-probabilities of the frozen dSFT model, computed once: paper, section 3, step 3."""

from __future__ import annotations

from zephyr import schemas, sources
from zephyr.artifacts import Draft
from zephyr.recipe import Recipe, Section, TrainConfig
from zephyr.records import parse_preference
from zephyr.stages import From, Inputs, Needs, template_file

VERSION = 1


class Config(Section):
    """Settings of this stage: what the log-probability of an answer depends on, and nothing of the training."""

    chat_template: str
    train: TrainConfig
    max_length: int
    max_prompt_length: int


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    assert recipe.dpo is not None
    return Config(
        chat_template="tokenizer" if recipe.sft else recipe.model.chat_template,
        train=recipe.train,
        max_length=recipe.dpo.max_length,
        max_prompt_length=recipe.dpo.max_prompt_length,
    )


def needs(recipe: Recipe) -> Needs:
    """The preferences, and the model that will be the reference."""
    template = template_file(configure(recipe).chat_template)
    return Needs(data={"preferences": From("binarize"), **template}, models={"policy": From("sft") if recipe.sft else recipe.model})


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Score both answers of every pair, in train and test."""
    by_split = sources.collect(inputs.data["preferences"], parse_preference, out, invalid="error", test_fraction=0.0)
    from zephyr.models import load
    from zephyr.train import encode, score

    load.refuse_longer(inputs.models["policy"], {"dpo.max_length": config.max_length})
    chat = load.load_chat(inputs.models["policy"], config.chat_template)
    pairs = {split: encode.pairs(items, chat, config.max_length, config.max_prompt_length, out, split) for split, items in by_split.items()}
    model = load.load_model(inputs.models["policy"], chat)
    for split, encoded in pairs.items():
        names = [f"pair {pair.id[:16]}, {which}" for pair in encoded for which in ("chosen", "rejected")]
        sums = score.log_probabilities(model, [pair.answers for pair in encoded], config.train, f"reference, {split}", out, names=names)
        rows = [
            {"pair_id": pair.id, "ref_chosen_logps": sums[2 * i], "ref_rejected_logps": sums[2 * i + 1]} for i, pair in enumerate(encoded)
        ]
        out.write_rows(split, rows, schemas.references())
