"""The rows to look at, from whatever they are in: files, folders, artifacts, the hub."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zephyr import progress, sources
from zephyr.artifacts import MANIFEST, Artifact, Manifest
from zephyr.errors import UsageError
from zephyr.files import Unread
from zephyr.inspection.kinds import KINDS
from zephyr.recipe import DataSource
from zephyr.records import Row
from zephyr.sources import Part

DROPPED, TRUECASED = "dropped/dropped.jsonl", "changed/truecased.jsonl"
SAMPLES = "samples"  # the split of what models answered in an evaluation
_STAGES = ("synthesize", "curate", "complete", "rate", "binarize", "evaluate")
_EVERY = 100  # rows, between which progress is not told
_SAY_S = 10.0


@dataclass(frozen=True)
class Opened:
    """Something to look at.

    Attributes:
        source: where the rows come from.
        artifact: what it is of a run, or None.
        split: of its own splits, the one to look at; None is all.
    """

    source: DataSource
    artifact: Artifact | None
    split: str | None

    @property
    def filtered(self) -> bool:
        """The rows have been through the filters."""
        return self.artifact is not None and self.artifact.manifest.config.get("filters", "none") not in ("none", [])


def opened(given: str, splits: Sequence[str]) -> list[Opened]:
    """What a name stands for, once for each of the splits.

    Raises:
        UsageError: there is no such file, or it is the folder of a whole run.
        ArtifactError: an artifact that is not what its manifest says.
    """
    chosen: list[str | None] = [*splits] or [None]
    source = sources.named(given)
    path = sources.resolve(source.path)
    artifact = None
    if path is not None and path.is_dir():
        _refuse_run(path)
        manifest = Manifest.read(path)
        artifact = None if manifest is None else Artifact(path, manifest)
    return [Opened(source.model_copy(update={"source_split": split}), artifact, split) for split in chosen]


def _refuse_run(path: Path) -> None:
    """The folder of a run holds rows of all kinds: say which there are."""
    if (path / MANIFEST).exists():
        return
    made = {p.parent: found.stage for p in sorted(path.glob(f"*/{MANIFEST}")) if (found := Manifest.read(p.parent))}
    order = sorted((stage for stage in made.values() if stage in _STAGES), key=_STAGES.index)
    with_rows = [str(folder) for name in dict.fromkeys(order) for folder, stage in made.items() if stage == name]
    if made:
        which = f"name one of its artifacts: {', '.join(with_rows)}" if with_rows else "none of its artifacts holds rows to look at"
        raise UsageError(f"{path}: the folder of a run; {which}")


# --- rows --------------------------------------------------------------------------------------------------------


def rows(opened: Opened) -> Iterator[tuple[str, str | None, Row | Unread]]:
    """(place, split, row) of all rows."""
    if opened.artifact is not None and opened.artifact.manifest.stage == "evaluate":
        yield from _answers(opened.artifact)
        return
    for part, _ in _parts(opened):
        for where, row in part.read():
            yield where, part.name, row


def _parts(opened: Opened) -> list[tuple[Part, str | None]]:
    return sources.divided(opened.source, whole=opened.split is None)


def _answers(artifact: Artifact) -> Iterator[tuple[str, str | None, Row | Unread]]:
    """What each model answered in an evaluation, as answers that nobody has rated."""
    for i, row in enumerate(artifact.each_row(SAMPLES)):
        about = {name: row.get(name) for name in ("prompt", "prompt_id", "category")}
        answers = [{"model": name, "response": text} for name, text in row.items() if name not in about and isinstance(text, str)]
        yield f"{artifact.path}:{SAMPLES}[{i}]", None, {**about, "completions": answers}


def unknown(row: Row) -> str:
    """What is wrong with a row of no kind."""
    known = "; ".join(f"{kind.name} ({kind.columns})" for kind in KINDS)
    return f"the row is none of these: {known}; it has {', '.join(map(repr, row)) or 'no columns'}"


# --- progress ----------------------------------------------------------------------------------------------------


class Told(Protocol):
    """What is told of every row."""

    def row(self) -> None:
        """One more."""


@contextmanager
def told(given: Sequence[Opened]) -> Iterator[Told]:
    """Progress over all rows; with a total, where it can be had without reading them."""
    counts = [_expected(one) for one in given]
    if None in counts:
        yield _Sayer()
        return
    with progress.bar("looked at", sum(count or 0 for count in counts), "rows") as bar:
        teller = _Teller(bar)
        yield teller
        teller.flush()


class _Teller:
    def __init__(self, bar: progress.Bar) -> None:
        self._bar, self._waiting = bar, 0

    def row(self) -> None:
        self._waiting += 1
        if self._waiting == _EVERY:
            self.flush()

    def flush(self) -> None:
        self._bar.advance(self._waiting)
        self._waiting = 0


class _Sayer:
    def __init__(self) -> None:
        self._rows = 0
        self._start = self._last = time.monotonic()

    def row(self) -> None:
        self._rows += 1
        if self._rows % _EVERY == 0 and (now := time.monotonic()) - self._last >= _SAY_S:
            self._last = now
            progress.say(f"  looked at: {self._rows:,} rows, {self._rows / (now - self._start):,.1f}/s")


def _expected(opened: Opened) -> int | None:
    """How many rows there are, with those that were left out; None where only reading would tell."""
    if opened.artifact is not None and opened.artifact.manifest.stage == "evaluate":
        return opened.artifact.manifest.rows_out.get(SAMPLES, 0)
    total = sum(opened.artifact.manifest.dropped.values()) if opened.artifact else 0
    for part, _ in _parts(opened):
        for file in part.files:
            if not file.name.endswith((".parquet", ".jsonl")):
                return None
            total += _rows_of(file)
        if not part.files:
            return None
    return total


def _rows_of(file: Path) -> int:
    if file.name.endswith(".jsonl"):
        with file.open("rb") as lines:
            return sum(block.count(b"\n") for block in iter(lambda: lines.read(1 << 20), b""))
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowException, OSError):
        return 0  # whoever reads it says what is wrong
