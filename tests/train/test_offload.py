"""What is held in the host's memory changes no number; where there is no GPU it is there anyway, so this is that the path works."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from test_checkpoint import CONFIG, STEPS, rows
from torch.distributed.fsdp import FSDPModule

import tiny
import zephyr
from conftest import SmallRun
from zephyr import pipeline
from zephyr import recipe as recipes
from zephyr.errors import UsageError
from zephyr.train import optim, parallel
from zephyr.train.checkpoint import Checkpoints
from zephyr.train.loop import Trainer
from zephyr.train.passes import through
from zephyr.train.student import refuse_apart
from zephyr.train.tasks import SFT


def run(
    folder: Path, offload: str, *, stop_at: int | None = None, arch: str = "llama", cut_after: int | None = None
) -> tuple[dict[str, torch.Tensor], int]:
    """The weights, and after which step it went on."""
    folder.mkdir(exist_ok=True)

    steps = [0]

    def log(line: dict[str, Any]) -> None:
        if line["kind"] == "train" and line["step"] == stop_at:
            raise KeyboardInterrupt
        steps.append(line["step"])

    def cut(*_: object) -> None:
        if steps[-1] == cut_after:
            signal.raise_signal(signal.SIGINT)

    with parallel.group_of_one(offload == "all"):
        checkpoints = Checkpoints(folder / "checkpoints", folder / "metrics.jsonl", 0)
        torch.manual_seed(0)
        training = Trainer(tiny.tiny_model(arch), SFT(), CONFIG, torch.float32, 40, 0, log, checkpoints, offload=offload)
        training.model.get_input_embeddings().register_forward_hook(cut)
        assert training.learner.device == "cpu" and training.learner.sharded == (offload == "all")
        training.train(rows(), rows(3, 1), "dSFT")
        return {name: w.clone() for name, w in parallel.whole_weights(training.model).items()}, checkpoints.resumed.step


@pytest.mark.parametrize("offload", ["optimizer", "all"])
def test_the_weights_are_the_same_to_the_bit_also_going_on(offload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "AT_ONCE_BYTES", 9000)  # so that an update is of several parts
    plain, _ = run(tmp_path / "plain", "none")
    for first, then in ((offload, offload), ("none", offload), (offload, "none")):
        folder = tmp_path / f"{first}-{then}"
        with pytest.raises(KeyboardInterrupt):
            run(folder, first, stop_at=3)
        found, resumed = run(folder, then)
        assert resumed == 3 < STEPS and found.keys() == plain.keys()
        assert all(torch.equal(found[name], plain[name]) for name in plain)
    assert not dist.is_initialized(), "the group of one is gone"


@pytest.mark.parametrize("offload", ["none", "all"])
def test_ctrl_c_in_the_middle_of_a_pass_saves_the_last_whole_update(offload: str, tmp_path: Path) -> None:
    """Where weights are sharded, those of a pass are not the ones that the optimizer knows: it is heard when the update is made."""
    plain, _ = run(tmp_path / "plain", "none")
    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        run(folder, offload, cut_after=2)
    found, resumed = run(folder, offload)
    assert resumed == (3 if offload == "all" else 2)
    assert all(torch.equal(found[name], plain[name]) for name in plain)


@pytest.mark.parametrize(("offload", "exchanges"), [(False, 1), (True, 4)])
def test_gradients_are_exchanged_once_a_batch_and_with_offload_once_a_pass(offload: bool, exchanges: int) -> None:
    """A group of one makes room as one of several does. With offload no gradient stays on the device between two passes."""
    made: list[int] = []

    class Room:
        """What an exchange of gradients asks for its memory."""

        def allocate(self, size: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
            made.append(size[0])
            return torch.empty(size, dtype=dtype, device=device)

    def exchanged(passes: int) -> list[int]:
        made.clear()
        through(learner, rows(passes), SFT(), torch.float32, 9, learn=True)  # a row each
        return list(made)

    with parallel.group_of_one(True):
        learner = parallel.Learner(tiny.tiny_model())
        parallel._shard(learner, offload=offload)  # as over several processes, too
        for module in learner.modules():
            if isinstance(module, FSDPModule):
                module.set_custom_reduce_scatter(Room())  # type: ignore[arg-type]  # of one: nothing is sent
        once = exchanged(1)
        assert once and exchanged(4) == exchanges * once == exchanged(4)


def test_moments_go_home_and_an_update_is_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that only remembers where things are said to go stands for the GPU."""
    monkeypatch.setattr(optim, "AT_ONCE_BYTES", 1)
    model = tiny.tiny_model()
    optimizer = optim.adamw(model, CONFIG, on_host=True)
    moved: list[tuple[str, int]] = []
    bring = optim.HostAdamW._bring

    def watched(self: Any, p: torch.Tensor, device: torch.device) -> None:
        moved.append((str(device), sum(q.grad is not None for q in model.parameters())))
        bring(self, p, device)

    monkeypatch.setattr(optim.HostAdamW, "_bring", watched)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    count = len(list(model.parameters()))
    assert moved == [("cpu", 1), ("cpu", 0)] * count, "to its weight before its update, home after it, one at a time"
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("offload", ["optimizer", "all"])
def test_a_recipe_says_it_and_nothing_runs_again_for_it(offload: str, small_run: SmallRun, tmp_path: Path) -> None:
    run_ = small_run.copy(tmp_path / "run")
    done = zephyr.run(small_run.file, out=run_, overrides=[f"train.offload={offload}"], until="dpo")
    assert {artifact["status"] for artifact in done["artifacts"].values()} == {"done"}
    for stage in ("sft", "dpo"):
        found = []
        for settings in ([], [f"train.offload={offload}"]):
            out = small_run.copy(tmp_path / f"{stage}-{len(settings)}")
            zephyr.run(small_run.file, out=out, overrides=[*settings, f"{stage}.adam_epsilon=1.1e-8"], only=stage)
            found.append((out / stage / "model/model.safetensors").read_bytes())
        assert found[0] == found[1] != (small_run.out / stage / "model/model.safetensors").read_bytes()


def test_what_does_not_go_together_is_refused_before_anything_runs(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"`train\.offload: optimizer` is for one process: over 2 the moments are divided already"):
        pipeline.plan(recipes.load(small_run.file, ["train.offload=optimizer"]), tmp_path / "out")
    refuse_apart(None, "all", 2)
    refuse_apart("nf4", "optimizer", 1)
    for quantize, offload, processes in (("nf4", "none", 2), ("nf4", "all", 1)):
        with pytest.raises(UsageError, match="weights of 4 bits are not sharded"):
            refuse_apart(quantize, offload, processes)
