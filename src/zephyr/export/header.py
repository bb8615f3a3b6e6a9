"""What a GGUF file says of itself: its fields, and the names of its weights.

The reader of the `gguf` package makes an array view of every string, which takes minutes where there are 100,000 tokens and merges;
and what was written should be read back by something else than what wrote it. Source: the GGUF specification, version 3.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.errors import ModelError

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Header:
    """Fields by name, and the shapes of the weights by name, the fastest dimension first."""

    fields: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


def read(path: Path) -> Header:
    """The header of a GGUF file.

    Raises:
        ModelError: it is none, or is cut off.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data)
        try:
            if cursor.take(4) != b"GGUF" or cursor.number("I") != 3:
                raise ModelError(f"{path}: no GGUF file of version 3")
            weights, fields = cursor.number("Q"), cursor.number("Q")
            said = {cursor.text(): cursor.value(cursor.number("I")) for _ in range(fields)}
            shapes = {}
            for _ in range(weights):
                name = cursor.text()
                shapes[name] = tuple(cursor.number("Q") for _ in range(cursor.number("I")))
                cursor.take(12)  # its kind, and where it begins
        except (struct.error, UnicodeDecodeError, KeyError) as error:
            raise ModelError(f"{path}: a damaged GGUF file ({error})") from None
    return Header(said, shapes)


class _Cursor:
    """A place in a file, which moves on with what is read."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise struct.error("it ends too early")
        self._at += size
        return found

    def number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0])

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner in (_STRING, _ARRAY):
                return [self.value(inner) for _ in range(count)]
            form = f"<{count}{_NUMBERS[inner]}"
            return list(struct.unpack(form, self.take(struct.calcsize(form))))
        form = f"<{_NUMBERS[kind]}"
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]
