"""Our side of the races. Each prints one line `RESULT {...}`.

python benchmarks/ours.py dpo --model DIR --pairs pairs.jsonl --dtype float32
python benchmarks/ours.py dpo … --without shared-prompt       one idea less: shared-prompt, one-pass-head, segment-kernel, all
python benchmarks/ours.py sft --model DIR --dialogues dialogues.jsonl --steps 3
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import measure

IDEAS = ("shared-prompt", "one-pass-head", "segment-kernel")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["dpo", "sft"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs")
    parser.add_argument("--dialogues")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens that go through the model at once")
    parser.add_argument("--without", default="none", choices=["none", "all", *IDEAS])
    args = parser.parse_args()
    measure.emit(dpo(args) if args.what == "dpo" else sft(args))


def _model(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    import torch

    from zephyr.models import load

    ref = load.ModelRef(args.model, "")
    chat = load.load_chat(ref, "tokenizer")
    return load.load_model(ref, chat), chat, torch.bfloat16 if args.dtype == "bfloat16" else torch.float32


def _draft() -> Any:
    import tempfile

    from zephyr.artifacts import Draft, Manifest

    folder = Path(tempfile.mkdtemp())
    return Draft(folder, folder, Manifest("bench", "", {}, {}))


def _timed_steps(trainer: Any, items: list[Any], steps: list[list[Any]]) -> tuple[list[float], list[float]]:
    """Seconds and loss of each optimizer step: what the loop does, with a clock around it."""
    import torch

    from zephyr.train.optim import adamw

    optimizer = adamw(trainer.model, trainer.config)
    trainer.model.train()
    seconds, losses = [], []
    for batch in steps:
        began = time.perf_counter()
        losses.append(trainer.accumulate(batch)["loss"])
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - began)
    return seconds, losses


def dpo(args: argparse.Namespace) -> dict[str, Any]:
    """Reference log-probabilities once, then one step a batch."""
    from zephyr import sources
    from zephyr.recipe import DataSource, DPOConfig, TrainConfig
    from zephyr.records import parse_preference
    from zephyr.train import encode, score
    from zephyr.train.loop import Trainer
    from zephyr.train.tasks import Pair, preferences

    model, chat, dtype = _model(args)
    out = _draft()
    rows = sources.collect(
        [DataSource(path=args.pairs)], parse_preference, out, invalid="error", test_fraction=0.0, identity=lambda p: p.pair_id
    )
    encoded = encode.pairs(rows["train"], chat, args.max_length, args.max_length // 2, out, "train")
    config = DPOConfig(batch_size=args.batch)
    began = time.perf_counter()
    sums = score.log_probabilities(
        model, [p.answers for p in encoded], TrainConfig(dtype=args.dtype, micro_batch_tokens=args.tokens), "reference", out,
        names=[f"{p.id} {i}" for p in encoded for i in range(2)],
    )  # fmt: skip
    reference_seconds = time.perf_counter() - began
    pairs = [Pair(p.id, p.answers, sums[2 * i], sums[2 * i + 1]) for i, p in enumerate(encoded)]
    _remove(args.without, pairs)
    trainer = Trainer(model, preferences(config), config, dtype, args.tokens, 0, lambda _: None)
    batches = [pairs[i : i + args.batch] for i in range(0, len(pairs), args.batch)]
    with measure.Peak() as memory:
        seconds, losses = _timed_steps(trainer, pairs, batches)
    answers = [p.answers for p in encoded]
    return {
        "side": "zephyr",
        "without": args.without,
        "pairs": len(pairs),
        "steps": seconds,
        "train_seconds": sum(seconds),
        "reference_seconds": reference_seconds,
        "nominal_tokens": sum(2 * len(a.ids) + sum(map(len, a.branches)) for a in answers),
        "unique_tokens": sum(a.tokens for a in answers),
        "matmul_weights": matmul_weights(model),
        "matmul_peak": matmul_peak(dtype),
        "peak_over_start_mb": (memory.peak - memory.start) / 2**20,
        "losses": losses,
    }


def sft(args: argparse.Namespace) -> dict[str, Any]:
    """Packed sequences of `--max-length` tokens, one a step."""
    from zephyr import sources
    from zephyr.recipe import DataSource, SFTConfig
    from zephyr.records import parse_dialogue
    from zephyr.train import encode
    from zephyr.train.loop import Trainer
    from zephyr.train.tasks import SFT

    model, chat, dtype = _model(args)
    out = _draft()
    config = SFTConfig(batch_size=1, max_length=args.max_length, loss_on="all")
    rows = sources.collect([DataSource(path=args.dialogues)], parse_dialogue, out, invalid="error", test_fraction=0.0)
    packs = encode.dialogues(rows["train"], chat, config, out, "train")
    trainer = Trainer(model, SFT(), config, dtype, args.max_length, 0, lambda _: None)
    packs = packs[: args.steps]
    with measure.Peak() as memory:
        seconds, losses = _timed_steps(trainer, packs, [[p] for p in packs])
    tokens = sum(e.tokens for p in packs for e in p.examples)
    return {
        "side": "zephyr",
        "steps": seconds,
        "train_seconds": sum(seconds),
        "tokens": tokens,
        "matmul_weights": matmul_weights(model),
        "matmul_peak": matmul_peak(dtype),
        "peak_over_start_mb": (memory.peak - memory.start) / 2**20,
        "losses": losses,
    }


def matmul_peak(dtype: Any) -> float:
    """What a large matrix product reaches on this machine, in FLOP/s: what the model's use of it is measured against."""
    from zephyr.train.precision import matmul_rate

    return matmul_rate(dtype, "cpu", seconds=2.0)


def matmul_weights(model: Any) -> int:
    """Weights that take part in a product for every token: all but the input embedding, the head once."""
    whole = sum(p.numel() for p in model.parameters())
    return int(whole if model.config.tie_word_embeddings else whole - model.get_input_embeddings().weight.numel())


def _remove(what: str, pairs: list[Any]) -> None:
    """The trainer without one idea, or without all of them."""
    from zephyr.train import attention, parallel
    from zephyr.train.batches import Example
    from zephyr.train.logprobs import sequence_sums

    names = IDEAS if what == "all" else (what,)
    if "shared-prompt" in names:
        for pair in pairs:
            prompt, answers = pair.answers.ids, pair.answers.branches
            apart = tuple(Example(prompt + a, (False,) * len(prompt) + (True,) * len(a)) for a in answers)
            object.__setattr__(pair, "answers", _Apart(apart))
        type(pairs[0]).examples = property(lambda pair: pair.answers.examples)
    if "one-pass-head" in names:

        def head_loss(model: Any, hidden_ND: Any, stream: Any, items: Any, task: Any, scale: float) -> Any:
            logprob_N = two_pass_logprobs(hidden_ND, model.get_output_embeddings().weight, stream.target_N)
            sums_S = sequence_sums(logprob_N, stream)
            return task.loss(sums_S, items) * scale, sums_S

        parallel.head_loss = head_loss
    if "segment-kernel" in names:
        attention._TreeAttention.apply = lambda q, k, v, segments, scale: attention.plain_attention(
            q, k, v, segments, scale, 0.0, None, None
        )


def two_pass_logprobs(hidden_ND: Any, weight_VD: Any, target_N: Any) -> Any:
    """The head as it is without the one pass: blocks whose logits are computed again on the way back."""
    import torch
    from torch.utils.checkpoint import checkpoint

    def block(h_BD: Any, target_B: Any) -> Any:
        logits_BV = (h_BD @ weight_VD.to(h_BD.dtype).T).float()
        return torch.log_softmax(logits_BV, -1).gather(1, target_B[:, None])[:, 0]

    parts = [checkpoint(block, h, t, use_reentrant=False) for h, t in zip(hidden_ND.split(512), target_N.split(512), strict=True)]
    return torch.cat(parts)


class _Apart:
    """Two sequences in place of a prompt with two branches."""

    def __init__(self, examples: tuple[Any, ...]) -> None:
        self.examples = examples
        self.targets = tuple(n for e in examples for n in e.targets)
        self.tokens = sum(e.tokens for e in examples)


if __name__ == "__main__":
    main()
