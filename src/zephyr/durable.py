"""Text files that a crash leaves whole, and names on the disk that outlive a power cut."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
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
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.partial"):
        with contextlib.suppress(OSError), left.open("r+b") as file:  # it is gone, another user's, or locked: its writer lives
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def aside(path: Path) -> Path:
    """Where this process makes the folder that is to be called `path`: beside it. What the dead left of theirs is removed."""
    own = path.with_name(f".{path.name}.{os.getpid()}.partial")  # several processes may make one folder, the last wins
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if left.is_dir() and (left == own or not _is_at_work(left.name.split(".")[-2])):
            shutil.rmtree(left, ignore_errors=True)
    return own


def _is_at_work(pid: str) -> bool:
    """Whether a process of that number is at work on this machine, or may be: whoever left a file may still write to it."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):
        return True  # another user's, or no number: not ours to remove
    return True
