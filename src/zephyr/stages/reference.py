"""Log-probabilities of the frozen dSFT model, computed once: paper, section 3, step 3."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from zephyr import schemas, sources
from zephyr.artifacts import Draft
from zephyr.recipe import Recipe, Section, TrainConfig, Truncation
from zephyr.records import parse_preference
from zephyr.stages import From, Inputs, Needs, template_file

VERSION = 2  # 2: a cut prompt keeps its BOS where the template writes it; what a turn says beside its role and content is refused


class Config(Section):
    """Settings of this stage: what the log-probability of an answer depends on, and nothing of the training."""

    chat_template: str
    train: TrainConfig
    max_length: int
    max_prompt_length: int
    truncation: Truncation = "prompt_left"
    quantize: Literal["nf4"] | None = None

    @model_serializer(mode="wrap")
    def _what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that came later: as they are by default, they change no key."""
        unset = {"truncation": "prompt_left", "quantize": None}
        return {name: value for name, value in handler(self).items() if name not in unset or value != unset[name]}


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    assert recipe.dpo is not None
    return Config(
        chat_template="tokenizer" if recipe.sft else recipe.model.chat_template,
        train=recipe.train,
        max_length=recipe.dpo.max_length,
        max_prompt_length=recipe.dpo.max_prompt_length,
        truncation=recipe.dpo.truncation,
        quantize=recipe.dpo.quantize,
    )


def needs(recipe: Recipe) -> Needs:
    """The preferences, and the model that will be the reference."""
    template = template_file(configure(recipe).chat_template)
    return Needs(data={"preferences": From("binarize"), **template}, models={"policy": From("sft") if recipe.sft else recipe.model})


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Score both answers of every pair, in train and test."""
    by_split = sources.collect(inputs.data["preferences"], parse_preference, out, invalid=None, test_fraction=0.0)
    from zephyr.models import load
    from zephyr.train import encode, score
    from zephyr.train.student import load_student

    load.refuse_longer(inputs.models["policy"], {"dpo.max_length": config.max_length})
    chat = load.load_chat(inputs.models["policy"], config.chat_template)
    pairs = {split: encode.pairs(items, chat, config, out, split) for split, items in by_split.items()}
    # a copy of the policy before it learns anything; it is not trained, so nothing of it is anywhere but on its device
    model = load_student(inputs.models["policy"], chat, config.train.model_copy(update={"offload": "none"}), config.quantize)
    for split, encoded in pairs.items():
        names = [f"pair {pair.id[:16]}, {which}" for pair in encoded for which in ("chosen", "rejected")]
        sums = score.log_probabilities(model, [pair.answers for pair in encoded], config.train, f"reference, {split}", out, names=names)
        rows = [
            {"pair_id": pair.id, "ref_chosen_logps": sums[2 * i], "ref_rejected_logps": sums[2 * i + 1]} for i, pair in enumerate(encoded)
        ]
        out.write_rows(split, rows, schemas.references())
