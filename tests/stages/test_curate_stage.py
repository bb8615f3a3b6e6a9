"""The stage as commands and recipes see it."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import small
from zephyr import api, schemas, sources
from zephyr.artifacts import Artifact, draft
from zephyr.cli import main
from zephyr.errors import UsageError
from zephyr.recipe import CurateConfig, DataSource, Recipe, build
from zephyr.records import parse_dialogue
from zephyr.stages import curate


def demo(name: str) -> str:
    return str(resources.files("zephyr") / "demo" / "dialogues" / f"{name}.jsonl")


def test_what_is_not_asked_for_changes_no_byte(tmp_path: Path) -> None:
    """Rows of any number are curated as `sources.collect` collects them, and written as one table."""
    data = [DataSource(path=demo("train"), split="train"), DataSource(path=demo("test"), split="test")]
    artifact = Artifact.open(
        Path(api.stage("curate", "curate", {"dialogues": [demo("train")]}, tmp_path / "out", test=[demo("test")])["path"])
    )
    with draft(tmp_path / "plain", stage="s", key="k", config={}, parents={}) as out:
        found = sources.collect(data, parse_dialogue, out, invalid="error", test_fraction=0.1)
    for split, items in found.items():
        pq.write_table(
            pa.Table.from_pylist([i.record.row() for i in items], schema=schemas.dialogues()),
            tmp_path / f"{split}.parquet",
            compression="zstd",
        )
        assert (artifact.path / "data" / f"{split}-00000.parquet").read_bytes() == (tmp_path / f"{split}.parquet").read_bytes()
    assert artifact.manifest.rows_in == 200 and not artifact.manifest.dropped


def test_settings_that_are_not_set_are_no_part_of_a_key(tmp_path: Path) -> None:
    def dumped(**settings: object) -> dict[str, object]:
        values = {"name": "a", "model": {"path": "."}, "curate": {"data": ["a.jsonl"], **settings}}
        found: dict[str, object] = curate.configure(build(Recipe, values, {}, "a.yaml")).model_dump()
        return found

    assert dumped() == {"test_fraction": 0.1, "invalid": "error"}
    assert dumped(processes=3, near_prompts=None, gate={}, filters="none") == dumped()
    assert dumped(near_dialogues={})["near_dialogues"] == {"threshold": 0.8, "ngram": 5, "bands": 20, "rows": 6}
    with pytest.raises(UsageError, match=r"near_prompts\.treshold: unknown key; did you mean threshold\?"):
        build(CurateConfig, {"data": ["a"], "near_prompts": {"treshold": 0.5}}, {}, "a.yaml")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = small.dialogues()
    raw = small.write_lines(tmp_path / "raw.jsonl", [*rows, rows[0], {"data": ["Name a river.", "The Oder."]}])
    bench = small.write_lines(tmp_path / "bench.jsonl", [{"prompt": rows[2]["prompt"]}])
    arguments = ["curate", str(raw), "--against", f"mine={bench}", "invalid=drop", "near_prompts={}", "test_fraction=0.0", "--json"]
    code, out, _ = command(capsys, *arguments, "--out", str(tmp_path / "out"))
    said = json.loads(out)
    assert code == 0 and said["rows_in"] == 14 and said["rows"] == {"train": 11, "test": 0}
    assert said["dropped"] == {
        "duplicate of an earlier row": 1,
        "in the benchmark mine (exact)": 1,
        "invalid: the row is of another shape": 1,
    }
    code, out, _ = command(capsys, *arguments, "--out", str(tmp_path / "sampled"), "--dry-run")
    sampled = json.loads(out)
    assert code == 0 and sampled["status"] == "would run" and sampled["dropped"] == said["dropped"]
    assert not (tmp_path / "sampled").exists()
    code, _, err = command(capsys, "curate", str(raw), "filters=[no-such]", "--out", str(tmp_path / "no"))
    assert code == 2 and "no filter is called 'no-such'; there are " in err


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code, *capsys.readouterr()


def test_case_is_mended_and_both_sides_are_kept(tmp_path: Path) -> None:
    good = [
        {"text": f"In Paris we met Anna. The river Oder is long, said Anna in Paris. I think that I like {w}."} for w in ("it", "tea") * 40
    ]
    texts = small.write_lines(tmp_path / "texts.jsonl", good)
    said = ["where did we meet anna? i think it was in paris.", "you met anna in paris. the river oder is long, said anna."]
    turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), said, strict=True)]
    raw = small.write_lines(tmp_path / "raw.jsonl", [{"messages": turns}, *small.dialogues()])
    result = api.stage(
        "curate", "curate", {"dialogues": [str(raw)]}, tmp_path / "out", settings=[f"truecase=[{texts}]", "test_fraction=0.0"]
    )
    rows = Artifact.open(tmp_path / "out").rows("train")
    (line,) = [json.loads(line) for line in (tmp_path / "out" / "changed" / "truecased.jsonl").read_text().splitlines()]
    assert result["results"]["truecased"]["dialogues"] == 1 and line["where"] == f"{raw}:1" and line["prompt_id"] == rows[0]["prompt_id"]
    assert [m["before"] for m in line["messages"]] == said and [m["after"] for m in line["messages"]] == [
        m["content"] for m in rows[0]["messages"]
    ]
    assert "Anna" in rows[0]["prompt"] == rows[0]["messages"][0]["content"]
