"""Trainings over several processes, for test_parallel: each scenario forks its workers from this process, with the imports done.

python tests/train/processes.py FOLDER      prints one JSON object: what every scenario found
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch.distributed.fsdp
import torch.distributed.tensor
from safetensors.torch import load_file, save_file

import forking
import tiny
from zephyr import world
from zephyr.errors import NonFiniteError
from zephyr.guards import sigterm_interrupts
from zephyr.objectives import dpo
from zephyr.recipe import DPOConfig, LoRAConfig, SFTConfig
from zephyr.train import checkpoint, head, pieces
from zephyr.train.batches import Example, branching
from zephyr.train.checkpoint import Checkpoints
from zephyr.train.loop import Trainer
from zephyr.train.lora import adapt
from zephyr.train.parallel import recompute_activations, whole_weights
from zephyr.train.tasks import SFT, Dialogues, Pair, Preferences


def launch(size: int, work: Callable[[], Any]) -> list[dict[str, Any]]:
    """Run `work` in so many processes that take part in it together; what each returned or raised, its exit code and its seconds."""

    def together() -> Any:
        if size > 1:
            world.connect()
        with world.together(), sigterm_interrupts():
            return work()

    return forking.launch(size, together)


def ids(rng: random.Random, n: int) -> tuple[int, ...]:
    return tuple(rng.randrange(3, 480) for _ in range(n))


def dialogues(n: int = 11) -> list[Dialogues]:
    rng = random.Random(0)
    return [Dialogues(f"d{i}", (Example(ids(rng, length), (True,) * length),)) for i, length in enumerate(rng.choices(range(2, 60), k=n))]


def pairs(n: int = 11) -> list[Pair]:
    rng = random.Random(1)
    return [
        Pair(f"p{i}", branching(ids(rng, rng.randint(1, 30)), ids(rng, rng.randint(1, 40)), ids(rng, rng.randint(1, 40))), -150.0, -151.0)
        for i in range(n)
    ]


def trainer(
    kind: str, folder: Path | None = None, *, dropout: float = 0.0, tokens: int = 90, background: bool = False
) -> tuple[Trainer[Any], list[Any]]:
    """Five a batch over two, three or four processes: shares of unlike size, and some that have less to do than others."""
    torch.manual_seed(world.current().rank)
    model = tiny.tiny_model("gemma2" if kind == "dpo" else "llama", attention_dropout=dropout)
    checkpoints = Checkpoints(folder / "checkpoints", folder / "metrics.jsonl", 0, keep=9, background=background) if folder else None
    if world.current().size == 4:  # which changes no number, sharded or not
        recompute_activations(model)
    settings: dict[str, Any] = {"batch_size": 5, "learning_rate": 1e-3, "epochs": 2, "evaluate_every": 2}
    lines: list[dict[str, Any]] = []
    if kind == "lora":
        torch.manual_seed(0)
        settings |= {"learning_rate": 1e-2, "lora": LoRAConfig(rank=4, dropout=0)}
        adapt(model, settings["lora"])
    if kind != "dpo":
        return Trainer(model, SFT(), SFTConfig(**settings), torch.float32, tokens, 0, lines.append, checkpoints), list(dialogues())
    task = Preferences(partial(dpo, beta=0.1), 0.1)
    return Trainer(model, task, DPOConfig(**settings), torch.float32, tokens, 0, lines.append, checkpoints), list(pairs())


def trained(kind: str, out: Path, folder: Path | None = None, *, stop_at: int | None = None, dropout: float = 0.0) -> dict[str, float]:
    """Train and write the weights; stopped by Ctrl-C before step `stop_at`, if given."""
    made, items = trainer(kind, folder, dropout=dropout, background=dropout > 0)
    if stop_at is not None and made.checkpoints:
        due = made.checkpoints.due

        def struck() -> bool:
            if made.at.step == stop_at and world.current().rank == world.current().size - 1:
                signal.raise_signal(signal.SIGINT)
            return due()

        made.checkpoints.due = struck  # type: ignore[method-assign]
    last = made.train(items, items[:3], kind)
    weights = whole_weights(made.model)
    if world.current().leads:
        save_file({name: w.contiguous() for name, w in weights.items()}, out)
    return last


def apart(a: Path, b: Path) -> float:
    """The largest relative difference of any weight tensor; 0 only for equal bytes."""
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    return max(float((first[n] - second[n]).norm() / second[n].norm()) for n in first)


def same_numbers(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, sizes in (("sft", (1, 2, 4)), ("dpo", (1, 2, 4)), ("lora", (1, 2))):
        for size in sizes:
            results = launch(size, lambda k=kind, s=size: trained(k, folder / f"{k}-{s}.safetensors"))
            assert not any("raised" in r for r in results), results
            assert all(r["value"] == results[0]["value"] for r in results), "all processes know the same means"
            found[f"{kind}-{size}"] = {
                "loss": results[0]["value"]["loss"],
                "apart": apart(folder / f"{kind}-{size}.safetensors", folder / f"{kind}-1.safetensors"),
            }
    return found


def going_on(folder: Path) -> dict[str, Any]:
    """Two processes with dropout are stopped; two go on to the same bytes, one and four to the same numbers but for the dropout."""
    found: dict[str, Any] = {}
    launch(2, lambda: trained("sft", folder / "whole.safetensors", dropout=0.1))
    for dropout, sizes in ((0.1, (2,)), (0.0, (1, 2, 4))):
        for size in sizes:
            run = folder / f"run-{dropout}-{size}"
            run.mkdir()
            stopped = launch(2, lambda d=dropout, r=run: trained("sft", folder / "x.safetensors", r, stop_at=3, dropout=d))
            found.setdefault("stopped", []).append([r.get("raised") for r in stopped])
            again = launch(size, lambda d=dropout, r=run, s=size: trained("sft", folder / f"again-{d}-{s}.safetensors", r, dropout=d))
            assert not any("raised" in r for r in again), again
    found["bytes"] = apart(folder / "again-0.1-2.safetensors", folder / "whole.safetensors")
    found["numbers"] = {s: apart(folder / f"again-0.0-{s}.safetensors", folder / "sft-1.safetensors") for s in (1, 2, 4)}
    return found


def not_a_number(where: str) -> list[dict[str, Any]]:
    """One pair's reference is NaN, or the second process's share of a gradient overflows: no process makes the update."""

    def work() -> dict[str, Any]:
        made, items = trainer("dpo")
        if where == "loss":
            items[4] = replace(items[4], reference_chosen=math.nan)
        elif not world.current().leads:
            block_of = head.block_of

            def overflowing(*args: Any) -> Any:
                found = block_of(*args)
                return replace(found, d_logits=lambda: found.d_logits() * math.inf)

            head.block_of = overflowing
        before: dict[str, Any] = {}
        accumulate = made.accumulate

        def watched(batch: Any) -> Any:
            before.update({name: w.clone() for name, w in whole_weights(made.model).items()})
            return accumulate(batch)

        made.accumulate = watched  # type: ignore[method-assign]
        try:
            made.train(items, [], "dpo")
        except NonFiniteError as error:
            made.learner.put_away()
            after = whole_weights(made.model)
            same = all(torch.equal(after[name], before[name]) for name in after)
            return {"error": str(error), "step": made.at.step, "weights": len(after), "same": same}
        return {"error": "none"}

    return launch(2, work)


def struck_at_the_end(folder: Path) -> list[dict[str, Any]]:
    """SIGTERM reaches the second process in the look after the last step."""

    def work() -> str:
        made, items = trainer("sft", folder)
        assert made.checkpoints is not None
        made.checkpoints.minutes = math.inf
        look = made.look

        def struck(test: Any) -> None:
            if made.at.step == 6 and not world.current().leads:
                signal.raise_signal(signal.SIGTERM)
            look(test)

        made.look = struck  # type: ignore[method-assign]
        made.train(items, items[:3], "sft")
        return "went on"

    folder.mkdir()
    return [*launch(2, work), {"left": sorted(p.name for p in (folder / "checkpoints").iterdir())}]


def full_disk(folder: Path) -> list[dict[str, Any]]:
    """The second process cannot write its part of the third checkpoint, in the background."""

    def work() -> str:
        made, items = trainer("sft", folder, background=True)
        write, calls = pieces.write, [0]

        def failing(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] > 6 and not world.current().leads:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(*args, **kwargs)

        checkpoint.pieces.write = failing  # type: ignore[attr-defined]
        made.train(items, [], "sft")
        return "went on"

    folder.mkdir()
    return [*launch(2, work), {"left": sorted(p.name for p in (folder / "checkpoints").iterdir())}]


def one_is_killed(_: Path) -> list[dict[str, Any]]:
    """The second process is gone in the middle: the first does not wait for it."""

    def work() -> str:
        made, items = trainer("sft")
        log = made.log

        def struck(line: dict[str, Any]) -> None:
            if line["step"] == 2 and not world.current().leads:
                os.kill(os.getpid(), signal.SIGKILL)
            log(line)

        made.log = struck
        made.train(items, [], "sft")
        return "went on"

    return launch(2, work)


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for kind in ("sft", "dpo", "lora"):  # everything is imported before the first fork
        trainer(kind)
    with contextlib.redirect_stdout(sys.stderr):
        found = {
            "same_numbers": same_numbers(folder),
            "going_on": going_on(folder),
            "not_a_number": {where: not_a_number(where) for where in ("loss", "gradient")},
            "struck_at_the_end": struck_at_the_end(folder / "struck"),
            "full_disk": full_disk(folder / "full"),
            "one_is_killed": one_is_killed(folder),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
