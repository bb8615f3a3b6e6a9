"""One training stage from loaded model to saved model: precision, forecast, loop, results."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from zephyr import world
from zephyr.artifacts import Draft, Manifest
from zephyr.errors import DataError, NonFiniteError, UsageError
from zephyr.models import load
from zephyr.models.load import save_model
from zephyr.progress import say
from zephyr.recipe import OptimizerConfig, TrainConfig
from zephyr.text.chat import ChatFormat
from zephyr.train import lora, parallel, trackers
from zephyr.train.checkpoint import Checkpoints
from zephyr.train.loop import Trainer
from zephyr.train.meter import Meter, peak_memory_bytes, reset_peak_memory
from zephyr.train.precision import resolve_dtype
from zephyr.train.quantized import numbers
from zephyr.train.student import refuse_apart
from zephyr.train.tasks import ItemT, Stats, Task


def fit(
    model: Any,
    chat: ChatFormat,
    task: Task[ItemT],
    config: OptimizerConfig,
    train_config: TrainConfig,
    train: Sequence[ItemT],
    test: Sequence[ItemT],
    *,
    seed: int,
    out: Draft,
    label: str,
) -> None:
    """Train `model` on `train` and write it, its log and its results into `out`."""
    if not train:
        raise DataError(f"{label}: no rows to train on are left{out.why_dropped()}")
    trackers.require(train_config.log_to)
    refuse_apart(config.quantize, train_config.offload, world.current().size)
    _say_idle(config.quantize, train_config.offload)
    reset_peak_memory()
    parameters = sum(map(numbers, model.parameters()))
    torch.manual_seed(seed)
    if config.lora:
        lora.adapt(model, config.lora)
    torch.manual_seed(seed + world.current().rank)  # each process drops out others
    checkpoints = Checkpoints(out.checkpoints, out.log_path(), train_config.checkpoint_minutes, train_config.keep_checkpoints)
    offload = train_config.offload
    checkpoints.background = in_the_background(train_config.checkpoint_writing, offload)
    device = load.device() if offload == "all" else str(model.device)
    dtype = world.share(_dtype(train_config.dtype, device, checkpoints))
    checkpoints.made_with = {"dtype": str(dtype).removeprefix("torch.")}
    if train_config.activation_checkpointing:
        parallel.recompute_activations(model)
    meter = Meter(model, dtype, device)
    begun = checkpoints.newest()
    begins = begun[1]["position"]["step"] + 1 if begun else 0
    with parallel.group_of_one(offload == "all"):
        with trackers.tee(out.log, train_config.log_to, out.final, out.manifest.config, begins) as log:
            trainer = Trainer(model, task, config, dtype, train_config.micro_batch_tokens, seed, log, checkpoints, meter, offload)
            final = _trained(trainer, train, test, label)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        weights = parallel.whole_weights(model)
    out.earlier_seconds = checkpoints.resumed.seconds
    if checkpoints.resumed.step:
        out.note(f"{label} was cut and went on from a checkpoint after step {checkpoints.resumed.step}.")
    with world.failing_together():
        if world.current().leads:
            save_model(model, chat, out.model_dir, lora.merged(model, weights) if config.lora else weights)
    _describe(out.manifest, trainer, len(train), len(test), final, parameters=parameters, trained_parameters=trained)


def in_the_background(writing: str, offload: str) -> bool:
    """Whether checkpoints are written while the training goes on: `auto` does where the host has nothing else to hold for a GPU."""
    return torch.cuda.is_available() and offload == "none" if writing == "auto" else writing == "background"


def _describe(
    manifest: Manifest, trainer: Trainer[ItemT], train: int, test: int, final: Stats, *, parameters: int, trained_parameters: int
) -> None:
    """Write into the manifest what a training was: its rows, steps, speed, memory and last look, and the machine it ran on.

    Args:
        manifest: of what it made.
        trainer: that is done.
        train: rows that it learnt from.
        test: rows that it looked at.
        final: what it saw at the last look.
        parameters: of the model, all of them.
        trained_parameters: of them, or of its adapters, those that learnt.
    """
    assert trainer.meter is not None
    config, at = trainer.config, trainer.at
    speed = at.tokens / at.seconds
    manifest.tokens += at.tokens
    manifest.rows_out = {"train": train, "test": test}
    manifest.results |= {
        "steps": -(-train // config.batch_size) * config.epochs,
        "tokens_per_second": speed,
        "mfu": trainer.meter.mfu(speed),
        "dtype": str(trainer.dtype).removeprefix("torch."),
        "parameters": parameters,
        "trained_parameters": trained_parameters,
        "final_test": final,
        "peak_memory_bytes": peak_memory_bytes(),
    }
    manifest.environment = {
        "torch": torch.__version__,
        "device": _device_name(),
        "threads": str(torch.get_num_threads()),
        "processes": str(world.current().size),
    }


def _trained(trainer: Trainer[ItemT], train: Sequence[ItemT], test: Sequence[ItemT], label: str) -> Stats:
    """The last look at the test items.

    Raises:
        NonFiniteError: as the trainer says it, and what can be done: the same command would come to the same end.
    """
    try:
        return trainer.train(train, test, label)
    except NonFiniteError as error:
        half = " or `train.dtype=float32`" if trainer.dtype == torch.bfloat16 else ""
        raise NonFiniteError(f"{error}. Look at these rows; if they are sound, try a lower learning_rate{half}") from None


def _say_idle(quantize: str | None, offload: str) -> None:
    """Of GPUs that nobody asked to work, where they could: who has them expects that they do."""
    gpus = torch.cuda.device_count()
    with contextlib.suppress(UsageError):
        refuse_apart(quantize, offload, gpus)
        if gpus > 1 and world.started().size == 1:
            say(f"  one of {gpus} GPUs is at work; all of them are after torchrun --nproc-per-node {gpus} -m zephyr run RECIPE")


def _dtype(wanted: str, device: str, checkpoints: Checkpoints) -> torch.dtype:
    """The number format: with `auto`, that of the checkpoint there is to go on from, else what a measurement says."""
    found = checkpoints.newest()
    if wanted == "auto" and found and (before := found[1]["made_with"].get("dtype")):
        say(f"  dtype: {before}, as in the checkpoint it goes on from")
        wanted = before
    return resolve_dtype(wanted, device)


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
