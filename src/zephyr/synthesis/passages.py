"""Passages of a user's own text files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zephyr.errors import DataError, UsageError
from zephyr.records import prompt_id_of

SUFFIXES = (".txt", ".md", ".rst")
LEAST_CHARACTERS = 40  # what is shorter says too little to work on


@dataclass(frozen=True)
class Passage:
    """A piece of a text: the file it is from, and an id by its content."""

    file: str
    text: str

    @property
    def name(self) -> str:
        """The first 16 hex digits of its sha256."""
        return prompt_id_of(self.text)[:16]


def passages(paths: Sequence[str], longest: int) -> list[Passage]:
    """All passages of text files, or of the folders they lie in, each once; file by file, in the order of their names.

    Args:
        paths: files and folders.
        longest: characters of a passage; a longer text is divided between paragraphs, else lines, else words.

    Raises:
        UsageError: a path is not there, or no kind of text.
        DataError: a file is not UTF-8, or there is nothing in any of them.
    """
    found: dict[str, Passage] = {}
    for given in paths:
        for file in _files(Path(given).expanduser()):
            try:
                text = file.read_text(encoding="utf-8-sig")
            except UnicodeDecodeError as error:
                raise DataError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
            for piece in divide(text, longest):
                if len(piece) >= LEAST_CHARACTERS:
                    passage = Passage(file.name, piece)
                    found.setdefault(passage.name, passage)
    if not found:
        raise DataError(f"no passage of {LEAST_CHARACTERS} characters or more in {', '.join(paths)}")
    return list(found.values())


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder of texts")
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise UsageError(f"{path}: unknown kind of text; known are {', '.join(SUFFIXES)}")
        return [path]
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix in SUFFIXES)
    return [p for p in found if not any(part.startswith(".") for part in p.relative_to(path).parts)]


def divide(text: str, longest: int) -> list[str]:
    """A text in pieces of at most so many characters, as even as its paragraphs allow; nothing of it but space is lost."""
    text = text.replace("\r\n", "\n").strip()
    for gap in ("\n\n", "\n", " "):
        pieces = _packed(re.split(re.escape(gap) + r"\s*" if gap == "\n\n" else re.escape(gap), text), gap, longest)
        if all(len(piece) <= longest for piece in pieces):
            return [stripped for piece in pieces if (stripped := piece.strip())]
    return [text[i : i + longest] for i in range(0, len(text), longest)]


def _packed(parts: Sequence[str], gap: str, longest: int) -> list[str]:
    pieces: list[str] = []
    for part in parts:
        if pieces and len(pieces[-1]) + len(gap) + len(part) <= longest:
            pieces[-1] += gap + part
        else:
            pieces.append(part)
    return pieces
