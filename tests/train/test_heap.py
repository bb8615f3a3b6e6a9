"""What a pass leaves free in the heap."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

import tiny
from zephyr.recipe import SFTConfig
from zephyr.train import heap
from zephyr.train.batches import Example
from zephyr.train.heap import Heap
from zephyr.train.loop import Trainer
from zephyr.train.tasks import SFT, Dialogues


def test_memory_goes_back_after_a_new_peak_and_not_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks, given_back = iter([500, 500, 400, 514, 516, 517]), []  # 514 is too little more; slow growth counts once it adds up
    monkeypatch.setattr(heap, "peak_memory_bytes", lambda: next(peaks))
    monkeypatch.setattr(heap, "trim", lambda: given_back.append(True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    watched, counts = Heap(), []
    for _ in range(6):
        watched.settle()
        counts.append(len(given_back))
    assert counts == [1, 1, 1, 1, 2, 2]


def test_every_pass_of_a_training_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(Heap, "settle", lambda self: looks.append(True))
    items = [Dialogues(f"d{i}", (Example(tuple(range(3, 33)), (True,) * 30),)) for i in range(4)]
    trainer = Trainer(tiny.tiny_model(), SFT(), SFTConfig(batch_size=4), torch.float32, 60, 0, lambda _: None)
    trainer.accumulate(items)
    assert len(looks) == 2  # two dialogues a pass


def _resident() -> int:
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library cannot give back what is free inside its heap")
def test_what_is_free_goes_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pieces = [torch.ones(20_000) for _ in range(1_000)]  # 80 kB each, in the heap itself
    pieces = pieces[::100]  # between those that stay it is free
    before = _resident()
    Heap().settle()
    assert before - _resident() > 40_000_000
    assert all(bool((piece == 1).all()) for piece in pieces)
