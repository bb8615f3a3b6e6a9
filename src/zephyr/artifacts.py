"""An artifact: a folder with data and a manifest, written aside, checked, and published in one rename.

    OUT/manifest.json            what it is, from what, with which settings, sha256 of every file
    OUT/data/SPLIT-00000.parquet rows
    OUT/dropped/dropped.jsonl    rows that were left out, each with its reason
    OUT/changed/truecased.jsonl  texts that were changed, before and after
    OUT/model/                   a plain Hugging Face model folder

It is the only thing that passes between stages. A folder without a manifest is not an artifact: the manifest
is written last, so whatever a crash leaves behind is never mistaken for a result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.errors import ArtifactError
from zephyr.parts import Parts
from zephyr.records import Row

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
MANIFEST = "manifest.json"
PARTS = "parts"  # the folder of a checkpoint folder that has what long computations came to
READ_ROWS, READ_BYTES = 256, 1 << 20  # of Parquet at a time


class TornManifestError(ArtifactError):
    """A manifest that is no JSON: what a crash or a bad disk makes of one of ours."""


def canonical(value: object) -> str:
    """JSON with one spelling: sorted keys, no spaces. Raises ValueError on NaN and infinity."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def sha256_text(text: str) -> str:
    """sha256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex, reading it once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class FileEntry:
    """What the manifest says of one file."""

    sha256: str
    bytes: int
    mtime_ns: int


@dataclass
class Manifest:
    """What an artifact is and where it comes from.

    `key` hashes what went in (stage, version, settings, inputs); `digest` hashes what came out. A stage whose
    key is already there is not run again; a stage whose inputs' digests did not change has the same key.
    """

    stage: str
    key: str
    config: dict[str, Any]
    parents: dict[str, dict[str, str]]
    digest: str = ""
    files: dict[str, FileEntry] = field(default_factory=dict)
    rows_in: int = 0
    rows_out: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    results: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    zephyr: str = ""
    format: int = FORMAT

    @staticmethod
    def read(folder: Path) -> Manifest | None:
        """The manifest in a folder, or None where there is none.

        Raises:
            TornManifestError: the file is there and is no JSON.
            ArtifactError: it cannot be read, or is not a manifest this version reads.
        """
        path = folder / MANIFEST
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArtifactError(
                f"{path}: not a readable manifest ({error.strerror or error}); make it readable, or name another folder"
            ) from None
        except (ValueError, RecursionError) as error:
            raise TornManifestError(f"{path}: not a readable manifest ({error}); remove {folder} to make it again") from None
        if not isinstance(raw, dict) or "format" not in raw:
            # nobody should be told to remove data that merely has a file of this name
            raise ArtifactError(f"{path}: manifest format None, not that of an artifact; if {folder} is your data, name its files instead")
        if raw["format"] != FORMAT:
            raise ArtifactError(f"{path}: manifest format {raw['format']!r}, this version reads {FORMAT}; remove {folder} to make it again")
        try:
            raw["files"] = {name: FileEntry(**entry) for name, entry in raw["files"].items()}
            manifest = Manifest(**raw)
            for name in ("config", "parents", "rows_out", "dropped", "results", "environment"):
                if not isinstance(raw.get(name, {}), dict):
                    raise TypeError(f"`{name}` is not an object")
            return manifest
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path}: damaged manifest ({error}); remove {folder} to make it again") from None

    def json(self) -> str:
        """The manifest as it is written."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def key_of(stage: str, version: int, config: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """The name of a piece of work: sha256 over the stage, its version, its settings and its inputs' digests."""
    return sha256_text(canonical({"stage": stage, "version": version, "config": dict(config), "parents": dict(parents)}))


def digest_of(files: Mapping[str, FileEntry]) -> str:
    """The name of a result: sha256 over its files' names and contents, without the dropped rows and the logs."""
    content = {name: f.sha256 for name, f in files.items() if name.startswith(("data/", "model/"))}
    return sha256_text(canonical(content or {name: f.sha256 for name, f in files.items()}))


@dataclass(frozen=True)
class Artifact:
    """A published artifact."""

    path: Path
    manifest: Manifest

    @staticmethod
    def open(path: Path) -> Artifact:
        """The artifact in a folder; raises `ArtifactError` where there is none."""
        manifest = Manifest.read(path)
        if manifest is None:
            raise ArtifactError(f"{path}: not an artifact (no {MANIFEST})")
        return Artifact(path, manifest)

    def check(self, *, verify: bool = False) -> str | None:
        """None if the files are as the manifest says, else what is wrong.

        A file whose size and mtime are the manifest's is believed; one whose mtime alone differs (a copy) is
        hashed. With `verify`, every file is hashed.
        """
        for name, entry in self.manifest.files.items():
            path = self.path / name
            try:
                stat = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return f"{path} is missing"
            if stat.st_size != entry.bytes:
                return f"{path} has {stat.st_size} bytes, the manifest says {entry.bytes}"
            if (verify or stat.st_mtime_ns != entry.mtime_ns) and sha256_file(path) != entry.sha256:
                return f"{path} is not what the manifest says (sha256 differs)"
        for path in sorted((self.path / "data").glob("*.parquet")):  # a file more would be read with the others
            if path.relative_to(self.path).as_posix() not in self.manifest.files:
                return f"{path} is not in the manifest"
        return None

    @property
    def model_dir(self) -> Path:
        """The plain Hugging Face folder of an artifact that is a model."""
        return self.path / "model"

    def splits(self) -> list[str]:
        """The names of its splits."""
        return sorted({p.name.rsplit("-", 1)[0] for p in (self.path / "data").glob("*.parquet")})

    def rows(self, split: str) -> list[Row]:
        """All rows of a split, [] where the artifact has none of that name."""
        return list(self.each_row(split))

    def each_row(self, split: str) -> Iterator[Row]:
        """The rows of a split, some at a time in memory."""
        import pyarrow.parquet as pq

        for path in sorted((self.path / "data").glob(f"{split}-*.parquet")):
            with pq.ParquetFile(path, buffer_size=READ_BYTES) as file:
                for batch in file.iter_batches(READ_ROWS):
                    yield from batch.to_pylist()

    def log(self, name: str = "metrics") -> list[Row]:
        """The lines of a JSONL log, [] where there is none."""
        path = self.path / f"{name}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Draft:
    """An artifact being written. Nothing of it is visible under its name until it is published."""

    def __init__(self, path: Path, final: Path, manifest: Manifest, *, resumable: bool = False) -> None:
        self.path = path
        self.final = final
        self.earlier_seconds = 0.0  # of work that an interrupted run did and this one went on from
        self._resumable = resumable  # whether `final` is where it will stand
        self.manifest = manifest
        self._dropped: Counter[str] = Counter()

    @property
    def model_dir(self) -> Path:
        """Where a stage that makes a model writes it."""
        return self.path / "model"

    def write_rows(self, split: str, rows: Sequence[Row], schema: pa.Schema | None = None) -> None:
        """Write the rows of one split, in the order given."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self.path / "data"
        folder.mkdir(exist_ok=True)
        if rows:
            table = pa.Table.from_pylist(list(rows), schema=schema)
            pq.write_table(table, folder / f"{split}-00000.parquet", compression="zstd")
        self.manifest.rows_out[split] = len(rows)

    def drop(self, reason: str, where: str, row: Mapping[str, Any]) -> None:
        """Set a row aside with its reason; it is counted, and kept under `dropped/`."""
        self._dropped[reason] += 1
        folder = self.path / "dropped"
        folder.mkdir(exist_ok=True)
        with (folder / "dropped.jsonl").open("a", encoding="utf-8") as file:
            # a row that is wrong may hold anything, a lone surrogate or NaN among it: ASCII-escaped, it can be written
            file.write(json.dumps({"reason": reason, "where": where, "row": row}, default=repr) + "\n")

    def set_aside(self, counts: Mapping[str, int]) -> None:
        """Count rows that were dropped by their reasons, where `dropped/` is written by other means."""
        self._dropped.update(counts)

    def why_dropped(self) -> str:
        """What was dropped and why, for the end of an error: an artifact that fails takes its dropped rows along."""
        if not self._dropped:
            return ""
        found = self._dropped.most_common(5)
        more = f", and for {len(self._dropped) - 5} other reasons" if len(self._dropped) > 5 else ""
        return "; dropped were " + ", ".join(f"{n} ({reason})" for reason, n in found) + more

    @property
    def checkpoints(self) -> Path:
        """Where a stage keeps what it goes on from when it is cut and run again; it is removed once the artifact is there."""
        return checkpoints_of(self.final) / self.manifest.key[:16]

    def parts(self, name: str, depends_on: Iterable[bytes]) -> Parts:
        """A computation of this stage in parts: those that an interrupted run has kept, and room for more.

        Args:
            name: of the computation, in words; one of its stage.
            depends_on: everything that the results depend on, beside what the artifact's key holds: what else was kept is not taken.
        """
        if not self._resumable:
            return Parts(None)
        content = hashlib.sha256()
        for piece in depends_on:
            content.update(len(piece).to_bytes(8, "little") + piece)
        slug = "".join(c if c.isalnum() else "-" for c in name)
        found = Parts(self.checkpoints / PARTS / f"{slug}-{content.hexdigest()[:16]}.jsonl")
        self.earlier_seconds += found.seconds
        return found

    def log_path(self, name: str = "metrics") -> Path:
        """A JSONL log of the artifact."""
        return self.path / f"{name}.jsonl"

    def log(self, line: Mapping[str, Any], name: str = "metrics") -> None:
        """Append a line to a JSONL log of the artifact."""
        with self.log_path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def note(self, text: str) -> None:
        """Something the reader of the report should know."""
        self.manifest.notes.append(text)

    def seal(self, seconds: float) -> None:
        """Hash what was written, make it durable, and write the manifest last."""
        from zephyr._version import __version__

        manifest = self.manifest
        for path in sorted(p for p in self.path.rglob("*") if p.is_file()):
            sync(path)
            stat = path.stat()
            name = path.relative_to(self.path).as_posix()
            manifest.files[name] = FileEntry(sha256_file(path), stat.st_size, stat.st_mtime_ns)
        for folder in (p for p in self.path.rglob("*") if p.is_dir()):
            sync(folder)  # the names of the files, not only their bytes, have to survive a power cut
        manifest.digest = digest_of(manifest.files)
        manifest.dropped = dict(sorted(self._dropped.items()))
        manifest.seconds = round(self.earlier_seconds + seconds, 3)
        manifest.zephyr = __version__
        manifest.environment = {"python": platform.python_version(), "machine": platform.machine(), **manifest.environment}
        write_text(self.path / MANIFEST, manifest.json())


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves the old one or the new one, never a piece."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")  # two processes may write one name, the last wins
    for left in path.parent.glob(f".{path.name}.*.partial"):
        if not is_alive(left.name.split(".")[-2]):
            left.unlink(missing_ok=True)
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def is_alive(pid: str) -> bool:
    """Whether a process of that number is at work on this machine, or may be: whoever left a file may still write to it."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):
        return True  # another user's, or no number: not ours to remove
    return True


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def checkpoints_of(path: Path) -> Path:
    """Where checkpoints of the artifact's making are, a folder for each key it is made under."""
    return path.with_name(f".{path.name}.checkpoints")


@contextmanager
def draft(path: Path, *, stage: str, key: str, config: dict[str, Any], parents: dict[str, dict[str, str]]) -> Iterator[Draft]:
    """Write an artifact: the folder appears under `path` only if the body ends without an error.

    What stood at `path` before is replaced only once the new one is whole.
    """
    aside, stale = _partial(path), path.with_name(f".{path.name}.stale")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    started = time.perf_counter()
    result = Draft(aside, path, Manifest(stage=stage, key=key, config=config, parents=parents), resumable=True)
    try:
        yield result
        result.seal(time.perf_counter() - started)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(stale, ignore_errors=True)
    try:
        if path.exists():
            path.replace(stale)
        aside.replace(path)
    except BaseException:
        if not path.exists() and stale.exists():
            stale.replace(path)
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync(path.parent)
    shutil.rmtree(stale, ignore_errors=True)
    shutil.rmtree(checkpoints_of(path), ignore_errors=True)


def has_checkpoints(path: Path, key: str) -> bool:
    """Whether there is something that the making of the artifact would go on from, under this key."""
    folder = checkpoints_of(path) / key[:16]
    return any(folder.glob("step-*")) or any(folder.glob(f"{PARTS}/*"))


def recover(path: Path) -> None:
    """Finish or undo a publication that a crash cut: what is whole gets its name, what was replaced goes."""
    aside, stale = _partial(path), path.with_name(f".{path.name}.stale")
    if not path.exists():
        whole = next((folder for folder in (aside, stale) if (folder / MANIFEST).exists()), None)
        if whole:
            whole.replace(path)
    if (path / MANIFEST).exists():
        shutil.rmtree(stale, ignore_errors=True)
        with contextlib.suppress(ArtifactError):
            if manifest := Manifest.read(path):
                shutil.rmtree(checkpoints_of(path) / manifest.key[:16], ignore_errors=True)
        with contextlib.suppress(OSError):  # it is not there, or holds those of other settings
            checkpoints_of(path).rmdir()


def fingerprint(files: Iterable[Path], cache: Path | None = None) -> str:
    """sha256 over the names and contents of files, for inputs that are not artifacts.

    `cache` remembers hashes by absolute path, size and mtime, so that a second look at gigabytes is quick.
    """
    known: dict[str, list[Any]] = {}
    if cache is not None and cache.exists():
        try:
            read = json.loads(cache.read_text(encoding="utf-8"))
            known = {at: entry for at, entry in read.items() if isinstance(entry, list) and len(entry) == 3}
        except (OSError, ValueError, AttributeError):
            known = {}  # a cache: whatever is wrong with it, hashing again is right
    names: dict[str, str] = {}
    fresh = False
    for path in files:
        stat, at = path.stat(), str(path.resolve())
        entry = known.get(at)
        if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
            entry = known[at] = [stat.st_size, stat.st_mtime_ns, sha256_file(path)]
            fresh = True
        # files of one name in several folders: all of them count, in the order given
        names[path.name] = names.get(path.name, "") + str(entry[2])
    if fresh and cache is not None:
        with contextlib.suppress(OSError):  # remembering is a convenience: no run fails over it
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_text(cache, json.dumps(known, indent=0, sort_keys=True))
    return sha256_text(canonical(names))
