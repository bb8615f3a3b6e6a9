"""TRL's side of the races, at its best settings. Each prints one line `RESULT {...}`.

    python benchmarks/trl_side.py dpo --model DIR --pairs pairs.jsonl --references refs.json [--group]
    python benchmarks/trl_side.py dpo-job --model DIR --pairs pairs.jsonl --out DIR --group      references, training, the saved model
    python benchmarks/trl_side.py sft --model DIR --dialogues dialogues.jsonl --steps 3

Best settings: no gradient checkpointing (unless `--checkpointing` asks for it, where memory is short), fused AdamW, SDPA (on GPUs
flash attention and liger-kernel's layers where they are installed, which ours takes, too), reference log-probabilities computed once,
and with `--group` batches of like length.
`--dtype autocast` is bfloat16 products over float32 weights, the peer of equal quality; `bfloat16` has no master weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import arguments
import measure

# what a run imports, which a fork has already (forked.py)
IMPORTS = (
    "datasets",
    "transformers.models.llama.modeling_llama",
    "trl.trainer.dpo_trainer",
    "trl.trainer.sft_trainer",
)


def main() -> None:
    """Parse and run."""
    parser = arguments.parser(__doc__, ["dpo", "dpo-job", "sft"], ["float32", "autocast", "bfloat16"])
    parser.add_argument("--group", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    measure.emit({"dpo": dpo, "dpo-job": dpo_job, "sft": sft}[args.what](args))


def _model(args: argparse.Namespace) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = torch.bfloat16 if args.dtype == "bfloat16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, attn_implementation=attention(args))
    return model, AutoTokenizer.from_pretrained(args.model)


def attention(args: argparse.Namespace) -> str:
    """What transformers is told to attend with."""
    flash = args.device == "cuda" and args.dtype != "float32" and importlib.util.find_spec("flash_attn")
    return "flash_attention_2" if flash else "sdpa"


def _common(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(),
        "bf16": args.dtype == "autocast",
        "use_cpu": args.device == "cpu",
        "use_liger_kernel": args.device == "cuda" and importlib.util.find_spec("liger_kernel") is not None,
        "gradient_checkpointing": args.checkpointing,
        "optim": "adamw_torch_fused",
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": args.device == "cuda",
    }


def _rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def _timer(device: str) -> Any:
    from transformers import TrainerCallback

    class Timer(TrainerCallback):
        """Seconds of each step."""

        def __init__(self) -> None:
            self.steps: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = measure.clock(device)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.steps.append(measure.clock(device) - self.began)

    return Timer()


def _measured(args: argparse.Namespace, trainer: Any, timer: Any) -> dict[str, Any]:
    """What our side gives, by the same names; the epochs are `--warm-up` and `--counted`."""
    matmul_peak = measure.matmul_peak("float32" if args.dtype == "float32" else "bfloat16", args.device)
    with measure.Peak(args.device) as memory:
        trainer.train()
    return {
        "side": "trl",
        **measure.counted(timer.steps, len(timer.steps) // (args.warm_up + args.counted), args.warm_up),
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
        "peak_over_start_mb": memory.over_start_mb,
        "matmul_weights": measure.matmul_weights(trainer.model),
        "matmul_peak": matmul_peak,
    }


def _dpo_trainer(args: argparse.Namespace, epochs: int = 1, **more: Any) -> Any:
    import datasets
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    datasets.disable_caching()  # what an earlier run has computed would hide its cost
    known = json.loads(Path(args.references).read_text(encoding="utf-8")) if args.references else None
    rows, sampling = _rows(args.pairs), "group_by_length" if args.group else "random"
    if args.group and len(rows) < 8 * args.batch:  # of so few the sampler makes batches at random: it sorts within a batch only
        order = sorted(range(len(rows)), key=lambda i: _length(rows[i]), reverse=True)
        rows, sampling = [rows[i] for i in order], "sequential"
        known = [known[i] for i in order] if known else None

    class WithReferences(DPOTrainer):  # type: ignore[misc]
        """Given what our side is given, where there is something; what they cost is part of the whole job."""

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            if known is None:
                return super()._precompute_ref_logps(dataset, name, batch_size)
            chosen, rejected = (list(side) for side in zip(*known, strict=True))
            return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)

    data = Dataset.from_list(
        [{"prompt": r["chosen"][:-1], "chosen": r["chosen"][-1:], "rejected": r["rejected"][-1:], "length": _length(r)} for r in rows]
    )
    if not args.group:
        data = data.remove_columns("length")
    model, tokenizer = _model(args)
    config = DPOConfig(
        per_device_train_batch_size=args.batch, num_train_epochs=epochs, learning_rate=5e-7, beta=0.1, max_length=args.max_length,
        precompute_ref_log_probs=True, train_sampling_strategy=sampling,
        length_column_name="length", remove_unused_columns=not args.group, **_common(args),
    )  # fmt: skip
    return WithReferences(model=model, args=config, train_dataset=data, processing_class=tokenizer, **more)


def _length(row: dict[str, Any]) -> int:
    return sum(len(m["content"]) for m in row["chosen"][:-1]) + max(len(row[side][-1]["content"]) for side in ("chosen", "rejected"))


def dpo(args: argparse.Namespace) -> dict[str, Any]:
    """`--counted` epochs, after `--warm-up` epochs."""
    timer = _timer(args.device)
    trainer = _dpo_trainer(args, args.warm_up + args.counted, callbacks=[timer])
    columns = [trainer.train_dataset[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    tokens = sum(2 * len(p) + len(c) + len(r) for p, c, r in zip(*columns, strict=True))
    return {**_measured(args, trainer, timer), "tokens": tokens}


def dpo_job(args: argparse.Namespace) -> dict[str, Any]:
    """References, the epochs and the model saved."""
    trainer = _dpo_trainer(args, args.epochs)
    trainer.train()
    trainer.save_model(str(args.out))
    return {"steps": trainer.state.global_step}


def sft(args: argparse.Namespace) -> dict[str, Any]:
    """Packed (best fit decreasing) sequences of `--max-length` tokens, one a step."""
    import datasets
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    datasets.disable_caching()
    data = Dataset.from_list(_rows(args.dialogues))
    model, tokenizer = _model(args)
    config = SFTConfig(
        per_device_train_batch_size=1, max_steps=args.steps * (args.warm_up + args.counted), learning_rate=2e-5, max_length=args.max_length,
        packing=True, packing_strategy="bfd", **_common(args),
    )  # fmt: skip
    timer = _timer(args.device)
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[timer])
    tokens: list[int] = []
    step = trainer.training_step

    def counted(model: Any, inputs: Any, *more: Any) -> Any:
        tokens.append(inputs["input_ids"].numel())
        return step(model, inputs, *more)

    trainer.training_step = counted
    return {**_measured(args, trainer, timer), "tokens": sum(tokens[args.steps * args.warm_up :]) / args.counted}


if __name__ == "__main__":
    main()
