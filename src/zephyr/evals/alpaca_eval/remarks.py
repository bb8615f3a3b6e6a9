"""What has to be said beside a win rate: rows that are missing, repeated, empty or without a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zephyr.evals.alpaca_eval import files
from zephyr.evals.alpaca_eval.files import Annotation
from zephyr.evals.counts import agree
from zephyr.records import Row


def of(annotations: Sequence[Annotation], result: Row) -> list[str]:
    """What has to be known of the annotations that `result` (of `scores.score`) is of."""
    model, n = result["model"], len(annotations)
    said = []
    if result["n_missing"]:
        there = {files.position(a.instruction) for a in annotations}
        first = next(i for i in range(files.INSTRUCTIONS) if i not in there)
        missing = (
            f"{result['n_missing']} of AlpacaEval's {files.INSTRUCTIONS} instructions {agree(result['n_missing'], 'is', 'are')} missing"
        )
        said.append(f"{model}: {missing}, the first is number {first + 1}, counted from 1")
    if result["n_unknown"]:
        first_unknown = next(a for a in annotations if files.position(a.instruction) is None)
        unknown = f"{result['n_unknown']} of {n} instructions {agree(result['n_unknown'], 'is', 'are')} none of AlpacaEval's"
        said.append(f"{model}: {unknown}, the first is {first_unknown.where}")
    if result["duplicates"]:
        counts = Counter(a.instruction for a in annotations)
        again = next(a for a in annotations if counts[a.instruction] > 1)
        repeat = agree(result["duplicates"], "row repeats", "rows repeat")
        said.append(f"{model}: {result['duplicates']} {repeat} an instruction, such as that of {again.where}")
    if result["n_null"]:
        have, them = agree(result["n_null"], "has", "have"), agree(result["n_null"], "it", "them")
        said.append(f"{model}: {result['n_null']} of {n} rows {have} no verdict; the win rate leaves {them} out")
    if result["n_empty"]:
        empty = next(a for a in annotations if not a.output_2.strip())
        said.append(
            f"{model}: {result['n_empty']} {agree(result['n_empty'], 'output is', 'outputs are')} empty, the first is {empty.where}"
        )
    o = result["order"]
    if "of" in o and o["rederived"] != o["of"]:
        said.append(f"{model}: of {o['of'] - o['rederived']} of {o['of']} raw completions the preference on record is not what they say")
    return said
