"""Where rows come from: files, folders, hub names, artifacts and what ships with the package.

Every row is read with the place it came from (`file:line`), so that an error can name it. A row that is not
what it should be stops the stage, or is set aside and counted where the recipe says `invalid: drop`.

A source may have splits of its own: those of a data set, those of an artifact, or files in a folder that are named
after them (`train_sft-00000-of-00003.parquet`, `test.jsonl`, `validation/0.jsonl`). They are train or test rows by how
their names begin. A single file, and a data set of nothing but `train`, name no split: the recipe's `test_fraction` decides.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from zephyr import artifacts
from zephyr.artifacts import Artifact, Draft
from zephyr.errors import ArtifactError, DataError, UsageError
from zephyr.recipe import DataSource
from zephyr.records import Row, seeded_unit

BUILTIN = "builtin:"
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


DAMAGED_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)


class Identified(Protocol):
    """A record with a prompt and its id."""

    @property
    def prompt_id(self) -> str: ...  # noqa: D102
    @property
    def prompt(self) -> str: ...  # noqa: D102


Record = TypeVar("Record", bound=Identified)


@dataclass(frozen=True)
class Located(Generic[Record]):
    """A record and the place it was read from."""

    where: str
    record: Record


def resolve(name: str) -> Path | None:
    """The file or folder a source names, or None for a name that can only be on the hub.

    Raises:
        UsageError: it looks like a path and nothing is there.
    """
    if name.startswith(BUILTIN):
        path = Path(str(resources.files("zephyr"))) / name.removeprefix(BUILTIN)
        if not path.exists():
            raise UsageError(f"{name}: the package ships no such file; see `zephyr.demo`")
        return path
    path = Path(name).expanduser()
    if path.exists():
        return path
    looks_like_path = name.startswith((".", "/", "~")) or name.endswith(SUFFIXES) or name.count("/") != 1
    if looks_like_path:
        raise UsageError(f"{name}: no such file or folder")
    return None


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts))


def digest(source: DataSource, cache: Path | None = None, *, verify: bool = False) -> str:
    """A hash of everything the source holds; for a hub name, of name and revision. With `verify`, an artifact's files are hashed again."""
    path = resolve(source.path)
    if path is None:
        return artifacts.sha256_text(f"hub:{source.path}" + (f"@{source.revision}" if source.revision else ""))
    for name in ("revision", "subset"):
        if getattr(source, name):
            raise UsageError(f"{source.path}: is here, not on the hub, and has no {name}; take `{name}` out")
    if artifact := _artifact(path, verify=verify):
        return artifact.manifest.digest
    return artifacts.fingerprint(_files(path), cache)


def _artifact(path: Path, *, verify: bool = False) -> Artifact | None:
    """The artifact in a folder, or None where there is no manifest.

    Raises:
        ArtifactError: its files are not those of its manifest: rows that were lost or edited would pass unseen.
    """
    manifest = artifacts.Manifest.read(path)
    if manifest is None:
        return None
    artifact = Artifact(path, manifest)
    if problem := artifact.check(verify=verify):
        raise ArtifactError(f"{problem}; make the artifact again, or name a file of rows outside of it")
    return artifact


@dataclass(frozen=True)
class _Part:
    """Some of a source's rows: those of one split of its own, or of a file that names none (None)."""

    name: str | None
    read: Callable[[], Iterator[tuple[str, Row | DataError]]]

    @property
    def split(self) -> str | None:
        """What its rows are for."""
        return None if self.name is None else "test" if _TEST.match(self.name.lower()) else "train"


_TEST = re.compile(r"test|val|dev|eval")
# what a file or its folder is named after: a split, with what the data set calls its kinds of it
_NAMED = re.compile(r"(?:train|test|validation|valid|val|dev|eval)(?![a-z])[\w.]*", re.IGNORECASE)
_SHARD = re.compile(r"-\d+(-of-\d+)?(-[0-9a-f]+)?$")


def rows(source: DataSource) -> Iterator[tuple[str, str | None, Row]]:
    """Every row as (where, split or None, row), columns renamed as the source says.

    Raises:
        DataError: a row or a file cannot be read, or the source has several splits for one purpose and none was chosen.
    """
    for where, split, row in _located(source):
        if isinstance(row, DataError):
            raise DataError(f"{where}: {row}")
        yield where, split, row


def _located(source: DataSource) -> Iterator[tuple[str, str | None, Row | DataError]]:
    """As `rows`, but a row that cannot be read is given as its error."""
    for part in _chosen(source, _parts(source)):
        for where, row in part.read():
            yield where, source.split or part.split, row if isinstance(row, DataError) else _rename(row, source.columns)


def _chosen(source: DataSource, parts: Sequence[_Part]) -> list[_Part]:
    """The parts that a source asks for."""
    names = {part.name: part.split for part in parts if part.name is not None}
    if source.source_split is not None:
        if source.source_split not in names:
            there = f"it has {', '.join(sorted(names))}" if names else "its rows name none"
            raise DataError(f"{source.path}: no split {source.source_split!r}; {there}")
        return [part for part in parts if part.name == source.source_split]
    wanted = {name: split for name, split in names.items() if source.split in (None, split)}
    for purpose in ("train", "test"):
        several = sorted(name for name, split in wanted.items() if split == purpose)
        if len(several) > 1:
            raise DataError(
                f"{source.path}: has {len(several)} splits that would be {purpose} rows, {', '.join(several)}; "
                f"choose one: {{path: {source.path}, source_split: {several[0]}, split: {purpose}}}"
            )
    if source.split and names and not wanted and None not in {part.name for part in parts}:
        raise DataError(f"{source.path}: has no {source.split} rows; its splits are {', '.join(sorted(names))}")
    if set(names.values()) == {"train"} and source.split is None:  # whoever has one split only has named none
        return [_Part(None, part.read) for part in parts]
    return [part for part in parts if part.name is None or part.name in wanted]


def _rename(row: Row, columns: Mapping[str, str]) -> Row | DataError:
    if not columns:
        return row
    missing = [theirs for theirs in columns.values() if theirs not in row]
    if missing:
        return DataError(f"no column {missing[0]!r}; the row has {', '.join(map(repr, row))}")
    renamed = {ours: row[theirs] for ours, theirs in columns.items()}
    return {**{k: v for k, v in row.items() if k not in columns.values()}, **renamed}


def _parts(source: DataSource) -> list[_Part]:
    path = resolve(source.path)
    if path is None:
        return _hub_parts(source)
    if path.is_file():
        return [_Part(None, partial(_read_file, path))]
    if artifact := _artifact(path):
        return [_Part(split, partial(_artifact_rows, artifact, split)) for split in artifact.splits()]
    if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
        return _saved_parts(path)
    found = [p for p in _files(path) if p.name.endswith(SUFFIXES)]
    if not found:
        raise DataError(f"{path}: a folder without data files; looked for {', '.join(SUFFIXES)}")
    return [_Part(_split_in_name(file.relative_to(path)), partial(_read_file, file)) for file in found]


def _split_in_name(path: Path) -> str | None:
    """The split that a file in a folder is named after, or the folder it lies in."""
    stem = path.name[: -len(next(suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(suffix)))]
    for name in (_SHARD.sub("", stem), *reversed(path.parts[:-1])):
        if _NAMED.fullmatch(name):
            return name
    return None


def _artifact_rows(artifact: Artifact, split: str) -> Iterator[tuple[str, Row | DataError]]:
    for i, row in enumerate(artifact.rows(split)):
        yield f"{artifact.path}:{split}[{i}]", row


def _read_file(path: Path) -> Iterator[tuple[str, Row | DataError]]:
    name = path.name
    if name.endswith((".jsonl", ".jsonl.gz")):
        yield from _read_jsonl(path)
    elif name.endswith((".json", ".json.gz")):
        with _open_text(path) as file:
            try:
                value = json.load(file, object_pairs_hook=_without_repeats)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: not valid JSON ({error})") from None
            except DAMAGED_GZIP as error:
                raise DataError(f"{path}: a damaged gzip file ({error})") from None
        if not isinstance(value, list):
            raise DataError(
                f"{path}: a JSON list of rows was expected, found {type(value).__name__}; one row a line belongs in a .jsonl file"
            )
        for i, row in enumerate(value):
            yield f"{path}[{i}]", _object(row)
    elif name.endswith(".parquet"):
        yield from _read_parquet(path)
    else:
        raise UsageError(f"{path}: unknown kind of file; known are {', '.join(SUFFIXES)}")


def _read_parquet(path: Path) -> Iterator[tuple[str, Row | DataError]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    i = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield f"{path}[{i}]", row
                    i += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # pyarrow says OSError of a damaged header
        raise DataError(f"{path}: not a readable Parquet file, after row {i} ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _open_text(path: Path) -> Any:
    encoding = "utf-8-sig"  # UTF-8, with or without the mark that some editors put in front
    return gzip.open(path, "rt", encoding=encoding) if path.name.endswith(".gz") else path.open(encoding=encoding)


def _read_jsonl(path: Path) -> Iterator[tuple[str, Row | DataError]]:
    number = 0
    try:
        with _open_text(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = _object(json.loads(line, object_pairs_hook=_without_repeats))
                except (ValueError, RecursionError) as error:
                    row = DataError(f"not valid JSON ({error})")
                yield f"{path}:{number}", row
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number + 1}: not UTF-8 text ({error.reason})") from None
    except DAMAGED_GZIP as error:
        raise DataError(f"{path}: a damaged gzip file after line {number} ({error})") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> Row:
    """An object whose keys are all different: of two, the last would win unseen."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in [k for k, _ in pairs[:i]])
        raise ValueError(f"the key {twice!r} is given twice")
    return found


def _object(value: object) -> Row | DataError:
    if not isinstance(value, dict):
        return DataError(f"an object with named columns was expected, found {type(value).__name__}")
    return value


def _saved_parts(path: Path) -> list[_Part]:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets and pyarrow raise many kinds; the user needs one line
        raise DataError(f"{path}: a folder of `datasets` that cannot be read ({_first_line(error)}); save it again") from error
    if not isinstance(loaded, datasets.DatasetDict):
        return [_Part(None, partial(_numbered, f"{path}:rows", loaded))]
    return [_Part(split, partial(_numbered, f"{path}:{split}", part)) for split, part in loaded.items()]


def _hub_parts(source: DataSource) -> list[_Part]:
    import datasets

    try:
        loaded = datasets.load_dataset(source.path, source.subset, revision=source.revision)
    except Exception as error:  # the hub's client raises many kinds; the user needs one line
        raise DataError(
            f"{source.path}: neither a file here nor a data set the hub gave us ({type(error).__name__}: {_first_line(error)})"
        ) from error
    return [_Part(split, partial(_numbered, f"{source.path}:{split}", part)) for split, part in loaded.items()]


def _numbered(where: str, part: Any) -> Iterator[tuple[str, Row | DataError]]:
    for i, row in enumerate(part):
        yield f"{where}[{i}]", row


def split_of(prompt_id: str, test_fraction: float) -> str:
    """`train` or `test` by the hash of the id alone: adding rows never moves one from test to train."""
    return "test" if seeded_unit(0, "split", prompt_id) < test_fraction else "train"


def collect(
    data: Sequence[DataSource],
    parse: Callable[[Mapping[str, Any]], Record],
    out: Draft,
    *,
    invalid: str,
    test_fraction: float,
    identity: Callable[[Record], object] | None = None,
) -> dict[str, list[Located[Record]]]:
    """All records of the sources, by split, in the order they were read.

    A row that does not parse, or whose given id stands for something else already, is an error, or is dropped
    and counted. A row that is there twice is kept once and counted.

    Args:
        data: the sources, in order.
        parse: what makes a record of a row.
        out: the artifact being made; it counts the rows and keeps the dropped ones.
        invalid: `error` or `drop`.
        test_fraction: the share that goes to the test split, where the source names none.
        identity: what makes two rows the same; by default the record, under its id.

    Raises:
        DataError: naming the first bad row and how many there are.
    """
    found = _Collection(out, invalid, identity or (lambda record: record.prompt_id))
    for source in data:
        _note_unpinned(source, out)
        left_out = 0
        for where, split, row in _located(source):
            out.manifest.rows_in += 1
            if isinstance(row, DataError):
                found.refuse(where, str(row), {})
                continue
            try:
                record = parse(row)
            except DataError as error:
                found.refuse(where, str(error), row)
                continue
            drawn = split is None
            split = split or split_of(record.prompt_id, test_fraction)
            if split == "train" and seeded_unit(0, "mixture", record.prompt_id) >= source.weight:
                left_out += 1
            else:
                found.add(split, where, record, row, drawn=drawn)
        if left_out:
            out.note(f"{source.path}: {left_out} train rows were left out, for its weight in the mixture is {source.weight:g}.")
    return found.checked(", ".join(s.path for s in data))


def _note_unpinned(source: DataSource, out: Draft) -> None:
    if resolve(source.path) is None and source.revision is None:
        out.note(f"{source.path} was taken from the hub as it was; with a `revision` (a commit), a change there would be noticed.")


class _Collection(Generic[Record]):
    """Records as they come, and what is wrong with the others."""

    def __init__(self, out: Draft, invalid: str, identity: Callable[[Record], object]) -> None:
        self._out, self._invalid, self._identity = out, invalid, identity
        self._by_split: dict[str, list[Located[Record]]] = {"train": [], "test": []}
        self._bad: list[tuple[str, str]] = []
        self._seen: dict[object, tuple[str, Record]] = {}
        self._drawn: set[str] = set()  # the places of rows whose split was drawn, not given

    def refuse(self, where: str, problem: str, row: Row, reason: str | None = None) -> None:
        """A row that cannot be used."""
        self._bad.append((where, problem))
        if self._invalid == "drop":
            self._out.drop(f"invalid: {reason or _reason(problem)}", where, row)

    def add(self, split: str, where: str, record: Record, row: Row, *, drawn: bool) -> None:
        """A record, unless it was there before; `drawn`: its split was."""
        name = self._identity(record)
        if name not in self._seen:
            if drawn:
                self._drawn.add(where)
            self._seen[name] = (where, record)
            self._by_split[split].append(Located(where, record))
            return
        first, other = self._seen[name]
        if other == record:
            self._out.drop("duplicate of an earlier row", where, row)
        elif row.get("prompt_id"):
            problem = f"the id {record.prompt_id[:16]} repeats with different content (first at {first})"
            self.refuse(where, problem, row, "the id repeats with different content")
        else:
            self._out.drop("same prompt as an earlier row", where, row)

    def checked(self, names: str) -> dict[str, list[Located[Record]]]:
        """The records, once it is sure that none is missing without having been asked for, and that no prompt is in both splits."""
        bad, rows_in = self._bad, self._out.manifest.rows_in
        if bad and self._invalid == "error":
            more = f"\n{len(bad)} of {rows_in} rows cannot be used" if len(bad) > 1 else ""
            raise DataError(f"{bad[0][0]}: {bad[0][1]}{more}; mend the data, or set `invalid: drop` to leave such rows out and count them")
        self._part_what_is_in_both()
        if not self._by_split["train"] and not self._by_split["test"]:
            raise DataError(f"no usable rows in {names}{self._out.why_dropped()}")
        return self._by_split

    def _part_what_is_in_both(self) -> None:
        """A prompt in both splits, under one id or in the same words: what is measured on it would say nothing.

        Where its split was drawn, the test row is dropped; where it was given, that is for the user to mend.
        """
        train, test = self._by_split["train"], self._by_split["test"]
        if leaked := {item.record.prompt_id for item in train} & {item.record.prompt_id for item in test}:
            raise DataError(f"{len(leaked)} prompts are in both train and test (first id {min(leaked)[:16]}); take them out of one")
        words = {_normal(item.record.prompt): item.where for item in train}
        both = [item for item in test if _normal(item.record.prompt) in words]
        if given := [item for item in both if item.where not in self._drawn]:
            first = given[0]
            raise DataError(
                f"{len(given)} test prompts are in train too, under other ids (first: {first.where}, the same words as "
                f"{words[_normal(first.record.prompt)]}); take them out of one"
            )
        for item in both:
            self._out.drop("test row with the words of a train prompt", item.where, {"prompt": item.record.prompt})
        out_of_it = {item.where for item in both}
        self._by_split["test"] = [item for item in test if item.where not in out_of_it]


def _normal(text: str) -> str:
    """A text without what does not make it another: spaces, capitals."""
    return " ".join(text.split()).casefold()


def _reason(problem: str) -> str:
    """A problem without its particulars, so that equal reasons are counted together."""
    return re.sub(r"\[\d+\]", "[]", problem.split(" (", 1)[0])[:120]
