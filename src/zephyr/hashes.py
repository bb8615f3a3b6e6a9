"""What names are made of: one spelling of a value, and sha256 of texts and files."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zephyr import durable


def canonical(value: object) -> str:
    """JSON with one spelling: sorted keys, no spaces. Raises ValueError on NaN and infinity."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def sha256_text(text: str) -> str:
    """sha256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex, reading it once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(files: Iterable[Path], cache: Path | None = None) -> str:
    """sha256 over the names and contents of files, for inputs that are not artifacts.

    `cache` remembers hashes by absolute path, size and mtime, so that a second look at gigabytes is quick.
    """
    known: dict[str, list[Any]] = {}
    if cache is not None and cache.exists():
        try:
            read = json.loads(cache.read_text(encoding="utf-8"))
            known = {at: entry for at, entry in read.items() if isinstance(entry, list) and len(entry) == 3}
        except (OSError, ValueError, AttributeError):
            known = {}  # a cache: whatever is wrong with it, hashing again is right
    names: dict[str, str] = {}
    fresh = False
    for path in files:
        stat, at = path.stat(), str(path.resolve())
        entry = known.get(at)
        if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
            entry = known[at] = [stat.st_size, stat.st_mtime_ns, sha256_file(path)]
            fresh = True
        # files of one name in several folders: all of them count, in the order given
        names[path.name] = names.get(path.name, "") + str(entry[2])
    if fresh and cache is not None:
        with contextlib.suppress(OSError):  # remembering is a convenience: no run fails over it
            cache.parent.mkdir(parents=True, exist_ok=True)
            durable.write_text(cache, json.dumps(known, indent=0, sort_keys=True))
    return sha256_text(canonical(names))
