"""A long computation in parts: what each comes to is kept at once, and a run that was cut goes on after the last of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# gives the parts of a computation, of a name for it and of everything that its results depend on
Keep = Callable[[str, Iterable[bytes]], "Parts"]


class Parts:
    """What the parts of one computation came to, by their numbers, in a file of lines.

    A line is a JSON object of `part`, `result` and the `seconds` since the line before; JSON keeps a float to the bit. A line that a
    kill has cut off is as if it were not there. Without a file nothing is kept.

    Attributes:
        seconds: that the parts took which an earlier run has kept.
    """

    def __init__(self, file: Path | None) -> None:
        """Read what is kept, if anything is."""
        self._file, self._known = file, dict[int, Any]()
        self.seconds = 0.0
        self._since = time.perf_counter()
        if file is None or not file.exists():
            return
        whole = 0
        for line in file.read_bytes().splitlines(keepends=True):
            row = _read(line)
            if row is None:
                break
            self._known[row["part"]] = row["result"]
            self.seconds += row["seconds"]
            whole += len(line)
        if whole < file.stat().st_size:
            os.truncate(file, whole)  # what comes next does not go on in the middle of a line

    def __contains__(self, part: int) -> bool:
        return part in self._known

    def __getitem__(self, part: int) -> Any:
        return self._known[part]

    def keep(self, part: int, result: Any) -> None:
        """Write down what a part came to; a `ValueError` if it holds a number that is not finite."""
        if self._file is None:
            return
        now = time.perf_counter()
        line = json.dumps({"part": part, "seconds": round(now - self._since, 4), "result": result}, allow_nan=False)
        self._since = now
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def nothing_kept(name: str, depends_on: Iterable[bytes]) -> Parts:
    """A `Keep` that keeps nothing."""
    return Parts(None)


def _read(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
        return row if isinstance(row["part"], int) and isinstance(row["seconds"], float) and "result" in row else None
    except (ValueError, KeyError, TypeError):
        return None
