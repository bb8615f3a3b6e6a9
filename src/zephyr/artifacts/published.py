"""An artifact that is there: whether it is still what its manifest says, and what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zephyr import hashes
from zephyr.artifacts.manifest import MANIFEST, Manifest
from zephyr.errors import ArtifactError
from zephyr.files import READ_BYTES, READ_ROWS
from zephyr.records import Row


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
            if (verify or stat.st_mtime_ns != entry.mtime_ns) and hashes.sha256_file(path) != entry.sha256:
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
