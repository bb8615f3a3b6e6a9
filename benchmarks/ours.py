"""Our side of the races. Each prints one line `RESULT {...}`.

python benchmarks/ours.py reference --model DIR --pairs pairs.jsonl --references refs.json      writes refs.json
python benchmarks/ours.py dpo --model DIR --pairs pairs.jsonl --references refs.json
python benchmarks/ours.py dpo … --without shared-prompt         one idea less (ideas.py lists them), or `all`
python benchmarks/ours.py dpo … --profile                       where the time goes
python benchmarks/ours.py sft --model DIR --dialogues dialogues.jsonl --steps 3
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import arguments
import measure

# what a run imports, which a fork has already (forked.py)
IMPORTS = (
    "transformers.models.llama.modeling_llama",
    "ideas",
    "zephyr.models.load",
    "zephyr.train.encode",
    "zephyr.train.loop",
    "zephyr.train.prepare",
    "zephyr.train.score",
    "zephyr.train.tasks",
)


def main() -> None:
    """Parse and run."""
    parser = arguments.parser(__doc__, ["reference", "dpo", "sft"], ["float32", "bfloat16"])
    parser.add_argument("--tokens", type=int, default=4096, help="tokens that go through the model at once")
    parser.add_argument("--without", default="none", help="an idea of ideas.py")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    measure.emit({"reference": reference, "dpo": dpo, "sft": sft}[args.what](args))


def _model(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    import torch

    from zephyr.models import load

    ref = load.ModelRef(args.model, "")
    chat = load.load_chat(ref, "tokenizer")
    model = load.load_model(ref, chat)
    assert model.device.type == args.device, f"the model is on {model.device}"
    return model, chat, torch.bfloat16 if args.dtype == "bfloat16" else torch.float32


def _draft() -> Any:
    from zephyr.artifacts import Draft, Manifest

    folder = Path(tempfile.mkdtemp())
    return Draft(folder, folder, Manifest("bench", "", {}, {}))


def _encoded(args: argparse.Namespace, chat: Any) -> list[Any]:
    from zephyr import sources
    from zephyr.recipe import DataSource, DPOConfig
    from zephyr.records import parse_preference
    from zephyr.train import encode

    out = _draft()
    source = [DataSource(path=args.pairs)]
    rows = sources.collect(source, parse_preference, out, invalid="error", test_fraction=0.0)
    lengths = DPOConfig(max_length=args.max_length, max_prompt_length=args.max_length // 2)
    return list(encode.pairs(rows["train"], chat, lengths, out, "train"))


def reference(args: argparse.Namespace) -> dict[str, Any]:
    """Log-probabilities of both answers of every pair, which both sides of a race are given."""
    from zephyr.recipe import TrainConfig
    from zephyr.train import score

    model, chat, _ = _model(args)
    encoded = _encoded(args, chat)
    config = TrainConfig(dtype=args.dtype, micro_batch_tokens=args.tokens)
    began = measure.clock(args.device)
    names = [f"{p.id} {i}" for p in encoded for i in range(2)]
    sums = score.log_probabilities(model, [p.answers for p in encoded], config, "reference", _draft(), names=names)
    seconds = measure.clock(args.device) - began
    Path(args.references).write_text(json.dumps([sums[i : i + 2] for i in range(0, len(sums), 2)]), encoding="utf-8")
    return {"pairs": len(encoded), "seconds": seconds}


def _timed_steps(args: argparse.Namespace, trainer: Any, steps: list[list[Any]]) -> dict[str, Any]:
    """Seconds, loss and gradient norm of each optimizer step: what the loop does, with a clock around it; and the memory of it all.

    They are made `--warm-up` and `--counted` times; the latter are what counts, and what `--profile` looks at. Statistics are of the first
    time, from the same weights.
    """
    import torch

    from zephyr.train import parallel
    from zephyr.train.optim import adamw, clear_gradients

    if args.checkpointing:
        parallel.recompute_activations(trainer.model)
    matmul_peak = measure.matmul_peak(args.dtype, args.device)
    optimizer = adamw(trainer.model, trainer.config)
    trainer.model.train(trainer.task.by_token)
    seconds, stats = [], []
    profiler = _profiler() if args.profile else None
    with measure.Peak(args.device) as memory:
        for number, batch in enumerate(steps * (args.warm_up + args.counted)):
            if profiler and number == len(steps) * args.warm_up:
                profiler.start()
            began = measure.clock(args.device)
            found = trainer.accumulate(batch)
            with torch.profiler.record_function("bench.clip"):
                norm = torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.config.max_grad_norm)
            optimizer.step()
            clear_gradients(optimizer, keep=trainer.config.lora is not None)
            seconds.append(measure.clock(args.device) - began)
            stats.append({**found, "grad_norm": float(norm)})
        if profiler:
            profiler.stop()
    result = {
        "side": "zephyr",
        **measure.counted(seconds, len(steps), args.warm_up),
        "stats": stats[: len(steps)],
        "peak_over_start_mb": memory.over_start_mb,
        "matmul_weights": measure.matmul_weights(trainer.model),
        "matmul_peak": matmul_peak,
    }
    if profiler:
        import shares

        result |= {"shares": shares.shares(profiler), "operators": shares.operators(profiler)}
    return result


def _profiler() -> Any:
    import torch
    from torch.profiler import ProfilerActivity, profile

    from zephyr.train import parallel

    whole = parallel.head_loss

    def head_loss(*args: Any, **more: Any) -> Any:
        with torch.profiler.record_function("bench.head"):
            return whole(*args, **more)

    parallel.head_loss = head_loss
    return profile(activities=[ProfilerActivity.CPU])


def dpo(args: argparse.Namespace) -> dict[str, Any]:
    """One step a batch, in the order of the pairs."""
    import ideas

    from zephyr.recipe import DPOConfig
    from zephyr.train.loop import Trainer
    from zephyr.train.tasks import Pair, preferences

    model, chat, dtype = _model(args)
    known = json.loads(Path(args.references).read_text(encoding="utf-8"))
    pairs = [Pair(p.id, p.answers, *r) for p, r in zip(_encoded(args, chat), known, strict=True)]
    config = DPOConfig(batch_size=args.batch)
    trainer = Trainer(model, preferences(config), config, dtype, args.tokens, 0, lambda _: None)
    items = ideas.leave_out(args.without, trainer, pairs)
    measured = _timed_steps(args, trainer, [items[i : i + args.batch] for i in range(0, len(items), args.batch)])
    answers = [p.answers for p in pairs]
    return {
        **measured,
        "without": args.without,
        "pairs": len(pairs),
        "tokens": sum(2 * len(a.ids) + sum(map(len, a.branches)) for a in answers),  # the prompt twice
        "unique_tokens": sum(a.tokens for a in answers),
    }


def sft(args: argparse.Namespace) -> dict[str, Any]:
    """Packed sequences of `--max-length` tokens, one a step."""
    from zephyr.models.load import ModelRef
    from zephyr.recipe import DataSource, SFTConfig
    from zephyr.train import prepare
    from zephyr.train.loop import Trainer
    from zephyr.train.tasks import SFT

    model, chat, dtype = _model(args)
    config = SFTConfig(batch_size=1, max_length=args.max_length, loss_on="all")
    with tempfile.TemporaryDirectory() as folder:
        source = [DataSource(path=args.dialogues)]
        work = prepare.Work(source, ModelRef(args.model, ""), "tokenizer", config, Path(folder) / "prepared", "")
        packs = prepare.dialogues(work, lambda: chat, _draft())[0][: args.steps]
    trainer = Trainer(model, SFT(), config, dtype, args.max_length, 0, lambda _: None)
    measured = _timed_steps(args, trainer, [[p] for p in packs])
    return {**measured, "tokens": sum(p.tokens for p in packs)}


if __name__ == "__main__":
    main()
