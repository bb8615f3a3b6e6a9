"""The files of a checkpoint: written aside by every process, by this thread or another, sealed and renamed by the first; verified.

step-00000120/KIND-RANK-NUMBER.safetensors   what a process writes
step-00000120/metrics.jsonl                  the log so far
step-00000120/checkpoint.json                what the checkpoint says of itself, size and sha256 of every file; written last
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from zephyr import world
from zephyr.durable import sync, write_text
from zephyr.errors import UsageError
from zephyr.hashes import canonical, sha256_file, sha256_text
from zephyr.train import pieces

FORMAT = 2
STATE = "checkpoint.json"
LOG = "metrics.jsonl"
Parts = Mapping[str, Mapping[str, Tensor]]  # what a process writes: kind, name, piece
Files = dict[str, dict[str, Any]]  # name, then `sha256` and `bytes`


def publish(path: Path, log: bytes | None, body: Mapping[str, Any], parts: Parts) -> None:
    """Write a checkpoint aside, each process its part, and give it its name once all of it is on the disk."""
    aside = _begun(path)
    _published(path, aside, log, body, lambda: _write(aside, parts))


class Writing:
    """A checkpoint that a thread writes aside. It does not speak to other processes: that is for those who wait for it."""

    def __init__(self, step: int, path: Path, log: bytes | None, body: Mapping[str, Any], parts: Parts) -> None:
        self.step, self._path, self._log, self._body, self._aside = step, path, log, body, _begun(path)
        pool = ThreadPoolExecutor(1, thread_name_prefix="zephyr-checkpoint")
        self._written = pool.submit(_write, self._aside, parts)
        pool.shutdown(wait=False)

    def done(self) -> bool:
        """Has it been written, or failed to be?"""
        return self._written.done()

    def publish(self) -> None:
        """Wait for it and give it its name, all processes together."""
        _published(self._path, self._aside, self._log, self._body, self._written.result)

    def forget(self) -> None:
        """Wait for it, and remove it."""
        self._written.exception()
        if world.current().leads:
            shutil.rmtree(self._aside, ignore_errors=True)


def _begun(path: Path) -> Path:
    """An empty folder to write a checkpoint in."""
    aside = path.with_name(f".{path.name}.partial")
    with world.failing_together():
        if world.current().leads:
            _clear(aside)
    return aside


def _write(aside: Path, parts: Parts) -> Files:
    """This process's files: size and sha256 of each, by name."""
    return {file.name: _entry(file) for kind, values in parts.items() for file in pieces.write(aside, kind, values)}


def _published(path: Path, aside: Path, log: bytes | None, body: Mapping[str, Any], written: Callable[[], Files]) -> None:
    """Give it its name once all that processes have `written` is there; nothing of it stays where one has failed."""
    leads = world.current().leads
    try:
        files: Files = {}
        with world.failing_together():
            files = written()
        files = {name: entry for others in world.gather(files) for name, entry in others.items()}
        with world.failing_together():
            if leads:
                _seal(aside, path, log, {"format": FORMAT, **body, "files": files})
    except BaseException:
        if leads:
            shutil.rmtree(aside, ignore_errors=True)
        raise


def _clear(aside: Path) -> None:
    aside.parent.mkdir(parents=True, exist_ok=True)
    for left in aside.parent.glob(".*.partial"):
        shutil.rmtree(left)
    aside.mkdir()


def _entry(file: Path) -> dict[str, Any]:
    sync(file)
    return {"sha256": sha256_file(file), "bytes": file.stat().st_size}


def _seal(aside: Path, path: Path, log: bytes | None, body: dict[str, Any]) -> None:
    if log is not None:
        (aside / LOG).write_bytes(log)
        body["files"][LOG] = _entry(aside / LOG)
    write_text(aside / STATE, _sealed(body))
    if path.exists():  # only one that was found damaged: whoever resumes from a step does not save it again
        shutil.rmtree(path)
    aside.replace(path)
    sync(path.parent)


def _sealed(body: dict[str, Any]) -> str:
    return canonical({"body": body, "sha256": sha256_text(canonical(body))}) + "\n"


def verified(path: Path) -> tuple[dict[str, Any] | None, str]:
    """What a checkpoint says of itself, if every byte of it is as it was written; else None, and what is wrong.

    Raises:
        UsageError: it is whole, as far as this version can tell, and another one wrote it; or the disk does not give it now, which is no
            damage: what counts as damaged is removed in the end.
    """
    try:
        text = (path / STATE).read_text(encoding="utf-8")
        body: dict[str, Any] = json.loads(text)["body"]
        if _sealed(body) != text:
            return None, f"{STATE} has changed"
        if body["format"] != FORMAT:
            raise UsageError(
                f"{path}: a checkpoint of format {body['format']!r}, and this version of zephyr reads {FORMAT}; "
                f"go on with the version that wrote it, or remove {path.parent} to begin again"
            )
        for name, entry in body["files"].items():
            file = path / name
            if file.stat().st_size != entry["bytes"]:
                return None, f"{name} has {file.stat().st_size} bytes instead of {entry['bytes']}"
            if sha256_file(file) != entry["sha256"]:
                return None, f"{name} has changed"
    except UsageError:  # which is a ValueError
        raise
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            raise UsageError(
                f"{path}: cannot be read ({error.strerror or error}); run the same command again once it can, "
                "or remove this folder to go on from the checkpoint before"
            ) from None
        return None, f"{type(error).__name__}: {error}"
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        return None, f"{type(error).__name__}: {error}"
    return body, ""
