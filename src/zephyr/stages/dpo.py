"""Distilled direct preference optimization: paper, section 3, step 3."""

from __future__ import annotations

from zephyr import sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.recipe import DPOConfig, Recipe, Section, TrainConfig
from zephyr.records import parse_preference
from zephyr.stages import From, Inputs, Needs

VERSION = 1


class Config(Section):
    """Settings of this stage."""

    seed: int
    chat_template: str
    train: TrainConfig
    dpo: DPOConfig


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    assert recipe.dpo is not None
    template = "tokenizer" if recipe.sft else recipe.model.chat_template
    return Config(seed=recipe.seed, chat_template=template, train=recipe.train, dpo=recipe.dpo)


def needs(recipe: Recipe) -> Needs:
    """The preferences, the reference's log-probabilities of them, and the model to start from."""
    return Needs(
        data={"preferences": From("binarize"), "references": From("reference")},
        models={"policy": From("sft") if recipe.sft else recipe.model},
    )


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Train the policy on the pairs; the reference is not loaded, its log-probabilities are read."""
    by_split = sources.collect(
        inputs.data["preferences"], parse_preference, out, invalid="error", test_fraction=0.0, identity=lambda p: p.pair_id
    )
    from zephyr.models import load
    from zephyr.train import encode, session
    from zephyr.train.tasks import DPO, Pair

    known = {
        str(row["pair_id"]): (float(row["ref_chosen_logps"]), float(row["ref_rejected_logps"]))
        for source in inputs.data["references"]
        for _, _, row in sources.rows(source)
    }
    chat = load.load_chat(inputs.models["policy"], config.chat_template)

    def with_references(split: str) -> list[Pair]:
        encoded = encode.pairs(by_split[split], chat, config.dpo.max_length, config.dpo.max_prompt_length, out)
        unknown = [p.id for p in encoded if p.id not in known]
        if unknown:
            raise DataError(f"{len(unknown)} pairs have no reference log-probabilities (first: {unknown[0]}); run `zephyr reference` on these preferences")
        return [Pair(p.id, p.chosen, p.rejected, *known[p.id]) for p in encoded]

    train, test = with_references("train"), with_references("test")
    model = load.load_model(inputs.models["policy"])
    session.fit(model, chat, DPO(config.dpo.beta), config.dpo, config.train, train, test, seed=config.seed, out=out, label="dDPO")
