"""How the data is cut, how many processes work at it, and where they were killed decides nothing."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

import zephyr.curation.workers as workers
from curating import contents, dialogues, dropped, lines, prompts, run, text, turned
from zephyr import durable
from zephyr.curation import inputs
from zephyr.errors import ZephyrError
from zephyr.recipe import DataSource

EVERYTHING: dict[str, Any] = {
    "invalid": "drop",
    "test_fraction": 0.2,
    "gen_fraction": 0.3,
    "filters": ["length", "alternation"],
    "near_prompts": {"ngram": 2},
    "near_dialogues": {},
    "select": {"target": 60},
}


class Killed(BaseException):
    """What a kill looks like from within: nothing runs after it but what the system does."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("data")
    rows = dialogues(160)
    rows[7] = {"messages": "no"}
    rows[31] = turned(["Only a question?"])
    rows[40] = turned(["Say no.", "No."])
    return [lines(folder / "a.jsonl", rows[:100]), lines(folder / "b.jsonl", rows[100:])]


@pytest.fixture(scope="module")
def benchmark_file(tmp_path_factory: pytest.TempPathFactory, data: list[Path]) -> dict[str, DataSource]:
    rows = dialogues(160)
    items = [{"prompt": rows[3]["messages"][0]["content"]}, {"prompt": text(random.Random(99), 30)}]
    return {"bench": DataSource(path=str(lines(tmp_path_factory.mktemp("bench") / "bench.jsonl", items)))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: list[Path], benchmark_file: dict[str, DataSource]) -> dict[str, bytes]:
    artifact = run(tmp_path_factory.mktemp("whole") / "out", data, EVERYTHING, against=benchmark_file)
    reasons = artifact.manifest.dropped
    assert {"filter: length", "filter: alternation", "near-duplicate prompt", "not selected"} <= set(reasons), reasons
    assert reasons["in the benchmark bench (exact)"] >= 1 and any(reason.startswith("invalid: ") for reason in reasons)
    assert sum(artifact.manifest.rows_out.values()) == 60
    assert len(dropped(artifact)) == sum(reasons.values()) == artifact.manifest.rows_in - 60
    return contents(artifact)


@pytest.mark.parametrize("piece_bytes", [2_000, 30_000])
def test_pieces(tmp_path: Path, data: list[Path], benchmark_file: dict[str, DataSource], whole: dict[str, bytes], piece_bytes: int) -> None:
    assert contents(run(tmp_path / "out", data, EVERYTHING, against=benchmark_file, piece_bytes=piece_bytes)) == whole


def test_processes_and_one_that_is_killed(
    tmp_path: Path, data: list[Path], benchmark_file: dict[str, DataSource], whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = workers._start
    with monkeypatch.context() as patch:

        def doomed(folder: Path) -> Any:
            process = start(folder)
            os.kill(process.pid, signal.SIGKILL)
            return process

        patch.setattr(workers, "_start", doomed)
        with pytest.raises(ZephyrError, match=r"is gone \(ended by signal 9\).*run the same command again to go on"):
            run(tmp_path / "out", data, {**EVERYTHING, "processes": 2}, against=benchmark_file, piece_bytes=9_000)
    assert not (tmp_path / "out").exists()
    artifact = run(tmp_path / "out", data, {**EVERYTHING, "processes": 2}, against=benchmark_file, piece_bytes=9_000)
    assert contents(artifact) == whole


@pytest.mark.parametrize("at", [1, 9, 27, 40, 52, 60])
def test_killed_and_run_again(
    tmp_path: Path,
    data: list[Path],
    benchmark_file: dict[str, DataSource],
    whole: dict[str, bytes],
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at the moment when a file of work in progress would get its name; what has its name by then is not made again."""
    calls = 0
    sync = durable.sync

    def deadly(path: Path) -> None:
        nonlocal calls
        calls += "checkpoints" in str(path)
        if calls == at:
            raise Killed
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync", deadly)
        with pytest.raises(Killed):
            run(tmp_path / "out", data, EVERYTHING, against=benchmark_file, piece_bytes=9_000)
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / ".out.checkpoints").rglob("step-index/*.json")}
    assert made or at < 9
    with monkeypatch.context() as patch:

        def watching(path: Path) -> None:
            assert path not in made, "made again"
            sync(path)

        patch.setattr(durable, "sync", watching)
        assert contents(run(tmp_path / "out", data, EVERYTHING, against=benchmark_file, piece_bytes=9_000)) == whole
    assert not (tmp_path / ".out.checkpoints").exists()


def test_other_pieces_do_not_go_on_from_what_is_there(tmp_path: Path, data: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from zephyr.curation import write

    with monkeypatch.context() as patch:
        patch.setattr(write, "save", lambda fates: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            run(tmp_path / "out", data, {"invalid": "drop"}, piece_bytes=700)
    again = run(tmp_path / "out", data, {"invalid": "drop"})
    assert contents(again) == contents(run(tmp_path / "other", data, {"invalid": "drop"}))


@pytest.mark.parametrize("end", ["\n", ""])
def test_wherever_a_file_is_cut_every_line_is_read_once(tmp_path: Path, end: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(['{"a": 1}', '{"a": 2}', "", '{"a": "three"}', '{"a": 4}']) + end)
    for piece_bytes in range(1, 50):
        found = []
        lines_before = 0
        for piece in inputs.pieces([DataSource(path=str(path))], tmp_path, piece_bytes):
            found += [(inputs.where(piece, place, lines_before), row["a"]) for place, row in inputs.read(piece)]  # type: ignore[index]
            lines_before += inputs.count_lines(piece)
        assert found == [(f"{path}:1", 1), (f"{path}:2", 2), (f"{path}:4", "three"), (f"{path}:5", 4)], piece_bytes


def test_growing_moves_nothing_from_test_to_train(tmp_path: Path) -> None:
    rows = dialogues(240, seed=5)
    small, large = (
        run(tmp_path / name, [lines(tmp_path / f"{name}.jsonl", part)], {"test_fraction": 0.3, "near_prompts": {"ngram": 2}})
        for name, part in (("small", rows[:120]), ("large", rows))
    )
    for split, other in (("train", "test"), ("test", "train")):
        before = set(prompts(small, split))
        assert before <= set(prompts(large, split)), "rows added at the end leave out none that were there"
        assert not before & set(prompts(large, other))
