"""The plan of a run's training: for each stage its volume, its arithmetic, what a device holds and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.errors import ModelError, UsageError, ZephyrError
from zephyr.estimate import machines, memory, speed, volume, ways
from zephyr.estimate.machines import Machine
from zephyr.estimate.shape import Shape, shape_of
from zephyr.estimate.volume import Volume
from zephyr.models import load, registry
from zephyr.recipe import DPOConfig, LoRAConfig, OptimizerConfig, Recipe, SFTConfig

DEVICES = (1, 8, 16)
_WHOLE = "each GPU holds the whole model in float32 once, when it is loaded"


@dataclass(frozen=True)
class Work:
    """What one training stage does.

    Args:
        stage: `sft` or `dpo`.
        config: its section.
        rows: to learn from.
        lengths: of a sample.
        steps: updates.
        tokens: through the model forward and back, over all epochs.
        looked: tokens through it forward alone: the test rows, and for dDPO the reference's pass.
        looks: how often the test rows are looked at.
        reference: of the tokens looked at, the reference's.
        predicted: the share of the tokens that is predicted.
        seen: how many tokens one sees on average.
        batch: tokens of a batch.
        longest: tokens of the longest row; where the rows could not be read, of the longest that there may be.
        assumed: what was taken for granted.
    """

    stage: str
    config: OptimizerConfig
    rows: int
    lengths: Sequence[volume.Length]
    steps: int
    tokens: float
    looked: float
    looks: int
    reference: float
    predicted: float
    seen: float
    batch: float
    longest: int
    assumed: str


def works(recipe: Recipe, run_dir: Path, chat: Any) -> list[Work]:
    """The training stages of a recipe."""
    found, made = [], volume.made_in(run_dir)
    if recipe.sft:
        found.append(sft(recipe.sft, volume.dialogues(recipe, made, chat)))
    if recipe.dpo:
        found.append(dpo(recipe.dpo, volume.pairs(recipe, made, chat)))
    return [work for work in found if work.tokens]


def sft(config: SFTConfig, data: Volume) -> Work:
    """What dSFT does with so much data."""
    tokens = data.train * data.mean
    sequences = math.ceil(tokens / config.max_length) if config.packing else data.train
    return _work("sft", config, data, sequences, config.max_length if config.packing else data.mean, 0.0)


def dpo(config: DPOConfig, data: Volume) -> Work:
    """What dDPO does with so much data, and the pass of its reference, if the objective has one."""
    reference = (data.train + data.test) * data.mean if config.has_reference else 0.0
    return _work("dpo", config, data, data.train, data.mean, reference)


def _work(stage: str, config: OptimizerConfig, data: Volume, sequences: int, size: float, reference: float) -> Work:
    steps = math.ceil(sequences / config.batch_size) * config.epochs
    looks = 1 + math.ceil(steps / config.evaluate_every)  # before the first step, and after the last in any case
    longest = _longest(config) if data.assumed else max((x.tokens for x in data.lengths), default=0)
    return Work(
        stage=stage,
        config=config,
        rows=data.train,
        lengths=data.lengths,
        steps=steps,
        tokens=data.train * data.mean * config.epochs,
        looked=data.test * data.mean * looks + reference,
        looks=looks,
        reference=reference,
        predicted=data.predicted,
        seen=data.seen,
        batch=min(sequences, config.batch_size) * size,
        longest=round(max(longest, size if stage == "sft" else 0)),
        assumed=data.assumed,
    )


def _longest(config: OptimizerConfig) -> int:
    """Tokens of the longest row that the settings let through: of a pair, two answers after a prompt of next to nothing."""
    if isinstance(config, DPOConfig):
        return 2 * config.max_length
    assert isinstance(config, SFTConfig)
    return config.max_length


def flops(work: Work, shape: Shape, *, recompute: bool) -> float:
    """Of a stage: forward and twice that back, a third pass less where weights are frozen, one more forward with checkpointing."""
    one = shape.forward_flops(work.tokens, work.tokens * work.predicted, work.seen)
    back = 1.0 if work.config.lora else 2.0
    looked = shape.forward_flops(work.looked, work.looked * work.predicted, work.seen)
    return one * (1 + back + recompute) + looked


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
        share = work.batch / devices
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
                "say what it is in model.shape, as recipes/zephyr-7b-beta.yaml does"
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
    found = speed.measure(load.refer(planner.recipe.model), work.config, train, work.lengths)
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
    held = any(ways.loaded(planner, work, planner.recipe.train.offload) for work in todo)
    lines = [
        f"weights, gradients and Adam in float32, products in {dtype}; shared by all devices (FSDP2)",
        f"{utilization:.0%} of a GPU's peak, which was not measured here: --calibrate measures this machine, --utilization sets another",
        f"a GPU's memory is full at {machines.USABLE:.0%}",
        *([_WHOLE + " and as the reference" * compared] if held else []),
        f"time is that of training, its looks at test rows{' and its reference' * compared}: answers and verdicts are not in it",
    ]
    for stage, found in here.items():
        if found["gpu"]:
            lines.append(f"but {stage} on {found['gpu']} goes by what was measured here: {found['utilization']:.0%} of its peak")
    if planner.stated:
        lines.append("the model's shape is as the recipe says")
    lines += dict.fromkeys(f"{work.stage}: {why}" for work in todo if (why := ways.refused(planner, work, 2)))
    return lines + [f"{work.stage}: {work.assumed}" for work in todo if work.assumed]
