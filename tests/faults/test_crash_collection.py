"""Fifty seeded kills of a collection of feedback in every run of the tests; `make crash` does a thousand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(600)
def test_a_killed_collection_ends_in_the_same_data_and_pays_for_no_answer_twice(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("crash_collection.py"))
    done = subprocess.run(
        [sys.executable, script, "--points", "50", "--results", str(tmp_path / "crash.jsonl")],
        capture_output=True,
        text=True,
        timeout=580,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["points"] == 50 and not found["bad"]
    assert found["kills"] >= 40 and found["kills_with_answers_kept"] >= 20, "most kills must strike while answers come"
    assert found["most_under_way"] >= 2
