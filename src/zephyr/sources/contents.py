"""What a source holds: files, the splits of an artifact or of a data set; and a hash of it all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zephyr import artifacts, files, hashes
from zephyr.artifacts import Artifact
from zephyr.errors import ArtifactError, DataError, UsageError
from zephyr.files import SUFFIXES, Read, first_line
from zephyr.recipe import DataSource
from zephyr.sources.names import HUB_FILE, resolve
from zephyr.sources.splits import purpose_of, split_in_folder, split_in_name

ASIDE = ("train_gen", "test_gen")  # splits of ours that nothing reads unless `source_split` names them


@dataclass(frozen=True)
class Part:
    """Some of a source's rows: those of one split of its own, or of a file that names none (None)."""

    name: str | None
    read: Callable[[], Read]
    settled: bool = False  # an artifact's: what is train has been decided, even where there is nothing else
    files: tuple[Path, ...] = ()  # where its rows are files
    label: str = ""  # what stands before the number of a row in the place that `read` gives it
    aside: bool = False  # an artifact's that is there for who asks for it by name
    size: int | None = None  # how many rows, where they are in no files of ours

    def count(self) -> int:
        """How many rows; what they hold is not read where that is not needed for it.

        Raises:
            DataError: a file is damaged.
        """
        return sum(map(files.count, self.files)) if self.size is None else self.size

    @property
    def split(self) -> str | None:
        """What its rows are for."""
        return None if self.name is None else purpose_of(self.name)


def parts_of(source: DataSource) -> list[Part]:
    """All that a source holds, in order.

    Raises:
        UsageError: nothing is there under its name.
        ZephyrError: what is there cannot be read, or holds no rows.
    """
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
    return [Part(split_in_name(file.relative_to(path)), partial(files.read, file), files=(file,)) for file in found]


def digest(source: DataSource, cache: Path | None = None, *, verify: bool = False) -> str:
    """A hash of everything the source holds; for a hub name, of name and revision. With `verify`, an artifact's files are hashed again."""
    path = resolve(source.path)
    if path is None:
        return hashes.sha256_text(f"hub:{source.path}" + (f"@{source.revision}" if source.revision else ""))
    for name in ("revision", "subset"):
        if getattr(source, name):
            raise UsageError(f"{source.path}: is here, not on the hub, and has no {name}; take `{name}` out")
    if artifact := _artifact(path, verify=verify):
        return artifact.manifest.digest
    content = hashes.fingerprint(_files(path), cache)
    # a fingerprint knows files by their own names: one that moves from train/ to test/ has to change it, too
    placed = [(file, split_in_folder(file.relative_to(path))) for file in (_data_files(path) if path.is_dir() else [])]
    folders = [[str(file.relative_to(path)), split] for file, split in placed if split]
    return hashes.sha256_text(hashes.canonical([content, folders])) if folders else content


# --- files and artifacts ---------------------------------------------------------------------------------------


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts))


def _data_files(path: Path) -> list[Path]:
    return [p for p in _files(path) if p.name.endswith(SUFFIXES)]


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


# --- data sets: on the hub, or saved from there ----------------------------------------------------------------


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
        _, several, names = str(error).partition("pick one among the available configs: ")
        if several:
            one = f"{{path: {source.path}, subset: ONE}} of {names.splitlines()[0]}"
            raise DataError(f"{source.path}: holds several data sets; name one in a recipe: {one}") from error
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
    return Part(split, partial(_numbered, label, rows), label=label, size=len(rows))


def _numbered(where: str, part: Any) -> Read:
    for i, row in enumerate(part):
        yield f"{where}[{i}]", row
