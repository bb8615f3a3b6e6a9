"""Distilled direct preference optimization: paper, section 3, step 3."""

from __future__ import annotations

import math
from typing import TypeGuard

from zephyr import sources
from zephyr.artifacts import Draft, Manifest
from zephyr.errors import DataError
from zephyr.recipe import DPOConfig, Recipe, Section, TrainConfig
from zephyr.records import parse_preference
from zephyr.stages import From, Inputs, Needs, template_file

VERSION = 2  # 2: a cut prompt keeps its BOS where the template writes it; what a turn says beside its role and content is refused
UNSET = {"truncation": "prompt_left", "quantize": None}  # of reference: what is as it is by default is not written into its manifest


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
    """The preferences, the reference's log-probabilities of them (if the objective has one), and the model to start from."""
    references = {"references": From("reference")} if recipe.reference else {}
    return Needs(
        data={"preferences": From("binarize"), **references, **template_file(configure(recipe).chat_template)},
        models={"policy": From("sft") if recipe.sft else recipe.model},
    )


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Train the policy on the pairs; the reference is not loaded, its log-probabilities are read."""
    by_split = sources.collect(inputs.data["preferences"], parse_preference, out, invalid=None, test_fraction=0.0)
    known = _references(config, inputs)
    from zephyr.models import load
    from zephyr.train import encode, session
    from zephyr.train.student import load_student
    from zephyr.train.tasks import Pair, preferences

    load.refuse_longer(inputs.models["policy"], {"dpo.max_length": config.dpo.max_length})
    chat = load.load_chat(inputs.models["policy"], config.chat_template)

    def with_references(split: str) -> list[Pair]:
        encoded = encode.pairs(by_split[split], chat, config.dpo, out, split)
        if not config.dpo.has_reference:
            return [Pair(p.id, p.answers, math.nan, math.nan) for p in encoded]
        unknown = [p.id for p in encoded if p.id not in known]
        if unknown:
            raise DataError(
                f"{len(unknown)} pairs have no reference log-probabilities (first: {unknown[0][:16]}); "
                "run `zephyr reference` on these preferences"
            )
        return [Pair(p.id, p.answers, *known[p.id]) for p in encoded]

    train, test = with_references("train"), with_references("test")
    model = load_student(inputs.models["policy"], chat, config.train, config.dpo.quantize)
    train_config = config.train.model_copy(update={"dtype": _dtype(config, inputs)})
    session.fit(model, chat, preferences(config.dpo), config.dpo, train_config, train, test, seed=config.seed, out=out, label="dDPO")


def _dtype(config: Config, inputs: Inputs) -> str:
    """The number format of the reference, where it is known: in another, policy and reference differ before the first step.

    Raises:
        DataError: the recipe asks for another, or the references were computed in several.
    """
    found = (sources.resolve(source.path) for source in inputs.data.get("references", ()))
    manifests = [manifest for path in found if path and (manifest := Manifest.read(path))]
    known = {m.results["dtype"] for m in manifests if "dtype" in m.results}
    if config.train.dtype != "auto":
        known.add(config.train.dtype)
    if len(known) > 1:
        raise DataError(
            f"the reference log-probabilities and the training are in different number formats ({', '.join(sorted(known))}); "
            "run `zephyr reference` again, or set train.dtype to the reference's"
        )
    return known.pop() if known else "auto"


def _references(config: Config, inputs: Inputs) -> dict[str, tuple[float, float]]:
    """Log-probabilities of chosen and rejected by pair.

    Raises:
        DataError: they are of another model, chat template or length than the training will use, or not numbers.
    """
    known: dict[str, tuple[float, float]] = {}
    for source in inputs.data.get("references", ()):
        _refuse_others(source.path, config, inputs)
        for where, _, row in sources.rows(source):
            name, chosen, rejected = row.get("pair_id"), row.get("ref_chosen_logps"), row.get("ref_rejected_logps")
            if not (isinstance(name, str) and _is_finite(chosen) and _is_finite(rejected)):
                raise DataError(
                    f"{where}: not a row of `zephyr reference` (a text `pair_id`, finite `ref_chosen_logps` and `ref_rejected_logps`)"
                )
            known[name] = (chosen, rejected)
    return known


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, float) and math.isfinite(value)


def _refuse_others(path: str, config: Config, inputs: Inputs) -> None:
    """An artifact says what it was computed with; of rows in a plain file nothing is known."""
    found = sources.resolve(path)
    manifest = Manifest.read(found) if found else None
    if manifest is None:
        return
    if manifest.stage != "reference":
        raise DataError(f"{path}: holds what {manifest.stage} made, not reference log-probabilities; run `zephyr reference`")
    model = manifest.parents["policy"]
    if model["digest"] != inputs.models["policy"].digest:
        raise DataError(
            f"{path}: the reference log-probabilities are of another model ({model['path']}); run `zephyr reference` with this one"
        )
    names = ("max_length", "max_prompt_length", "truncation", "quantize")
    wanted = {"chat_template": config.chat_template, **{name: getattr(config.dpo, name) for name in names}}
    for name, value in wanted.items():
        before = manifest.config.get(name, UNSET.get(name))
        if before != value:
            raise DataError(
                f"{path}: the reference log-probabilities were computed with {name} {before!r}, not {value!r}; run `zephyr reference` again"
            )
