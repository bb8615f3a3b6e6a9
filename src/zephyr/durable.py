"""Text files and folders that a crash leaves whole, and names on the disk that outlive a power cut."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves the old one or the new one, never a piece.

    Several processes, on several machines too, may write one name: the last wins. What one of them left aside that died is removed: a
    file is locked for as long as its writer lives.
    """
    _remove_left(path)
    own, file = _begun(path)
    with file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            own.replace(path)
        except BaseException:
            own.unlink(missing_ok=True)
            raise
    sync(path.parent)


def _begun(path: Path) -> tuple[Path, TextIO]:
    """A file beside `path` under a name that no other has, locked until it is closed."""
    while True:
        own = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        file = own.open("x", encoding="utf-8")
        with contextlib.suppress(OSError):  # a disk that knows no locks: there nothing is taken for left
            fcntl.flock(file, fcntl.LOCK_EX)
        if own.exists():
            return own, file
        file.close()  # somebody who looked for what was left removed it between our making and locking it


def _remove_left(path: Path) -> None:
    """What writers of a text file left that have died."""
    for left in path.parent.glob(_aside_pattern(path)):
        with contextlib.suppress(OSError), left.open("r+b") as file:  # it is gone, another user's, or locked: its writer lives
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, to be made whole and then called that; what has not been by the end is removed.

    Several processes, on several machines too, may make one folder: the last wins. What one of them left aside that died is removed: a
    folder is locked for as long as its maker lives. Linux tells no NFS server of a folder's lock: there a maker on another machine is taken
    for dead, so that machines must not make one folder at one time.
    """
    _remove_left_folders(path)
    own, fd = _begun_folder(path)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(fd)


def _begun_folder(path: Path) -> tuple[Path, int]:
    """A folder beside `path` under a name that no other has, locked until its descriptor is closed."""
    while True:
        own = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        own.mkdir(parents=True)
        with contextlib.suppress(FileNotFoundError):  # see `_begun`
            fd = os.open(own, os.O_RDONLY)
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX)
            if own.exists():
                return own, fd
            os.close(fd)


def _remove_left_folders(path: Path) -> None:
    """What makers of a folder left that have died."""
    for left in path.parent.glob(_aside_pattern(path)):
        with contextlib.suppress(OSError):  # it is gone, a file, another user's, or locked: its maker lives
            fd = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(fd)


def _aside_pattern(path: Path) -> str:
    return f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.partial"
