"""A training that cannot begin says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zephyr.artifacts import draft
from zephyr.errors import DataError
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
