"""TRL's side of the races, at its best settings. Each prints one line `RESULT {...}`.

    python benchmarks/trl_side.py dpo --model DIR --pairs pairs.jsonl --dtype float32 [--group]
    python benchmarks/trl_side.py sft --model DIR --dialogues dialogues.jsonl --steps 3

Best settings: no gradient checkpointing, fused AdamW, SDPA, reference log-probabilities computed once, and with `--group` batches of
like length. `--dtype autocast` is bfloat16 products over float32 weights, the peer of equal quality; `bfloat16` has no master weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import measure


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["dpo", "sft"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs")
    parser.add_argument("--dialogues")
    parser.add_argument("--dtype", default="float32", choices=["float32", "autocast", "bfloat16"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--group", action="store_true")
    args = parser.parse_args()
    measure.emit(dpo(args) if args.what == "dpo" else sft(args))


def _model(args: argparse.Namespace) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = torch.bfloat16 if args.dtype == "bfloat16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, attn_implementation="sdpa")
    return model, AutoTokenizer.from_pretrained(args.model)


def _common(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(),
        "bf16": args.dtype == "autocast",
        "use_cpu": True,
        "gradient_checkpointing": False,
        "optim": "adamw_torch_fused",
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def _timer() -> Any:
    from transformers import TrainerCallback

    class Timer(TrainerCallback):
        """Seconds and loss of each step."""

        def __init__(self) -> None:
            self.steps: list[float] = []
            self.losses: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.steps.append(time.perf_counter() - self.began)

        def on_log(self, *_: Any, logs: dict[str, Any] | None = None, **__: Any) -> None:
            if logs and "loss" in logs:
                self.losses.append(float(logs["loss"]))

    return Timer()


def dpo(args: argparse.Namespace) -> dict[str, Any]:
    """Reference log-probabilities in the constructor, then one epoch."""
    import datasets
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    datasets.disable_caching()  # what an earlier run has computed would hide its cost
    rows = _rows(args.pairs)
    data = Dataset.from_list(
        [{"prompt": r["chosen"][:-1], "chosen": r["chosen"][-1:], "rejected": r["rejected"][-1:], "length": _length(r)} for r in rows]
    )
    if not args.group:
        data = data.remove_columns("length")
    model, tokenizer = _model(args)
    config = DPOConfig(
        per_device_train_batch_size=args.batch, num_train_epochs=1, learning_rate=5e-7, beta=0.1, max_length=args.max_length,
        precompute_ref_log_probs=True, train_sampling_strategy="group_by_length" if args.group else "random",
        length_column_name="length", remove_unused_columns=not args.group, **_common(args),
    )  # fmt: skip
    timer = _timer()
    began = time.perf_counter()
    trainer = DPOTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[timer])
    reference_seconds = time.perf_counter() - began
    with measure.Peak() as memory:
        trainer.train()
    return {
        "side": "trl",
        "pairs": len(rows),
        "steps": timer.steps,
        "train_seconds": sum(timer.steps),
        "reference_seconds": reference_seconds,
        "peak_over_start_mb": (memory.peak - memory.start) / 2**20,
        "losses": timer.losses,
    }


def _length(row: dict[str, Any]) -> int:
    return sum(len(m["content"]) for m in row["chosen"][:-1]) + max(len(row[side][-1]["content"]) for side in ("chosen", "rejected"))


def sft(args: argparse.Namespace) -> dict[str, Any]:
    """Packed (best fit decreasing) sequences of `--max-length` tokens, one a step."""
    import datasets
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    datasets.disable_caching()
    data = Dataset.from_list(_rows(args.dialogues))
    model, tokenizer = _model(args)
    config = SFTConfig(
        per_device_train_batch_size=1, max_steps=args.steps, learning_rate=2e-5, max_length=args.max_length, packing=True,
        packing_strategy="bfd", **_common(args),
    )  # fmt: skip
    timer = _timer()
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[timer])
    tokens: list[int] = []
    step = trainer.training_step

    def counted(model: Any, inputs: Any, *more: Any) -> Any:
        tokens.append(inputs["input_ids"].numel())
        return step(model, inputs, *more)

    trainer.training_step = counted
    with measure.Peak() as memory:
        trainer.train()
    return {
        "side": "trl",
        "steps": timer.steps,
        "train_seconds": sum(timer.steps),
        "tokens": sum(tokens),
        "peak_over_start_mb": (memory.peak - memory.start) / 2**20,
        "losses": timer.losses,
    }


if __name__ == "__main__":
    main()
