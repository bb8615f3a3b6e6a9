"""Rows from every kind of place, each with where it stood; what cannot be used is counted, never lost."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zephyr import hashes, sources
from zephyr.artifacts import Artifact, draft
from zephyr.errors import ArtifactError, DataError, UsageError
from zephyr.recipe import DataSource
from zephyr.records import Prompt, parse_dialogue, parse_preference, parse_prompt, prompt_id_of
from zephyr.sources import splits

ROWS = [{"prompt": "one"}, {"prompt": "two é\u2028still two"}, {"prompt": "three"}]


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read(path: Path | str, **kwargs: Any) -> list[tuple[str, str | None, dict[str, Any]]]:
    return list(sources.rows(DataSource(path=str(path), **kwargs)))


def refused(path: Path | str, **kwargs: Any) -> str:
    with pytest.raises((DataError, UsageError)) as caught:
        read(path, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def artifact(path: Path, **splits: list[dict[str, Any]]) -> Path:
    with draft(path, stage="s", key="k", config={}, parents={}) as out:
        for split, rows in splits.items():
            out.write_rows(split, rows)
    return path


# --- kinds of files ------------------------------------------------------------------------------------------

WRITERS: dict[str, Callable[[Path], object]] = {
    "x.jsonl": lambda p: p.write_text(lines(ROWS), encoding="utf-8"),
    "x.jsonl.gz": lambda p: p.write_bytes(gzip.compress(lines(ROWS).encode())),
    "x.json": lambda p: p.write_text(json.dumps(ROWS), encoding="utf-8"),
    "x.json.gz": lambda p: p.write_bytes(gzip.compress(json.dumps(ROWS).encode())),
    "x.parquet": lambda p: pq.write_table(pa.Table.from_pylist(ROWS), p),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    WRITERS[name](file)
    found = read(file)
    assert [row for _, _, row in found] == ROWS
    assert [where for where, _, _ in found] == [f"{file}:{i + 1}" if ".jsonl" in name else f"{file}[{i}]" for i in range(3)]
    assert {split for _, split, _ in found} == {None}
    assert {split for _, split, _ in read(file, split="test")} == {"test"}
    assert [row for _, _, row in read(tmp_path)] == ROWS  # and as the only file of a folder


@pytest.mark.parametrize("name", [name for name in WRITERS if ".json" in name])
def test_a_byte_order_mark_is_no_part_of_the_rows(tmp_path: Path, name: str) -> None:
    file, mark = tmp_path / name, "\ufeff".encode()
    WRITERS[name](file)
    content = file.read_bytes()
    file.write_bytes(gzip.compress(mark + gzip.decompress(content)) if name.endswith(".gz") else mark + content)
    assert [row for _, _, row in read(file)] == ROWS


def test_blank_lines_are_passed_over_and_counted_in_the_line_number(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('\n{"prompt": "a"}\n\n{"prompt": "b"}')
    assert [where for where, _, _ in read(file)] == [f"{file}:2", f"{file}:4"]


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "a line that is no JSON": ("x.jsonl", b'{"prompt": "a"}\n{"prompt"\n', r"x\.jsonl:2: not valid JSON \(.*\)"),
    "a line that is a list": ("x.jsonl", b'["a"]\n', r"x\.jsonl:1: an object with named columns was expected, found list"),
    "a line nested too deep": ("x.jsonl", b"[" * 100_000, r"x\.jsonl:1: not valid JSON \(.*recursion.*\)"),
    "not UTF-8": ("x.jsonl", b'{"prompt": "a"}\n{"prompt": "\xff"}\n', r"x\.jsonl:\d: not UTF-8 text \(invalid start byte\)"),
    "no gzip": ("x.jsonl.gz", b'{"prompt": "a"}\n', r"x\.jsonl\.gz: a damaged gzip file after line 0 \(Not a gzipped file.*\)"),
    "no gzip of JSON": ("x.json.gz", b"[]", r"x\.json\.gz: a damaged gzip file \(Not a gzipped file.*\)"),
    "an object as JSON": ("x.json", b'{"prompt": "a"}', r"x\.json: a JSON list of rows was expected, found dict; .*\.jsonl file"),
    "lines as JSON": (
        "x.json",
        b'{"prompt": "a"}\n{}',
        r"x\.json: not valid JSON \(Extra data: .*\); one row a line belongs in a \.jsonl file",
    ),
    "half of JSON": ("x.json", b'[{"prompt"', r"x\.json: not valid JSON \(.*\)"),
    "JSON that is not UTF-8": ("x.json", b'["\xff"]', r"x\.json: not valid JSON \(.*invalid start byte\)"),
    "JSON nested too deep": ("x.json", b"[" * 100_000, r"x\.json: not valid JSON \(.*recursion.*\)"),
    "a JSON list of texts": ("x.json", b'[{"prompt": "a"}, "b"]', r"x\.json\[1\]: an object with named columns was expected, found str"),
    "no Parquet": ("x.parquet", b"hello there", r"x\.parquet: not a readable Parquet file, after row 0 \(.*\)"),
    "empty Parquet": ("x.parquet", b"", r"x\.parquet: not a readable Parquet file, after row 0 \(.*\)"),
    "an unknown kind": ("x.csv", b"prompt\na\n", r"x\.csv: unknown kind of file; known are \.jsonl, .*\.parquet"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path: Path, case: str) -> None:
    name, content, problem = BROKEN[case]
    (tmp_path / name).write_bytes(content)
    assert re.fullmatch(re.escape(str(tmp_path)) + "/" + problem, refused(tmp_path / name))


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.gz", "x.parquet"])
def test_damage_anywhere_in_a_compressed_file_is_a_data_error(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    WRITERS[name](file)
    whole = file.read_bytes()
    damaged = [whole[:-9], whole[: len(whole) // 2]]
    for at in range(0 if name.endswith("gz") else len(whole) - 60, len(whole), 3):
        damaged.append(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    caught = 0
    for content in damaged:
        file.write_bytes(content)
        try:
            read(file)
        except DataError as error:
            caught += 1
            assert str(error).startswith(str(file))
    assert caught >= 3


def test_missing_places_are_named(tmp_path: Path) -> None:
    for name in (f"{tmp_path}/no", "./no", "no.jsonl", "folder/no.parquet", "a/b/c", "no"):
        assert refused(name) == f"{name}: no such file or folder"
    assert refused("builtin:demo/no.jsonl").startswith("builtin:demo/no.jsonl: the package ships no such file")
    assert "a folder without data files; looked for .jsonl" in refused(tmp_path)


def test_what_ships_with_the_package_has_a_name() -> None:
    found = read("builtin:demo/dialogues/train.jsonl")
    assert len(found) > 100
    assert found[0][0].endswith("demo/dialogues/train.jsonl:1")
    assert sources.digest(DataSource(path="builtin:demo/dialogues/train.jsonl")) != sources.digest(
        DataSource(path="builtin:demo/dialogues/test.jsonl")
    )


# --- folders -------------------------------------------------------------------------------------------------


def test_a_folder_is_read_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.jsonl", ".hidden/x.jsonl", "readme.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(lines([{"prompt": name}]))
    assert [row["prompt"] for _, _, row in read(tmp_path)] == ["a/z.jsonl", "b.jsonl"]


def test_an_artifact_gives_its_splits(tmp_path: Path) -> None:
    path = artifact(tmp_path / "a", train=ROWS[:2], test=ROWS[2:])
    assert [(split, row["prompt"]) for _, split, row in read(path)] == [("test", "three"), ("train", "one"), ("train", ROWS[1]["prompt"])]
    assert [(where, row) for where, _, row in read(path, split="test")] == [(f"{path}:test[0]", ROWS[2])]
    assert sources.digest(DataSource(path=str(path))) == Artifact.open(path).manifest.digest


@pytest.mark.parametrize("damage", ["gone", "cut", "edited", "added"])
def test_an_artifact_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path, damage: str) -> None:
    path = artifact(tmp_path / "a", train=ROWS[:2], test=ROWS[2:])
    rows = path / "data/train-00000.parquet"
    if damage == "gone":
        rows.unlink()
    elif damage == "cut":
        rows.write_bytes(b"junk")
    elif damage == "edited":
        content = bytearray(rows.read_bytes())
        content[4] ^= 1
        rows.write_bytes(content)
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path / "data/train-00001.parquet")
    with pytest.raises(ArtifactError, match=r"data/train-0000.\.parquet .*; make the artifact again, or name a file of rows outside of it"):
        read(path)
    with pytest.raises(ArtifactError):  # or a stage that read it before would be taken for done
        sources.digest(DataSource(path=str(path)))


def test_a_folder_of_datasets_gives_its_splits(tmp_path: Path) -> None:
    parts = {"train_sft": datasets.Dataset.from_list(ROWS[:2]), "test_sft": datasets.Dataset.from_list(ROWS[2:])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "dict"))
    assert Counter(split for _, split, _ in read(tmp_path / "dict")) == {"train": 2, "test": 1}
    assert [row for _, _, row in read(tmp_path / "dict", split="test")] == ROWS[2:]
    parts["train_sft"].save_to_disk(str(tmp_path / "one"))
    assert read(tmp_path / "one") == [(f"{tmp_path / 'one'}:rows[{i}]", None, ROWS[i]) for i in range(2)]
    for file in (tmp_path / "one").glob("*.arrow"):
        file.write_bytes(b"damaged")
    assert "a folder of `datasets` that cannot be read" in refused(tmp_path / "one")


# --- the hub -------------------------------------------------------------------------------------------------


def test_a_hub_name_without_a_network_is_one_clear_line() -> None:
    message = refused("owner/no-such-data")
    assert message.startswith("owner/no-such-data: neither a file here nor a data set the hub gave us (")


def test_a_hub_error_without_a_message_is_still_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert refused("owner/data").endswith("(ConnectionError: ConnectionError)")


def test_a_hub_name_of_several_data_sets_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("Config name is missing.\nPlease pick one among the available configs: ['en', 'de']\nExample of usage:\n\t`…`")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    named = "name one in a recipe: {path: owner/data, subset: ONE} of ['en', 'de']"
    assert refused("owner/data") == f"owner/data: holds several data sets; {named}"


def test_one_split_of_a_hub_name_is_that_split_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train_sft": ROWS[:2], "test_sft": ROWS[2:]})
    assert [(split, row) for _, split, row in read("owner/data", split="train")] == [("train", row) for row in ROWS[:2]]
    assert [(split, row) for _, split, row in read("owner/data", split="test")] == [("test", ROWS[2])]
    assert Counter(split for _, split, _ in read("owner/data")) == {"train": 2, "test": 1}


def test_of_several_splits_for_one_purpose_one_has_to_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """UltraChat has train_sft for supervised fine-tuning, and train_gen for what comes after it."""
    asked: list[tuple[Any, ...]] = []

    def load(*args: Any, revision: str | None) -> dict[str, Any]:
        asked.append((*args, revision))
        return {"train_sft": ROWS[:1], "train_gen": ROWS[1:2], "test_sft": ROWS[2:]}

    monkeypatch.setattr(datasets, "load_dataset", load)
    for kwargs in ({}, {"split": "train"}):
        message = refused("owner/data", **kwargs)
        assert message.startswith("owner/data: has 2 splits that would be train rows, train_gen, train_sft; choose one: {path: owner/data,")
    assert read("owner/data", split="test")[0][2] == ROWS[2]
    assert [(split, row) for _, split, row in read("owner/data", source_split="train_gen")] == [("train", ROWS[1])]
    assert [(split, row) for _, split, row in read("owner/data", source_split="train_gen", split="test")] == [("test", ROWS[1])]
    assert refused("owner/data", source_split="gen") == "owner/data: no split 'gen'; it has test_sft, train_gen, train_sft"
    read("owner/data", source_split="test_sft", subset="all", revision="v1")
    assert asked[0] == ("owner/data", None, None) and asked[-1] == ("owner/data", "all", "v1")


def test_a_data_set_of_nothing_but_train_names_no_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub calls everything `train` where nobody has split it; the recipe's share goes to the test."""
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": ROWS})
    assert {split for _, split, _ in read("owner/data")} == {None}
    assert {split for _, split, _ in read("owner/data", split="train")} == {"train"}
    assert "has no test rows; its splits are train" in refused("owner/data", split="test")


def test_a_revision_is_part_of_what_a_hub_name_is() -> None:
    digests = {sources.digest(DataSource(path="owner/data", revision=r)) for r in (None, "a", "b")}
    assert len(digests) == 3
    assert DataSource(path="x").chosen() == [None, {}], "what a key was made of before there was more to choose"
    assert DataSource(path="x", weight=0.5).chosen() == [None, {}, {"weight": 0.5}]


def test_data_of_the_hub_that_may_change_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": ROWS[:2], "test": ROWS[2:]})

    def notes(revision: str | None) -> list[str]:
        with draft(tmp_path / "out", stage="s", key="k", config={}, parents={}) as out:
            data = [DataSource(path="owner/data", split=split, revision=revision) for split in ("train", "test")]
            sources.collect(data, parse_prompt, out, invalid="error", test_fraction=0.0)
        return out.manifest.notes

    unless = "a change there is not noticed unless `revision` is a commit."
    assert notes(None) == [f"owner/data was taken from the hub as it was; {unless}"]
    assert notes("main") == [f"owner/data was taken from the hub as it was at main; {unless}"]
    assert notes("0123456789abcdef0123456789abcdef01234567") == []


def test_what_is_here_has_no_revision(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(lines(ROWS))
    with pytest.raises(UsageError, match="is here, not on the hub, and has no revision; take `revision` out"):
        sources.digest(DataSource(path=str(tmp_path / "x.jsonl"), revision="main"))


# --- splits in names -----------------------------------------------------------------------------------------

FOLDERS = {
    "a clone from the hub": (
        "data/train_sft-00000-of-00002.jsonl",
        "data/train_sft-00001-of-00002.jsonl",
        "data/test_sft-00000-of-00001.jsonl",
    ),
    "two files": ("train-0.jsonl", "train-1.jsonl", "test.jsonl"),
    "folders": ("train/0.jsonl", "train/1.jsonl", "validation/0.jsonl"),
    "another spelling": ("Train-00000-of-00002-0a1b2c.jsonl", "Train-00001-of-00002-0a1b2c.jsonl", "dev.jsonl"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_files_in_a_folder_are_of_the_split_they_are_named_after(name: str, tmp_path: Path) -> None:
    for file, row in zip(FOLDERS[name], ROWS, strict=True):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(lines([row]))
    assert Counter((split, row["prompt"]) for _, split, row in read(tmp_path)) == Counter(
        zip(("train", "train", "test"), (row["prompt"] for row in ROWS), strict=True)
    )
    assert [row for _, _, row in read(tmp_path, split="test")] == ROWS[2:]
    assert [row for _, _, row in read(tmp_path, split="train")] == ROWS[:2], "no test row is made a train row"


def test_files_that_are_named_after_nothing_have_no_split(tmp_path: Path) -> None:
    for i, name in enumerate(("training_notes.jsonl", "latest.jsonl", "developers.jsonl")):
        (tmp_path / name).write_text(lines(ROWS[i : i + 1]))
    assert {split for _, split, _ in read(tmp_path)} == {None}
    assert {split for _, split, _ in read(tmp_path, split="test")} == {"test"}


# --- columns -------------------------------------------------------------------------------------------------


def test_columns_are_renamed_and_the_others_kept(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(lines([{"question": "q", "prompt": "not this", "n": 1}]))
    assert read(file, columns={"prompt": "question"})[0][2] == {"prompt": "q", "n": 1}
    assert read(file, columns={"prompt": "question", "other": "prompt"})[0][2] == {"prompt": "q", "other": "not this", "n": 1}
    assert refused(file, columns={"prompt": "qestion"}) == f"{file}:1: no column 'qestion'; the row has 'question', 'prompt', 'n'"


# --- collecting ----------------------------------------------------------------------------------------------


class Collected:
    """What `collect` made of files of rows, each file with its split or None, and of what it left out."""

    def __init__(
        self, folder: Path, *files: tuple[list[Any], str | None], invalid: str | None = "error", parse: Any = parse_prompt, **kwargs: Any
    ) -> None:
        data = []
        folder.mkdir(exist_ok=True)
        for i, (rows, split) in enumerate(files):
            (folder / f"{i}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            data.append(DataSource(path=str(folder / f"{i}.jsonl"), split=split))  # type: ignore[arg-type]
        kwargs = {"test_fraction": 0.0, **kwargs}
        with draft(folder / "out", stage="s", key="k", config={}, parents={}) as out:
            self.by_split = sources.collect(data, parse, out, invalid=invalid, **kwargs)
        self.manifest = Artifact.open(folder / "out").manifest
        dropped = folder / "out/dropped/dropped.jsonl"
        self.dropped = [json.loads(line) for line in dropped.read_text().splitlines()] if dropped.exists() else []

    def prompts(self, split: str = "train") -> list[str]:
        return [item.record.prompt for item in self.by_split[split]]


def test_a_bad_row_stops_it_and_says_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Collected(tmp_path, ([{"prompt": "a"}, {"prompt": 3}, {}], None))
    assert str(caught.value) == (
        f"{tmp_path}/0.jsonl:2: `prompt` is a number, not a text\n2 of 3 rows cannot be used; "
        "mend the data, or set `invalid: drop` to leave such rows out and count them"
    )
    assert not (tmp_path / "out").exists()


def test_a_stage_without_the_setting_does_not_advise_it(tmp_path: Path) -> None:
    does = r"\(`zephyr curate` or `zephyr binarize` with `invalid=drop` does\)$"
    with pytest.raises(DataError, match=rf"0\.jsonl:2: `prompt` is empty; mend the data, or leave such rows out {does}"):
        Collected(tmp_path, ([{"prompt": "a"}, {"prompt": ""}], None), invalid=None)
    with pytest.raises(DataError, match=rf"take it out of one {does}"):
        Collected(tmp_path, ([{"prompt": "a"}], "train"), ([{"prompt": "a"}], "test"), invalid=None)


def test_dropped_rows_are_counted_by_reason_and_kept_as_they_were(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": 3}, {"prompt": "\ud800"}, {"prompt": 4.5, "x": float("nan")}, {"prompt": "b"}]
    got = Collected(tmp_path, (rows, None), invalid="drop")
    assert got.prompts() == ["a", "b"]
    assert got.manifest.rows_in == 5
    assert got.manifest.dropped == {
        "invalid: `prompt` holds a lone surrogate, which is not valid Unicode text": 1,
        "invalid: `prompt` is a number, not a text": 2,
    }
    assert [d["where"] for d in got.dropped] == [f"{tmp_path}/0.jsonl:{n}" for n in (2, 3, 4)]
    assert [d["row"]["prompt"] for d in got.dropped] == [3, "\ud800", 4.5]
    assert sum(got.manifest.dropped.values()) + len(got.prompts()) == got.manifest.rows_in


def test_a_row_that_is_there_twice_is_kept_once(tmp_path: Path) -> None:
    got = Collected(tmp_path, ([{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}], "train"), ([{"prompt": "c"}, {"prompt": "c"}], "test"))
    assert (got.prompts(), got.prompts("test")) == (["a", "b"], ["c"])
    assert got.manifest.dropped == {"duplicate of an earlier row": 2}


def test_a_row_that_is_given_for_train_and_for_test_leaves_train(tmp_path: Path) -> None:
    """To the letter or with other columns: the test stays what it was."""
    files = (
        ([{"prompt": "a"}, {"prompt": "b"}, {"prompt": "d"}, {"prompt": "a"}], "train"),
        ([{"prompt": "d", "x": 1}, {"prompt": "a"}], "test"),
    )
    with pytest.raises(
        DataError, match=r"^2 prompts are in both train and test, .*first: .*0\.jsonl:1 and .*1\.jsonl:2\); take them out of"
    ):
        Collected(tmp_path, *files)
    got = Collected(tmp_path, *files, invalid="drop")
    assert (got.prompts(), got.prompts("test")) == (["b"], ["d", "a"])
    assert got.manifest.dropped == {"duplicate of an earlier row": 1, "the prompt is in the test split, too": 2}
    drawn = Collected(tmp_path, (files[0][0], None), files[1])
    assert (drawn.prompts(), drawn.prompts("test")) == (["b"], ["d", "a"]), "and a row whose split was drawn does so without being asked"
    assert drawn.manifest.dropped == got.manifest.dropped


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_row_that_was_drawn_before_it_was_given_is_given(tmp_path: Path, fraction: float) -> None:
    """For the test or for train, to the letter or with other columns: in any order the test stays what it was."""
    given: list[tuple[list[Any], str | None]] = [
        ([{"prompt": "a"}, {"prompt": "b"}], None),
        ([{"prompt": "a", "x": 1}], "train"),
        ([{"prompt": "a"}], "test"),
    ]
    for number, files in enumerate(permutations(given)):
        with pytest.raises(DataError, match=r"^1 prompt is in both train and test, "):
            Collected(tmp_path / f"{number}", *files, test_fraction=fraction)
        got = Collected(tmp_path / f"{number}", *files, test_fraction=fraction, invalid="drop")
        assert "a" in got.prompts("test") and got.prompts() == ([] if fraction else ["b"])
        assert sum(got.manifest.dropped.values()) == 2


def test_where_splits_mean_nothing_a_row_is_taken_once(tmp_path: Path) -> None:
    files = ([{"prompt": "a"}, {"prompt": "b"}], "train"), ([{"prompt": "c"}, {"prompt": "a"}], "test"), ([{"prompt": "c"}], None)
    got = Collected(tmp_path, *files, apart=False)
    assert (got.prompts(), got.prompts("test")) == (["a", "b", "c"], [])
    assert got.manifest.dropped == {"duplicate of an earlier row": 2}


@pytest.mark.parametrize("first", [None, "train"])
def test_one_file_may_be_given_for_both(tmp_path: Path, first: str | None) -> None:
    """Its rows have one place in both splits, and are drawn in one of them only."""
    (tmp_path / "x.jsonl").write_text(lines(ROWS))
    data = [DataSource(path=str(tmp_path / "x.jsonl"), split=split) for split in (first, "test")]  # type: ignore[arg-type]
    with draft(tmp_path / "out", stage="s", key="k", config={}, parents={}) as out:
        found = sources.collect(data, parse_prompt, out, invalid="drop", test_fraction=0.0)
    assert found["train"] == [] and [item.record.prompt for item in found["test"]] == [row["prompt"] for row in ROWS]


@pytest.mark.parametrize("first", [None, "train"])
def test_one_file_may_be_given_for_two_of_its_columns(tmp_path: Path, first: str | None) -> None:
    """Rows of one place are different rows: where one gives way, the other stays."""
    (tmp_path / "qa.jsonl").write_text(lines([{"question": "a", "followup": "b"}]))
    (tmp_path / "test.jsonl").write_text(lines([{"question": "a"}]))
    given = (("qa.jsonl", "question", first), ("qa.jsonl", "followup", "train"), ("test.jsonl", "question", "test"))
    data = [DataSource(path=str(tmp_path / name), columns={"prompt": column}, split=split) for name, column, split in given]  # type: ignore[arg-type]
    with draft(tmp_path / "out", stage="s", key="k", config={}, parents={}) as out:
        found = sources.collect(data, parse_prompt, out, invalid="drop", test_fraction=0.0)
    assert {split: [item.record.prompt for item in items] for split, items in found.items()} == {"train": ["b"], "test": ["a"]}
    assert out.manifest.rows_in == 3 and out.manifest.dropped == {"the prompt is in the test split, too": 1}


def test_an_id_of_two_prompts_is_refused_across_splits_too(tmp_path: Path) -> None:
    files = ([{"prompt": "a", "prompt_id": "1"}], "train"), ([{"prompt": "b", "prompt_id": "1"}], "test")
    with pytest.raises(DataError, match=r"1\.jsonl:1: the id 1 repeats with different content"):
        Collected(tmp_path, *files)


def test_the_same_prompt_with_other_columns_is_kept_once(tmp_path: Path) -> None:
    got = Collected(tmp_path, ([{"prompt": "a"}, {"prompt": "a", "source": "elsewhere"}], None))
    assert got.prompts() == ["a"]
    assert got.manifest.dropped == {"same prompt as an earlier row": 1}


def test_an_id_that_stands_for_two_things_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": f"{name}{i}", "prompt_id": f"id {name}"} for name in ("x", "y") for i in range(2)]
    with pytest.raises(DataError, match=rf"0\.jsonl:2: the id id x repeats with different content \(first at {tmp_path}/0\.jsonl:1\)"):
        Collected(tmp_path, (rows, None))
    got = Collected(tmp_path, (rows, None), invalid="drop")
    assert got.prompts() == ["x0", "y0"]
    assert got.manifest.dropped == {"invalid: the id repeats with different content": 2}  # one reason, whatever the ids


def test_a_prompt_in_train_and_test_is_refused(tmp_path: Path) -> None:
    def pair(rejected: str) -> dict[str, str]:
        return {"prompt": "p", "chosen": "good", "rejected": rejected}

    def collect(*files: tuple[list[Any], str | None]) -> Collected:
        return Collected(tmp_path, *files, parse=parse_preference, test_fraction=0.5)

    with pytest.raises(
        DataError, match=r"^1 prompt is in both train and test, .*first: .*0\.jsonl:1 and .*1\.jsonl:1\); take it out of one"
    ):
        collect(([pair("a")], "train"), ([pair("b")], "test"))
    got = collect(([pair(x) for x in "abcdefgh"], None))  # by hash, all pairs of a prompt go together
    assert sorted(len(items) for items in got.by_split.values()) == [0, 8]


def asked(name: str, numbers: range, prompt: str = "What is {}?") -> list[dict[str, Any]]:
    """Questions that are one prompt to a reader, under the ids of one set."""
    return [{"prompt": prompt.format(i), "prompt_id": f"{name}{i}"} for i in numbers]


def test_a_prompt_in_the_same_words_under_another_id_is_refused(tmp_path: Path) -> None:
    """Capitals, spaces and the width of characters do not make it another."""
    files = (asked("a", range(5)), "train"), (asked("b", range(3, 9), "what  i\uff53 {}? "), "test")
    with pytest.raises(DataError) as caught:
        Collected(tmp_path, *files)
    assert str(caught.value) == (
        f"2 prompts are in both train and test, by id or in the same words (first: {tmp_path}/0.jsonl:4 and {tmp_path}/1.jsonl:1); "
        "take them out of one, or set `invalid: drop` to leave them out of train"
    )
    got = Collected(tmp_path, *files, invalid="drop")
    assert got.prompts() == [f"What is {i}?" for i in range(3)] and len(got.prompts("test")) == 6, "the test stays what it was"
    assert got.manifest.dropped == {"the prompt is in the test split, too": 2}
    assert [d["where"] for d in got.dropped] == [f"{tmp_path}/0.jsonl:4", f"{tmp_path}/0.jsonl:5"]
    assert got.dropped[0]["row"]["prompt_id"] == "a3"


def test_a_row_whose_split_was_drawn_gives_way(tmp_path: Path) -> None:
    drawn = Collected(tmp_path / "1", (asked("a", range(40)), None), (asked("b", range(40), "what is {}?"), None), test_fraction=0.3)
    words = [{prompt.lower() for prompt in drawn.prompts(split)} for split in ("train", "test")]
    assert words[0] and words[1] and not words[0] & words[1]
    (reason,) = drawn.manifest.dropped
    assert reason == "the prompt is in the train split, too"
    assert drawn.manifest.dropped[reason] + len(drawn.prompts()) + len(drawn.prompts("test")) == 80
    given = Collected(tmp_path / "2", (asked("a", range(40)), None), (asked("b", range(40)), "test"))
    assert given.prompts() == [] and len(given.prompts("test")) == 40
    assert given.manifest.dropped == {"the prompt is in the test split, too": 40}


def test_a_weight_takes_a_nested_share_of_the_train_rows_and_all_test_rows(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text(lines([{"prompt": f"p{i}"} for i in range(400)]))
    (folder / "test.jsonl").write_text(lines([{"prompt": f"t{i}"} for i in range(50)]))
    taken: list[set[str]] = []
    for number, weight in enumerate((0.1, 0.5, 1.0)):
        with draft(tmp_path / str(number), stage="s", key="k", config={}, parents={}) as out:
            found = sources.collect([DataSource(path=str(folder), weight=weight)], parse_prompt, out, invalid="error", test_fraction=0.1)
        taken.append({item.record.prompt for item in found["train"]})
        assert len(found["test"]) == 50
        left = 400 - len(taken[-1])
        assert bool(left) == any(
            f"{left} train rows were left out, for its weight in the mixture is {weight:g}." in n for n in out.manifest.notes
        )
    assert taken[0] < taken[1] < taken[2] and 20 < len(taken[0]) < 65 and 160 < len(taken[1]) < 240


def test_lines_that_are_no_rows_can_be_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"question": "a"}\n{"question": \n[1]\n{"other": 1}\n{"question": "b", "question": "c"}\n{"question": "d"}\n')
    source = DataSource(path=str(file), columns={"prompt": "question"}, split="train")
    with draft(tmp_path / "a", stage="s", key="k", config={}, parents={}) as out:
        found = sources.collect([source], parse_prompt, out, invalid="drop", test_fraction=0)
    assert [item.record.prompt for item in found["train"]] == ["a", "d"]
    reasons = out.manifest.dropped
    assert sum(reasons.values()) == 4 and sum("not valid JSON" in reason for reason in reasons) >= 1
    assert any("no column 'question'" in reason for reason in reasons)
    with (
        draft(tmp_path / "b", stage="s", key="k", config={}, parents={}) as out,
        pytest.raises(DataError, match=r"x\.jsonl:2: not valid JSON"),
    ):
        sources.collect([source], parse_prompt, out, invalid="error", test_fraction=0)
    assert refused(file).startswith(f"{file}:2: not valid JSON")


def test_nothing_usable_says_why(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"prompt": ""}\n' * 3 + "{}\n")
    with draft(tmp_path / "a", stage="s", key="k", config={}, parents={}) as out, pytest.raises(DataError) as caught:
        sources.collect([DataSource(path=str(file))], parse_prompt, out, invalid="drop", test_fraction=0)
    assert str(caught.value).startswith(f"no usable rows in {file}; dropped were 3 (invalid: `prompt` is empty), 1 (invalid: ")


def test_no_rows_at_all_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no usable rows in .*0\.jsonl, .*1\.jsonl"):
        Collected(tmp_path, ([], None), ([{"prompt": ""}], None), invalid="drop")


def test_the_split_by_hash_stays_when_rows_are_added(tmp_path: Path) -> None:
    def split(names: range) -> dict[str, str]:
        got = Collected(tmp_path, ([{"prompt": f"p{i}"} for i in names], None), test_fraction=0.2)
        return {prompt: where for where in ("train", "test") for prompt in got.prompts(where)}

    few, many = split(range(300, 400)), split(range(999, -1, -1))
    assert few.items() <= many.items()
    assert 150 < Counter(many.values())["test"] < 250  # 200 expected, four standard deviations
    assert {sources.split_of(prompt_id_of(p), 0.0) for p in many} == {"train"}
    assert {sources.split_of(prompt_id_of(p), 1.0) for p in many} == {"test"}


def test_a_larger_share_only_adds_to_the_test() -> None:
    ids = [prompt_id_of(str(i)) for i in range(500)]
    tests = [{i for i in ids if sources.split_of(i, share) == "test"} for share in (0.05, 0.1, 0.5)]
    assert tests[0] < tests[1] < tests[2]


def test_records_come_in_the_order_they_were_read_with_their_place(tmp_path: Path) -> None:
    got = Collected(tmp_path, ([{"prompt": "b"}], None), ([{"prompt": "a"}], None))
    assert [item.where for item in got.by_split["train"]] == [f"{tmp_path}/0.jsonl:1", f"{tmp_path}/1.jsonl:1"]
    assert got.by_split["train"][0].record == Prompt("b", prompt_id_of("b"))


def test_the_digest_of_a_source_is_its_content(tmp_path: Path) -> None:
    for name in ("a/x.jsonl", "b/x.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    source = DataSource(path=str(tmp_path))
    seen = [sources.digest(source)]
    for name in ("a/x.jsonl", "b/x.jsonl"):
        (tmp_path / name).write_text(f"{name} changed")
        seen.append(sources.digest(source))
    assert len(set(seen)) == 3
    assert sources.digest(DataSource(path="owner/data")) == hashes.sha256_text("hub:owner/data")


def talk(*turns: str, **columns: Any) -> dict[str, Any]:
    messages = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(turns)]
    return {"messages": messages, **columns}


@pytest.mark.parametrize("ids", ["none", "the prompt's"])
def test_a_prompt_may_begin_several_dialogues(tmp_path: Path, ids: str) -> None:
    """The ids of the public sets are those of prompts, and a prompt was put more than once."""
    given = {"prompt_id": prompt_id_of("Hi")} if ids == "the prompt's" else {}
    rows = [talk("Hi", "Hello.", **given), talk("Hi", "Good day.", **given), talk("Hi", "Hello.", source="elsewhere", **given)]
    got = Collected(tmp_path, (rows, None), parse=parse_dialogue, test_fraction=0.5)
    (kept,) = [items for items in got.by_split.values() if items]
    assert [item.record.messages[-1]["content"] for item in kept] == ["Hello.", "Good day."], "and all of them are in one split"
    assert {item.record.prompt_id for item in kept} == {prompt_id_of("Hi")} and len({item.record.identity for item in kept}) == 2
    assert got.manifest.dropped == {"duplicate of an earlier row": 1}


def test_an_id_of_its_own_stands_for_one_dialogue(tmp_path: Path) -> None:
    rows = [talk("Hi", "Hello.", prompt_id="7"), talk("Hi", "Good day.", prompt_id="7"), talk("Hi", "Good day.", prompt_id="8")]
    with pytest.raises(DataError, match=r"0\.jsonl:2: the id 7 repeats with different content \(first at .*0\.jsonl:1\)"):
        Collected(tmp_path, (rows, None), parse=parse_dialogue)
    got = Collected(tmp_path, (rows, None), parse=parse_dialogue, invalid="drop")
    assert [item.record.identity for item in got.by_split["train"]] == ["7", "8"]


@pytest.mark.parametrize("taken", ["first", "last"])
def test_an_id_stands_for_one_prompt(tmp_path: Path, taken: str) -> None:
    """One of two rows has the id that the public sets give to the other's prompt; the other may name none."""
    rows = [talk("Hi", "Hello."), talk("Who are you?", "A model.", prompt_id=prompt_id_of("Hi"))]
    with pytest.raises(DataError, match=rf"0\.jsonl:2: the id {prompt_id_of('Hi')[:16]} repeats with different content \(first at .*:1\)"):
        Collected(tmp_path, (rows if taken == "last" else rows[::-1], None), parse=parse_dialogue)
    pairs = [{"prompt": prompt, "prompt_id": "1", "chosen": "a", "rejected": "b"} for prompt in ("p", "q", "p")]
    got = Collected(tmp_path, (pairs, None), parse=parse_preference, invalid="drop")
    assert got.manifest.dropped == {"invalid: the id repeats with different content": 1, "duplicate of an earlier row": 1}


# --- which rows a source has -------------------------------------------------------------------------------------


def test_a_file_that_moves_to_the_test_folder_makes_it_another_source(tmp_path: Path) -> None:
    source, seen = DataSource(path=str(tmp_path)), []
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0.jsonl").write_text(lines(ROWS))
    seen.append(sources.digest(source))
    (tmp_path / "train").rename(tmp_path / "test")
    seen.append(sources.digest(source))
    (tmp_path / "test").rename(tmp_path / "rows")
    seen.append(sources.digest(source))
    assert len(set(seen)) == 3
    assert seen[2] == hashes.fingerprint([tmp_path / "rows" / "0.jsonl"]), "where no folder names a split, it is what it was"


def test_an_artifact_of_nothing_but_train_stays_train(tmp_path: Path) -> None:
    """Unlike a data set of the hub: whoever made it decided that nothing is kept for the test."""
    assert {split for _, split, _ in read(artifact(tmp_path / "a", train=ROWS))} == {"train"}


@pytest.mark.parametrize("splits", [{}, {"samples": ROWS}])
def test_an_artifact_without_rows_to_learn_from_is_refused(tmp_path: Path, splits: dict[str, Any]) -> None:
    path = artifact(tmp_path / "a", **splits)
    assert refused(path) == (
        f"{path}: holds what s made, which has no train or test rows; "
        "give what synthesize, curate, complete, rate or binarize made, or a file of rows"
    )


def test_the_rows_of_all_splits_can_be_asked_for(tmp_path: Path) -> None:
    """A recording has nothing to do with training and test."""
    for name, row in zip(("train_a", "train_b", "test"), ROWS, strict=True):
        (tmp_path / f"{name}.jsonl").write_text(lines([row]))
    assert "has 2 splits that would be train rows, train_a, train_b; choose one" in refused(tmp_path)
    found = sources.rows(DataSource(path=str(tmp_path)), whole=True)
    assert sorted(row["prompt"] for _, _, row in found) == sorted(row["prompt"] for row in ROWS)


NAMES = {
    "train": "train",
    "Train-00001-of-00012-6e21d1f5bfeeb0a3": "Train",
    "train_sft-00000-of-00003": "train_sft",
    "test-hard": "test-hard",
    "test_v1": "test_v1",
    "train_7": "train",
    "train.part-2": "train",
    "trainset": "trainset",
    "validation": "validation",
    "training": "training",
    "training_notes": None,
    "latest": None,
    "evaluator": None,
    "developers": None,
    "my_test": None,
    "rows-00000-of-00001": None,
}


@pytest.mark.parametrize("stem", NAMES)
def test_the_split_in_a_name_is_its_beginning(stem: str) -> None:
    for suffix in WRITERS:
        assert splits.split_in_name(Path("somewhere") / f"{stem}{suffix[1:]}") == NAMES[stem]


# --- JSON --------------------------------------------------------------------------------------------------------

TWICE = ['{"prompt": "a"}', '{"prompt": "b", "prompt": "c"}', '{"prompt": "d", "x": [{"y": [{"z": 1, "z": 2}]}]}', '{"prompt": "e"}']


@pytest.mark.parametrize(("name", "text"), [("x.jsonl", "\n".join(TWICE)), ("x.json", f"[{', '.join(TWICE)}]")])
def test_a_key_that_is_given_twice_makes_a_row_unusable(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    second = ":2" if name == "x.jsonl" else "[1]"
    assert refused(tmp_path / name) == f"{tmp_path / name}{second}: a key is given twice in an object with the keys 'prompt'"
    with draft(tmp_path / "a", stage="s", key="k", config={}, parents={}) as out:
        found = sources.collect([DataSource(path=str(tmp_path / name))], parse_prompt, out, invalid="drop", test_fraction=0.0)
    assert [item.record.prompt for item in found["train"]] == ["a", "e"]
    assert out.manifest.dropped == {"invalid: a key is given twice": 2}


def test_what_cannot_be_read_is_kept_as_it_stood(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"q": "a"}\n{"q": \n["b"]\n{"other": 1}\n')
    source = DataSource(path=str(tmp_path / "x.jsonl"), columns={"prompt": "q"})
    with draft(tmp_path / "a", stage="s", key="k", config={}, parents={}) as out:
        sources.collect([source], parse_prompt, out, invalid="drop", test_fraction=0.0)
    kept = [json.loads(line) for line in (tmp_path / "a/dropped/dropped.jsonl").read_text().splitlines()]
    assert [d["row"] for d in kept] == [{"line": '{"q": \n'}, {"value": ["b"]}, {"other": 1}]
    assert out.manifest.dropped == {
        "invalid: not valid JSON": 1,
        "invalid: an object with named columns was expected": 1,
        "invalid: no column 'q'": 1,
    }


def test_rows_are_counted_as_they_are_read(tmp_path: Path) -> None:
    """In files of every kind, with empty lines among theirs, and in data sets that are saved."""
    lines = "".join(f'{{"a": {n}}}\n' + "\n" * (n % 2) for n in range(5)) + '{"a": 5}'
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text(lines, encoding="utf-8")
    (folder / "broken.jsonl").write_text(lines + "\n{", encoding="utf-8")
    (folder / "test.json").write_text('[{"a": 1}, {"a": 2}]', encoding="utf-8")
    with gzip.open(folder / "packed.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(lines)
    pq.write_table(pa.table({"a": list(range(7))}), folder / "rows.parquet")
    datasets.DatasetDict({"train": datasets.Dataset.from_list([{"a": 1}] * 3)}).save_to_disk(tmp_path / "saved")
    counted = {}
    for path in (folder, tmp_path / "saved"):
        for part, _ in sources.divided(DataSource(path=str(path)), whole=True):
            counted[part.files[0].name if part.files else part.name] = part.count()
            assert part.count() == len(list(part.read()))
    assert counted == {"broken.jsonl": 7, "packed.jsonl.gz": 6, "rows.parquet": 7, "test.json": 2, "train.jsonl": 6, "train": 3}
    (folder / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"rows\.parquet: not a readable Parquet file"):
        sum(part.count() for part, _ in sources.divided(DataSource(path=str(folder)), whole=True))
