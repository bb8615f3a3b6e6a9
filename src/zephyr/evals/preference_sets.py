"""Preference sets to judge a judge by: whatever shape they have, prompts with answers of which one is the better.

Known are pairs (`prompt`, `chosen`, `rejected`: ours, the Hub's, RewardBench's with a `subset`), rated answers (`completions`), LLMBar's
rows (`input`, `output_1`, `output_2`, `label`) and PandaLM's (`instruction`, `input`, `response1`, `response2`, and each annotator's word).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr import sources
from zephyr.errors import DataError
from zephyr.evals.preference import Group, ordered_pairs
from zephyr.pairs import score_of
from zephyr.recipe import DataSource
from zephyr.records import Message, Preference, RatedPrompt, Row, parse_feedback, prompt_id_of

TIE = "the answers are said to be equally good"
DIVIDED = "the annotators are divided"
SAME = "both answers are the same text"
EMPTY = "an answer is empty"
NO_TEXT = "an answer is not a text"
AGAINST = "the rejected answer has the higher score"
ALIKE = "the scores of both answers are the same"
TWICE = "the same pair is there before"
NO_ORDER = "no two of its answers differ in score"


@dataclass(frozen=True)
class PreferenceSet:
    """Prompts with ordered answers; how many rows were read, and why some tell nothing."""

    groups: Sequence[Group]
    rows: int
    left_out: Mapping[str, int]


def read(data: Sequence[DataSource], *, score: str = "overall", limit: int | None = None) -> PreferenceSet:
    """The rows of several sources, all their splits where none is chosen.

    Args:
        data: the sources.
        score: which score orders rated answers, `overall` or `mean`.
        limit: so many groups at most, the first.

    Raises:
        DataError: naming the first row that cannot be read; a source has no such split; or nothing is left to compare.
    """
    groups: list[Group] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[object, ...]] = set()
    rows = 0
    for source in data:
        for where, _, row in sources.rows(source, whole=source.source_split is None and source.split is None):
            if limit is not None and len(groups) >= limit:
                break
            rows += 1
            try:
                found = group_of(row, score)
            except DataError as error:
                raise DataError(f"{where}: {error}") from None
            key = () if isinstance(found, str) else (found.category, tuple((m["role"], m["content"]) for m in found.context), found.answers)
            if isinstance(found, str) or key in seen:
                left_out[found if isinstance(found, str) else TWICE] += 1
                continue
            seen.add(key)
            groups.append(found)
    if not groups:
        why = ", ".join(f"{n} ({reason})" for reason, n in left_out.most_common()) or "there are none"
        raise DataError(f"{sources.names_of(data)}: no rows with a better and a worse answer; of {rows} rows: {why}")
    return PreferenceSet(groups, rows, dict(left_out))


def group_of(row: Mapping[str, Any], score: str = "overall") -> Group | str:
    """A row's answers in their order, or why it has none.

    Raises:
        DataError: the row is of none of the known shapes, or wrong.
    """
    if "output_1" in row:
        return _two(row, str(row.get("input", "")), ("output_1", "output_2"), _label(row.get("label")))
    if "response1" in row:
        return _two(row, _instruction(row), ("response1", "response2"), _majority(row))
    if "completions" not in row and "chosen" not in row:
        raise DataError(
            "no `chosen` and `rejected`, `completions`, `output_1` (LLMBar) or `response1` (PandaLM); "
            f"the row has {', '.join(map(repr, row))}"
        )
    if "chosen" in row and (why := _bare(row["chosen"], row.get("rejected"))):
        return why
    if "prompt" not in row and "instruction" in row:
        row = {**row, "prompt": _instruction(row)}
    record = parse_feedback(row)
    return _of_pair(record, row) if isinstance(record, Preference) else _of_rated(record, row, score)


def _bare(chosen: object, rejected: object) -> str | None:
    """What is wrong with a pair of bare texts, if it is one of the things that real sets have: such rows are counted, not refused."""
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        return None
    if not chosen.strip() or not rejected.strip():
        return EMPTY
    return SAME if chosen.strip() == rejected.strip() else None


def _subset(row: Mapping[str, Any], category: str = "") -> str:
    """The part of the set that a row belongs to."""
    return str(row.get("subset") or category or "all")


def _instruction(row: Mapping[str, Any]) -> str:
    """An instruction, and what it is about where that stands apart."""
    instruction, given = row.get("instruction"), row.get("input") or ""
    if not isinstance(instruction, str) or not isinstance(given, str):
        raise DataError("`instruction` is missing or not a text")
    return f"{instruction}\n\n{given}" if given.strip() else instruction


def _label(value: object) -> int:
    if isinstance(value, bool) or value not in (1, 2):
        raise DataError(f"`label` is {value!r}; 1 or 2 says which answer is better")
    return 1 if value == 1 else 2


def _majority(row: Mapping[str, Any]) -> int | str:
    """What more than half of the annotators say: 1, 2, or that it is a tie."""
    given = {name: row[name] for name in row if name.startswith("annotator")}
    if not given:
        raise DataError("no annotator says which answer is better (`annotator1`, …)")
    for name, value in given.items():
        if isinstance(value, bool) or value not in (0, 1, 2):
            raise DataError(f"`{name}` is {value!r}; 1 or 2 says which answer is better, 0 that neither is")
    word, count = Counter(given.values()).most_common(1)[0]
    if count * 2 <= len(given):
        return DIVIDED
    return TIE if word == 0 else int(word)


def _two(row: Mapping[str, Any], prompt: str, names: tuple[str, str], better: int | str) -> Group | str:
    if not prompt.strip():
        raise DataError("the prompt is empty")
    if missing := [name for name in names if name not in row]:
        raise DataError(f"`{missing[0]}` is missing")
    first, second = (row[name] for name in names)
    if isinstance(better, str):
        return better
    if not isinstance(first, str) or not isinstance(second, str):
        return NO_TEXT  # PandaLM's table has `true` where a spreadsheet read a text as a truth value
    if not first.strip() or not second.strip():
        return EMPTY
    if first.strip() == second.strip():
        return SAME
    answers = ((first, float(better == 1)), (second, float(better == 2)))
    return Group(prompt_id_of(prompt), prompt, _subset(row), (Message(role="user", content=prompt),), answers)


def _of_pair(pair: Preference, row: Mapping[str, Any]) -> Group | str:
    if pair.score_chosen is not None and pair.score_rejected is not None and pair.score_chosen <= pair.score_rejected:
        return ALIKE if pair.score_chosen == pair.score_rejected else AGAINST
    answers = ((pair.chosen[-1]["content"], 1.0), (pair.rejected[-1]["content"], 0.0))
    return Group(pair.prompt_id, pair.prompt, _subset(row, pair.category), pair.chosen[:-1], answers)


def _of_rated(prompt: RatedPrompt, row: Mapping[str, Any], score: str) -> Group | str:
    scored = [
        (c.response, float(value)) for c in prompt.completions if c.response.strip() and (value := score_of(c.rating, score)) is not None
    ]
    if not ordered_pairs([value for _, value in scored]):
        return NO_ORDER
    context = (Message(role="user", content=prompt.prompt),)
    return Group(prompt.prompt_id, prompt.prompt, _subset(row, prompt.category), context, tuple(scored))


def as_row(group: Group, values: Mapping[str, Sequence[float]]) -> Row:
    """A group with what each measure gives its answers, for those who want to look at each."""
    return {
        "prompt_id": group.prompt_id,
        "subset": group.category,
        "prompt": group.prompt,
        "answers": [text for text, _ in group.answers],
        "scores": [score for _, score in group.answers],
        **{name: list(given) for name, given in values.items()},
    }
