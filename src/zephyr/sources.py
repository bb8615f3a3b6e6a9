"""Where rows come from: files, folders, hub names, artifacts and what ships with the package.

Every row is read with the place it came from (`file:line`), so that an error can name it. A row that is not
what it should be stops the stage, or is set aside and counted where the recipe says `invalid: drop`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    """A record with an id."""

    @property
    def prompt_id(self) -> str: ...  # noqa: D102


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
    """A hash of everything the source holds; for a hub name, of the name. With `verify`, an artifact's files are hashed again."""
    path = resolve(source.path)
    if path is None:
        return artifacts.sha256_text(f"hub:{source.path}")
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


def rows(source: DataSource) -> Iterator[tuple[str, str | None, Row]]:
    """Every row as (where, split or None, row), columns renamed as the source says."""
    path = resolve(source.path)
    reader = _read_hub(source.path) if path is None else _read_path(path)
    for where, split, row in reader:
        if source.split is not None and split is not None and split != source.split:
            continue
        yield where, source.split or split, _rename(row, source.columns, where)


def _rename(row: Row, columns: Mapping[str, str], where: str) -> Row:
    if not columns:
        return row
    missing = [theirs for theirs in columns.values() if theirs not in row]
    if missing:
        raise DataError(f"{where}: no column {missing[0]!r}; the row has {', '.join(map(repr, row))}")
    renamed = {ours: row[theirs] for ours, theirs in columns.items()}
    return {**{k: v for k, v in row.items() if k not in columns.values()}, **renamed}


def _read_path(path: Path) -> Iterator[tuple[str, str | None, Row]]:
    if path.is_dir():
        if artifact := _artifact(path):
            for split in artifact.splits():
                for i, row in enumerate(artifact.rows(split)):
                    yield f"{path}:{split}[{i}]", split, row
            return
        if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
            yield from _read_datasets_folder(path)
            return
        found = [p for p in _files(path) if p.name.endswith(SUFFIXES)]
        if not found:
            raise DataError(f"{path}: a folder without data files; looked for {', '.join(SUFFIXES)}")
        for file in found:
            yield from _read_file(file)
        return
    yield from _read_file(path)


def _read_file(path: Path) -> Iterator[tuple[str, str | None, Row]]:
    name = path.name
    if name.endswith((".jsonl", ".jsonl.gz")):
        yield from _read_jsonl(path)
    elif name.endswith((".json", ".json.gz")):
        with _open_text(path) as file:
            try:
                value = json.load(file)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: not valid JSON ({error})") from None
            except DAMAGED_GZIP as error:
                raise DataError(f"{path}: a damaged gzip file ({error})") from None
        if not isinstance(value, list):
            raise DataError(
                f"{path}: a JSON list of rows was expected, found {type(value).__name__}; one row a line belongs in a .jsonl file"
            )
        for i, row in enumerate(value):
            yield f"{path}[{i}]", None, _object(row, f"{path}[{i}]")
    elif name.endswith(".parquet"):
        yield from _read_parquet(path)
    else:
        raise UsageError(f"{path}: unknown kind of file; known are {', '.join(SUFFIXES)}")


def _read_parquet(path: Path) -> Iterator[tuple[str, str | None, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    i = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield f"{path}[{i}]", None, row
                    i += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # pyarrow says OSError of a damaged header
        raise DataError(f"{path}: not a readable Parquet file, after row {i} ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _open_text(path: Path) -> Any:
    encoding = "utf-8-sig"  # UTF-8, with or without the mark that some editors put in front
    return gzip.open(path, "rt", encoding=encoding) if path.name.endswith(".gz") else path.open(encoding=encoding)


def _read_jsonl(path: Path) -> Iterator[tuple[str, str | None, Row]]:
    number = 0
    try:
        with _open_text(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where}: not valid JSON ({error})") from None
                yield where, None, _object(value, where)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number + 1}: not UTF-8 text ({error.reason})") from None
    except DAMAGED_GZIP as error:
        raise DataError(f"{path}: a damaged gzip file after line {number} ({error})") from None


def _object(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{where}: an object with named columns was expected, found {type(value).__name__}")
    return value


def _read_datasets_folder(path: Path) -> Iterator[tuple[str, str | None, Row]]:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets and pyarrow raise many kinds; the user needs one line
        raise DataError(f"{path}: a folder of `datasets` that cannot be read ({_first_line(error)}); save it again") from error
    parts = loaded.items() if isinstance(loaded, datasets.DatasetDict) else [(None, loaded)]
    for split, part in parts:
        for i, row in enumerate(part):
            yield f"{path}:{split or 'rows'}[{i}]", _split_name(split), row


def _read_hub(name: str) -> Iterator[tuple[str, str | None, Row]]:
    import datasets

    try:
        loaded = datasets.load_dataset(name)
    except Exception as error:  # the hub's client raises many kinds; the user needs one line
        raise DataError(
            f"{name}: neither a file here nor a data set the hub gave us ({type(error).__name__}: {_first_line(error)})"
        ) from error
    for split, part in loaded.items():
        for i, row in enumerate(part):
            yield f"{name}:{split}[{i}]", _split_name(split), row


def _split_name(split: str | None) -> str | None:
    """The public sets' `train_sft`, `test_prefs`... as ours."""
    if split is None:
        return None
    return "test" if split.startswith(("test", "validation", "eval")) else "train"


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
    by_split: dict[str, list[Located[Record]]] = {"train": [], "test": []}
    bad: list[tuple[str, str]] = []
    seen: dict[object, tuple[str, Record]] = {}

    def refuse(where: str, problem: str, row: Row, reason: str | None = None) -> None:
        bad.append((where, problem))
        if invalid == "drop":
            out.drop(f"invalid: {reason or _reason(problem)}", where, row)

    for source in data:
        for where, split, row in rows(source):
            out.manifest.rows_in += 1
            try:
                record = parse(row)
            except DataError as error:
                refuse(where, str(error), row)
                continue
            name = identity(record) if identity else record.prompt_id
            if name in seen:
                first, other = seen[name]
                if other == record:
                    out.drop("duplicate of an earlier row", where, row)
                elif row.get("prompt_id"):
                    problem = f"the id {record.prompt_id[:16]} repeats with different content (first at {first})"
                    refuse(where, problem, row, "the id repeats with different content")
                else:
                    out.drop("same prompt as an earlier row", where, row)
                continue
            seen[name] = (where, record)
            by_split[split or split_of(record.prompt_id, test_fraction)].append(Located(where, record))
    if bad and invalid == "error":
        more = f"\n{len(bad)} of {out.manifest.rows_in} rows cannot be used" if len(bad) > 1 else ""
        raise DataError(f"{bad[0][0]}: {bad[0][1]}{more}; mend the data, or set `invalid: drop` to leave such rows out and count them")
    leaked = {item.record.prompt_id for item in by_split["train"]} & {item.record.prompt_id for item in by_split["test"]}
    if leaked:
        raise DataError(f"{len(leaked)} prompts are in both train and test (first id {min(leaked)[:16]}); take them out of one")
    if not by_split["train"] and not by_split["test"]:
        raise DataError(f"no usable rows in {', '.join(s.path for s in data)}")
    return by_split


def _reason(problem: str) -> str:
    """A problem without its particulars, so that equal reasons are counted together."""
    import re

    return re.sub(r"\[\d+\]", "[]", problem.split(" (", 1)[0])[:120]
