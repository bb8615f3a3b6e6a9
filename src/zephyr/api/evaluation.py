"""Models measured: a base and what was trained of it on test rows, or one model on benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import pipeline
from zephyr.api.base import Result, alone, led
from zephyr.errors import UsageError
from zephyr.recipe import (
    BinarizeConfig,
    DataSource,
    DPOConfig,
    EvaluateConfig,
    ModelConfig,
    Recipe,
    SFTConfig,
    TrainConfig,
    apply_overrides,
    benchmarking,
    build,
    load,
)
from zephyr.stages import Needs, template_file

if TYPE_CHECKING:
    from zephyr.stages import evaluate as stage


@led
def evaluate(
    out: str | Path,
    models: Mapping[str, str | None],
    *,
    dialogues: Sequence[str],
    ratings: Sequence[str],
    settings: Sequence[str] = (),
    chat_template: str = "zephyr",
    seed: int = 0,
) -> Result:
    """Measure models on plain files, all of whose rows that name no split count as test rows.

    Args:
        out: the artifact to write.
        models: `base`, `dsft`, `ddpo`; None for one there is not.
        dialogues: what the likelihood is measured on.
        ratings: rated answers, or pairs.
        settings: of `evaluate` as `key=value`; `train.KEY`, `sft.max_length`, `dpo.beta`, `binarize.score`… as in a recipe.
        chat_template: what the base model is made to speak.
        seed: decides the samples.
    """
    from zephyr.evals import preference_runs, public

    config = _config(settings, chat_template, seed)
    section = config.evaluate
    given = {"dialogues": dialogues, "ratings": ratings}
    data = {name: [DataSource(path=p, split="test") for p in paths] for name, paths in given.items() if paths}
    data.update(public.files(section))
    if not data:
        raise UsageError("evaluate: nothing to measure on; give --dialogues, --ratings, or benchmarks.TASK=FILE")
    data.update({"trained on": section.trained_on} if section.trained_on else {})
    found = {name: ModelConfig(path=path) for name, path in models.items() if path} | preference_runs.models(section.preferences)
    return alone("evaluate", config, Needs({**data, **template_file(chat_template)}, found), out)


def _config(settings: Sequence[str], chat_template: str, seed: int) -> stage.Config:
    from zephyr.stages import evaluate as stage

    values = apply_overrides({}, list(settings), {})
    train = build(TrainConfig, values.pop("train", {}), {}, "command line")
    sft = build(SFTConfig, values.pop("sft", {}), {}, "command line")
    dpo = build(DPOConfig, values.pop("dpo", {}), {}, "command line")
    binarize = build(BinarizeConfig, values.pop("binarize", {}), {}, "command line")
    return stage.config_of(seed, chat_template, train, build(EvaluateConfig, values, {}, "command line"), sft, binarize, dpo)


@led
def benchmark(
    model: str,
    on: Sequence[str],
    recipe: str | Path | None,
    out: str | Path,
    *,
    limit: int | None = None,
    settings: Sequence[str] = (),
    reference: str | None = None,
    reward_model: str | None = None,
    trained_on: Sequence[str] = (),
) -> Result:
    """Measure one model on benchmarks; run again to go on, or to judge again.

    Args:
        model: a folder, an artifact or a hub name; it speaks its own chat template.
        on: names of `recipe.benchmarking`, benchmarks and academic tasks, as `NAME` or `NAME=FILE`; `all`: all that the recipe names.
        recipe: its sections `judge`, `evaluate`, `train` and `budget` are read; needed where a teacher judges.
        out: the folder of the answers, the judgments and the scores, an artifact each.
        limit: so many questions or items of each.
        settings: of the recipe, as `section.key=value`.
        reference: the model that it was trained from, for preference sets.
        reward_model: a sequence classifier, which is measured on preference sets beside it.
        trained_on: files that it was trained on, in which the benchmarks are looked for, beside those that the recipe names and, of an
            artifact of ours, those that are known.

    Raises:
        UsageError: a benchmark that is not known, or of which nothing says where its files are or who judges.
    """
    given = load(recipe, settings) if recipe else None
    found = benchmarking.sections(on, given, str(recipe))
    for section in found.values():
        section.update({} if limit is None else {"limit": limit})
    _set_beside(found.get("evaluate", {}), reference=reference, reward_model=reward_model)
    rest = {"seed": given.seed, "train": given.train.given(), "budget": given.budget.given()} if given else {}
    # academic tasks are asked without a chat template, and a base model may have none
    chats = "judge" in found or "preferences" in found.get("evaluate", {})
    whole = {"name": "benchmark", "model": {"path": model, "chat_template": "tokenizer" if chats else "zephyr"}, **rest, **found}
    # the recipe has taken its settings; those of the model that is measured are of no model of the recipe's
    rest_of = [word for word in settings if word.startswith("model.")] if given else list(settings)
    one = build(Recipe, apply_overrides(whole, rest_of, {}), {}, "command line")
    one = _with_training(one, given, model, trained_on)
    run_dir = Path(out).expanduser()
    outcomes = pipeline.run(one, run_dir, until=pipeline.stages_of(one)[-2])
    return pipeline.summary(one, run_dir, outcomes)


def _set_beside(evaluate: dict[str, Any], **models: str | None) -> None:
    """Name in the section the models that preference sets are measured with, beside the one that is asked about."""
    for name, path in models.items():
        if path and "preferences" not in evaluate:
            raise UsageError(f"--{name.replace('_', '-')}: is for preference sets; add preferences=FILE to --on")
        evaluate.get("preferences", {}).update({name: path} if path else {})


def _with_training(one: Recipe, given: Recipe | None, model: str, trained_on: Sequence[str]) -> Recipe:
    """The recipe of a measurement with all that the model was trained on: by the recipe, by the option, and by its own manifests."""
    from zephyr.evals import contamination

    said = [source for r in (given, one) if r for section in (r.judge, r.evaluate) if section for source in section.trained_on]
    known = contamination.known_training(model, [*said, *(DataSource(path=path) for path in trained_on)])
    sections = {
        name: section.model_copy(update={"trained_on": known.sources, "not_at_hand": [*section.not_at_hand, *known.lost]})
        for name, section in (("judge", one.judge), ("evaluate", one.evaluate))
        if section
    }
    return one.model_copy(update=sections)
