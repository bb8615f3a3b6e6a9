"""AlpacaEval's leaderboards, CSV in and out: a row a model, its name in the first column."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from zephyr import durable
from zephyr.errors import DataError
from zephyr.evals.alpaca_eval.tables import read_csv
from zephyr.records import Row

COLUMNS = (
    "win_rate",
    "standard_error",
    "n_wins",
    "n_wins_base",
    "n_draws",
    "n_total",
    "discrete_win_rate",
    "mode",
    "avg_length",
    "length_controlled_winrate",
    "lc_standard_error",
)

Board = dict[str, dict[str, str]]


def read(path: Path) -> Board:
    """The rows by model, in the file's order, cells as they stand there.

    Raises:
        UsageError: there is no such file.
        DataError: not a CSV file, or a model that is there twice.
    """
    found: Board = {}
    for row in read_csv(path):
        name, *columns = row
        if row[name] in found:
            raise DataError(f"{path}: {row[name]} is there twice")
        found[row[name]] = {column: row[column] for column in columns}
    return found


def write(path: Path, board: Mapping[str, Mapping[str, str]]) -> None:
    """A leaderboard, best win rate first; columns in the original's order, those of its own after them."""
    others = [column for row in board.values() for column in row if column not in COLUMNS]
    columns = [c for c in COLUMNS if any(c in row for row in board.values())] + list(dict.fromkeys(others))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *columns])
    for model, row in sorted(board.items(), key=lambda item: -(published(item[1], "win_rate") or 0.0)):
        writer.writerow([model, *(row.get(column, "") for column in columns)])
    durable.write_text(path, text.getvalue())


def published(row: Mapping[str, str], column: str) -> float | None:
    """A cell as a number; None where it is empty or not there."""
    try:
        return float(row[column]) if row.get(column) else None
    except ValueError:
        return None


def entry(result: Row) -> dict[str, str]:
    """The row of a scored model."""
    values = {**{column: result.get(column) for column in COLUMNS}, "mode": "community"}
    values["lc_standard_error"] = None  # the original's is the spread of predictions, which is no error of the rate
    return {column: "" if value is None else str(value) for column, value in values.items()}


def copies(board: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """Models whose every published rate is that of another to the last digit, but not their outputs' length: one of the two was copied."""
    seen: dict[tuple[str, ...], str] = {}
    found = []
    for model, row in board.items():
        rates = tuple(row.get(column, "") for column in ("win_rate", "standard_error", "n_total", "length_controlled_winrate"))
        if not all(rates):
            continue
        if rates in seen:
            found.append((seen[rates], model))
        seen.setdefault(rates, model)
    return found
