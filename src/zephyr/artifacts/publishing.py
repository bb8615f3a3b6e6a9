"""Publication: written aside, it gets its name in one rename; what a crash cut is finished or undone."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zephyr import durable
from zephyr.artifacts.manifest import MANIFEST, Manifest
from zephyr.artifacts.published import Artifact
from zephyr.artifacts.writing import PARTS, Draft, checkpoints_of
from zephyr.errors import ArtifactError


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


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
    _remove(stale)
    try:
        if path.exists():
            path.replace(stale)
        aside.replace(path)
    except BaseException:
        if not path.exists() and stale.exists():
            stale.replace(path)
        shutil.rmtree(aside, ignore_errors=True)
        raise
    durable.sync(path.parent)
    _remove(stale)
    shutil.rmtree(checkpoints_of(path), ignore_errors=True)


def has_checkpoints(path: Path, key: str) -> bool:
    """Whether there is something that the making of the artifact would go on from, under this key."""
    folder = checkpoints_of(path) / key[:16]
    return any(folder.glob("step-*")) or any(folder.glob(f"{PARTS}/*"))


def recover(path: Path) -> None:
    """Finish or undo a publication that a crash cut: what is whole gets its name, what was replaced goes.

    Checkpoints of an artifact that is damaged stay: it is being made again under the same key.
    """
    aside, stale = _partial(path), path.with_name(f".{path.name}.stale")
    if not path.exists():
        whole = next((folder for folder in (aside, stale) if (folder / MANIFEST).exists()), None)
        if whole:
            whole.replace(path)
    if (path / MANIFEST).exists():
        _remove(stale)
        with contextlib.suppress(ArtifactError, OSError):
            manifest = Manifest.read(path)
            left = checkpoints_of(path) / manifest.key[:16] if manifest else None
            if manifest and left and left.is_dir() and Artifact(path, manifest).check(verify=True) is None:
                shutil.rmtree(left, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is not there, or holds those of other settings
            checkpoints_of(path).rmdir()


def _remove(path: Path) -> None:
    """A folder with all that is in it, or a link to one: that goes, and what it leads to stays."""
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
