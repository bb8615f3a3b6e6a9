"""What stages take from outside has to be there before the first of them runs: hours may lie between."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from zephyr import sources, world
from zephyr.errors import ModelError, UsageError
from zephyr.models import load
from zephyr.pipeline.graph import LOADS, TOGETHER, module_of
from zephyr.recipe import APIConfig, EvaluateConfig, Recipe
from zephyr.stages import From
from zephyr.teachers import wire


def refuse_what_would_fail_late(recipe: Recipe, pending: Sequence[str], cache: Path, *, fetch: bool = True) -> None:
    """Refuse what a pending stage would fail for that can be seen now.

    Without `fetch`, a model that is not on this machine is not asked what it can do.

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
    if fetch:
        _refuse_files(recipe, pending)
    _refuse_training(recipe, pending)
    if {*LOADS} & {*pending}:
        student = load.refer(recipe.model, cache)
        if fetch or load.is_here(student):
            _refuse_what_the_model_cannot(recipe, pending, student)


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
