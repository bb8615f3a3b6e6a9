"""What sources are called: a file or folder here, what ships with the package, a data set on the hub or one file of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from zephyr.artifacts import Draft
from zephyr.errors import UsageError
from zephyr.files import SUFFIXES
from zephyr.recipe import DataSource

BUILTIN = "builtin:"
HUB_FILE = "hf://datasets/"  # one file of a data set on the hub: hf://datasets/OWNER/NAME/FILE


def resolve(name: str) -> Path | None:
    """The file or folder a source names, or None for a name that can only be on the hub.

    Raises:
        UsageError: it looks like a path and nothing is there.
    """
    if name.startswith(BUILTIN):
        path = Path(str(resources.files("zephyr"))) / name.removeprefix(BUILTIN)
        if not path.exists():
            raise UsageError(f"{name}: the package ships no such file; see `zephyr.demo`")
        return path
    if name.startswith(HUB_FILE):
        if len(name.removeprefix(HUB_FILE).split("/")) < 3 or not name.endswith(SUFFIXES):
            raise UsageError(f"{name}: {HUB_FILE}OWNER/NAME/FILE was expected, with one of {', '.join(SUFFIXES)}")
        return None
    path = Path(name).expanduser()
    if path.exists():
        return path
    looks_like_path = name.startswith((".", "/", "~")) or name.endswith(SUFFIXES) or name.count("/") != 1
    if looks_like_path:
        raise UsageError(f"{name}: no such file or folder")
    return None


def named(text: str) -> DataSource:
    """The source that a command line names: a file or folder, or a hub name that may say which commit, `OWNER/NAME@REVISION`.

    Raises:
        UsageError: it looks like a path and nothing is there.
    """
    path, mark, revision = text.rpartition("@")
    if mark and not Path(text).expanduser().exists() and resolve(path) is None:
        return DataSource(path=path, revision=revision)
    return DataSource(path=text)


def names_of(data: Sequence[DataSource]) -> str:
    """The sources, as an error names them."""
    return ", ".join(source.path for source in data)


def note_unpinned(source: DataSource, out: Draft) -> None:
    """Note of a data set of the hub that a change there would not be noticed."""
    if resolve(source.path) is not None or re.fullmatch(r"[0-9a-f]{40}", source.revision or ""):
        return
    at = f" at {source.revision}" if source.revision else ""
    note = f"{source.path} was taken from the hub as it was{at}; a change there is not noticed unless `revision` is a commit."
    if note not in out.manifest.notes:
        out.note(note)
