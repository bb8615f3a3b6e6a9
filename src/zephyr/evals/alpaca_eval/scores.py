"""AlpacaEval's numbers: win rate and standard error as the original computes them, and what they rest on.

win rate = 100 mean(preference - 1) over the pairs that have a verdict, standard error = 100 sd / sqrt(n) with sd's divisor n - 1; a draw
counts half. Our strict reading differs from the original's (`compatible`) in this: a preference that is none is an error and not
dropped, an instruction that was judged twice counts once, and the length-controlled rate is fitted with each instruction's own difficulty.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr.errors import DataError
from zephyr.evals.alpaca_eval import files, leaderboard, preferences, remarks
from zephyr.evals.alpaca_eval.files import Annotation
from zephyr.evals.counts import agree
from zephyr.evals.statistics import Estimate, Group, bootstrap, paired, rate, share, standard_error
from zephyr.records import Row


def score(annotations: Sequence[Annotation], *, compatible: bool = False, seed: int = 0) -> Row:
    """The win rate of the annotations' model, with counts, intervals and what has to be known about them.

    Args:
        annotations: of one model against one baseline.
        compatible: count as the original does.
        seed: of the bootstrap.

    Returns:
        The object that docs/scores.md describes, but for the length-controlled rate.

    Raises:
        DataError: no annotation has a verdict.
    """
    groups = by_instruction(annotations, compatible=compatible)
    if not groups:
        n = len(annotations)
        raise DataError(f"{annotations[0].where}: none of {n} {agree(n, 'annotation', 'annotations')} has a verdict")
    found = rate(list(groups.values()))
    assert found is not None
    points = [total for total, _ in groups.values()]
    kinds = Counter("n_wins" if p > 0.5 else "n_wins_base" if p < 0.5 else "n_draws" for p in points)
    error = standard_error(list(groups.values()))
    dataset_of = {a.instruction: str(a.row.get("dataset") or "unknown") for a in annotations}
    subsets: dict[str, list[Group]] = defaultdict(list)
    for (instruction, _), group in groups.items():
        subsets[dataset_of[instruction]].append(group)
    by_dataset = {name: rate(part) for name, part in sorted(subsets.items())} if len(subsets) > 1 else {}
    at = {files.position(a.instruction) for a in annotations}
    lengths = [len(a.output_2) for a in annotations]
    result: Row = {
        "model": annotations[0].generator_2,
        "baseline": annotations[0].generator_1,
        "annotator": annotations[0].annotator,
        "win_rate": percent(found),
        "standard_error": None if error is None else 100 * error,
        "ci95": percent_ci(found),
        "ci95_bootstrap": _scaled(bootstrap(list(groups.values()), seed=seed)),
        **{name: kinds[name] for name in ("n_wins", "n_wins_base", "n_draws")},
        "n_total": len(groups),
        "n_null": sum(a.points is None for a in annotations),
        "nulls_as": _filled(annotations, compatible),
        "discrete_win_rate": 100 * (kinds["n_wins"] + kinds["n_draws"] / 2) / len(groups),
        "avg_length": int(statistics.fmean(lengths)),
        "by_dataset": {name: percent(e) for name, e in by_dataset.items()},
        "by_dataset_ci95": {name: percent_ci(e) for name, e in by_dataset.items()},
        "order": order(annotations),
        "longer_wins": longer_wins(annotations),
        "n_missing": 0 if None in at else files.INSTRUCTIONS - len(at),
        "n_unknown": sum(files.position(a.instruction) is None for a in annotations),
        "n_empty": sum(not a.output_2.strip() for a in annotations),
        "duplicates": len(annotations) - len({a.instruction for a in annotations}),
        "compatible": compatible,
    }
    result["warnings"] = remarks.of(annotations, result)
    return result


def by_instruction(
    annotations: Sequence[Annotation], *, compatible: bool = False, null: float | None = None
) -> dict[tuple[str, int], Group]:
    """(points, 1) of each instruction with a verdict, by (instruction, 0): of several verdicts the mean.

    Args:
        annotations: of one model.
        compatible: each row by itself, as the original has it, by (instruction, number of the row).
        null: the points of a row without a verdict; None leaves it out.
    """
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for i, a in enumerate(annotations):
        points = null if a.points is None else a.points
        if points is not None:
            found[a.instruction, i if compatible else 0].append(points)
    return {key: (sum(values) / len(values), 1) for key, values in found.items()}


def order(annotations: Sequence[Annotation]) -> Row:
    """What the order of presentation did: the win rate where the model was shown first, and second.

    `rederived` counts the rows whose raw completion, read in the derived order, gives the preference on record (or none, as on record),
    `of` those with one. Rows that were judged in both orders, as ours are, hold both verdicts: see `order_of_both`.
    """
    if all(in_both_orders(a) for a in annotations):
        return order_of_both(annotations)
    first = {a.where: preferences.model_shown_first(a.instruction) for a in annotations}
    checked = [(a, preferences.of_completion(a.row["raw_completion"])) for a in annotations if a.row.get("raw_completion") is not None]
    same = sum(
        a.preference is None
        if shown is None
        else a.preference is not None and abs(preferences.unswitched(shown, model_first=first[a.where]) - a.preference) < 1e-6
        for a, shown in checked
    )
    parts = {side: rate([(a.points, 1) for a in annotations if a.points is not None and first[a.where] is side]) for side in (True, False)}
    return {
        "n_model_shown_first": sum(first.values()),
        **_by_place(parts),
        "rederived": same,
        "of": len(checked),
    }


def in_both_orders(annotation: Annotation) -> bool:
    """Whether a row holds a verdict (or none that could be read) of each order, under `verdicts`, as `judging.annotated` writes it."""
    verdicts = annotation.row.get("verdicts")
    if not isinstance(verdicts, list) or not all(isinstance(v, dict) and _is_preference(v.get("preference")) for v in verdicts):
        return False
    places = [v.get("model_first") for v in verdicts]
    return len(places) == 2 and any(place is True for place in places) and any(place is False for place in places)


def _is_preference(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 2)


def order_of_both(given: Sequence[Annotation]) -> Row:
    """What the order did, of pairs that were judged in both: win rates by place, and how often the verdicts agree.

    Two verdicts agree if both say the same model, or neither.
    """
    points: dict[bool, dict[str, list[float]]] = {True: defaultdict(list), False: defaultdict(list)}
    same: dict[str, list[float]] = defaultdict(list)
    for annotation in given:
        won = {
            v["model_first"]: preferences.unswitched(v["preference"], model_first=v["model_first"]) - 1
            for v in annotation.row["verdicts"]
            if v["preference"] is not None
        }
        for first, value in won.items():
            points[first][annotation.instruction].append(value)
        if len(won) == 2:
            same[annotation.instruction].append(float(_side(won[True]) == _side(won[False])))
    agree = share(_sums(same))
    return {
        **_by_place({first: rate(_sums(found)) for first, found in points.items()}),
        "consistent": percent(agree),
        "consistent_ci95": percent_ci(agree),
        "n": sum(map(len, same.values())),
    }


def _by_place(parts: Mapping[bool, Estimate | None]) -> Row:
    """The model's rate where it was shown first (True), and second."""
    return {
        "win_rate_shown_first": percent(parts[True]),
        "win_rate_shown_first_ci95": percent_ci(parts[True]),
        "win_rate_shown_second": percent(parts[False]),
        "win_rate_shown_second_ci95": percent_ci(parts[False]),
    }


def _sums(values: Mapping[str, Sequence[float]]) -> list[Group]:
    return [(sum(found), len(found)) for found in values.values()]


def _side(points: float) -> int:
    """For the baseline, for neither, for the model."""
    return (points > 0.5) - (points < 0.5)


def longer_wins(annotations: Sequence[Annotation]) -> Row | None:
    """Of the decided pairs whose outputs differ in length, the share in which the longer one wins (0 to 100)."""
    groups: dict[str, Group] = {}
    for a in annotations:
        longer = len(a.output_2) - len(a.output_1)
        if a.points is not None and a.points != 0.5 and longer:
            total, n = groups.get(a.instruction, (0.0, 0))
            groups[a.instruction] = total + float((a.points > 0.5) == (longer > 0)), n + 1
    found = share(list(groups.values()))
    return None if found is None else {"share": percent(found), "ci95": percent_ci(found), "n": found.items}


def against(one: Sequence[Annotation], other: Sequence[Annotation]) -> Row:
    """The difference of two models' win rates (percentage points), paired by instruction.

    Raises:
        DataError: other baselines or judges, or fewer than two instructions in common.
    """
    for key in ("generator_1", "annotator"):
        names = getattr(one[0], key), getattr(other[0], key)
        if names[0] != names[1]:
            raise DataError(f"{other[0].where}: `{key}` is {names[1]}, that of the other file is {names[0]}; such rates cannot be compared")
    if (found := difference(one, other)) is None:
        raise DataError(f"{other[0].where}: fewer than two instructions in common with {one[0].where}")
    return {"model": other[0].generator_2, **found}


def difference(one: Sequence[Annotation], other: Sequence[Annotation]) -> Row | None:
    """The same of two models of one judging; None with fewer than two instructions of which both have a verdict."""
    groups = [{name: (100 * total, n) for name, (total, n) in by_instruction(part).items()} for part in (one, other)]
    if (found := paired(groups[0], groups[1])) is None:
        return None
    found = found.within(100.0)
    return {**found.json(), "in_words": found.words(one[0].generator_2, other[0].generator_2, what="instructions", digits=1)}


def belongs_to(annotations: Sequence[Annotation], path: Path) -> list[str]:
    """What in the place of a file speaks against its being this model's: results/MODEL/ANNOTATOR/annotations.json."""
    first, folder = annotations[0], path.resolve().parent
    said: list[str] = []
    if not (folder.name == first.annotator or "alpaca_eval" in folder.name):
        return said
    if first.annotator and folder.name != first.annotator:
        said.append(f"{path}: the folder is that of {folder.name}, the annotator of the rows is {first.annotator}")
    if folder.parent.name != first.generator_2:
        said.append(
            f"{path}: the folder is that of {folder.parent.name}, the rows are about {first.generator_2}: another model, or another name"
        )
    return said


def beside_published(result: Row, board: leaderboard.Board, path: Path) -> tuple[Row | None, list[str]]:
    """(the published row and how far ours is from it, what is wrong with the leaderboard)."""
    said = [
        f"{path}: the rates of {copy} are those of {original} to the last digit; one of the two was copied"
        for original, copy in leaderboard.copies(board)
        if result["model"] in (original, copy)
    ]
    row = board.get(result["model"])
    if row is None:
        return None, [*said, f"{path}: has no row of {result['model']}"]
    columns = ("win_rate", "standard_error", "n_total", "length_controlled_winrate")
    found: Row = {}
    for column in columns:
        value = leaderboard.published(row, column)
        found[column] = value
        found[f"{column}_difference"] = None if value is None or result.get(column) is None else result[column] - value
    if (off := found["win_rate_difference"]) is not None and abs(off) > 1e-6:
        said.append(
            f"{path}: the published win rate of {result['model']} is {found['win_rate']:.4f}, that of these rows {result['win_rate']:.4f}"
        )
    return found, said


def percent(estimate: Estimate | None) -> float | None:
    """The value, 0 to 100."""
    return None if estimate is None else 100 * estimate.value


def percent_ci(estimate: Estimate | None) -> list[float] | None:
    """The interval, 0 to 100."""
    return None if estimate is None else estimate.times(100).ci95


def _scaled(ci: list[float] | None) -> list[float] | None:
    return None if ci is None else [100 * end for end in ci]


def _filled(annotations: Sequence[Annotation], compatible: bool) -> dict[str, Mapping[str, Any]]:
    """The win rate with what has no verdict left out, counted as lost, as a draw, as won."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, null in (("dropped", None), ("worst", 0.0), ("middle", 0.5), ("best", 1.0)):
        estimate = rate(list(by_instruction(annotations, compatible=compatible, null=null).values()))
        found[name] = {"win_rate": percent(estimate), "ci95": percent_ci(estimate)}
    return found
