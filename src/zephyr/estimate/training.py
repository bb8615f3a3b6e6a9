"""The plan of a run's training: for each stage its volume, its arithmetic, what a device holds and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr.errors import ModelError, UsageError, ZephyrError
from zephyr.estimate import machines, memory, speed, ways
from zephyr.estimate.machines import Machine
from zephyr.estimate.shape import shape_of
from zephyr.estimate.workload import Work, flops, works
from zephyr.models import load, registry
from zephyr.recipe import LoRAConfig, Recipe

DEVICES = (1, 8, 16)
_WHOLE = "each GPU holds the whole model in float32 once, "


class Planner:
    """What is known of a model, for the stages that train it."""

    def __init__(self, recipe: Recipe) -> None:
        """Reads the model's configuration, or the recipe's `model.shape` where the model is not at hand.

        Raises:
            UsageError: neither is there.
        """
        self.recipe = recipe
        self.config, self.stated = configuration(recipe)
        self.shape = shape_of(self.config)
        self._kept: dict[tuple[Any, ...], memory.Kept] = {}
        self._trained: dict[str, int] = {}  # by the adapter

    def kept(self, work: Work, dtype: str, *, recompute: bool, fused: bool) -> memory.Kept:
        """What its layers keep for the way back, measured once for each way of training."""
        lora = _beside_numbers(work.config.lora)
        dropout = work.stage == "sft"
        key = (dtype, lora.model_dump_json() if lora else None, recompute, dropout, fused)
        if key not in self._kept:
            self._kept[key] = memory.kept(self.config, dtype, lora, recompute=recompute, dropout=dropout, fused=fused)
        return self._kept[key]

    def trained(self, work: Work) -> int:
        """Weights that learn."""
        lora = _beside_numbers(work.config.lora)
        key = lora.model_dump_json() if lora else ""
        if key not in self._trained:
            self._trained[key] = memory.trained_weights(self.config, lora)
        return self._trained[key]

    def bytes(
        self, work: Work, dtype: str, devices: int, *, recompute: bool, budget: int, offload: str = "none", fused: bool = False
    ) -> memory.Bytes:
        """What a device holds at the peak of a step."""
        share = work.fullest / devices
        tokens = max(min(budget, share), work.longest)
        plain = self.kept(work, dtype, recompute=False, fused=fused)
        return memory.step_bytes(
            self.shape,
            self.kept(work, dtype, recompute=True, fused=fused) if recompute else plain,
            trained=self.trained(work),
            tokens=tokens,
            learnt=tokens * work.predicted,
            dtype=dtype,
            devices=devices,
            passes=math.ceil(share / tokens),
            four_bits=work.config.quantize is not None,
            full=plain if recompute else None,
            offload=offload,
        )


def _beside_numbers(lora: LoRAConfig | None) -> LoRAConfig | None:
    """An adapter learns and keeps the same beside weights of 4 bits."""
    return lora.model_copy(update={"quantize": None}) if lora else None


def configuration(recipe: Recipe) -> tuple[Any, bool]:
    """The transformers configuration of a recipe's model, and whether it is what the recipe states.

    Raises:
        UsageError: the model is not at hand, and the recipe does not say what it is.
    """
    from transformers import AutoConfig

    known = registry.KNOWN.get(recipe.model.path)
    if recipe.model.shape is None or (known and registry.is_ready(known)) or Path(recipe.model.path).expanduser().is_dir():
        ref = load.refer(recipe.model)
        try:
            return AutoConfig.from_pretrained(ref.locate(), revision=ref.revision, trust_remote_code=ref.trust_remote_code), False
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{recipe.model.path}: its configuration cannot be read here ({str(error).splitlines()[0][:120]}); "
                "say what it is in model.shape, as the recipe of `zephyr init --from paper` does"
            ) from None
    stated = recipe.model.shape.model_dump(exclude_none=True)
    try:
        return AutoConfig.for_model(stated.pop("model_type"), **stated), True
    except (KeyError, ValueError) as error:
        raise UsageError(f"model.shape.model_type: {str(error).splitlines()[0][:120]}") from None


def plan(
    recipe: Recipe,
    run_dir: Path,
    *,
    devices: Sequence[int] = DEVICES,
    gpus: Sequence[str] = (),
    utilization: float = machines.UTILIZATION,
    calibrate: bool = False,
) -> dict[str, Any] | None:
    """What the recipe's training will take; None where it trains nothing.

    Args:
        recipe: the run.
        run_dir: where stages may have made what the next ones train on.
        devices: how many GPUs, each of these.
        gpus: names of `machines.KNOWN`; all of them if none is given.
        utilization: the share of a GPU's peak that is reached.
        calibrate: load the model and train it for a few real steps on this machine.

    Raises:
        UsageError: a name is not known, or the model's shape is not.
    """
    if unknown := [name for name in gpus if name not in machines.KNOWN]:
        raise UsageError(f"--gpu {unknown[0]}: not a known name; known are {', '.join(machines.KNOWN)}")
    if not (recipe.sft or recipe.dpo):
        return None
    planner = Planner(recipe)
    chat = None if planner.stated else _chat(recipe)
    todo = works(recipe, run_dir, chat)
    unknown_yet = [name for name in ("sft", "dpo") if getattr(recipe, name) and name not in {work.stage for work in todo}]
    kinds = [machines.KNOWN[name] for name in (gpus or machines.KNOWN)]
    dtype = "bfloat16"
    here = {work.stage: _here(planner, work) for work in todo} if calibrate else {}
    return {
        "model": recipe.model.path,
        "parameters": planner.shape.parameters,
        "dtype": dtype,
        "utilization": utilization,
        "stages": [_stage(planner, work, kinds, devices, utilization, dtype, here.get(work.stage)) for work in todo],
        "here": list(here.values()) if calibrate else None,
        "unknown": unknown_yet,
        "assumptions": _assumptions(planner, todo, utilization, dtype, here),
    }


def _chat(recipe: Recipe) -> Any:
    try:
        return load.load_chat(load.refer(recipe.model), recipe.model.chat_template)
    except ModelError:
        return None


def _stage(
    planner: Planner,
    work: Work,
    kinds: Sequence[Machine],
    devices: Sequence[int],
    utilization: float,
    dtype: str,
    here: Mapping[str, Any] | None,
) -> dict[str, Any]:
    operations = flops(work, planner.shape, recompute=planner.recipe.train.activation_checkpointing)
    reached = {here["gpu"]: here["utilization"]} if here and here["gpu"] else {}  # on a GPU that is known, what was measured on it
    return {
        "stage": work.stage,
        "rows": work.rows,
        "tokens": round(work.tokens),
        "looked_tokens": round(work.looked),
        "steps": work.steps,
        "flops": operations,
        "trained_parameters": planner.trained(work),
        "ways": [
            {**way, "hours": operations / (kind.flops * reached.get(kind.name, utilization) * way["devices"]) / 3600}
            for kind, way in ways.of(planner, work, kinds, devices, dtype)
        ],
        "advice": [*ways.advice(planner, work, kinds, devices, dtype), *ways.too_many_looks(planner, work, operations)],
    }


def _here(planner: Planner, work: Work) -> dict[str, Any]:
    """Measured on this machine."""
    train = planner.recipe.train
    if not work.lengths:
        raise ZephyrError(f"{work.stage}: no row could be read, so there is nothing to measure with")
    if work.config.quantize or train.offload != "none":
        setting = f"{work.stage}.lora.quantize" if work.config.quantize else "train.offload"
        raise UsageError(f"--calibrate measures float32 weights that stay where they are, and {setting} is set: plan without --calibrate")
    try:
        found = speed.measure(load.refer(planner.recipe.model), work.config, train, work.lengths, work.batch)
    except ModelError as error:
        raise ModelError(
            f"{error}; --calibrate trains the model itself for a few steps: plan without it, or name a folder that has its weights, "
            "as model.path=FOLDER"
        ) from error
    counted = planner.bytes(work, found.dtype, 1, recompute=train.activation_checkpointing, budget=train.micro_batch_tokens, fused=True)
    loads = 2 if work.reference else 1  # once for the reference, too
    seconds = loads * found.load + work.tokens * found.token + work.looked * found.look + work.steps * found.update
    done = flops(work, planner.shape, recompute=train.activation_checkpointing) / seconds
    known = machines.named(found.device)
    return {
        "stage": work.stage,
        "device": found.device,
        "gpu": known.name if known else None,
        "utilization": done / known.flops if known else None,
        "flops_per_second": done,
        "tokens_per_second": 1 / found.token,
        "seconds": seconds,
        "hours": seconds / 3600,
        "peak_bytes": found.peak_bytes,
        "counted_bytes": found.start_bytes + counted.peak - counted.weights,
    }


def _assumptions(planner: Planner, todo: Sequence[Work], utilization: float, dtype: str, here: Mapping[str, Any]) -> list[str]:
    compared = any(work.reference for work in todo)
    lines = [
        f"weights, gradients and Adam in float32, products in {dtype}; shared by all devices (FSDP2)",
        f"{utilization:.0%} of a GPU's peak, which was not measured here: --calibrate measures this machine, --utilization sets another",
        f"a GPU's memory is full at {machines.USABLE:.0%}",
        *_whole(planner, todo),
        f"time is that of training, its looks at test rows{' and its reference' * compared}: answers and verdicts are not in it",
    ]
    for stage, found in here.items():
        if found["gpu"]:
            lines.append(f"but {stage} on {found['gpu']} goes by what was measured here: {found['utilization']:.0%} of its peak")
    if planner.stated:
        lines.append("the model's shape is as the recipe says")
    lines += dict.fromkeys(f"{work.stage}: {why}" for work in todo if (why := ways.refused(planner, work, 2)))
    return lines + [f"{work.stage}: {work.assumed}" for work in todo if work.assumed]


def _whole(planner: Planner, todo: Sequence[Work]) -> list[str]:
    """When a device holds the whole model, if it ever does."""
    unquantized = [work for work in todo if not work.config.quantize]
    if planner.recipe.train.offload != "all":
        reference = " and as the reference" * any(work.reference for work in unquantized)
        return [f"{_WHOLE}when it is loaded{reference}"] * bool(unquantized)
    return [f"{_WHOLE}as the reference, which train.offload=all does not keep off it"] * any(w.reference for w in todo)
