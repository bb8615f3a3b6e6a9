"""A training that cannot begin says why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import zephyr
from conftest import SmallRun
from zephyr.artifacts import draft
from zephyr.errors import DataError, NonFiniteError
from zephyr.recipe import SFTConfig, TrainConfig
from zephyr.train import session


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
    said = r"step 2: the gradient is (nan|inf); .* Rows of the batch: .*\. Look at these rows; if they are sound, try a lower learning_rate"
    with pytest.raises(NonFiniteError, match=said + or_else):
        zephyr.run(small_run.file, out=out, only="sft", overrides=["sft.learning_rate=1e30", f"train.dtype={dtype}"])
    assert not (out / "sft").exists()
