"""The processes of a job find each other, or say why not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from zephyr import cli, world
from zephyr.errors import UsageError, ZephyrError
from zephyr.pipeline import one
from zephyr.pipeline.work import Work
from zephyr.recipe import Section
from zephyr.stages import Inputs


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "_in_step", True)
    for name, value in {"RANK": "5", "LOCAL_RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)


def test_more_processes_than_gpus_are_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the others: it is no sign that the first has ended."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(UsageError, match="8 processes were started on a machine that shows 4 GPUs; give torchrun --nproc-per-node 4"):
        one._ordered()
    assert not world.in_step(), "each says it itself"


def test_processes_that_do_not_find_each_other_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise RuntimeError("Gloo connectFullMesh failed with [enforce fail at …] no address for host\nmore")

    monkeypatch.setenv("MASTER_ADDR", "node7")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setattr(dist, "init_process_group", unreachable)
    with pytest.raises(
        ZephyrError, match=r"could not connect over node7:29500 \(Gloo connectFullMesh failed .* no address for host\)"
    ) as caught:
        one._ordered()
    text, code = cli._explain(caught.value)
    assert "GLOO_SOCKET_IFNAME" in text and code == 1 and not world.in_step()


def test_what_fails_in_one_beside_the_first_says_of_which_stage_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise MemoryError

    work = Work("sft", Section(), Inputs({}, {}), {}, tmp_path / "sft", "k" * 20)
    monkeypatch.setattr(one, "mute", lambda: None)
    monkeypatch.setattr(one, "_ordered", lambda: work)
    monkeypatch.setattr(one, "module_of", lambda _: SimpleNamespace(run=run))
    with pytest.raises(ZephyrError, match=r"^sft: not enough memory \(MemoryError\); `train.activation_checkpointing=true`"):
        one.follow()
