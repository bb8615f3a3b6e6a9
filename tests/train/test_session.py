"""A training that cannot begin says why; one that goes on goes on as it began."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trackers import later

import small
import zephyr
from conftest import SmallRun
from zephyr.artifacts import draft
from zephyr.errors import DataError, NonFiniteError, ZephyrError
from zephyr.recipe import SFTConfig, TrainConfig
from zephyr.train import session
from zephyr.train.checkpoint import Checkpoints
from zephyr.train.loop import Trainer


@pytest.mark.parametrize(
    ("dropped", "why"),
    [
        ({}, ""),
        ({"too long": 3}, "; dropped were 3 (too long)"),
        (
            {"a": 1, "b": 7, "c": 2, "d": 5, "e": 3, "f": 4, "g": 6},
            "; dropped were 7 (b), 6 (g), 5 (d), 4 (f), 3 (e), and for 2 other reasons",
        ),
    ],
)
def test_nothing_to_train_on_is_said_with_what_was_dropped(tmp_path: Path, dropped: dict[str, int], why: str) -> None:
    """The rows themselves go with the folder of a stage that failed."""
    nothing: Any = None
    with pytest.raises(DataError) as caught, draft(tmp_path / "out", stage="sft", key="k", config={}, parents={}) as out:
        for reason, count in dropped.items():
            for i in range(count):
                out.drop(reason, f"row {i}", {})
        session.fit(nothing, nothing, nothing, SFTConfig(), TrainConfig(), [], [], seed=0, out=out, label="dSFT")
    assert str(caught.value) == f"dSFT: no rows to train on are left{why}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("dtype", "or_else"), [("float32", "$"), ("bfloat16", r" or `train\.dtype=float32`$")])
def test_what_is_not_a_number_is_said_with_what_can_be_done(dtype: str, or_else: str, small_run: SmallRun, tmp_path: Path) -> None:
    """The same command would end there again; nothing of the stage is left that another could take for done."""
    out = small_run.copy(tmp_path / "run")
    shutil.rmtree(out / "sft")
    said = r"step 2: the gradient is (nan|inf); .* Rows: .*\. Look at these rows; if they are sound, try a lower learning_rate"
    with pytest.raises(NonFiniteError, match=said + or_else):
        zephyr.run(small_run.file, out=out, only="sft", overrides=["sft.learning_rate=1e30", f"train.dtype={dtype}"])
    assert not (out / "sft").exists()


@pytest.mark.parametrize(
    ("gpus", "processes", "quantize", "offload", "said"),
    [
        (1, 1, None, "none", False),
        (8, 1, None, "none", True),
        (8, 1, None, "all", True),
        (8, 1, "nf4", "none", False),  # for one process
        (8, 1, None, "optimizer", False),
        (8, 8, None, "none", False),
    ],
)
def test_gpus_that_stand_idle_are_said(
    gpus: int,
    processes: int,
    quantize: str | None,
    offload: str,
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    session._say_idle(quantize, offload)
    assert ("one of 8 GPUs is at work; all of them are after torchrun --nproc-per-node 8" in capsys.readouterr().err) is said


def test_what_goes_on_keeps_its_number_format_and_shows_each_step_once(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed after step 3 with a checkpoint after step 1; on the second start the other format is the faster one."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = small_run.copy(tmp_path / "run")
    shutil.rmtree(out / "sft")
    overrides = ["train.dtype=auto", "train.log_to=[tensorboard]", "sft.epochs=2"]
    accumulate = Trainer.accumulate

    def killed(self: Trainer[Any], batch: Any) -> Any:
        if self.at.step == 3:
            raise MemoryError
        return accumulate(self, batch)

    with monkeypatch.context() as first:
        small.faster(first, torch.bfloat16)
        first.setattr(Trainer, "accumulate", killed)
        first.setattr(Checkpoints, "due", lambda self: self._step == 0)
        with pytest.raises(ZephyrError, match="sft: not enough memory"):
            zephyr.run(small_run.file, out=out, only="sft", overrides=overrides)
    later(monkeypatch)
    small.faster(monkeypatch, torch.float32)
    zephyr.run(small_run.file, out=out, only="sft", overrides=overrides)
    assert "dtype: bfloat16, as in the checkpoint it goes on from" in capsys.readouterr().err
    assert json.loads((out / "sft" / "manifest.json").read_text())["results"]["dtype"] == "bfloat16"
    lines = [json.loads(line) for line in (out / "sft" / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(out / "tensorboard" / "sft"))
    events.Reload()
    for kind in ("train", "test"):
        logged = [(line["step"], line["loss"]) for line in lines if line["kind"] == kind]
        shown = [(e.step, e.value) for e in events.Scalars(f"{kind}/loss")]
        assert [step for step, _ in shown] == [step for step, _ in logged]
        assert [loss for _, loss in shown] == pytest.approx([loss for _, loss in logged])
