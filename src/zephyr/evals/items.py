"""What every test row gave: the numbers of an evaluation can be counted again from it, and two evaluations compared row by row.

One line is a measure of one model on one prompt (or dialogue): `value` over `n` items is its share of the number, and the number is the sum
of the values over the sum of the n. `content` hashes what was measured on, so that two runs know what they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zephyr.evals.preference import Group, accuracy, margin
from zephyr.evals.statistics import Group as Sum
from zephyr.hashes import canonical, sha256_text
from zephyr.records import Dialogue, Row

if TYPE_CHECKING:
    import pyarrow as pa

SPLIT = "items"  # the rows of the artifact that hold them


def schema() -> pa.Schema:
    """The columns; `scores` and `values` are of the answers of a prompt, where there are several, else null."""
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("measure", "model", "prompt_id", "content")]
    return pa.schema(
        [*texts, ("value", pa.float64()), ("n", pa.int64()), *((name, pa.list_(pa.float64())) for name in ("scores", "values"))]
    )


def of_dialogues(model: str, dialogues: Sequence[Dialogue], each: Sequence[Sum]) -> list[Row]:
    """Negative log-likelihood (nats) over tokens, a row a dialogue."""
    return [_row("nll", model, d.prompt_id, [dict(m) for m in d.messages], value, n) for d, (value, n) in zip(dialogues, each, strict=True)]


def of_rewards(model: str, groups: Sequence[Group], values: Sequence[Sequence[float]]) -> list[Row]:
    """Pairs in the right order over pairs, and the sum of their margins: two rows a prompt that has answers of different score.

    Of length alone, which is no reward, there is no margin.
    """
    rows = []
    for group, given in zip(groups, values, strict=True):
        gap = None if model == "length" else margin([group], [given])
        for measure, found in (("reward_accuracy", accuracy([group], [given])), ("reward_margin", gap)):
            if found is not None:
                scores = [score for _, score in group.answers]
                rows.append(_of_group(measure, model, group, found.value * found.items, found.items, scores=scores, values=list(given)))
    return rows


def of_tokens(measure: str, model: str, groups: Sequence[Group], sums: Sequence[Sum]) -> list[Row]:
    """Something counted by tokens or answers, a row a prompt."""
    return [_of_group(measure, model, group, value, n) for group, (value, n) in zip(groups, sums, strict=True)]


def _of_group(measure: str, model: str, group: Group, value: float, n: int, **more: Any) -> Row:
    return _row(measure, model, group.prompt_id, [[dict(m) for m in group.context], [list(a) for a in group.answers]], value, n, **more)


def _row(measure: str, model: str, prompt_id: str, content: Any, value: float, n: int, **more: Any) -> Row:
    known = {"measure": measure, "model": model, "prompt_id": prompt_id, "content": sha256_text(canonical(content))}
    return {**known, "value": float(value), "n": n, "scores": None, "values": None, **more}


def grouped(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """By (measure, model), then by prompt: `value` and `n` in all, and `contents`, the hashes of what they are of.

    A prompt may have several dialogues or pairs; they stand for one independent observation.
    """
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        of = found.setdefault((row["measure"], row["model"]), {}).setdefault(row["prompt_id"], {"value": 0.0, "n": 0, "contents": set()})
        of["value"] += row["value"]
        of["n"] += row["n"]
        of["contents"].add(row["content"])
    return found
