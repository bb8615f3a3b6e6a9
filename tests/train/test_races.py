"""What the races say follows from what was measured as it is said, and they end with a word where they cannot run."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from zephyr.recipe import DPOConfig
from zephyr.train import parallel
from zephyr.train.batches import branching, flatten
from zephyr.train.logprobs import sequence_sums, stream_logprobs
from zephyr.train.loop import Trainer
from zephyr.train.tasks import Pair, preferences

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
IDEAS = (
    "no-padding", "learnt-only-head", "shared-prompt", "one-pass-head", "segment-attention", "c-kernels", "cached-references", "all"
)  # fmt: skip


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module; its neighbours have names that others might have, so they are forgotten again."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module("race")
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCHMARKS)):
            del sys.modules[name]


def side(seconds: list[float], tokens: int, memory: float, peak: float) -> list[dict[str, Any]]:
    what = {"tokens": tokens, "peak_over_start_mb": memory, "matmul_peak": peak, "matmul_weights": 1e6}
    return [{**what, "train_seconds": s, "first_seconds": s + 1} for s in seconds]


def test_a_ratio_is_of_medians_and_by_the_token(race: Any) -> None:
    found = race.compared(side([2.0, 9.0, 2.5], 1000, 100.0, 1e10), side([5.0, 6.0, 60.0], 1200, 400.0, 2e10))
    assert found["ratio"] == pytest.approx((6.0 / 1200) / (2.5 / 1000))
    assert (found["memory_ratio"], found["zephyr_seconds"], found["trl_seconds"]) == (0.25, 2.5, 6.0)
    assert found["first_seconds"] == {"zephyr": 3.5, "trl": 7.0}
    # of the best product that was seen on either side, 6 N T
    assert found["mfu"] == pytest.approx({"zephyr": 6 * 1e6 * 1000 / 2.5 / 2e10, "trl": 6 * 1e6 * 1200 / 6.0 / 2e10})
    assert found["mfu_once"] == found["mfu"]["zephyr"]
    pairs = [{**one, "unique_tokens": 800} for one in side([2.5], 1000, 100.0, 2e10)]
    assert race.compared(pairs, pairs)["mfu_once"] == pytest.approx(0.8 * found["mfu"]["zephyr"])
    with pytest.raises(AssertionError, match="not the same work"):
        race.compared(side([2.0], 1000, 1.0, 1e10), side([2.0], 2000, 1.0, 1e10))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_whole_job_is_raced_on_one_device(device: str, race: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job, assets, processes = map(importlib.import_module, ("job", "assets", "processes"))
    commands: list[list[str]] = []
    monkeypatch.setattr(processes, "run", lambda command: commands.append(command) or processes.Ended("", 1.0, 100.0))
    monkeypatch.setattr(assets, "model_folder", lambda *_: tmp_path)
    monkeypatch.setattr(assets, "pairs_file", lambda *_: Path(__file__))
    monkeypatch.setattr(job, "_check", lambda *_: 1)
    args = argparse.Namespace(device=device, dtype="float32", quick=True, work=tmp_path, job_rounds=1, job_epochs=1)
    found = job.race(args)["whole-job"]
    theirs = commands[1]
    assert theirs[theirs.index("--device") + 1] == device
    assert ("memory_ratio" in found) == (device == "cpu"), "a process's memory is the host's"


@pytest.mark.parametrize(("visible", "raced"), [(None, "0"), ("3,1", "3"), ("", "")])
def test_a_race_is_on_one_gpu_of_several(visible: str | None, raced: str, race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    race._settle_device("cuda")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == raced


def test_both_sides_have_the_kernels_that_are_installed(race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trl_side = importlib.import_module("trl_side")
    found = []
    for there in (set(), {"liger_kernel", "flash_attn"}):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, there=there: name if name in there else None)
        for device, dtype in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "autocast")):
            args = argparse.Namespace(device=device, dtype=dtype, checkpointing=False)
            found.append((trl_side._common(args)["use_liger_kernel"], trl_side.attention(args)))
    assert found == [*[(False, "sdpa")] * 4, (True, "sdpa"), (True, "flash_attention_2")]


@pytest.mark.parametrize("broken", [False, True])
def test_the_check_of_a_gpu_trains_in_bfloat16_with_checkpoints(
    broken: bool, race: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu_check = importlib.import_module("gpu_check")
    monkeypatch.setattr(gpu_check, "kernels", lambda _: {})
    monkeypatch.setattr(gpu_check, "SHAPE", {**gpu_check.SHAPE, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2})
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--device", "cpu"])
    whole = parallel.recompute_activations
    done: list[Any] = []

    def recompute(model: Any) -> None:
        done.append(model)
        whole(model)
        if broken:
            for weight in model.parameters():
                weight.register_hook(lambda gradient: -gradient)

    monkeypatch.setattr(parallel, "recompute_activations", recompute)
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    found = json.loads(capsys.readouterr().out)
    assert len(done) == 1 and found["fine"] is not broken and bool(ended.value.code) is broken, found


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["--list"], None, "dpo-body\n"), (["--device", "cuda"], "--device cuda: torch .* sees no GPU here", "")],
)
def test_what_is_no_race(
    arguments: list[str], code: str | None, said: str, race: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # which it sets for what it starts
    monkeypatch.setattr(sys, "argv", ["race.py", *arguments])
    with pytest.raises(SystemExit, match=code) as ended:
        race.parsed("", ["dpo-body"])
    assert code or ended.value.code is None
    assert capsys.readouterr().out == said


def test_where_memory_is_short_both_sides_compute_activations_again(race: Any) -> None:
    gpu = importlib.import_module("gpu")
    for name, one in gpu.STEPS.items():
        ways = [one.ours, *one.trl.values()]
        assert {"--checkpointing" in way for way in ways} == {"7b" in name}, name


def test_what_warms_up_does_not_count(race: Any) -> None:
    measure = importlib.import_module("measure")
    found = measure.counted([9.0, 8.0, 3.0, 2.0, 6.0, 3.0], 2, 1)
    assert found == {"steps": [3.0, 2.0, 6.0, 3.0], "train_seconds": 7.0, "first_seconds": 17.0}, "the mean of two epochs"
    assert measure.counted([9.0, 8.0], 2, 0)["train_seconds"] == 17.0


def test_a_race_that_fails_does_not_take_the_others_with_it(race: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def ended(_: Any) -> dict[str, Any]:
        sys.exit("ours.py: failed")

    args = argparse.Namespace(device="cpu", dtype="float32", rounds=1, quick=True)
    found = race.run({"lost": ended, "won": lambda _: {"won": {"ratio": 2.0}}}, args)
    assert (found["failed"], found["races"]) == ({"lost": "ours.py: failed"}, {"won": {"ratio": 2.0}})
    assert {"liger-kernel", "flash-attn"} <= found["machine"].keys() and found["machine"]["trl_attention"] == "sdpa"
    with pytest.raises(SystemExit, match="1"):
        race.done(found)
    assert json.loads(capsys.readouterr().out)["failed"]


@pytest.mark.parametrize("without", ["none", *IDEAS])
def test_without_an_idea_the_step_is_the_same(without: str, race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_KERNELS", "1")  # one of them switches the kernels off
    ideas = importlib.import_module("ideas")
    assert [*IDEAS] == [*ideas.IDEAS]
    rng = random.Random(0)
    pairs = [
        Pair(f"p{i}", branching(*([rng.randrange(3, 90) for _ in range(rng.randint(3, 30))] for _ in range(3))), -20.0, -25.0)
        for i in range(4)
    ]
    found = []
    for idea in ("none", without):
        model = tiny.tiny_model("llama")
        known = reference(model, pairs)  # which a reference in the step computes again
        config = DPOConfig(batch_size=4)
        trainer = Trainer(model, preferences(config), config, torch.float32, 4096, 0, lambda _: None)
        stats = trainer.accumulate(ideas.leave_out(idea, trainer, known))
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        found.append([stats["loss"], stats["chosen_logp"], stats["rejected_logp"], float(norm)])
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def reference(model: Any, pairs: list[Pair]) -> list[Pair]:
    """The pairs with the model's own log-probabilities."""
    stream = flatten([p.answers for p in pairs])
    sums = sequence_sums(stream_logprobs(model, stream), stream).reshape(-1, 2).tolist()
    return [replace(p, reference_chosen=c, reference_rejected=r) for p, (c, r) in zip(pairs, sums, strict=True)]
