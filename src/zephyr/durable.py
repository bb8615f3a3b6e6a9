"""Text files that a crash leaves whole, and names on the disk that outlive a power cut."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves the old one or the new one, never a piece."""
    own = aside(path)
    try:
        with own.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        own.replace(path)
    except BaseException:
        own.unlink(missing_ok=True)
        raise
    sync(path.parent)


def aside(path: Path) -> Path:
    """Where this process writes what is to be called `path`: a file or folder beside it. What the dead left of theirs is removed."""
    own = path.with_name(f".{path.name}.{os.getpid()}.partial")  # several processes may write one name, the last wins
    for left in path.parent.glob(f".{path.name}.*.partial"):
        if left != own and _is_at_work(left.name.split(".")[-2]):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
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
