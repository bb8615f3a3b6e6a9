"""Where rows come from: files, folders, hub names, artifacts and what ships with the package.

Every row is read with the place it came from (`file:line`), so that an error can name it. A row that is not
what it should be stops the stage, or is set aside and counted where the recipe says `invalid: drop`.

A source may have splits of its own: those of a data set, those of an artifact, or files in a folder that are named
after them (`train_sft-00000-of-00003.parquet`, `test.jsonl`, `validation/0.jsonl`). They are train or test rows by how
their names begin. A single file, and a data set of nothing but `train`, name no split: the recipe's `test_fraction` decides.
What an artifact calls train is train: whoever made it has decided that already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from zephyr import artifacts, files
from zephyr.artifacts import Artifact, Draft
from zephyr.errors import ArtifactError, DataError, UsageError
from zephyr.files import SUFFIXES, Read, Unread, first_line
from zephyr.recipe import DataSource
from zephyr.records import Row, content_id, seeded_unit

BUILTIN = "builtin:"
HUB_FILE = "hf://datasets/"  # one file of a data set on the hub: hf://datasets/OWNER/NAME/FILE
ASIDE = ("train_gen", "test_gen")  # splits of ours that nothing reads unless `source_split` names them


class Identified(Protocol):
    """A record with a prompt, the id of that, and what tells the record from others: the same id, or a hash of its texts."""

    # D102: the line above says what each is
    @property
    def prompt(self) -> str: ...  # noqa: D102
    @property
    def prompt_id(self) -> str: ...  # noqa: D102
    @property
    def identity(self) -> str: ...  # noqa: D102
    def row(self) -> Row: ...  # noqa: D102


Record = TypeVar("Record", bound=Identified)
Taken = TypeVar("Taken", bound=Identified, contravariant=True)


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
    if name.startswith(HUB_FILE):
        if len(name.removeprefix(HUB_FILE).split("/")) < 3 or not name.endswith(SUFFIXES):
            raise UsageError(f"{name}: {HUB_FILE}OWNER/NAME/FILE was expected, with one of {', '.join(SUFFIXES)}")
        return None
    path = Path(name).expanduser()
    if path.exists():
        return path
    looks_like_path = name.startswith((".", "/", "~")) or name.endswith(SUFFIXES) or name.count("/") != 1
    if looks_like_path:
        raise UsageError(f"{name}: no such file or folder")
    return None


def named(text: str) -> DataSource:
    """The source that a command line names: a file or folder, or a hub name that may say which commit, `OWNER/NAME@REVISION`.

    Raises:
        UsageError: it looks like a path and nothing is there.
    """
    path, mark, revision = text.rpartition("@")
    if mark and not Path(text).expanduser().exists() and resolve(path) is None:
        return DataSource(path=path, revision=revision)
    return DataSource(path=text)


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
    content = artifacts.fingerprint(_files(path), cache)
    # a fingerprint knows files by their own names: one that moves from train/ to test/ has to change it, too
    placed = [(file, _split_in_folder(file.relative_to(path))) for file in (_data_files(path) if path.is_dir() else [])]
    folders = [[str(file.relative_to(path)), split] for file, split in placed if split]
    return artifacts.sha256_text(artifacts.canonical([content, folders])) if folders else content


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


# --- splits ----------------------------------------------------------------------------------------------------

# how the names of splits begin, in public data sets and their files: `train_sft`, `test-hard`, `validation`
_TRAIN = re.compile(r"train(?:set)?(?![a-z]).*|training", re.IGNORECASE)
_TEST = re.compile(r"(?:test|validation|valid|val|dev|eval)(?:set)?(?![a-z]).*|testing|evaluation", re.IGNORECASE)
# the end of a file's name that only says which piece it is: `-00000-of-00003`, `_7`, `.part-2`
_PIECE = re.compile(r"[-_.](?:part|shard|chunk)?[-_.]?\d+(?:[-_.]of[-_.]\d+)?(?:-[0-9a-f]{6,})?$")


@dataclass(frozen=True)
class Part:
    """Some of a source's rows: those of one split of its own, or of a file that names none (None)."""

    name: str | None
    read: Callable[[], Read]
    settled: bool = False  # an artifact's: what is train has been decided, even where there is nothing else
    files: tuple[Path, ...] = ()  # where its rows are files
    label: str = ""  # what stands before the number of a row in the place that `read` gives it
    aside: bool = False  # an artifact's that is there for who asks for it by name

    @property
    def split(self) -> str | None:
        """What its rows are for; a split that is not called anything like test is for training."""
        return None if self.name is None else "test" if _TEST.fullmatch(self.name) else "train"


def rows(source: DataSource, *, whole: bool = False) -> Iterator[tuple[str, str | None, Row]]:
    """Every row as (where, split or None, row), columns renamed as the source says.

    Args:
        source: where they come from.
        whole: take the rows of all its splits, where they are no matter of training and test.

    Raises:
        DataError: a row or a file cannot be read, or the source has several splits for one purpose and none was chosen.
    """
    for where, split, row in located(source, whole=whole):
        if isinstance(row, Unread):
            raise DataError(f"{where}: {row.problem}")
        yield where, split, row


def located(source: DataSource, *, whole: bool = False) -> Iterator[tuple[str, str | None, Row | Unread]]:
    """As `rows`, but a row that cannot be read is given as what is wrong with it."""
    for part, split in divided(source, whole=whole):
        for where, row in part.read():
            yield where, split, row if isinstance(row, Unread) else rename(row, source.columns)


def divided(source: DataSource, *, whole: bool = False) -> list[tuple[Part, str | None]]:
    """The parts of a source that are read, in order, each with its split; None where that is not decided yet."""
    parts = _parts(source)
    chosen = parts if whole else _chosen(source, parts)
    # the hub calls all that nobody has divided `train`: where there is nothing else, no split was named
    undivided = source.source_split is None and all(part.split != "test" and not part.settled for part in parts)
    return [(part, source.split or (None if undivided else part.split)) for part in chosen]


def _chosen(source: DataSource, parts: Sequence[Part]) -> list[Part]:
    """The parts that a source asks for.

    Raises:
        DataError: it has none of those, or several for one purpose and says not which.
    """
    splits = {part.name: part.split for part in parts if part.name is not None}
    if source.source_split is not None:
        if source.source_split not in splits:
            there = f"it has {', '.join(sorted(splits))}" if splits else "its rows name none"
            raise DataError(f"{source.path}: no split {source.source_split!r}; {there}")
        return [part for part in parts if part.name == source.source_split]
    wanted = [part for part in parts if not part.aside and (part.name is None or source.split in (None, part.split))]
    if source.split and not wanted:
        raise DataError(f"{source.path}: has no {source.split} rows; its splits are {', '.join(sorted(splits))}")
    for purpose in ("train", "test"):
        several = sorted({part.name for part in wanted if part.name is not None and part.split == purpose})
        if len(several) > 1:
            raise DataError(
                f"{source.path}: has {len(several)} splits that would be {purpose} rows, {', '.join(several)}; "
                f"choose one: {{path: {source.path}, source_split: {several[0]}, split: {purpose}}}"
            )
    return wanted


# --- folders, artifacts, the hub -----------------------------------------------------------------------------------


def rename(row: Row, columns: Mapping[str, str]) -> Row | Unread:
    """A row under our names for its columns (ours -> theirs), or what is missing for that."""
    if not columns:
        return row
    missing = [theirs for theirs in columns.values() if theirs not in row]
    if missing:
        return Unread(f"no column {missing[0]!r}; the row has {', '.join(map(repr, row))}", row)
    renamed = {ours: row[theirs] for ours, theirs in columns.items()}
    return {**{k: v for k, v in row.items() if k not in columns.values()}, **renamed}


def _parts(source: DataSource) -> list[Part]:
    path = resolve(source.path)
    if path is None:
        return [_hub_file(source)] if source.path.startswith(HUB_FILE) else _hub_parts(source)
    if path.is_file():
        return [Part(None, partial(files.read, path), files=(path,))]
    if artifact := _artifact(path):
        return _artifact_parts(artifact)
    if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
        return _saved_parts(path)
    found = _data_files(path)
    if not found:
        raise DataError(f"{path}: a folder without data files; looked for {', '.join(SUFFIXES)}")
    return [Part(_split_in_name(file.relative_to(path)), partial(files.read, file), files=(file,)) for file in found]


def _data_files(path: Path) -> list[Path]:
    return [p for p in _files(path) if p.name.endswith(SUFFIXES)]


def _split_in_name(path: Path) -> str | None:
    """The split that a file in a folder is named after, or else the folder it lies in."""
    stem = path.name.removesuffix(next(suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(suffix)))
    return _as_split(_PIECE.sub("", stem)) or _split_in_folder(path)


def _split_in_folder(path: Path) -> str | None:
    return next((name for name in reversed(path.parts[:-1]) if _as_split(name)), None)


def _as_split(name: str) -> str | None:
    return name if _TRAIN.fullmatch(name) or _TEST.fullmatch(name) else None


def _artifact_parts(artifact: Artifact) -> list[Part]:
    """Its splits.

    Raises:
        DataError: it holds no rows that a stage reads: a model, or the answers that were compared in an evaluation.
    """
    splits = artifact.splits()
    if not splits or set(splits) - {"train", "test", *ASIDE}:
        raise DataError(
            f"{artifact.path}: holds what {artifact.manifest.stage} made, which has no train or test rows; "
            "give what synthesize, curate, complete, rate or binarize made, or a file of rows"
        )

    def part(split: str) -> Part:
        paths = tuple(sorted((artifact.path / "data").glob(f"{split}-*.parquet")))
        label = f"{artifact.path}:{split}"
        return Part(split, partial(_artifact_rows, artifact, split), settled=True, files=paths, label=label, aside=split in ASIDE)

    return [part(split) for split in splits]


def _artifact_rows(artifact: Artifact, split: str) -> Read:
    for i, row in enumerate(artifact.each_row(split)):
        yield f"{artifact.path}:{split}[{i}]", row


def _saved_parts(path: Path) -> list[Part]:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets and pyarrow raise many kinds; the user needs one line
        raise DataError(f"{path}: a folder of `datasets` that cannot be read ({first_line(error)}); save it again") from error
    if not isinstance(loaded, datasets.DatasetDict):
        return [_of_datasets(None, f"{path}:rows", loaded)]
    return [_of_datasets(split, f"{path}:{split}", part) for split, part in loaded.items()]


def _hub_parts(source: DataSource) -> list[Part]:
    import datasets

    try:
        loaded = datasets.load_dataset(source.path, source.subset, revision=source.revision)
    except Exception as error:  # the hub's client raises many kinds; the user needs one line
        raise DataError(
            f"{source.path}: neither a file here nor a data set the hub gave us ({type(error).__name__}: {first_line(error)})"
        ) from error
    return [_of_datasets(split, f"{source.path}:{split}", part) for split, part in loaded.items()]


def _hub_file(source: DataSource) -> Part:
    """One file of a data set, which may be one that the hub's own loader cannot read: a script, files of different columns."""
    from huggingface_hub import hf_hub_download

    owner, name, file = source.path.removeprefix(HUB_FILE).split("/", 2)
    try:
        path = Path(hf_hub_download(f"{owner}/{name}", file, repo_type="dataset", revision=source.revision))
    except Exception as error:  # the hub's client raises many kinds; the user needs one line
        raise DataError(f"{source.path}: the hub did not give us this file ({type(error).__name__}: {first_line(error)})") from error
    return Part(None, partial(files.read, path), files=(path,), label=source.path)


def _of_datasets(split: str | None, label: str, rows: Any) -> Part:
    return Part(split, partial(_numbered, label, rows), label=label)


def _numbered(where: str, part: Any) -> Read:
    for i, row in enumerate(part):
        yield f"{where}[{i}]", row


# --- collecting ------------------------------------------------------------------------------------------------


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
) -> dict[str, list[Located[Record]]]:
    """All records of the sources, by split, in the order they were read.

    A row that does not parse, or whose given id stands for something else already, is an error, or is dropped
    and counted. A row that is there twice is kept once and counted. A prompt is in one split: where it would be in both,
    a row whose split was drawn gives way, and is counted; where both were given, that is an error, or the train row is dropped.

    Args:
        data: the sources, in order.
        parse: what makes a record of a row.
        out: the artifact being made; it counts the rows and keeps the dropped ones.
        invalid: `error` or `drop`.
        test_fraction: the share that goes to the test split, where the source names none.

    Raises:
        DataError: naming the first bad row and how many there are.
    """
    found = _Collection[Record](out, drops=invalid == "drop")
    gather(data, parse, out, found, test_fraction=test_fraction)
    return found.checked(names_of(data))


def names_of(data: Sequence[DataSource]) -> str:
    """The sources, as an error names them."""
    return ", ".join(source.path for source in data)


class Collector(Protocol[Taken]):
    """What becomes of the rows of several sources."""

    def refuse(self, where: str, unread: Unread) -> None:
        """A row that cannot be used."""

    def add(self, split: str, where: str, record: Taken, row: Row, *, drawn: bool) -> None:
        """A record of a split that was drawn or given."""


def gather(
    data: Sequence[DataSource], parse: Callable[[Mapping[str, Any]], Record], out: Draft, found: Collector[Record], *, test_fraction: float
) -> None:
    """Read the rows of the sources, one at a time, and hand them to `found`; `out.manifest.rows_in` counts them."""
    for source in data:
        note_unpinned(source, out)
        left_out = 0
        for where, given, row in located(source):
            out.manifest.rows_in += 1
            if isinstance(row, Unread):
                found.refuse(where, row)
                continue
            try:
                record = parse(row)
            except DataError as error:
                found.refuse(where, Unread(str(error), row))
                continue
            split = given or split_of(record.prompt_id, test_fraction)
            if split == "train" and seeded_unit(0, "mixture", record.prompt_id) >= source.weight:
                left_out += 1
            else:
                found.add(split, where, record, row, drawn=given is None)
        if left_out:
            out.note(f"{source.path}: {left_out} train rows were left out, for its weight in the mixture is {source.weight:g}.")


def note_unpinned(source: DataSource, out: Draft) -> None:
    """Note of a data set of the hub that a change there would not be noticed."""
    if resolve(source.path) is not None or re.fullmatch(r"[0-9a-f]{40}", source.revision or ""):
        return
    at = f" at {source.revision}" if source.revision else ""
    note = f"{source.path} was taken from the hub as it was{at}; a change there is not noticed unless `revision` is a commit."
    if note not in out.manifest.notes:
        out.note(note)


class _Collection(Generic[Record]):
    """Records as they come, and what is wrong with the others."""

    def __init__(self, out: Draft, *, drops: bool) -> None:
        self._out, self._drops = out, drops
        self._by_split: dict[str, list[Located[Record]]] = {"train": [], "test": []}
        self._bad: list[tuple[str, str]] = []
        self._seen: dict[str, Located[Record]] = {}
        self._named: dict[str, Located[Record]] = {}  # by the id of its prompt, the first of each
        self._drawn: set[str] = set()  # the places of rows whose split was drawn, not given

    def refuse(self, where: str, unread: Unread, reason: str | None = None) -> None:
        """A row that cannot be used."""
        self._bad.append((where, unread.problem))
        if self._drops:
            self._out.drop(f"invalid: {reason or reason_of(unread.problem)}", where, unread.row)

    def add(self, split: str, where: str, record: Record, row: Row, *, drawn: bool) -> None:
        """A record of a split that was drawn or given, unless it was there before."""
        item = Located(where, record)
        first, named = self._seen.get(record.identity, item), self._named.get(record.prompt_id, item)
        if named.record.prompt != record.prompt:
            first = named  # one id, two prompts
        if first is item:
            self._by_split[split].append(item)
            self._seen[record.identity] = item
            self._named.setdefault(record.prompt_id, item)
            self._drawn |= {where} if drawn else set()
        elif first.record == record:
            self._out.drop("duplicate of an earlier row", where, row)
        elif row.get("prompt_id") or first.record.prompt != record.prompt:
            problem = f"the id {record.prompt_id[:16]} repeats with different content (first at {first.where})"
            self.refuse(where, Unread(problem, row), "the id repeats with different content")
        else:
            what = "prompt" if record.identity == record.prompt_id else "texts"
            self._out.drop(f"same {what} as an earlier row", where, row)

    def checked(self, names: str) -> dict[str, list[Located[Record]]]:
        """The records, once it is sure that none is missing without having been asked for, and that no prompt is in both splits."""
        if self._bad and not self._drops:
            (where, problem), count, rows_in = self._bad[0], len(self._bad), self._out.manifest.rows_in
            more = f"\n{count} of {rows_in} rows cannot be used" if count > 1 else ""
            raise DataError(f"{where}: {problem}{more}; mend the data, or set `invalid: drop` to leave such rows out and count them")
        self._draw_apart()
        if not self._by_split["train"] and not self._by_split["test"]:
            raise DataError(f"no usable rows in {names}{self._out.why_dropped()}")
        return self._by_split

    def _draw_apart(self) -> None:
        """Take prompts out of one split that are in both: what is measured on a prompt that was learnt says nothing."""
        train = _by_prompt(self._by_split["train"])
        self._leave_out("test", [item for item in self._by_split["test"] if item.where in self._drawn and _twin(item, train)])
        test = _by_prompt(self._by_split["test"])
        both = [item for item in self._by_split["train"] if _twin(item, test)]
        if given := [item for item in both if item.where not in self._drawn and not self._drops]:
            count = len({content_id(item.record.prompt) for item in given})
            raise DataError(
                f"{count} prompts are in both train and test, by id or in the same words (first: {given[0].where} and "
                f"{_twin(given[0], test)}); take them out of one, or set `invalid: drop` to leave them out of train"
            )
        self._leave_out("train", both)

    def _leave_out(self, split: str, items: Sequence[Located[Record]]) -> None:
        other = "test" if split == "train" else "train"
        for item in items:
            self._out.drop(f"the prompt is in the {other} split, too", item.where, item.record.row())
        places = {item.where for item in items}
        self._by_split[split] = [item for item in self._by_split[split] if item.where not in places]


def _by_prompt(items: Sequence[Located[Record]]) -> dict[str, str]:
    """Where a prompt is first, by its id and by its words."""
    return {name: item.where for item in reversed(items) for name in (item.record.prompt_id, content_id(item.record.prompt))}


def _twin(item: Located[Record], places: Mapping[str, str]) -> str | None:
    """Where the same prompt is among others, or None."""
    return places.get(item.record.prompt_id) or places.get(content_id(item.record.prompt))


def reason_of(problem: str) -> str:
    """A problem without its particulars, so that equal reasons are counted together."""
    return re.sub(r"\[\d+\]", "[]", re.split(r" \(|; the row has |, found | in an object with the keys", problem)[0])[:120]
