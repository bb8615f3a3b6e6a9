"""An artifact being written: what a stage puts into it, sealed by its manifest."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import durable, hashes
from zephyr.artifacts.manifest import MANIFEST, FileEntry, Manifest, digest_of
from zephyr.parts import Parts
from zephyr.records import Row

if TYPE_CHECKING:
    import pyarrow as pa

PARTS = "parts"  # the folder of a checkpoint folder that has what long computations came to


def checkpoints_of(path: Path) -> Path:
    """Where checkpoints of the artifact's making are, a folder for each key it is made under."""
    return path.with_name(f".{path.name}.checkpoints")


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

    def settled(self, name: str, choose: Callable[[], str]) -> str:
        """A choice that depends on more than the artifact's key, made once: as an interrupted run made it, else `choose()`."""
        if not self._resumable:
            return choose()
        file = self.checkpoints / f"{name}.txt"
        if file.exists():
            return file.read_text(encoding="utf-8")
        chosen = choose()
        file.parent.mkdir(parents=True, exist_ok=True)
        durable.write_text(file, chosen)
        return chosen

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
            durable.sync(path)
            stat = path.stat()
            name = path.relative_to(self.path).as_posix()
            manifest.files[name] = FileEntry(hashes.sha256_file(path), stat.st_size, stat.st_mtime_ns)
        for folder in (p for p in self.path.rglob("*") if p.is_dir()):
            durable.sync(folder)  # the names of the files, not only their bytes, have to survive a power cut
        manifest.digest = digest_of(manifest.files)
        manifest.dropped = dict(sorted(self._dropped.items()))
        manifest.seconds = round(self.earlier_seconds + seconds, 3)
        manifest.zephyr = __version__
        manifest.environment = {"python": platform.python_version(), "machine": platform.machine(), **manifest.environment}
        durable.write_text(self.path / MANIFEST, manifest.json())
