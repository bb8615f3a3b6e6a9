"""What teachers are told, and the lists that they begin with: text files of the package, or a user's own of the same names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from zephyr.errors import UsageError

# templates: the names that each has to have filled in
TEMPLATES: dict[str, tuple[str, ...]] = {
    "subtopics": ("count", "topic"),
    "questions": ("count", "topic", "subtopic"),
    "related": ("count", "question"),
    "specific": ("count", "entity", "question"),
    "general": ("count", "entity", "question"),
    "instructions": ("count", "type"),
    "expansion": ("instruction",),
    "about_text": ("count", "text"),
    "refine": ("prompt", "response", "way"),
    "others": ("items",),
    "list_lines": ("count",),
    "list_json": ("count",),
    "again": ("error",),
    "user": (),
    "user_may_end": (),
    "next_turn": ("dialogue",),
    "assistant": (),
}
LISTS = {"topics": (), "entities": (), "writing_types": (), "refinements": (), "entity_questions": ("entity",)}
LAYOUTS = {"materials_layout": ("instruction", "text")}
MAY_BE_EMPTY = ("assistant", "user_may_end")
_NAME = re.compile(r"\{([a-z_]+)\}")


def packaged() -> Path:
    """The folder of the package's own."""
    return Path(str(resources.files("zephyr"))) / "synthesis" / "prompts"


def copy_to(folder: Path) -> list[str]:
    """Write the package's files into a folder, to be edited; returns their names.

    Raises:
        UsageError: one of them is there already.
    """
    files = sorted(packaged().glob("*.txt"))
    if there := [file.name for file in files if (folder / file.name).exists()]:
        raise UsageError(f"{folder / there[0]}: is there already; give another folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    return [file.name for file in files]


def fill(template: str, values: Mapping[str, object]) -> str:
    """A template with its names filled in, all at once: braces in a value are left as they are."""
    return _NAME.sub(lambda found: str(values[found[1]]) if found[1] in values else found[0], template)


@dataclass(frozen=True)
class Texts:
    """All templates and lists, by the names of their files."""

    templates: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]

    def say(self, name: str, **values: object) -> str:
        """A template, filled in."""
        return fill(self.templates[name], values)


def load(own: Path | None = None) -> Texts:
    """The package's files, or those of the same name in a folder of the user's.

    Raises:
        UsageError: the folder is not there, or one of its files has a name that is unknown, lacks a place to be filled in, or is empty.
    """
    files = {file.name: file for file in packaged().glob("*.txt")}
    if own is not None:
        files.update(_own_files(own, files))
    read = {name: _read(path) for name, path in files.items()}
    templates, lists = {}, {}
    for name, needed in TEMPLATES.items():
        path, text = files[f"{name}.txt"], read[f"{name}.txt"].strip()
        _check(path, text, needed, may_be_empty=name in MAY_BE_EMPTY)
        templates[name] = text
    for name, needed in (LISTS | LAYOUTS).items():
        path, text = files[f"{name}.txt"], read[f"{name}.txt"]
        items = _layouts(text) if name in LAYOUTS else _lines(text)
        if not items:
            raise UsageError(f"{path}: holds nothing; it needs one entry at least")
        if twice := [item for item in items if items.count(item) > 1]:
            raise UsageError(f"{path}: {twice[0][:60]!r} is there twice")
        for item in items:
            _check(path, item, needed, may_be_empty=False)
        lists[name] = items
    return Texts(templates, lists)


def _own_files(own: Path, known: Mapping[str, Path]) -> dict[str, Path]:
    if not own.is_dir():
        raise UsageError(f"{own}: no such folder of prompts; `zephyr synthesize --copy-prompts {own}` writes one to be edited")
    found = {file.name: file for file in sorted(own.glob("*.txt"))}
    if unknown := [name for name in found if name not in known]:
        raise UsageError(f"{own / unknown[0]}: nothing reads a file of this name; known are {', '.join(sorted(known))}")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _lines(text: str) -> tuple[str, ...]:
    stripped = (line.strip() for line in text.splitlines())
    return tuple(line for line in stripped if line and not line.startswith("#"))


def _layouts(text: str) -> tuple[str, ...]:
    """Blocks with a line of three hyphens between them."""
    return tuple(block.strip("\n") for block in re.split(r"(?m)^---\s*$", text) if block.strip())


def _check(path: Path, text: str, needed: tuple[str, ...], *, may_be_empty: bool) -> None:
    if not text and not may_be_empty:
        raise UsageError(f"{path}: is empty")
    names = set(_NAME.findall(text))
    if missing := [name for name in needed if name not in names]:
        raise UsageError(f"{path}: has no place for {{{missing[0]}}}; write it where that belongs")
    if needed and (unknown := sorted(names - set(needed))):
        raise UsageError(f"{path}: {{{unknown[0]}}} is not filled in here; known are {', '.join(f'{{{n}}}' for n in needed)}")
