"""Which rows are for training and which for the test: by the names of splits, or by a draw.

A source may have splits of its own: those of a data set, those of an artifact, or files in a folder that are named
after them (`train_sft-00000-of-00003.parquet`, `test.jsonl`, `validation/0.jsonl`). They are train or test rows by how
their names begin. A single file, and a data set of nothing but `train`, name no split: the recipe's `test_fraction` decides.
What an artifact calls train is train: whoever made it has decided that already.
"""

from __future__ import annotations

import re
from pathlib import Path

from zephyr.files import SUFFIXES
from zephyr.records import seeded_unit

# how the names of splits begin, in public data sets and their files: `train_sft`, `test-hard`, `validation`
_TRAIN = re.compile(r"train(?:set)?(?![a-z]).*|training", re.IGNORECASE)
_TEST = re.compile(r"(?:test|validation|valid|val|dev|eval)(?:set)?(?![a-z]).*|testing|evaluation", re.IGNORECASE)
# the end of a file's name that only says which piece it is: `-00000-of-00003`, `_7`, `.part-2`
_PIECE = re.compile(r"[-_.](?:part|shard|chunk)?[-_.]?\d+(?:[-_.]of[-_.]\d+)?(?:-[0-9a-f]{6,})?$")


def purpose_of(name: str) -> str:
    """`train` or `test`: a split that is not called anything like test is for training."""
    return "test" if _TEST.fullmatch(name) else "train"


def split_in_name(path: Path) -> str | None:
    """The split that a file in a folder is named after, or else the folder it lies in."""
    stem = path.name.removesuffix(next(suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(suffix)))
    return _as_split(_PIECE.sub("", stem)) or split_in_folder(path)


def split_in_folder(path: Path) -> str | None:
    """The split that the innermost folder is named after of those that a file lies in, if any is."""
    return next((name for name in reversed(path.parts[:-1]) if _as_split(name)), None)


def _as_split(name: str) -> str | None:
    return name if _TRAIN.fullmatch(name) or _TEST.fullmatch(name) else None


def split_of(prompt_id: str, test_fraction: float) -> str:
    """`train` or `test` by the hash of the id alone: adding rows never moves one from test to train."""
    return "test" if seeded_unit(0, "split", prompt_id) < test_fraction else "train"
