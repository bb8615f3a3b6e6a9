"""Several processes compute what one computes, stop together, and go on from each other's checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import small
from zephyr.train.batches import share

TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What every scenario of `processes.py` found, in a process that forks the others."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("processes.py")), str(tmp_path_factory.mktemp("processes"))],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(("kind", "size"), [("sft", 2), ("sft", 4), ("dpo", 2), ("dpo", 4), ("lora", 2)])
def test_several_processes_compute_what_one_computes(kind: str, size: int, found: Any) -> None:
    one, many = (found["same_numbers"][f"{kind}-{n}"] for n in (1, size))
    assert many["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert 0 < many["apart"] < 1e-5, "the weights after six steps, relative; not 0, which would be one process in disguise"


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(found: Any) -> None:
    assert found["going_on"]["stopped"] == [["KeyboardInterrupt"] * 2] * 4, "Ctrl-C in one stops both"
    assert found["going_on"]["bytes"] == 0


def test_a_checkpoint_of_two_is_read_by_one_and_by_four(found: Any) -> None:
    assert set(found["going_on"]["numbers"]) == {"1", "2", "4"}
    assert all(apart < 1e-5 for apart in found["going_on"]["numbers"].values())


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("loss", "the loss is nan; stopped before the update. Rows: p4"),
        ("gradient", "step 1: the gradient is nan; stopped before the update. Rows: p"),
    ],
)
def test_nan_in_one_stops_all_before_the_update(where: str, said: str, found: Any) -> None:
    first, second = (result["value"] for result in found["not_a_number"][where])
    for value in (first, second):
        assert value["error"].startswith(said)
        assert value["step"] == first["step"]
    assert first["weights"] > 10 and first["same"], "the leader holds all of them, and none has changed"
    assert all(result["seconds"] < 60 for result in found["not_a_number"][where])


def test_sigterm_after_the_last_step_loses_nothing(found: Any) -> None:
    *processes, left = found["struck_at_the_end"]
    assert [r.get("raised") for r in processes] == ["Terminated", "Terminated"]
    assert left["left"] == ["step-00000006"]


def test_a_full_disk_in_one_fails_all_and_leaves_the_checkpoint_before(found: Any) -> None:
    *processes, left = found["full_disk"]
    assert [r["raised"] for r in processes] == ["OSError", "OSError"]
    assert left["left"] == ["step-00000001", "step-00000002"]


def test_no_process_waits_for_one_that_is_gone(found: Any) -> None:
    first, second = found["one_is_killed"]
    assert second["code"] == -9
    assert first["raised"] == "RuntimeError" and "gloo" in first["text"]
    assert first["seconds"] < 60


def test_shares_hold_every_item_once_in_as_many_rounds() -> None:
    items = [7, 1, 30, 2, 2, 9, 14, 5]
    for ranks in (1, 2, 3, 8, 11):
        shares = [share(items, lambda n: n, 16, rank, ranks) for rank in range(ranks)]
        assert len({len(groups) for groups in shares}) == 1
        counted = [n for groups in shares for group, counts in groups if counts for n in group]
        assert sorted(counted) == sorted(items)
        assert all(group == [1] for groups in shares for group, counts in groups if not counts)
    assert share(items, lambda n: n, 16, 0, 1) == [([7, 1], True), ([30], True), ([2, 2, 9], True), ([14], True), ([5], True)]
    assert share([], len, 16, 0, 2) == []


@pytest.mark.timeout(600)
def test_torchrun_runs_a_recipe(tmp_path: Path) -> None:
    """The command line as a user types it: two processes, one voice, and artifacts that one process takes for done."""
    recipe = small.write_recipe(tmp_path / "r.yaml", small.recipe(tmp_path / "data", small.model_folder(tmp_path / "model")))
    command = ["-m", "zephyr", "run", str(recipe), "--out", str(tmp_path / "out"), "--until", "dpo", "--json"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    for arguments, status, said in ((launcher + command, "ran", "dpo: not there yet"), (command, "done", "dpo: done already")):
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=ENVIRONMENT)
        assert done.returncode == 0, done.stderr[-3000:]
        assert {a["status"] for a in json.loads(done.stdout)["artifacts"].values()} == {status}
        assert done.stderr.count(said) == 1
    manifest = json.loads((tmp_path / "out" / "dpo" / "manifest.json").read_text())
    assert manifest["environment"]["processes"] == "2"


@pytest.mark.timeout(600)
def test_an_error_is_said_once_and_ends_all_of_them(tmp_path: Path) -> None:
    """What the first process finds before any work: the others are told, and are silent."""
    code = (  # a line in one write: two processes share the pipe, and print() unbuffered writes a line in pieces
        "import sys, zephyr\n"
        "from zephyr.errors import ZephyrError\n"
        "for name in ('missing.yaml', 'r.yaml'):\n"
        "    try:\n"
        "        result = zephyr.run(name, out='out', until='sft')\n"
        "        sys.stdout.write(f\"RESULT {result['artifacts']['sft']['status']}\\n\")\n"
        "    except ZephyrError as error:\n"
        "        sys.stdout.write(f'ERROR {error}\\n')\n"
    )
    (tmp_path / "script.py").write_text(code)
    small.write_recipe(tmp_path / "r.yaml", small.recipe(tmp_path / "data", small.model_folder(tmp_path / "model")))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, "script.py"], cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (done.stdout.count("ERROR missing.yaml"), done.stdout.count("RESULT ran")) == (2, 2), "in step after an error"
    done = subprocess.run([*launcher, "-m", "zephyr", "run", "missing.yaml"], cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode != 0
    assert done.stderr.count("missing.yaml: ") == 1 and "zephyr, process" not in done.stderr
