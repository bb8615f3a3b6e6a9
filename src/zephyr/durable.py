"""Text files that a crash leaves whole, and names on the disk that outlive a power cut."""

from __future__ import annotations

import os
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
