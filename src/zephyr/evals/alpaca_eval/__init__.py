"""AlpacaEval 1 and 2: its files, preferences from judges' replies, win rates, length-controlled win rates, leaderboards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zephyr.errors import DataError, UsageError
from zephyr.evals import hygiene, names
from zephyr.evals.alpaca_eval import files, leaderboard, scores
from zephyr.evals.alpaca_eval.files import Annotation
from zephyr.evals.asks import CANARY
from zephyr.records import Row

# the annotator whose weights the original publishes; those of others would be another judge's
WEIGHTS_OF = "weighted_alpaca_eval_gpt4_turbo"
MISFIT = 0.5  # percentage points: refits of published models differ by 0.15 at most


def score_file(
    path: Path,
    *,
    compatible: bool = False,
    model: str | None = None,
    board: Path | None = None,
    write_board: Path | None = None,
    outputs: Path | None = None,
    against: Path | None = None,
    tables: Path | None = None,
    seed: int = 0,
) -> Row:
    """The win rate of an annotations.json, plain and length-controlled.

    Args:
        path: JSON or JSONL, also under gzip.
        compatible: count as the original does, bug for bug.
        model: whose annotations these are to be; others are refused.
        board: a leaderboard (CSV) whose row of the model is set beside.
        write_board: where to write that leaderboard with the model's row as scored here.
        outputs: the model's outputs, which are to be what was judged.
        against: the annotations of a second model, for the paired difference.
        tables: folder or file with what the length-controlled rate needs (see `tables.find`); looked for beside `path` and `board` too.
        seed: of the bootstrap.

    Returns:
        What docs/scores.md describes; its `warnings` say what a reader has to know first.

    Raises:
        DataError: a row that cannot be used, annotations of another model than `model`.
        UsageError: a file that is not there, or `tables` without any.
    """
    rows, written = _named(path, compatible=compatible)
    if model not in (None, written, rows[0].generator_2):
        raise DataError(f"{path}: these are annotations of {rows[0].generator_2}, not of {model}")
    result = scores.score(rows, compatible=compatible, seed=seed)
    said: list[str] = result["warnings"]
    said += scores.belongs_to(rows, path)
    if result["model"] == CANARY:
        said += hygiene.canary_warnings({"alpaca_eval": {CANARY: result}})
    said += hygiene.served_warnings(f"the judge, {rows[0].annotator}", hygiene.served(files.served_by(rows)))
    if outputs is not None and (other := files.check_outputs(rows, files.read_outputs(outputs))) is not None:
        said.append(f"{path}: {other}")
    _add_length_controlled(result, rows, path, board, tables, compatible=compatible)
    _add_published(result, board, write_board)
    if against is not None:
        result["against"] = scores.against(rows, _named(against)[0])
    return result


def _add_length_controlled(
    result: Row, rows: list[Annotation], path: Path, board: Path | None, tables: Path | None, *, compatible: bool
) -> None:
    """The length-controlled rate, where its tables are found: in `tables`, or else above the annotations and the leaderboard."""
    above = path.resolve().parents
    folders = [tables] if tables is not None else [*above[:3], *([board, board.resolve().parent] if board is not None else [])]
    controlled = length_controlled(rows, folders, compatible=compatible)
    if tables is not None and not controlled["files"]:
        raise UsageError(
            f"{tables}: {'none of the tables of the length-controlled rate is there' if tables.exists() else 'no such file or folder'}"
        )
    result["length_controlled_winrate"] = controlled.pop("rate")
    result["warnings"] += controlled.pop("remarks")
    result["length_controlled"] = controlled


def _add_published(result: Row, board: Path | None, write_board: Path | None) -> None:
    """What a leaderboard says of the model; and the leaderboard written anew with the model's row as scored here."""
    entries = {} if board is None else leaderboard.read(board)
    if board is not None:
        result["published"], remarks = scores.beside_published(result, entries, board)
        result["warnings"] += remarks
    if write_board is not None:
        leaderboard.write(write_board, {**entries, result["model"]: leaderboard.entry(result)})


def _named(path: Path, *, compatible: bool = False) -> tuple[list[Annotation], str]:
    """(annotations, with the model's name by the run they are of; the name that is written in them)."""
    rows = files.read(path, compatible=compatible)
    called = names.beside(path, {rows[0].generator_1})
    return [replace(row, generator_2=called.get(row.generator_2, row.generator_2)) for row in rows], rows[0].generator_2


def length_controlled(rows: Sequence[Annotation], folders: Sequence[Path], *, compatible: bool) -> Row:
    """The length-controlled rate: from the model's published weights where there are any that fit these rows, else of a new fit.

    Returns:
        `rate` (0 to 100, None where it cannot be had), `method`, `reason` where there is none, `ci95`, `standard_error`, `weights`,
        `fitted` and `published_weights` (the rate of both, where they can be had), `files`, `remarks`.
    """
    from zephyr.evals.alpaca_eval import length
    from zephyr.evals.alpaca_eval import tables as t

    found = t.find(folders)
    model, baseline, annotator = rows[0].generator_2, rows[0].generator_1, rows[0].annotator
    result: Row = {"rate": None, "method": None, "ci95": None, "standard_error": None, "files": dict(found.paths), "remarks": []}
    if model == baseline:
        return {**result, "rate": 50.0, "method": "the baseline itself, by definition"}
    if found.difficulties is None:
        return {**result, "reason": "the instructions' difficulties are not at hand; name their folder with --tables"}
    own = length.own_difficulties(rows, found.difficulties, positional=compatible)
    if own is None:
        return {**result, "reason": "an instruction is none of AlpacaEval's, so that its difficulty is not known"}
    # the mean over all instructions, so that models whose files lack rows are asked the same; the original's over the rows there are
    over = own if compatible else found.difficulties
    problem = length.problem_of(rows, own, found)
    if problem is None:
        return {**result, "reason": "fewer than two verdicts, or outputs that all differ by one length: nothing can be fitted"}
    instructions = [a.instruction for a in rows if a.points is not None]
    given = found.weights.get(model) if annotator == WEIGHTS_OF else None
    controlled = {
        "published weights": None if given is None else length.at(given, problem, instructions, over),
        "fitted": None if found.gamed is None else length.fit(problem, instructions, over),
    }
    if given is not None and not compatible and (off := length.misfit(given, problem)) > MISFIT:
        result["remarks"].append(
            f"the published weights of {model} were not fitted to these rows: they miss the win rate by {off:.1f} points"
        )
        controlled["published weights"] = None
    chosen = next(((method, c) for method, c in controlled.items() if c is not None), None)
    if chosen is None:
        return {
            **result,
            "reason": "neither fitting weights of the model nor the gamed baselines are at hand; name their folder with --tables",
        }
    method, c = chosen
    result |= {"rate": c.rate, "method": method, "ci95": c.ci95, "standard_error": c.stderr, "weights": vars(c.weights)}
    for name, other in controlled.items():
        result[name.replace(" ", "_")] = None if other is None else {"rate": other.rate, "ci95": other.ci95, "strength": other.strength}
    both = [other.rate for other in controlled.values() if other is not None]
    if not compatible and len(both) == 2 and abs(both[0] - both[1]) > MISFIT:
        why = "; the original fits a file that lacks rows with shifted difficulties" if len(set(instructions)) < len(over) else ""
        result["remarks"].append(
            f"{model}: length-controlled, the published weights give {both[0]:.2f}, a fit with each row's own difficulty {both[1]:.2f}{why}"
        )
    return result
