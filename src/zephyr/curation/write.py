"""The last pass: the rows that stay, and those that do not with their reasons. The data is read again; only what is written is parsed."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zephyr import durable, schemas
from zephyr.curation import again
from zephyr.curation.compare import NOT_SELECTED, REASONS, Fates
from zephyr.curation.hashing import Ints
from zephyr.curation.keep import keep, keep_array, load_array
from zephyr.curation.rows import Kept
from zephyr.curation.work import ASIDE, KEPT, LEFT_OUT, Work
from zephyr.records import Row

SPLITS = ("train", "test", "train_gen", "test_gen")
FILE_ROWS = 8192
_AT_ONCE = 256


def save(fates: Fates) -> None:
    """Keep what was decided, for the processes that write."""
    split = fates.column("test") + 2 * fates.column("gen")
    keep_array(fates.work.path("write", "fate", ".npy"), fates.fate)
    keep_array(fates.work.path("write", "split", ".npy"), np.where(fates.fate == KEPT, split, 255).astype(np.uint8))
    keep_array(fates.work.path("write", "other", ".npy"), fates.other)
    keep_array(fates.work.path("write", "similarity", ".npy"), fates.similarity)
    about = {"starts": fates.starts.tolist(), "before": fates.before}
    durable.write_text(fates.work.path("write", "about", ".json"), json.dumps(about))


@functools.lru_cache(maxsize=1)
def load(work: Work) -> Fates:
    """What `save` kept."""
    about = json.loads(work.path("write", "about", ".json").read_text(encoding="utf-8"))
    fate, other, similarity = (load_array(work.path("write", name, ".npy")) for name in ("fate", "other", "similarity"))
    return Fates(work, np.array(about["starts"]), about["before"], fate, other, similarity)  # type: ignore[arg-type]


def rows_out(work: Work) -> dict[str, int]:
    """How many rows each split has."""
    split = load_array(work.path("write", "split", ".npy"))
    return {name: int(np.count_nonzero(split == i)) for i, name in enumerate(SPLITS)}


# --- rows that stay ----------------------------------------------------------------------------------------------


def write_split(work: Work, split: str, number: int) -> dict[str, Any]:
    """Keep one file of a split, unless that is done."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = work.path("write", f"{split}-{number:05}", ".parquet")
    if not path.exists():
        of = np.flatnonzero(load_array(work.path("write", "split", ".npy")) == SPLITS.index(split))
        wanted = of[number * FILE_ROWS : (number + 1) * FILE_ROWS]
        tables, waiting = [], list[Row]()
        for i, kept in enumerate(kept_rows(load(work), wanted), 1):
            waiting.append(kept.record.row())
            if len(waiting) == _AT_ONCE or i == len(wanted):
                tables.append(pa.Table.from_pylist(waiting, schema=schemas.dialogues()))
                waiting = []
        table = pa.concat_tables(tables).combine_chunks()
        with keep(path) as aside:
            pq.write_table(table, aside, compression="zstd")
    return {"bytes": path.stat().st_size}


def kept_rows(fates: Fates, rows: Ints) -> Iterator[Kept]:
    """Rows that stay, by their numbers, which must be in order."""
    pieces = np.searchsorted(fates.starts, rows, side="right") - 1
    for number in np.unique(pieces).tolist():
        yield from again.dialogues(fates.work, number, rows[pieces == number] - fates.starts[number])


# --- rows that do not, and what changed in those that do ---------------------------------------------------------


def write_rest(work: Work, number: int) -> dict[str, Any]:
    """Keep what a piece has of rows that do not stay, and of texts whose case was mended: a line of JSON each."""
    dropped, changed = (work.path("write", number, f".{what}.jsonl") for what in ("dropped", "truecased"))
    if not changed.exists():
        fates = load(work)
        with keep(dropped) as aside, aside.open("w", encoding="ascii") as file:
            file.writelines(_line(entry) for entry in _dropped(fates, number))
        with keep(changed) as aside, aside.open("w", encoding="ascii") as file:
            file.writelines(_line(entry) for entry in _changed(fates, number))
    return {"bytes": dropped.stat().st_size + changed.stat().st_size}


def _line(entry: Row) -> str:
    # a row that is wrong may hold anything, a lone surrogate or NaN among it: ASCII-escaped, it can be written
    return json.dumps(entry, default=repr) + "\n"


def _dropped(fates: Fates, number: int) -> Iterator[Row]:
    work, start = fates.work, int(fates.starts[number])
    fate = np.asarray(fates.fate[start : fates.starts[number + 1]])
    asides = {entry["row"]: entry for entry in work.about(number)["aside"]}
    gone = np.flatnonzero((fate != KEPT) & (fate != LEFT_OUT))
    texts = again.as_they_came(work, number, gone[fate[gone] != NOT_SELECTED])
    for i in gone.tolist():
        entry: Row = {"reason": asides[i]["reason"] if fate[i] == ASIDE else REASONS[int(fate[i])], "where": fates.place(start + i)}
        entry |= {name: asides[i][name] for name in ("problem", "hit", "match") if i in asides and asides[i].get(name)}
        if fates.other[start + i] >= 0:
            entry["like"] = {"where": fates.place(int(fates.other[start + i])), "similarity": _similarity(fates, start + i)}
        # a row that nothing speaks against is where it was: its texts are not written again
        yield {**entry, "row": {} if fate[i] == NOT_SELECTED else next(texts)}


def _similarity(fates: Fates, row: int) -> float:
    return round(float(fates.similarity[row]), 4) or 1.0  # of exact duplicates, none was computed


def _changed(fates: Fates, number: int) -> Iterator[Row]:
    """Of every dialogue whose case was mended and that stays: each message that changed, before and after."""
    work, start = fates.work, int(fates.starts[number])
    rows, fate = work.rows(number), np.asarray(fates.fate[start : fates.starts[number + 1]])
    mended = np.flatnonzero((fate == KEPT) & (np.asarray(rows["words"]) > 0))
    for i, kept in zip(mended, kept_rows(fates, start + mended), strict=True):
        texts = zip(kept.row["messages"], kept.record.messages, strict=True)
        messages = [
            {"message": n, "before": before["content"], "after": after["content"]}
            for n, (before, after) in enumerate(texts)
            if before["content"] != after["content"]
        ]
        yield {"where": fates.place(start + int(i)), "prompt_id": kept.record.prompt_id, "words": kept.words, "messages": messages}


# --- into the artifact -------------------------------------------------------------------------------------------


def publish(work: Work, splits: Sequence[str], to: Path) -> None:
    """Put what was written into the folder of the artifact."""
    (to / "data").mkdir(exist_ok=True)
    for split in splits:
        for path in sorted((work.folder / "step-write").glob(f"{split}-*.parquet")):
            _link(path, to / "data" / path.name)
    for what, name in (("dropped", "dropped/dropped.jsonl"), ("truecased", "changed/truecased.jsonl")):
        parts = [work.path("write", number, f".{what}.jsonl") for number in range(len(work.pieces))]
        if any(part.stat().st_size for part in parts):
            (to / name).parent.mkdir(exist_ok=True)
            with (to / name).open("wb") as file:
                for part in parts:
                    file.write(part.read_bytes())


def _link(path: Path, to: Path) -> None:
    """The same file under another name; a copy, where a disk has no such thing."""
    import shutil

    try:
        to.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, to)
