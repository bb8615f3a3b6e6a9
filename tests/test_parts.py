"""What a computation has come to is there after a kill at any byte."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from zephyr.artifacts import draft, has_checkpoints
from zephyr.parts import Parts


def test_a_file_that_is_cut_anywhere_has_the_whole_lines_before(tmp_path: Path) -> None:
    file, values = tmp_path / "deep" / "parts.jsonl", [[0.1 + 0.2, -1e-300], ["naïve"], None]
    parts = Parts(file)
    for number, value in enumerate(values):
        parts.keep(number, value)
    whole = file.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        found = Parts(file)
        there = sum(end <= size for end in ends)
        assert [number in found for number in range(3)] == [number < there for number in range(3)], size
        assert [found[number] for number in range(there)] == values[:there]
        for number in range(there, 3):
            found.keep(number, values[number])
        assert [Parts(file)[number] for number in range(3)] == values


@pytest.mark.parametrize("line", [b"[]\n", b'{"part": 0}\n', b'{"part": "0", "seconds": 0.1, "result": 1}\n', b"\xff\n"])
def test_what_is_no_part_ends_the_file(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "parts.jsonl"
    file.write_bytes(line + b'{"part": 1, "seconds": 0.5, "result": 2}\n')
    assert 1 not in Parts(file) and file.read_bytes() == b""


def test_numbers_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "parts.jsonl"
    with pytest.raises(ValueError, match="Out of range"):
        Parts(file).keep(0, [math.nan])
    assert not file.exists()


def test_parts_are_of_an_artifact_and_of_what_they_depend_on(tmp_path: Path) -> None:
    def parts(key: str = "k", name: str = "sums", depends_on: tuple[bytes, ...] = (b"a", b"b")) -> Parts:
        with draft(tmp_path / "out", stage="s", key=key, config={}, parents={}) as out:
            found = out.parts(name, depends_on)
            if 0 not in found:
                time.sleep(0.001)
                found.keep(0, 1.5)
            raise InterruptedError(0 in found, out.earlier_seconds)

    def known(**given: object) -> bool:
        with pytest.raises(InterruptedError) as cut:
            parts(**given)  # type: ignore[arg-type]
        there, seconds = cut.value.args
        assert (seconds > 0) == there, "what was spent on kept parts counts"
        return bool(there)

    assert not has_checkpoints(tmp_path / "out", "k")

    assert not known() and known() and has_checkpoints(tmp_path / "out", "k") and not has_checkpoints(tmp_path / "out", "other")
    assert not known(depends_on=(b"ab", b"")), "where a piece ends counts"
    assert not known(name="other") and not known(key="other")
    with draft(tmp_path / "out", stage="s", key="k", config={}, parents={}):
        pass
    assert not known(), "an artifact that is there has taken its parts along"


def test_likelihoods_depend_on_format_grouping_and_texts() -> None:
    import torch

    from zephyr.train import score
    from zephyr.train.batches import Example, branching

    examples = [Example((1, 2, 3), (False, True, True)), branching([1, 2], [3], [4, 5])]

    def identity(
        *, rows: list[Example] = examples, dtype: torch.dtype = torch.float32, groups: tuple[tuple[int, ...], ...] = ((0, 1),)
    ) -> str:
        return repr(list(score._identity(rows, torch.device("cpu"), dtype, score._logprobs, groups)))

    other = [Example((1, 2, 3), (False, False, True)), examples[1]]
    names = {identity(), identity(rows=other), identity(dtype=torch.float64), identity(groups=((0,), (1,)))}
    assert len(names) == 4 and identity() in names
