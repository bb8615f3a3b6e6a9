"""Which processes are at work on a journal: each locks a file of its own for as long as it lives, so that others can tell."""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path

from zephyr.errors import UsageError
from zephyr.guards import NO_LOCKS, is_still


class Owners:
    """The processes of a journal, as one of them sees them.

    Args:
        journal: the journal's file, beside which theirs are.
        own: this process's name.
    """

    def __init__(self, journal: Path, own: str) -> None:
        self._journal, self._own = journal, own

    def file_of(self, owner: str) -> Path:
        """What a process has locked."""
        return self._journal.with_name(f".{self._journal.name}.{owner}.lock")

    def live_in(self, stack: contextlib.ExitStack) -> None:
        """This process is at work until the stack is closed.

        Raises:
            UsageError: the disk knows no locks: whether a request was sent by a process that lives could not be told.
        """
        path = self.file_of(self._own)
        while True:
            file = path.open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_still(path, file.fileno()):
                    break
            except BlockingIOError:
                pass
            except OSError as error:
                file.close()
                path.unlink(missing_ok=True)
                if error.errno in NO_LOCKS:
                    raise UsageError(
                        f"{path.parent}: this disk knows no file locks, and teachers' answers need them; give an --out on another"
                    ) from None
                raise
            file.close()  # somebody who looked for the dead held or removed it between our making and locking it
        stack.enter_context(file)
        stack.callback(path.unlink, missing_ok=True)

    def is_alive(self, owner: str) -> bool:
        """Whether a process is; the file of one that is dead goes."""
        path = self.file_of(owner)
        if owner == self._own:
            return True
        try:
            with path.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_still(path, file.fileno()):
                    path.unlink(missing_ok=True)
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    def sweep(self) -> None:
        """The files of all who are dead go."""
        for file in self._journal.parent.glob(f".{self._journal.name}.*.lock"):
            self.is_alive(file.name.split(".")[-2])
