"""MT-Bench scores of single answers: means with intervals clustered by question, and what they rest on.

The original averages rows; two runs under one model id, or a question that was judged twice, weigh as they come, and a row
without a verdict is left out without a word (`compatible`). Here a (question, turn) is one cell: what was judged in it more than
once is averaged first, so that every question weighs the same, and the repetitions are counted and said.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zephyr.errors import DataError
from zephyr.evals.counts import agree
from zephyr.evals.mt_bench import verdicts
from zephyr.evals.mt_bench.records import Cell, Id, Judgment, Question, category_of, refuse_unknown, wanted_cells
from zephyr.evals.statistics import Estimate, Group, bootstrap, paired, rate, ratio, share
from zephyr.records import Row


@dataclass(frozen=True)
class Read:
    """A judgment and the score read from it; None and the reason where there is none."""

    judgment: Judgment
    score: float | None
    problem: str = ""

    @property
    def cell(self) -> Cell:
        """The question and turn it is of."""
        return self.judgment.question_id, self.judgment.turn


def read(judgment: Judgment, *, compatible: bool) -> Read:
    """The score of a judgment: from its reply where the file has it, else as recorded."""
    if judgment.judgment is None:
        score = judgment.score
        fits = score is not None and score != -1 and (compatible or verdicts.LOWEST <= score <= verdicts.HIGHEST)
        return Read(judgment, score if fits else None, "" if fits else "recorded as without a verdict" if score == -1 else "out of range")
    if compatible:
        score = verdicts.single_compatible(judgment.judgment)
        return Read(judgment, None if score == -1 else score, "no number in brackets" if score == -1 else "")
    verdict = verdicts.single(judgment.judgment)
    return Read(judgment, verdict.score, verdict.problem)


def score(
    judgments: Sequence[Judgment], *, compatible: bool = False, questions: Mapping[Id, Question] | None = None, seed: int = 0
) -> dict[str, Row]:
    """The scores of every model in a file of judgments.

    Args:
        judgments: of one judge.
        compatible: read replies and average rows as FastChat does, bug for bug.
        questions: what was to be judged; by default the eighty of MT-Bench, if no other id appears.
        seed: of the bootstrap.

    Returns:
        For each model, best first, the object that docs/scores.md describes.

    Raises:
        DataError: judgments of several judges (not if `compatible`), or of a question that is none of `questions`.
    """
    if not compatible:
        _one_judge(judgments)
    refuse_unknown(judgments, questions)
    by_model: dict[str, list[Read]] = defaultdict(list)
    for judgment in judgments:
        by_model[judgment.model].append(read(judgment, compatible=compatible))
    wanted = wanted_cells(judgments, questions)
    results = {model: _result(model, reads, wanted, compatible, questions, seed) for model, reads in by_model.items()}
    if len(results) > 1:
        cells = {model: _cells(reads, lambda r: r.score) for model, reads in by_model.items()}
        longer = {model: _prompt_lengths(reads) for model, reads in by_model.items()}
        for model, result in results.items():
            result["against"] = {other: _against((model, other), cells, longer) for other in by_model if other != model}
    return dict(sorted(results.items(), key=lambda item: (item[1]["score"] is None, -(item[1]["score"] or 0.0), item[0])))


def _result(
    model: str, reads: Sequence[Read], wanted: Sequence[Cell], compatible: bool, questions: Mapping[Id, Question] | None, seed: int
) -> Row:
    mean = _rows if compatible else _cells
    scored = mean(reads, lambda r: r.score)
    by_category: dict[str, dict[Cell, Group]] = defaultdict(dict)
    for cell in sorted(scored, key=lambda c: (str(type(c[0])), c)):
        by_category[category_of(cell[0], questions)][cell] = scored[cell]
    whole = _estimate(scored, compatible)
    turns = [_estimate({c: g for c, g in scored.items() if c[1] == turn}, compatible) for turn in (1, 2)]
    categories = {name: _estimate(cells, compatible) for name, cells in by_category.items()}
    unparsed = Counter(r.problem for r in reads if r.score is None)
    cells = {r.cell for r in reads}
    filled = {
        "dropped": whole,
        "worst": _estimate(mean(reads, lambda r: verdicts.LOWEST if r.score is None else r.score), compatible),
        "middle": _estimate(mean(reads, lambda r: verdicts.MIDDLE if r.score is None else r.score), compatible),
    }
    result: Row = {
        "score": _value(whole),
        "ci95": _ci(whole),
        "ci95_bootstrap": bootstrap(_by_question(scored), seed=seed),
        "turn_1": _value(turns[0]),
        "turn_1_ci95": _ci(turns[0]),
        "turn_2": _value(turns[1]),
        "turn_2_ci95": _ci(turns[1]),
        "by_category": {name: _value(e) for name, e in categories.items()},
        "by_category_ci95": {name: _ci(e) for name, e in categories.items()},
        "n": sum(r.score is not None for r in reads),
        "n_questions": len({cell[0] for cell in cells}),
        "n_unparsed": sum(unparsed.values()),
        "unparsed": dict(unparsed),
        "unparsed_as": {name: {"score": _value(e), "ci95": _ci(e)} for name, e in filled.items()},
        "duplicates": len(reads) - len(cells),
        "n_missing": sum(cell not in cells for cell in wanted),
        "repeated_judging": _repeated(reads),
        "judge": sorted({"/".join(filter(None, r.judgment.judge)) for r in reads}),
        "compatible": compatible,
    }
    result["warnings"] = _warnings(model, reads, wanted, result)
    return result


def _one_judge(judgments: Sequence[Judgment]) -> None:
    names = sorted({j.judge[0] for j in judgments})
    if len(names) > 1:
        raise DataError(
            f"{judgments[0].where}: judged by {', '.join(names)}; scores of different judges are not one scale: choose with --judge"
        )


def _cells(reads: Sequence[Read], value: Callable[[Read], float | None]) -> dict[Cell, Group]:
    """(mean of what was read, 1) of each cell with anything in it."""
    return {cell: (math.fsum(values) / len(values), 1) for cell, values in _by_cell(reads, value).items()}


def _rows(reads: Sequence[Read], value: Callable[[Read], float | None]) -> dict[Cell, Group]:
    """(sum, number of rows) of each cell: every row weighs the same, as in the original."""
    return {cell: (math.fsum(values), len(values)) for cell, values in _by_cell(reads, value).items()}


def _by_cell(reads: Sequence[Read], value: Callable[[Read], float | None]) -> dict[Cell, list[float]]:
    found: dict[Cell, list[float]] = defaultdict(list)
    for r in reads:
        if (read := value(r)) is not None:
            found[r.cell].append(read)
    return found


def _by_question(cells: Mapping[Cell, Group]) -> list[Group]:
    return list(_question_groups(cells).values())


def _question_groups(cells: Mapping[Cell, Group]) -> dict[Id, Group]:
    sums: dict[Id, Group] = {}
    for (key, _), (total, n) in cells.items():
        before = sums.get(key, (0.0, 0))
        sums[key] = before[0] + total, before[1] + n
    return sums


def _estimate(cells: Mapping[Cell, Group], compatible: bool) -> Estimate | None:
    """Mean over cells with its interval, which ends where the scale does; the original knows no scale, and neither does its mean."""
    groups = _by_question(cells)
    found = ratio(groups)
    if found is None or compatible:
        return found
    span = verdicts.HIGHEST - verdicts.LOWEST
    # as points from 0 to 1, so that ten tens are not taken for certainty
    points = rate([((total - n * verdicts.LOWEST) / span, n) for total, n in groups])
    assert points is not None
    low, high = (verdicts.LOWEST + span * end for end in (points.low, points.high))
    return replace(found, low=min(low, found.value), high=max(high, found.value)).within(verdicts.LOWEST, verdicts.HIGHEST)


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _ci(estimate: Estimate | None) -> list[float] | None:
    return None if estimate is None else estimate.ci95


def _repeated(reads: Sequence[Read]) -> Row | None:
    """How much a verdict moves when the same answer is judged again; None where none was.

    The pooled standard deviation within (question, turn, prompt), and the error it alone makes in the score when each cell is judged once.
    Their intervals are the roots of the variance's, over questions: a variance is a mean of squares, at most that of a 1 beside a 10. Where
    no verdict has moved it is as `rate` has it, so that a judge who was asked twice is not certain.
    """
    groups: dict[tuple[Cell, str | None], list[float]] = defaultdict(list)
    for r in reads:
        if r.score is not None and r.judgment.user_prompt is not None:
            groups[r.cell, r.judgment.user_prompt].append(r.score)
    again = {cell: values for cell, values in groups.items() if len(values) > 1}
    if not again:
        return None
    moved: dict[Id, Group] = {}
    for ((key, _), _), values in again.items():
        total, n = moved.get(key, (0.0, 0))
        mean = math.fsum(values) / len(values)
        moved[key] = total + math.fsum((v - mean) ** 2 for v in values), n + len(values) - 1
    spread = math.sqrt(sum(total for total, _ in moved.values()) / sum(n for _, n in moved.values()))
    # of a 1 beside a 10; the original's reading knows no scale
    largest = max((verdicts.HIGHEST - verdicts.LOWEST) ** 2 / 2, *(total / n for total, n in moved.values()))
    found = rate([(total / largest, n) for total, n in moved.values()])
    ends = None if found is None or found.ci95 is None else [math.sqrt(largest * end) for end in found.ci95]
    cells = math.sqrt(len({cell for cell, _ in groups}))
    return {
        "cells": len(again),
        "verdict_sd": spread,
        "verdict_sd_ci95": ends,
        "score_sd": spread / cells,
        "score_sd_ci95": ends and [end / cells for end in ends],
    }


def _warnings(model: str, reads: Sequence[Read], wanted: Sequence[Cell], result: Row) -> list[str]:
    said = []
    if result["n_missing"]:
        cells = {r.cell for r in reads}
        key, turn = next(cell for cell in wanted if cell not in cells)
        missing = f"{result['n_missing']} of {len(wanted)} judgments {agree(result['n_missing'], 'is', 'are')} missing"
        said.append(f"{model}: {missing}, the first is question {key} turn {turn}")
    if result["duplicates"]:
        prompts: dict[Cell, set[str | None]] = defaultdict(set)
        for r in reads:
            prompts[r.cell].add(r.judgment.user_prompt)
        runs = sum(len(found) > 1 for found in prompts.values())
        what = (
            f"on {runs} {agree(runs, 'turn', 'turns')} the answers judged differ: two runs under one model id"
            if runs
            else "the same answers were judged again, or rows were copied"
        )
        repeat = agree(result["duplicates"], "judgment repeats", "judgments repeat")
        said.append(f"{model}: {result['duplicates']} {repeat} a question and turn; {what}")
    if result["n_unparsed"]:
        reasons = ", ".join(f"{problem} {n}" for problem, n in result["unparsed"].items())
        hold, them = agree(result["n_unparsed"], "reply holds", "replies hold"), agree(result["n_unparsed"], "it", "them")
        said.append(f"{model}: {result['n_unparsed']} {hold} no verdict ({reasons}); the score leaves {them} out")
    differ = [r for r in reads if r.judgment.judgment is not None and _differs(r)]
    if differ:
        first = differ[0].judgment
        rows = agree(len(differ), "row", "rows")
        said.append(f"{model}: of {len(differ)} {rows} the recorded score is not what the reply says, the first is {first.where}")
    return said


def _differs(read: Read) -> bool:
    recorded = read.judgment.score
    return recorded is not None and recorded != (-1 if read.score is None else read.score)


def _prompt_lengths(reads: Sequence[Read]) -> dict[tuple[Cell, tuple[str, str]], int]:
    """Characters of what the judge saw: two prompts of one template and question differ by the answers alone."""
    return {(r.cell, r.judgment.judge): len(r.judgment.user_prompt) for r in reads if r.judgment.user_prompt is not None}


def _against(pair: tuple[str, str], cells: Mapping[str, Mapping[Cell, Group]], lengths: Mapping[str, Mapping[Any, int]]) -> Row | None:
    """The difference of two models on the cells that both have, paired by question."""
    one, other = (cells[name] for name in pair)
    common = [cell for cell in one if cell in other]
    found = paired(
        _question_groups({cell: one[cell] for cell in common}),
        _question_groups({cell: other[cell] for cell in common}),
    )
    if found is None:
        return None
    found = found.within(verdicts.HIGHEST - verdicts.LOWEST)
    wins: dict[Id, list[float]] = defaultdict(list)
    for key in lengths[pair[0]].keys() & lengths[pair[1]].keys():
        cell = key[0]
        if cell not in one or cell not in other:
            continue
        longer, better = lengths[pair[0]][key] - lengths[pair[1]][key], one[cell][0] - other[cell][0]
        if longer and better:
            wins[cell[0]].append(float((longer > 0) == (better > 0)))
    favour = share([(sum(values), len(values)) for values in wins.values()])
    return {
        **found.json(),
        "in_words": found.words(*pair),
        "longer_is_better": None if favour is None else {"share": favour.value, "ci95": favour.ci95, "n": favour.items},
    }


def all_warnings(results: Mapping[str, Row]) -> list[str]:
    """What has to be said about a file, model by model."""
    return list(itertools.chain.from_iterable(result["warnings"] for result in results.values()))
