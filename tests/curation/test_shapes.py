"""Each shape in which dialogues are published is read, and what is wrong with a row is said of that row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curating import dropped, lines, prompts, run
from zephyr.artifacts import Artifact
from zephyr.curation.shapes import as_messages, shape_of
from zephyr.errors import DataError
from zephyr.recipe import DataSource
from zephyr.records import prompt_id_of

SAID = [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": "The Oder."}]
SAME: dict[str, dict[str, Any]] = {
    "messages": {"messages": SAID},
    "sharegpt": {"id": "x1", "conversations": [{"from": "human", "value": "Name a river."}, {"from": "gpt", "value": "The Oder."}]},
    "ultrachat": {"id": "0", "data": ["Name a river.", "The Oder."]},
    "alpaca": {"instruction": "Name a river.", "input": "", "output": "The Oder."},
}


@pytest.mark.parametrize("shape", SAME)
def test_the_same_dialogue_in_every_shape(shape: str) -> None:
    assert shape_of(SAME[shape]) == shape
    assert as_messages(SAME[shape], shape)["messages"] == SAID


def test_what_a_task_is_about_follows_it() -> None:
    row = {"instruction": "Sum up.", "input": "Rain fell.", "output": "Rain."}
    assert as_messages(row, "alpaca")["messages"][0]["content"] == "Sum up.\n\nRain fell."


def test_an_answer_that_is_not_to_be_learnt_is_not(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Once?"}, {"from": "gpt", "value": "Once.", "weight": 0}]
    path = lines(tmp_path / "rows.jsonl", [SAME["sharegpt"], {"conversations": turns}])
    artifact = run(tmp_path / "out", [path], {"invalid": "drop"})
    assert artifact.manifest.dropped == {"invalid: `messages[]`: `weight` is not 1": 1}


WRONG = {
    "two shapes": ({**SAME["messages"], **SAME["sharegpt"]}, r"columns of several shapes: messages \('messages'\) and sharegpt"),
    "no shape": ({"text": "Once."}, "no other shape fits"),
    "a stranger": ({"conversations": [{"from": "narrator", "value": "Once."}]}, r"conversations\[0\]`: `from` names nobody we know"),
    "no speaker": ({"conversations": [{"value": "Once."}]}, "an object with `from` and `value` was expected"),
    "a number": ({"instruction": 3, "output": "Three."}, "`instruction` is not a text"),
    "not a list": ({"data": "Once."}, "`data` is not a list of turns"),
    "a turn that is none": ({"data": ["Once.", 4]}, "`content` is a number, not a text"),
    "the user's word is last": ({"data": ["One.", "Two.", "Three."]}, "ends with a user turn"),
    "no line of JSON": (None, "not valid JSON"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row(tmp_path: Path, name: str) -> None:
    row, problem = WRONG[name]
    good = {"data": ["Name a hill.", "The Brocken."]}
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([json.dumps(good), json.dumps(row) if row else "{", ""]))
    with pytest.raises(DataError, match=rf"rows.jsonl:2: .*{problem}.*set `invalid: drop`"):
        run(tmp_path / "out", [path])
    artifact = run(tmp_path / "out", [path], {"invalid": "drop", "test_fraction": 0.0})
    assert prompts(artifact, "train") == ["Name a hill."]
    (line,) = dropped(artifact)
    assert line["reason"].startswith("invalid: ") and line["where"] == f"{path}:2"
    read = line["row"].get("messages", line["row"])  # where there is a dialogue to speak of, as one
    texts = row["data"] if row and "data" in row and isinstance(row["data"], list) else None
    assert (
        [message["content"] for message in read] == texts
        if texts
        else read == (row or {"line": "{\n"}).get("messages", row or {"line": "{\n"})
    )


def test_a_file_has_one_shape(tmp_path: Path) -> None:
    path = lines(tmp_path / "mixed.jsonl", [SAME["alpaca"], {**SAME["ultrachat"], "data": ["Name a lake.", "The Müritz."]}])
    with pytest.raises(DataError, match=r"mixed.jsonl:2: the row is of another shape \(ultrachat\).*\(alpaca, at .*mixed.jsonl:1\)"):
        run(tmp_path / "out", [path])
    counted = run(tmp_path / "out", [path], {"invalid": "drop"}).manifest.dropped
    assert counted == {"invalid: the row is of another shape": 1}


def test_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"messages": [{**SAID[0], "content": f"Name river {i}."}, SAID[1]], "prompt": f"Name river {i}."} for i in range(40)]
    plain = lines(tmp_path / "rows.jsonl", rows)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pa.CompressedOutputStream(str(tmp_path / "rows.jsonl.zst"), "zstd") as file:
        file.write(plain.read_bytes())
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=7)
    (tmp_path / "folder").mkdir()
    lines(tmp_path / "folder" / "a.jsonl", rows[:9]), lines(tmp_path / "folder" / "b.jsonl", rows[9:])
    made: dict[str, Artifact] = {}
    for name in ("rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst", "rows.json", "rows.parquet", "folder"):
        made[name] = run(tmp_path / f"out-{name}", [tmp_path / name], {"test_fraction": 0.25}, piece_bytes=900)
    import datasets

    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    made["saved"] = run(tmp_path / "out-saved", [tmp_path / "saved"], {"test_fraction": 0.25}, piece_bytes=900)
    assert {artifact.manifest.digest for artifact in made.values()} == {made["rows.jsonl"].manifest.digest}
    again = run(tmp_path / "again", [made["rows.jsonl"].path], {"test_fraction": 0.9})
    assert again.manifest.digest == made["rows.jsonl"].manifest.digest, "an artifact's own splits are kept"


def test_the_place_of_a_wrong_row(tmp_path: Path) -> None:
    """By line or number in its own file, wherever the data was cut."""
    rows: list[dict[str, Any]] = [
        {"prompt": f"River {i}?", "messages": [{**SAID[0], "content": f"River {i}?"}, SAID[1]]} for i in range(30)
    ]
    rows[23]["messages"][1] = {"role": "assistant", "content": " "}
    plain = lines(tmp_path / "rows.jsonl", rows)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b"\n" + plain.read_bytes()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=4)
    for name, place in (("rows.jsonl", ":24"), ("rows.jsonl.gz", ":25"), ("rows.parquet", "[23]")):
        with pytest.raises(DataError) as error:
            run(tmp_path / "out", [tmp_path / name], piece_bytes=500)
        assert str(error.value).startswith(f"{tmp_path / name}{place}: `messages[1]`: the assistant turn is empty"), name
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(b'{"data": ["\xff"]}\n')
    with pytest.raises(DataError, match=r"rows.jsonl:31: not UTF-8 text"):
        run(tmp_path / "out", [tmp_path / "rows.jsonl"], {"invalid": "drop"}, piece_bytes=500)
    whole = (tmp_path / "rows.jsonl.gz").read_bytes()
    (tmp_path / "rows.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"rows.jsonl.gz: a damaged gzip file after line"):
        run(tmp_path / "half", [tmp_path / "rows.jsonl.gz"], {"invalid": "drop"})


def test_columns_of_other_names_and_a_mixture(tmp_path: Path) -> None:
    rows = [{"q": f"River {i}?", "data": [f"River {i}?", "The Oder."]} for i in range(200)]
    source = DataSource(path=str(lines(tmp_path / "rows.jsonl", rows)), split="train", columns={"prompt": "q"}, weight=0.3)
    artifact = run(tmp_path / "out", [source])
    kept = prompts(artifact, "train")
    assert 35 <= len(kept) <= 85
    assert artifact.manifest.notes == [f"{source.path}: {200 - len(kept)} train rows were left out, for its weight in the mixture is 0.3."]
    assert [row["prompt_id"] for row in artifact.each_row("train")] == [prompt_id_of(prompt) for prompt in kept]


def test_generation_splits_are_for_who_asks(tmp_path: Path) -> None:
    rows = [{"data": [f"River {i}?", "The Oder."]} for i in range(60)]
    path = lines(tmp_path / "rows.jsonl", rows)
    artifact = run(tmp_path / "out", [path], {"gen_fraction": 0.4, "test_fraction": 0.2})
    found = {split: set(prompts(artifact, split)) for split in ("train", "test", "train_gen", "test_gen")}
    assert all(found.values()) and sum(map(len, found.values())) == 60 == len(set().union(*found.values()))
    read = run(tmp_path / "again", [artifact.path])
    assert read.manifest.rows_out == {"train": len(found["train"]), "test": len(found["test"])}
    asked = DataSource(path=str(artifact.path), source_split="train_gen")
    assert set(prompts(run(tmp_path / "asked", [asked]), "train")) == found["train_gen"]
