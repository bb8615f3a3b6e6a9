"""Twenty-five seeded kills of a training in every run of the tests; `make crash` does a thousand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(600)
def test_killed_runs_end_in_the_bytes_of_one_that_was_left_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("crash.py")), "--points", "25", "--results", str(tmp_path / "crash.jsonl")],
        capture_output=True,
        text=True,
        timeout=580,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["points"] == 25 and not found["other_bytes"] and not found["left_over"]
    assert found["kills"] >= 20, "most kills must strike before the run ends by itself"
    assert found["inside_a_write"] >= 5
    assert found["by_processes"] == {"1": 23, "2": 2}
    assert found["by_writing"] == {"paused": 13, "background": 12}
