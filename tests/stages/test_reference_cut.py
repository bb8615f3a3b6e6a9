"""References that two processes compute survive a kill of either: what was kept is not computed again, and the bytes are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import small
from zephyr.artifacts import Artifact

TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}"}


def test_two_processes_go_on_after_kill_9_to_the_same_bytes(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("reference_processes.py"))
    (scratch := tmp_path / "scratch").mkdir()  # what is killed leaves its own there
    environment = {**ENVIRONMENT, "TMPDIR": str(scratch)}
    done = subprocess.run([sys.executable, script, str(tmp_path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    whole, follower, leader, last = (found[name] for name in ("whole", "follower_killed", "leader_killed", "gone_on"))

    assert [p["code"] for p in follower["ended"]] == [0, -9] and not follower["there"]
    assert [p["code"] for p in leader["ended"]] == [-9, 0] and not leader["there"]
    assert (follower["ended"][0]["raised"], leader["ended"][1]["raised"]) == ("RuntimeError", "RuntimeError"), "nobody waits for the dead"
    assert {p.get("value") for p in (*whole["ended"], *last["ended"])} == {Artifact.open(tmp_path / "whole").manifest.digest}

    parts = sorted(whole["computed"])
    assert len(parts) == len(set(parts)) == 12 and sum("-0-of-2-" in part for part in parts) == 6, "six parts a process"
    assert len(follower["computed"]) >= 2 and leader["computed"] and last["computed"], "each run had something left to do"
    assert sorted(follower["computed"] + leader["computed"] + last["computed"]) == parts, "each part once, in whichever run"
    assert small.contents(tmp_path / "cut" / "data") == small.contents(tmp_path / "whole" / "data")
    assert sorted(p.name for p in tmp_path.glob(".*")) == [], "nothing is left over"
