"""What a training shows while it runs, and where."""

from __future__ import annotations

import importlib.util
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
import zephyr
from conftest import SmallRun
from zephyr.errors import UsageError
from zephyr.train import trackers
from zephyr.train.meter import Meter, matmul_weights

LINES: list[dict[str, Any]] = [
    {"kind": "test", "step": 0, "loss": 2.5},
    {"kind": "train", "step": 1, "epoch": 0.5, "loss": 2.25, "accuracy": 0.5},
    {"kind": "train", "step": 2, "epoch": 1.0, "loss": 2.0, "accuracy": 0.75},
]


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written: list[dict[str, Any]] = []
    with trackers.tee(written.append, ["tensorboard"], tmp_path / "run" / "sft", {}) as log:
        for line in LINES:
            log(line)
    assert written == LINES
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "sft"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"test/loss", "train/epoch", "train/loss", "train/accuracy"}
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 2.25), (2, 2.0)]


@pytest.mark.parametrize(("begins", "left"), [(3, [(1, 1.0), (2, 2.0), (3, 0.5), (4, 0.5)]), (0, [(3, 0.5), (4, 0.5)])])
def test_tensorboard_forgets_the_steps_that_are_taken_again(
    begins: int, left: list[tuple[int, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after step 4, with a checkpoint after step 2; or with none, or made again with other settings."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run" / "sft"
    with trackers.tee(lambda _: None, ["tensorboard"], folder, {}) as log:
        for step in (1, 2, 3, 4):
            log({"kind": "train", "step": step, "loss": float(step)})
    later(monkeypatch)
    with trackers.tee(lambda _: None, ["tensorboard"], folder, {}, begins) as log:
        for step in (3, 4):
            log({"kind": "train", "step": step, "loss": 0.5})
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "sft"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == left


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard reads a folder's files in the order of the seconds in their names: as if a minute had passed."""
    clock = types.SimpleNamespace(time=lambda: time.time() + 60)
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time", clock)


def peer(package: str, monkeypatch: pytest.MonkeyPatch, calls: list[Any], failing: tuple[str, ...] = ()) -> None:
    """A package with the three calls, which speaks on stdout as trackio does."""

    def called(name: str, what: Any) -> None:
        print(f"{name}!")
        calls.append(what)
        if name in failing:
            raise RuntimeError(f"no network to {name}\nand more")

    module = types.ModuleType(package)
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    module.init = lambda **kwargs: called("init", kwargs)  # type: ignore[attr-defined]
    module.log = lambda values, step: called("log", (values, step))  # type: ignore[attr-defined]
    module.finish = lambda: called("finish", "end")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package, module)


@pytest.mark.parametrize("package", ["wandb", "trackio"])
def test_the_others_are_begun_told_and_ended(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []
    peer(package, monkeypatch, calls)
    with pytest.raises(KeyboardInterrupt), trackers.tee(lambda _: None, [package], tmp_path / "run" / "dpo", {"seed": 1}) as log:
        log(LINES[1])
        raise KeyboardInterrupt
    assert calls == [
        {"project": "zephyr", "name": "run/dpo", "config": {"seed": 1}},
        ({"train/epoch": 0.5, "train/loss": 2.25, "train/accuracy": 0.5}, 1),
        "end",
    ]
    assert capsys.readouterr() == ("", "init!\nlog!\nfinish!\n"), "stdout is for the result"


@pytest.mark.parametrize(("package", "offline"), [("wandb", ", set WANDB_MODE=offline"), ("trackio", "")])
def test_one_that_cannot_begin_is_refused(package: str, offline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is logged in, or there is no network: that is no defect of ours."""
    peer(package, monkeypatch, [], failing=("init",))
    said = rf"train\.log_to: {package} cannot begin \(.*no network to init\); mend that{offline}, or take it out$"
    with pytest.raises(UsageError, match=said), trackers.tee(lambda _: None, [package], tmp_path / "run" / "dpo", {}):
        pytest.fail("it would train")


@pytest.mark.parametrize("failing", ["log", "finish"])
def test_one_that_fails_later_does_not_end_the_training(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []
    peer("trackio", monkeypatch, calls, failing=(failing,))
    written: list[dict[str, Any]] = []
    with trackers.tee(written.append, ["trackio"], tmp_path / "run" / "dpo", {}) as log:
        for line in LINES:
            log(line)
    assert written == LINES
    assert len(calls) == {"log": 2, "finish": 5}[failing], "after its first failure it is told nothing"
    said = f"no network to {failing}) and is told no more; metrics.jsonl has every line"
    assert capsys.readouterr().err.count(said) == 1


def test_one_that_is_not_installed_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"train\.log_to: trackio is not installed: pip install trackio, or take it out"):
        trackers.require(["trackio"])
    trackers.require([])


@pytest.mark.parametrize("dry", [True, False])
def test_a_run_refuses_it_before_its_first_stage(dry: bool, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "trackio" else found(name, *more))
    overrides = ["train.log_to=[trackio]"]
    with pytest.raises(UsageError, match=r"^train\.log_to: trackio is not installed: pip install trackio, or take it out$"):
        zephyr.run(small_run.file, out=tmp_path / "out", overrides=overrides, dry_run=dry)
    assert not (tmp_path / "out" / "curate").exists()
    zephyr.run(small_run.file, out=tmp_path / "out", until="curate", overrides=overrides, dry_run=dry)  # which logs nothing


@pytest.mark.parametrize("tied", [True, False])
def test_utilization_is_six_flops_a_weight_and_token(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zephyr.train.meter.matmul_rate", lambda *_: 1e9)
    model = tiny.tiny_model(tie_word_embeddings=tied)
    head = 704 * 32
    rest = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name and "lm_head" not in name)
    assert matmul_weights(model) == rest + head
    meter = Meter(model, torch.float32)
    assert meter.mfu(1000) == pytest.approx(6 * (rest + head) * 1000 / 1e9)
    assert meter.text(5000, 5.0).startswith(f"MFU {meter.mfu(1000):.0%}, ")
