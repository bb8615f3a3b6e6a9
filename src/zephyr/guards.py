"""What guards a run: one process at a time in a folder, a polite end, moments that must not be cut, a disk that is full."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from zephyr.errors import UsageError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_unguarded: set[Path] = set()  # folders of which that has been said
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # Lustre mounted without them, NFS without its lock daemon


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a stage as Ctrl-C does."""

    exit_code = 143


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time in what `path` guards; the file is gone afterwards. On a disk that knows no locks nothing is guarded, and said.

    Raises:
        UsageError: another process is at work there, or nothing can be written there, or the folder cannot be made.
    """
    while True:
        with _opened(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{path.parent}: another run is at work in this folder; wait for it, or give another --out") from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                if path.parent not in _unguarded:
                    print(
                        f"{path.parent}: this disk knows no file locks: see to it that one run at a time is at work there", file=sys.stderr
                    )
                _unguarded.add(path.parent)
            if not is_still(path, file.fileno()):
                continue  # its holder removed the file between our opening and locking it
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w")
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise UsageError(f"{path.parent}: nothing can be written in this folder ({error.strerror}); give another --out") from None


def is_still(path: Path, fd: int) -> bool:
    """Whether an open file is the one that has that name now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """A polite kill ends a stage as Ctrl-C does: its unfinished folder is removed, what is finished stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def uncut() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM wait until the body is done: half an update is neither the old weights nor the new.

    Yields:
        the numbers of the signals that wait, as they come.
    """
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    before = {number: signal.signal(number, lambda n, _: arrived.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


def interruption(number: int) -> KeyboardInterrupt:
    """What a signal is raised as."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def os_error(error: OSError, folder: Path | None = None) -> str:
    """What the system refused, in one line; `folder` is where something was being written, if that is known."""
    if error.errno in DISK_FULL:
        of = f" of {folder or error.filename}" if folder or error.filename else ""
        return f"no space left on the disk{of}; finished stages are kept: make room and run the same command again"
    return (f"{error.filename}: " if error.filename else "") + (error.strerror or str(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, a GPU's or the machine's."""
    said = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(text in str(error) for text in said))


def memory_error(error: BaseException) -> str:
    """The same in one line."""
    said = next(iter(str(error).strip().splitlines()), "")
    return f"not enough memory ({type(error).__name__}{': ' if said else ''}{said})"
