"""What stages take from outside has to be there before the first of them runs: hours may lie between."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from zephyr import sources, world
from zephyr.errors import ModelError, UsageError
from zephyr.models import load
from zephyr.pipeline.first_rows import refuse_unusable
from zephyr.pipeline.graph import LOADS, TOGETHER, module_of
from zephyr.recipe import APIConfig, DataSource, EvaluateConfig, Recipe
from zephyr.stages import From
from zephyr.teachers import wire


def refuse_what_would_fail_late(recipe: Recipe, pending: Sequence[str], cache: Path, *, fetch: bool = True) -> None:
    """Refuse what a pending stage would fail for that can be seen now.

    Without `fetch`, a model that is not on this machine is not asked what it can do, nor are rows read that are not.

    Raises:
        ZephyrError: a file, a model, a teacher's key or a package is not there, or the model cannot do what is asked of it.
    """
    for stage in pending:
        needs = module_of(stage).needs(recipe)
        for wanted in needs.data.values():
            for source in () if isinstance(wanted, From) else wanted:
                sources.resolve(source.path)
        refs = {name: load.refer(model, cache) for name, model in needs.models.items() if not isinstance(model, From)}
        if stage == "evaluate":
            from zephyr.evals import preference_runs

            preference_runs.refuse_itself(refs)
    for place, teacher in recipe.teachers().items():
        if place.split(".")[0] in pending and isinstance(teacher, APIConfig):
            wire.secret_of(place, teacher)
    if "evaluate" in pending and recipe.evaluate:
        refuse_benchmarks(recipe.evaluate)
        _refuse_nothing_to_measure(recipe, recipe.evaluate)
    if fetch:
        _refuse_files(recipe, pending)
    _refuse_training(recipe, pending)
    if {*LOADS} & {*pending}:
        student = load.refer(recipe.model, cache)
        if fetch or load.is_here(student):
            _refuse_what_the_model_cannot(recipe, pending, student)
    refuse_unusable(recipe, pending, fetch=fetch)  # last: a data set of the hub is fetched for it


def _refuse_training(recipe: Recipe, pending: Sequence[str]) -> None:
    """Adapters and trackers without the packages that make them; settings that several processes cannot keep."""
    adapted = {name: s.lora for name, s in (("sft", recipe.sft), ("dpo", recipe.dpo)) if name in pending and s and s.lora}
    wanted = [(f"{name}.lora", "adapters need peft", "peft", "lora") for name in adapted]
    wanted += [(f"{n}.lora.quantize", "4 bits need bitsandbytes", "bitsandbytes", "qlora") for n, lora in adapted.items() if lora.quantize]
    for place, what, package, extra in wanted:
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"{place}: {what}, which is not installed: pip install 'zephyr-align[{extra}]'")
    if {"sft", "dpo"} & {*pending}:
        from zephyr.train import trackers

        trackers.require(recipe.train.log_to)
    if {*TOGETHER} & {*pending}:
        from zephyr.train.student import refuse_apart

        refuse_apart(next((lora.quantize for lora in adapted.values() if lora.quantize), None), recipe.train.offload, world.started().size)


def _refuse_what_the_model_cannot(recipe: Recipe, pending: Sequence[str], student: load.ModelRef) -> None:
    """Lengths beyond its context, adapters on layers that it does not have; what is trained later in the run is of the same shape."""
    readers = {"sft": ("sft", "evaluate"), "dpo": ("reference", "dpo", "evaluate")}
    read = {name: section for name, section in (("sft", recipe.sft), ("dpo", recipe.dpo)) if section and {*readers[name]} & {*pending}}
    load.refuse_longer(student, {f"{name}.max_length": section.max_length for name, section in read.items()})
    for name, section in read.items():
        if name in pending and section.lora and section.lora.target_modules != ["all-linear"]:
            from zephyr.train import lora

            try:
                lora.targets(load.without_weights(student), section.lora.target_modules)
            except ModelError as error:
                raise ModelError(f"{name}.{error}") from None


def _refuse_nothing_to_measure(recipe: Recipe, section: EvaluateConfig) -> None:
    """An evaluation without benchmarks, where it is sure that no row will be for the test."""
    from zephyr.evals import public

    inputs: list[tuple[Sequence[DataSource], float]] = []  # (sources, the share of them that is kept for the test)
    if recipe.curate and recipe.curate.data:
        inputs.append((recipe.curate.data, recipe.curate.test_fraction))
    elif recipe.curate and recipe.synthesize:
        inputs.append(([], recipe.synthesize.test_fraction))
    if recipe.rate and recipe.rate.data:
        inputs.append((recipe.rate.data, recipe.rate.test_fraction))
    elif recipe.rate and recipe.complete:
        inputs.append((recipe.complete.prompts, recipe.complete.test_fraction))
    elif recipe.binarize:
        inputs.append((recipe.binarize.data, recipe.binarize.test_fraction))
    if not public.named(section) and not any(fraction or any(map(_may_hold_a_test, data)) for data, fraction in inputs):
        raise UsageError(
            "evaluate: there will be nothing to measure: no source is for the test, and no test_fraction keeps a part of one; "
            "set a test_fraction, name a source with `split: test`, or take `evaluate` out"
        )


def _may_hold_a_test(source: DataSource) -> bool:
    """Whether a source has rows for the test of its own, or may have: what is no plain file may be divided."""
    path = sources.resolve(source.path)
    return source.split == "test" or (source.split is None and (path is None or not path.is_file()))


def _refuse_files(recipe: Recipe, pending: Sequence[str]) -> None:
    """Rows of benchmarks that a later stage would refuse."""
    if {"answer", "judge", "evaluate"} & set(pending):
        from zephyr.evals import up_front

        judge = recipe.judge if {"answer", "judge"} & set(pending) else None
        up_front.refuse_wrong_files(judge, recipe.evaluate if "evaluate" in pending else None)


def refuse_benchmarks(section: EvaluateConfig) -> None:
    """Refuse academic tasks whose files, or whose package, are not there."""
    from zephyr.evals import public

    public.refuse_folders(section)  # a file that is not there, a name that is not the task's on the hub
    if section.benchmarks and importlib.util.find_spec("lm_eval") is None:
        raise UsageError("academic tasks need lm-eval, which is not installed: pip install 'zephyr-align[eval]'")
