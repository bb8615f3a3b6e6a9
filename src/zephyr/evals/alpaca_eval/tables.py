"""What a length-controlled rate needs beside the annotations: difficulties of the instructions, published weights, gamed baselines.

None of it ships with the project (its licence is CC BY-NC). It is read from a folder: files are known by what stands in them.

- difficulties: a JSON list of 805 numbers; or CSV with a column `instruction_difficulty`, the original's instruction_difficulty.csv.
- weights: CSV with a row a model, the original's weights/…/baseline_….csv; or columns tanh_std_delta_len, instruction_difficulty, bias.
- gamed baselines: the original's df_gamed.csv; or JSON with the output lengths of a baseline and its gamed variants, and their weights.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zephyr.errors import DataError, UsageError

Floats = NDArray[np.float64]

GAMED_WEIGHT = 0.1  # lambda of 0.2, divided by the two gamed baselines
_LENGTH = ("np.tanh(std_delta_len)", "tanh_std_delta_len")
_DIFFICULTY = ("instruction_difficulty",)
_BIAS = ("not_gamed_baseline.astype(float)", "bias")


@dataclass(frozen=True)
class Weights:
    """Coefficients of logit p = length * tanh(delta_len / sd) + difficulty * difficulty of the instruction + bias."""

    length: float
    difficulty: float
    bias: float


@dataclass(frozen=True)
class Tables:
    """What was found, and where.

    Attributes:
        difficulties: by position in AlpacaEval's set; None if there are none.
        weights: published, by model.
        gamed: rows of gamed baselines: features [rows, 3] (tanh, difficulty, 0) and the model's points [rows].
        paths: of each, the file it came from.
    """

    difficulties: Floats | None = None
    weights: Mapping[str, Weights] = field(default_factory=dict)
    gamed: tuple[Floats, Floats] | None = None
    paths: Mapping[str, str] = field(default_factory=dict)


def find(folders: Sequence[Path]) -> Tables:
    """The tables in the first of these folders (or files) that has any, completed from the others.

    Raises:
        DataError: two files in one folder for one purpose, or a file that does not read as it seemed to.
    """
    difficulties: Floats | None = None
    weights: dict[str, Weights] = {}
    paths: dict[str, str] = {}
    raw_gamed: tuple[Path, Any] | None = None
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        here: dict[str, Path] = {}
        for path, kind, value in _known(folder):
            if kind in here:
                raise DataError(f"{folder}: both {here[kind].name} and {path.name} hold {kind}; leave one in the folder")
            here[kind] = path
            if kind in paths:
                continue
            paths[kind] = str(path)
            if kind == "difficulties":
                difficulties = _difficulties(path, value)
            elif kind == "weights":
                weights = _weights(path, value)
            else:
                raw_gamed = (path, value)
    gamed = None if raw_gamed is None else _gamed(*raw_gamed, difficulties)
    return Tables(difficulties, weights, gamed, paths)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column; the first column may be without a name.

    Raises:
        UsageError: there is no such file.
        DataError: not a CSV file with a header.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file ({error})") from None
    if not rows:
        raise DataError(f"{path}: no rows in it")
    for i, row in enumerate(rows):
        if None in row or None in row.values():
            raise DataError(f"{path}:{i + 2}: not as many cells as there are columns")
    return rows


def number(path: Path, row: Mapping[str, str], key: str) -> float:
    """A cell as a finite number.

    Raises:
        DataError: it is none.
    """
    try:
        value = float(row[key])
    except (ValueError, KeyError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: `{key}` of {next(iter(row.values()))} must be a number, found {row.get(key)!r}")
    return value


def _known(folder: Path) -> Iterator[tuple[Path, str, Any]]:
    """(path, purpose, content) of the files that look like tables, by name and by what stands in them."""
    for path in [folder] if folder.is_file() else sorted(folder.glob("*")) if folder.is_dir() else []:
        if path.suffix == ".json" and path.is_file() and ("difficult" in path.name or "gamed" in path.name):
            try:
                value = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise DataError(f"{path}: not valid JSON ({error})") from None
            yield path, "difficulties" if isinstance(value, list) else "gamed", value
        elif path.suffix == ".csv" and path.is_file():
            with path.open(encoding="utf-8-sig", newline="") as file:
                columns = next(csv.reader(file), [])
            if "not_gamed_baseline" in columns:
                yield path, "gamed", read_csv(path)
            elif _column(columns, _LENGTH) and _column(columns, _BIAS):
                yield path, "weights", read_csv(path)
            elif "instruction_difficulty" in columns:
                yield path, "difficulties", read_csv(path)


def _column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in columns), None)


def _difficulties(path: Path, value: Any) -> Floats:
    rows = [number(path, row, "instruction_difficulty") for row in value] if value and isinstance(value[0], dict) else value
    try:
        found = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError):
        found = np.array([math.nan])
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise DataError(f"{path}: difficulties must be a list of numbers, one an instruction")
    return found


def _weights(path: Path, rows: Sequence[Mapping[str, str]]) -> dict[str, Weights]:
    columns = list(rows[0])
    names = [_column(columns, options) for options in (_LENGTH, _DIFFICULTY, _BIAS)]
    name_column = columns[0]
    found: dict[str, Weights] = {}
    for row in rows:
        if row[name_column] in found:
            raise DataError(f"{path}: weights of {row[name_column]} are there twice")
        found[row[name_column]] = Weights(*(number(path, row, str(name)) for name in names))
    return found


def _gamed(path: Path, value: Any, difficulties: Floats | None) -> tuple[Floats, Floats] | None:
    if isinstance(value, list):
        delta, difficulty, points = (
            np.array([number(path, row, key) for row in value]) for key in ("std_delta_len", "instruction_difficulty", "preference")
        )
        return np.stack([np.tanh(delta), difficulty, np.zeros_like(delta)], axis=1), points
    return None if difficulties is None else _gamed_from_weights(path, value, difficulties)


def _gamed_from_weights(path: Path, value: Any, difficulties: Floats) -> tuple[Floats, Floats]:
    """Rows of the gamed variants, whose verdicts are not at hand: in their place the probabilities that their published weights give."""
    try:
        baseline = next(key for key in value if key.startswith("len_") and any(k.startswith(key + "_") for k in value))
        lengths = np.array(value[baseline], dtype=np.float64)
        features, points = [], []
        for name, weights in value["weights"].items():
            delta = lengths - np.array(value[f"len_{name}"], dtype=np.float64)
            w = Weights(*(float(weights[_column(list(weights), options) or ""]) for options in (_LENGTH, _DIFFICULTY, _BIAS)))
            tanh = np.tanh(delta / delta.std(ddof=1))
            features.append(np.stack([tanh, difficulties, np.zeros_like(tanh)], axis=1))
            points.append(1 / (1 + np.exp(-(w.length * tanh + w.difficulty * difficulties + w.bias))))
    except (StopIteration, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: gamed baselines must be `len_BASELINE`, `len_VARIANT` of each variant, `weights` ({type(error).__name__}: {error})"
        ) from None
    return np.concatenate(features), np.concatenate(points)
