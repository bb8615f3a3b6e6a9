"""The rows that others were left out for: their places are known, their texts are looked up where the data still is."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from zephyr import sources
from zephyr.errors import ZephyrError
from zephyr.files import Unread
from zephyr.recipe import DataSource
from zephyr.records import Row

MOST_BYTES = 1 << 30  # of a file that is read for it
# `rows.jsonl:7`, `rows.parquet[6]`, `data/dialogues:train[6]`
_PLACE = re.compile(r"(?P<path>.+?)(?::(?P<split>[\w.-]+))?(?:\[\d+\]|:\d+)")


def look_up(places: Iterable[str], since: float) -> dict[str, Row]:
    """The rows at these places; without those whose data is gone, too large, or has changed since.

    A place says where the file was from the folder that `curate` ran in: whoever asks has to see whether it is the same row.

    Args:
        places: as `curate` says where a row stood.
        since: when they stood there, in seconds as files have them.
    """
    wanted: defaultdict[tuple[str, str | None], set[str]] = defaultdict(set)
    for place in places:
        if found := _PLACE.fullmatch(place):
            wanted[found["path"], found["split"]].add(place)
    rows: dict[str, Row] = {}
    for (path, split), there in wanted.items():
        if _is_as_it_was(Path(path).expanduser(), since):
            rows |= _read(DataSource(path=path, source_split=split), there)
    return rows


def _is_as_it_was(path: Path, since: float) -> bool:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else []
    stats = [file.stat() for file in files]
    return bool(stats) and sum(s.st_size for s in stats) <= MOST_BYTES and max(s.st_mtime for s in stats) <= since


def _read(source: DataSource, wanted: set[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    left = set(wanted)
    try:
        for where, _, row in sources.located(source, whole=source.source_split is None):
            if where in left:
                left.discard(where)
                if not isinstance(row, Unread):
                    found[where] = row
            if not left:
                break
    except ZephyrError:  # a text more is a help, not what was asked for: its place is said in any case
        pass
    return found
